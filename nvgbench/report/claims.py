"""Claims of the paper: the published figures, what was measured here, and a verdict in plain words.

A claim about a published model is judged by runs of that very model alone: its preset, ImageNet at 256 px, the Inception of
the papers, and as many training images where it was trained here. Where both models have a score by the papers' protocol, that
one judges. Costs ask for the preset alone. Small models may answer the same question at their scale; their answers stand in a
table of their own.
"""

from __future__ import annotations

import importlib.resources
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nvgbench.report.breakdowns import codebook_use
from nvgbench.report.costs import find_measurement, newest
from nvgbench.report.published import published_results
from nvgbench.report.quantities import noise, quantity, score, significant
from nvgbench.report.scores import AllScores, has_value
from nvgbench.results.compare import Scored, compare, score_key, why_not_comparable
from nvgbench.results.numbers import Number, of_measurement, of_metric, of_record
from nvgbench.results.schema import RunRecord
from nvgbench.results.scores import SCORES, score_of

Outcome = Literal["supported", "not supported", "inconclusive", "not comparable", "not measured here"]

_PAPERS_PROTOCOL = "adm"
_MEASURED = {"latency": "latency", "memory": "peak_memory_cuda"}
_UNITS = {"latency": "s", "memory": "B"}
_CODEBOOK = "first-stage codebook use"
_PRESETS = {"llamagen-l": "ar-l", "llamagen-xl": "ar-xl"}
_FAMILIES = {"nvg": "nvg", "var": "var", "llamagen": "ar"}
_MIB = 2**20
_IMAGENET_IMAGES = 1_281_167
_ENOUGH = 0.95
"""Share of the published model's training images that a run must have seen to stand for it."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """``a`` is better than ``b`` in ``metric``: the published figures, and the paper's table that gives them."""

    text: str
    metric: str
    higher_is_better: bool
    a: str
    b: str
    value_a: float
    value_b: float
    table: str

    def published(self, value: float) -> str:
        """A figure as the page shows it."""
        if self.metric == "latency":
            return quantity(value, "s")
        if self.metric == "memory":
            return quantity(value * _MIB, "B")
        return f"{value:.1%}" if self.metric == _CODEBOOK else significant(value, 4 if value >= 1 else 3)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A claim, or its question asked of other models, and the answer.

    Attributes:
        subject_a, subject_b: what was measured in place of the claim's models; empty where nothing was.
        a, b: the measured numbers.
        shown_a, shown_b: them as text.
        low, high: interval of ``a`` minus ``b``, where there is one; ``covers`` says of what.
        reason: one sentence.
    """

    claim: Claim
    outcome: Outcome
    reason: str
    subject_a: str = ""
    subject_b: str = ""
    a: Number | None = None
    b: Number | None = None
    shown_a: str = ""
    shown_b: str = ""
    low: float | None = None
    high: float | None = None
    covers: str = ""


def load_claims() -> list[Claim]:
    """The claims that come with the package."""
    text = importlib.resources.files("nvgbench.report").joinpath("assets", "claims.toml").read_text(encoding="utf-8")
    return [
        Claim(
            text=entry["text"],
            metric=entry["metric"],
            higher_is_better=entry["better"] == "higher",
            a=entry["a"]["model"],
            b=entry["b"]["model"],
            value_a=entry["a"]["value"],
            value_b=entry["b"]["value"],
            table=entry["table"],
        )
        for entry in tomllib.loads(text)["claim"]
    ]


class Evidence:
    """What the records hold for claims."""

    def __init__(self, records: Sequence[RunRecord], scores: AllScores) -> None:
        self._profiles = newest(records, "profile")
        self._scores = {"rFID": scores.tokenizers, "LPIPS": scores.tokenizers}
        self._generated = scores.models
        self._codebooks = codebook_use(records)
        presets = {record.subject: record.preset for record in records if record.preset and record.family != "anchor"}
        # what was trained several times answers as a group, before its members
        self._presets = dict(sorted(presets.items(), key=lambda entry: entry[0] != _base(entry[0])))
        self._imagenet = {record.subject for record in records if _on_imagenet(record)}
        told = {row.model: re.fullmatch(r"(\d+) ep", row.train) for row in published_results() if row.table == "1"}
        self._epochs = {_preset(model): int(found[1]) for model, found in told.items() if found}
        self._seen = {subject: _images_seen(record) for subject, record in newest(records, "train").items()}

    def judge(self, claim: Claim) -> Judged:
        """The claim itself, by runs of the models that it names."""
        pairs = self._judging(claim)
        if not pairs:
            return Judged(claim=claim, outcome="not measured here", reason=self._missing(claim))
        return self._answer(claim, *pairs[0], strict=True)

    def at_this_scale(self, claims: Sequence[Claim]) -> list[Judged]:
        """The claims' questions asked of models of the same families and of one size with each other, each question once."""
        answered = {(claim.metric, a, b) for claim in claims for a, b in self._judging(claim)}
        asked: dict[tuple[str, str, str], Judged] = {}
        for claim in claims:
            families = _family(claim.a), _family(claim.b)
            if families[0] == families[1] or not all(families) or "(" in claim.a + claim.b:
                continue
            for a, b in self._pairs(*families):
                key = claim.metric, _base(a), _base(b)
                if (claim.metric, a, b) not in answered and key not in asked and self._has(claim, a) and self._has(claim, b):
                    asked[key] = self._answer(claim, a, b)
        return list(asked.values())

    def _judging(self, claim: Claim) -> list[tuple[str, str]]:
        """Pairs of runs of the claim's own models that have its metric by the papers' rules."""
        return [
            (a, b)
            for a in self._named(claim.a, claim.metric)
            for b in self._named(claim.b, claim.metric)
            if self._has(claim, a, strict=True) and self._has(claim, b, strict=True)
        ]

    def _pairs(self, family_a: str, family_b: str) -> list[tuple[str, str]]:
        """Subjects of both families whose presets differ in nothing but the family: ``nvg-tiny`` and ``var-tiny``."""
        return [
            (a, b)
            for a, preset_a in self._presets.items()
            for b, preset_b in self._presets.items()
            if preset_a.startswith(f"{family_a}-")
            and preset_b.startswith(f"{family_b}-")
            and preset_a.removeprefix(family_a) == preset_b.removeprefix(family_b)
        ]

    def _named(self, model: str, metric: str) -> list[str]:
        """Subjects that are the published ``model``, as far as ``metric`` asks for it: costs do not depend on training.

        A claim about a tokenizer means that of any size.
        """
        wanted = _preset(model)
        pattern = rf"{wanted}-d\d+" if wanted in _FAMILIES else re.escape(wanted)
        found = [subject for subject, preset in self._presets.items() if re.fullmatch(pattern, preset)]
        if metric in _MEASURED:
            return found
        return [subject for subject in found if subject in self._imagenet and not self._cut_short(subject)]

    def _cut_short(self, subject: str) -> bool:
        """Whether a run trained here saw clearly fewer images than the published model; imported weights did not."""
        seen, epochs = self._seen.get(subject), self._epochs.get(self._presets[subject], 0)
        return seen is not None and seen < _ENOUGH * epochs * _IMAGENET_IMAGES

    def _missing(self, claim: Claim) -> str:
        absent = [model for model in (claim.a, claim.b) if not self._named(model, claim.metric)]
        if absent:
            return "no run of either model" if len(absent) == 2 else f"no run of {absent[0]}"
        return "not measured for both models"

    def _has(self, claim: Claim, subject: str, *, strict: bool = False) -> bool:
        if claim.metric in _MEASURED:
            return self._measured(claim, subject) is not None
        if claim.metric == _CODEBOOK:
            return self._codebook(subject) is not None
        return bool(self._by_key(claim, subject, strict=strict))

    def _by_key(self, claim: Claim, subject: str, *, strict: bool = False) -> dict[str, Scored]:
        """The values that a subject has of a claim's score, that by the papers' protocol first."""
        metrics = self._scores.get(claim.metric, self._generated).get(subject, {})
        wanted = SCORES[claim.metric]
        found = []
        for key, scored in metrics.items():
            name = scored.metric.name
            if score_of(name) == wanted and not (strict and name != wanted.name) and has_value(metrics, key):
                found.append(scored)
        found.sort(key=lambda scored: scored.key != score_key(scored.metric.name, _PAPERS_PROTOCOL))
        return {scored.key: scored for scored in found}

    def _of_both(self, claim: Claim, a: str, b: str, *, strict: bool = False) -> tuple[Scored, Scored]:
        """The claim's score of two subjects that have it: by the same rules, where any may be compared, the papers' first."""
        left, right = (self._by_key(claim, subject, strict=strict) for subject in (a, b))
        shared = [(left[key], right[key]) for key in left if key in right]
        comparable = [pair for pair in shared if why_not_comparable(*pair) is None]
        # by different rules they are not comparable, which is what will be said
        return [*comparable, *shared, (next(iter(left.values())), next(iter(right.values())))][0]

    def _measured(self, claim: Claim, subject: str) -> Number | None:
        record = self._profiles.get(subject)
        found = None if record is None else find_measurement(record, _MEASURED[claim.metric], 1)
        if record is None or found is None or not found.samples:
            return None
        return of_measurement(found, record)

    def _codebook(self, subject: str) -> Number | None:
        found = self._codebooks.get(subject)
        return None if found is None else of_record("codebook use, first stage", found[0], found[1])

    def _answer(self, claim: Claim, a: str, b: str, *, strict: bool = False) -> Judged:
        if claim.metric in SCORES:
            return _by_interval(claim, *self._of_both(claim, a, b, strict=strict))
        if claim.metric in _MEASURED:
            one, other = self._measured(claim, a), self._measured(claim, b)
        else:
            one, other = self._codebook(a), self._codebook(b)
        assert one is not None
        assert other is not None
        return _by_range(claim, a, b, one, other)


