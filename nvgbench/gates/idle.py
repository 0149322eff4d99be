"""Rules that fit nothing: usually a misspelt name, which would leave a metric silently ungated."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from nvgbench.gates.rules import RuleSet
from nvgbench.gates.schema import Verdict
from nvgbench.results.compare import score_key
from nvgbench.results.schema import RunRecord

SUBJECT = "rules"
"""Subject of the advisory verdicts about rules."""
_NEAR = 0.5


def idle_rules(rules: RuleSet, records: Iterable[RunRecord]) -> list[Verdict]:
    """An advisory verdict for each rule of a file that fits no metric and no measurement of ``records``.

    None for the built-in rules, which cover more than any one gate measures.
    """
    if not rules.chosen:
        return []
    names: dict[str, None] = {}
    for record in records:
        for metric in record.metrics:
            names |= dict.fromkeys((metric.name, score_key(metric.name, metric.protocol)))
        names |= dict.fromkeys(measurement.name for measurement in record.measurements)
    found = []
    for number, rule in enumerate(rules.rules, start=1):
        if not any(rule.fits(name) for name in names):
            reason = f'rule {number} (metric = "{rule.metric}") fits nothing{_did_you_mean(rule.metric, list(names))}'
            found.append(Verdict(subject=SUBJECT, metric=rule.metric, outcome="inconclusive", reason=reason, blocking=False))
    return found


def _did_you_mean(pattern: str, names: Sequence[str]) -> str:
    """The nearest name, with or without its extractor, ignoring case; empty if none is near."""
    forms: dict[str, str] = {}
    for name in names:
        for form in (name, name.partition("[")[0]):
            forms.setdefault(form.lower(), name)
    near = difflib.get_close_matches(re.sub("[*?]", "", pattern).lower(), forms, n=1, cutoff=_NEAR)
    return f' (did you mean "{forms[near[0]]}"?)' if near else ""
