"""New records against a baseline: pass, fail or inconclusive, metric by metric.

An interval rule fails if a change exceeds the margin and noise does not explain the excess. Many metrics are tested at once:
the p-values of all interval rules of a gate are adjusted (Benjamini and Hochberg 1995), which keeps the rate of false alarms as
promised. A change beyond the margin that noise could explain is inconclusive, not a pass; so is everything without a baseline
in its own environment.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from nvgbench.errors import InputError
from nvgbench.gates.baseline import GATED_KINDS, SCORED_KINDS, Baseline
from nvgbench.gates.environment import Environment, environment_of
from nvgbench.gates.idle import idle_rules
from nvgbench.gates.measured import judge_measurements
from nvgbench.gates.noise import Noise, noise_of, of_difference
from nvgbench.gates.reasons import NOT_IN_BASELINE, NOT_MEASURED, failure, no_baseline_here
from nvgbench.gates.rules import Rule, RuleSet
from nvgbench.gates.schema import Verdict
from nvgbench.gates.trainings import judged_by_group, with_groups
from nvgbench.results.compare import Difference, Scored, compare, latest_metrics
from nvgbench.results.grouping import members
from nvgbench.results.models import other_model
from nvgbench.results.schema import RunRecord

NOTICED = 0.97725
"""Quantile of the noise below the change that a passing verdict says would have been noticed: two standard errors."""


def evaluate_gates(rules: RuleSet, baseline: Baseline, records: Iterable[RunRecord], *, whole: bool = True) -> list[Verdict]:
    """Compare the newest ``records`` with ``baseline``.

    There is a verdict for each metric with a rule that the baseline or the new records have for a subject of the baseline, one
    for each subject that the baseline does not have, and one for each rule of a file that fits nothing. A score has a verdict
    for every protocol it was computed by. Trainings with several seeds are judged as a group, in place of its members
    (`nvgbench.gates.trainings`).

    Args:
        rules: of the gate.
        baseline: the accepted records.
        records: the records to judge.
        whole: whether every subject of the baseline must have records, or only the subjects of ``records`` are judged.

    Raises:
        InputError: no subject in common, or scores that are not comparable: unequal n, reference, extractor or version of the
            protocol.
    """
    given = list(records)
    trained = [record for record in given if record.kind == "train"]
    records = [record for record in given if record.kind in GATED_KINDS and (record.metrics or record.measurements)]
    # A named run without scores is judged as well.
    named = [] if whole else [record.subject for record in given]
    baseline, records = with_groups(baseline, records, trained)
    subjects = list(dict.fromkeys([*named, *(record.subject for record in records)]))
    if not set(subjects) & set(baseline.subjects):
        names = ", ".join(baseline.subjects) or "nothing"
        raise InputError(
            f"no record has a subject of the baseline, which has {names}; choose those runs, or add others (`update=True`)"
        )
    # Compared with the whole baseline: what is not judged this time may still have a rule.
    idle = idle_rules(rules, [*baseline.records, *records])
    if not whole:
        baseline = baseline.of_subjects(subjects)
    grouped = {member: record.subject for record in records for member in members(record)}
    verdicts = _limit_false_alarms(
        [
            *(
                (one, "trainings" if one.subject in grouped.values() else "images")
                for one in _judge_scores(rules, baseline, [*records, *trained])
            ),
            *((one, "repetitions") for one in judge_measurements(rules, baseline, records)),
        ],
        rules.alpha,
    )
    if not verdicts:
        reason = "".join(f"; {verdict.reason}" for verdict in idle[:1])
        raise InputError(f'no rule fits any metric of the baseline{reason}; a rule with metric = "*" fits all of them')
    known = frozenset(baseline.subjects)
    unknown = [subject for subject in subjects if subject not in known and grouped.get(subject) not in known]
    return [
        *verdicts,
        *(
            Verdict(subject=subject, metric="all", outcome="inconclusive", reason=NOT_IN_BASELINE, blocking=False)
            for subject in unknown
        ),
        *idle,
    ]


def _judge_scores(rules: RuleSet, baseline: Baseline, records: list[RunRecord]) -> list[Verdict]:
    now = latest_metrics(records, SCORED_KINDS)
    known = [(group.environment, latest_metrics(group.records, SCORED_KINDS)) for group in baseline.groups]
    by_group = judged_by_group([scores for _, scores in known], now)
    verdicts: list[Verdict] = []
    for subject in baseline.subjects:
        new = now.get(subject, {})
        keys = dict.fromkeys([*(key for _, scores in known for key in scores.get(subject, {})), *new])
        for key in (key for key in keys if (subject, key) not in by_group):
            olds = [(environment, scores[subject][key]) for environment, scores in known if key in scores.get(subject, {})]
            name = (new[key] if key in new else olds[0][1]).metric.name
            rule = rules.rule_for(name, key)
            if rule is not None:
                empty = Verdict(subject=subject, metric=key, outcome="inconclusive", reason="", blocking=rule.blocking)
                verdicts.append(_judge_score(empty, rule, olds, new.get(key)))
    return verdicts


def _judge_score(empty: Verdict, rule: Rule, olds: list[tuple[Environment, Scored]], new: Scored | None) -> Verdict:
    """Find the baseline of one metric, and judge the change by its rule alone."""
    if new is None:
        return dataclasses.replace(empty, baseline=olds[0][1].metric.value, reason=NOT_MEASURED)
    if not olds:
        return dataclasses.replace(empty, value=new.metric.value, reason=NOT_IN_BASELINE, blocking=False)
    here = environment_of(new.record)
    old = next((scored for environment, scored in olds if environment == here), None)
    if old is None:
        reason = no_baseline_here([environment for environment, _ in olds], here)
        return dataclasses.replace(empty, value=new.metric.value, reason=reason, blocking=rule.blocking_elsewhere)
    if (other := other_model(old.record, new.record)) is not None:
        return dataclasses.replace(empty, value=new.metric.value, reason=f"not judged: {other}")
    for side, caution in (("the baseline", old.caution), ("the new record", new.caution)):
        if caution:
            return dataclasses.replace(empty, value=new.metric.value, reason=f"not judged: {side} is {caution}")
    if old.metric.value is None or new.metric.value is None:
        side = "the baseline" if old.metric.value is None else "the new record"
        note = (old if old.metric.value is None else new).metric.note
        return dataclasses.replace(empty, reason=f"{side} has no value ({note or 'no reason recorded'})")
    return _judge_change(empty, rule, compare(old, new))


def _judge_change(empty: Verdict, rule: Rule, found: Difference) -> Verdict:
    """The verdict of one rule alone, before `_limit_false_alarms`."""
    old, new = found.baseline.value, found.candidate.value
    assert old is not None
    assert new is not None
    margin = rule.margin(old)
    better = found.candidate.higher_is_better
    good = better is not None and found.value != 0 and (found.value > 0) == better
    harmless = good and rule.direction == "worse"
    noise = _noise(found) if rule.kind == "interval" else None
    p_value = None if noise is None else _p_value(found.value, margin, noise, None if rule.direction == "both" else good)
    verdict = dataclasses.replace(empty, baseline=old, value=new, margin=margin, p_value=p_value)
    if abs(found.value) <= margin:
        reason = "within the margin"
        if noise is not None:
            reason += f"; a change of {margin + noise.quantile(NOTICED):.3g} would have been noticed"
        return dataclasses.replace(verdict, outcome="pass", reason=reason)
    if harmless:
        return dataclasses.replace(verdict, outcome="pass", reason="better than the margin asks")
    if rule.kind == "interval" and noise is None:
        return dataclasses.replace(verdict, reason="beyond the margin, but noise is unknown without intervals")
    covers = "" if found.interval is None else found.interval.source
    return dataclasses.replace(verdict, outcome="fail", reason=failure(rule, better, good, covers))


def _limit_false_alarms(judged: Sequence[tuple[Verdict, str]], alpha: float) -> list[Verdict]:
    """Adjust the p-values for their number, and turn failures that they do not support into inconclusive verdicts.

    ``judged``: verdicts, each with what it takes more of to decide.
    """
    from scipy.stats import false_discovery_control

    p_values = [verdict.p_value for verdict, _ in judged if verdict.p_value is not None]
    adjusted = map(float, false_discovery_control(p_values) if p_values else ())
    return [
        verdict if verdict.p_value is None else _supported(verdict, next(adjusted), alpha, more) for verdict, more in judged
    ]


def _supported(verdict: Verdict, p_value: float, alpha: float, more: str) -> Verdict:
    verdict = dataclasses.replace(verdict, p_value=p_value)
    if verdict.outcome != "fail" or p_value <= alpha:
        return verdict
    reason = f"beyond the margin, but noise could explain it (adjusted p = {p_value:.2g}); more {more} would decide"
    return dataclasses.replace(verdict, outcome="inconclusive", reason=reason)


def _noise(found: Difference) -> Noise | None:
    """Noise of the difference; None if an interval is missing or of another level, or if both have no width."""
    old, new = noise_of(found.baseline), noise_of(found.candidate)
    return None if found.interval is None or old is None or new is None else of_difference(old, new)


def _p_value(change: float, margin: float, noise: Noise, harmless: bool | None) -> float:
    """Largest probability of a change at least this large if the true one is within the margin.

    ``harmless``: None for rules of both directions; else whether the change is for the better, which the rule allows.
    """
    far = noise.tail(abs(change) - margin)
    if harmless is None:
        return min(1.0, far + noise.tail(abs(change) + margin))
    return noise.tail(-abs(change) - margin) if harmless else far