def _on_imagenet(record: RunRecord) -> bool:
    """Whether a record is about ImageNet; the published presets are of 256 px."""
    p = record.provenance
    entries = (p.get("dataset"), p.get("reference"), p.get("model"))
    names = [entry.get("dataset", entry.get("name", "")) if isinstance(entry, Mapping) else entry for entry in entries]
    return any("imagenet" in str(name).lower() for name in names if name)


def _images_seen(record: RunRecord) -> int:
    """Images that the generator of a training record saw."""
    rows = record.tables.get("training", ())
    return sum(int(row.get("images") or 0) for row in rows if row.get("phase") == "generator")


def _base(subject: str) -> str:
    """The name of a run, without the seed of one of several trainings."""
    return re.sub(r"-seed\d+$", "", subject)


def _preset(model: str) -> str:
    """The preset that sets out to be the published ``model``."""
    return _PRESETS.get(model.lower(), model.lower())


def _family(model: str) -> str:
    return _FAMILIES.get(re.split(r"[-, ]", model.lower())[0], "")


def _by_interval(claim: Claim, a: Scored, b: Scored) -> Judged:
    subjects = a.record.subject, b.record.subject
    shown = [score(scored.metric.value or 0.0) for scored in (a, b)]
    numbers = of_metric(a), of_metric(b)
    reason = why_not_comparable(a, b)
    if reason is not None:
        return _judged(claim, "not comparable", reason, subjects, numbers, shown)
    found = compare(b, a)
    ahead = found.value > 0 if claim.higher_is_better else found.value < 0
    if found.interval is None:
        reason = f"{'as the paper says' if ahead else 'the other way round'}, but without intervals nothing is decided"
        return _judged(claim, "inconclusive", reason, subjects, numbers, shown)
    low, high, covers = found.interval.low, found.interval.high, found.interval.source
    decided = not low <= 0 <= high
    outcome: Outcome = "inconclusive" if not decided else "supported" if ahead else "not supported"
    reason = f"the interval of the difference {'leaves out' if decided else 'holds'} zero ({noise(covers)})"
    return _judged(claim, outcome, reason, subjects, numbers, shown, (low, high), covers)


