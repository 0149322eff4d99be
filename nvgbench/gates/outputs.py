"""The verdicts of a gate as text, JSON, JUnit XML and Markdown."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from nvgbench.gates.schema import EXIT_CODES, Outcome, Verdict, overall
from nvgbench.results.store import plain

OUTCOMES: tuple[Outcome, ...] = ("fail", "inconclusive", "pass")
_WORDS: dict[Outcome, str] = {"pass": "passed", "fail": "FAILED", "inconclusive": "INCONCLUSIVE"}
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not allow, not even escaped."""


def as_text(verdicts: Sequence[Verdict]) -> str:
    """One line per verdict, easy to grep, and a line for the whole gate."""
    width = max((len(_name(verdict)) for verdict in verdicts), default=0)
    lines = [
        f"{verdict.outcome:<12}  {_name(verdict):<{width}}  {_change(verdict)}  {_reason(verdict)}" for verdict in verdicts
    ]
    return "\n".join([*lines, f"{_WORDS[overall(verdicts)]}: {_counts(verdicts)}"])


def as_json(verdicts: Sequence[Verdict]) -> str:
    """An object with ``outcome``, ``exit_code``, ``counts`` and the ``verdicts`` in full."""
    outcome = overall(verdicts)
    tree = {
        "outcome": outcome,
        "exit_code": EXIT_CODES[outcome],
        "counts": {name: sum(verdict.outcome == name for verdict in verdicts) for name in OUTCOMES},
        "verdicts": [plain(dataclasses.asdict(verdict)) for verdict in verdicts],
    }
    return json.dumps(tree, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_junit(verdicts: Sequence[Verdict]) -> str:
    """JUnit XML for CI servers: one suite per subject, one case per metric.

    A blocking failure is a ``failure``, a blocking undecided verdict an ``error``, an advisory one ``skipped`` with its reason.
    """
    by_subject: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_subject.setdefault(verdict.subject, []).append(verdict)
    root = ElementTree.Element("testsuites", name="nvgbench gate", **_tallies(verdicts))
    for subject, own in by_subject.items():
        suite = ElementTree.SubElement(root, "testsuite", name=_xml(subject), **_tallies(own))
        for verdict in own:
            case = ElementTree.SubElement(suite, "testcase", classname=_xml(subject), name=_xml(verdict.metric), time="0")
            tag = _junit_tag(verdict)
            if tag is not None:
                details = ElementTree.SubElement(case, tag, message=_xml(f"{verdict.outcome}: {_reason(verdict)}"))
                if tag != "skipped":
                    details.set("type", verdict.outcome)
                details.text = _xml(f"{_change(verdict)}  {_reason(verdict)}")
            else:
                ElementTree.SubElement(case, "system-out").text = _xml(f"{_change(verdict)}  {verdict.reason}")
    ElementTree.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def as_markdown(verdicts: Sequence[Verdict]) -> str:
    """A summary for a pull request: a table of what failed or is undecided, and a folded one of what passed."""
    outcome = overall(verdicts)
    lines = [f"### nvgbench gate: {_WORDS[outcome].lower()}", "", f"{_counts(verdicts)}.", ""]
    shown = sorted((v for v in verdicts if v.outcome != "pass"), key=lambda v: (not v.blocking, OUTCOMES.index(v.outcome)))
    if shown:
        lines += [*_table(shown), ""]
    passed = [verdict for verdict in verdicts if verdict.outcome == "pass"]
    if passed:
        lines += ["<details><summary>passed</summary>", "", *_table(passed), "", "</details>", ""]
    return "\n".join(lines)


def _table(verdicts: Sequence[Verdict]) -> list[str]:
    def row(*cells: str) -> str:
        # Pipes and line ends would break the table, angle brackets would be HTML.
        clean = (re.sub(r"[|\\`*_\[\]<>]", r"\\\g<0>", " ".join(cell.split())) for cell in cells)
        return "| " + " | ".join(clean) + " |"

    rows = [
        row(verdict.outcome, verdict.subject, verdict.metric, number(verdict.baseline), number(verdict.value), _reason(verdict))
        for verdict in verdicts
    ]
    return ["| verdict | model | metric | baseline | now | reason |", "| --- | --- | --- | ---: | ---: | --- |", *rows]


def number(value: float | None) -> str:
    """Whole numbers in full, for exact rules; others with six digits."""
    if value is None:
        return "none"
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e21 else f"{value:.6g}"


def _name(verdict: Verdict) -> str:
    return " ".join(f"{verdict.subject} {verdict.metric}".split())


def _change(verdict: Verdict) -> str:
    return f"{number(verdict.baseline)} -> {number(verdict.value)}"


def _reason(verdict: Verdict) -> str:
    return " ".join((verdict.reason if verdict.blocking else f"{verdict.reason} (advisory)").split())


def _counts(verdicts: Sequence[Verdict]) -> str:
    found = []
    for outcome in reversed(OUTCOMES):
        own = [verdict for verdict in verdicts if verdict.outcome == outcome]
        advisory = sum(not verdict.blocking for verdict in own) if outcome != "pass" else 0
        found.append(f"{len(own)} {outcome}" + (f" ({advisory} advisory)" if advisory else ""))
    return ", ".join(found)


def _junit_tag(verdict: Verdict) -> str | None:
    if verdict.outcome == "pass":
        return None
    if not verdict.blocking:
        return "skipped"
    return "failure" if verdict.outcome == "fail" else "error"


def _tallies(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    tags = [_junit_tag(verdict) for verdict in verdicts]
    counts = {"failures": tags.count("failure"), "errors": tags.count("error"), "skipped": tags.count("skipped")}
    return {"tests": str(len(tags)), **{name: str(count) for name, count in counts.items()}, "time": "0"}


def _xml(text: str) -> str:
    return _NOT_IN_XML.sub("\ufffd", text)