def _by_range(claim: Claim, a: str, b: str, one: Number, other: Number) -> Judged:
    """Time, memory and codebook use: decided where the ranges of the repetitions lie apart."""
    unit = _UNITS.get(claim.metric)
    shown = [f"{number.value:.1%}" if unit is None else quantity(number.value, unit) for number in (one, other)]
    if one.device != other.device:
        reason = f"measured on different devices: {one.device} and {other.device}"
        return _judged(claim, "not comparable", reason, (a, b), (one, other), shown)
    ends = [_ends(one), _ends(other)]
    apart = ends[0][1] < ends[1][0] or ends[1][1] < ends[0][0]
    ahead = one.value > other.value if claim.higher_is_better else one.value < other.value
    outcome: Outcome = "inconclusive" if not apart else "supported" if ahead else "not supported"
    if one.low is None and other.low is None:
        reason = "one value each, without an interval; another training may differ" if unit is None else "one value each"
        outcome = "inconclusive" if unit is None else outcome
    else:
        reason = f"the ranges of the repetitions {'lie apart' if apart else 'overlap'}"
    return _judged(claim, outcome, reason, (a, b), (one, other), shown)


def _ends(number: Number) -> tuple[float, float]:
    """The range of a number; where it has none, the number twice."""
    return (number.value, number.value) if number.low is None or number.high is None else (number.low, number.high)


def _judged(
    claim: Claim,
    outcome: Outcome,
    reason: str,
    subjects: tuple[str, str],
    numbers: tuple[Number, Number],
    shown: Sequence[str],
    interval: tuple[float, float] | None = None,
    covers: str = "",
) -> Judged:
    return Judged(
        claim=claim,
        outcome=outcome,
        reason=reason,
        subject_a=subjects[0],
        subject_b=subjects[1],
        a=numbers[0],
        b=numbers[1],
        shown_a=shown[0],
        shown_b=shown[1],
        low=None if interval is None else interval[0],
        high=None if interval is None else interval[1],
        covers=covers,
    )
