"""Claims of the paper: the published figures, what was measured here, and a verdict.

Only runs of the very models that a claim names judge it: their preset without other settings than the claim's, ImageNet at
256 px, the Inception of the papers, and as many training images if they were trained here. Between variants of one preset,
nothing else may differ. Scores of unfinished trainings and of earlier weights judge nothing. Scores by
the papers' protocol are preferred. Costs ask for the preset alone.
Smaller models may answer the same question at their scale; their answers are in a table of their own.
"""

from __future__ import annotations

import importlib.resources
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nvgbench.reporting.breakdowns import codebook_use
from nvgbench.reporting.costs import find_measurement, newest
from nvgbench.reporting.published import published_results
from nvgbench.reporting.quantities import noise, quantity, score, significant
from nvgbench.reporting.scores import ANCHOR, AllScores, has_value
from nvgbench.results.compare import Scored, compare, score_key, why_not_comparable
from nvgbench.results.grouping import members
from nvgbench.results.models import models
from nvgbench.results.numbers import Number, of_measurement, of_metric, of_record
from nvgbench.results.schema import RunRecord
from nvgbench.results.scores import SCORES, score_of
from nvgbench.types import Interval

Outcome = Literal["supported", "not supported", "inconclusive", "not comparable", "not measured here"]

_PAPERS_PROTOCOL = "adm"
_PRESETS = {"llamagen-l": "ar-l", "llamagen-xl": "ar-xl"}
_FAMILIES = {"nvg": "nvg", "var": "var", "llamagen": "ar"}
_MIB = 2**20
_IMAGENET_IMAGES = 1_281_167
_ENOUGH = 0.95
"""Share of the published model's training images that a run must have seen to represent it."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """``a`` is better than ``b`` in ``metric``: the published figures, and the paper's table they are from.

    Attributes:
        metric: a score's name in the table of scores, a measurement's name, or ``codebook use, first stage``.
        unit: of the figures of a measurement (``s``, ``MiB``); empty for everything else.
        settings_a, settings_b: what the models have set otherwise than the preset, for claims about variants of one preset;
            None for a variant that this package cannot train.
    """

    text: str
    metric: str
    higher_is_better: bool
    a: str
    b: str
    value_a: float
    value_b: float
    table: str
    unit: str = ""
    settings_a: Mapping[str, Any] | None = None
    settings_b: Mapping[str, Any] | None = None

    @property
    def of_variants(self) -> bool:
        """Whether it compares variants of one preset: ``NVG-d12 (pure noise)``."""
        return "(" in self.a and "(" in self.b

    @property
    def of_cost(self) -> bool:
        """Whether it is about time or memory, which depend on the preset alone."""
        return bool(self.unit)

    def published(self, value: float) -> str:
        """A figure as the page shows it."""
        if self.of_cost:
            return quantity(value * _MIB, "B") if self.unit == "MiB" else quantity(value, self.unit)
        return significant(value, 4 if value >= 1 else 3) if self.metric in SCORES else f"{value:.1%}"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A claim, or its question asked of other models, with the answer.

    Attributes:
        reason: one sentence.
        subject_a, subject_b: what was measured in place of the claim's models; empty if nothing was.
        a, b: the measured numbers.
        shown_a, shown_b: the numbers as text.
        interval: of ``a`` minus ``b``, if any.
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
    interval: Interval | None = None


def load_claims() -> list[Claim]:
    """The claims that come with the package."""
    text = importlib.resources.files("nvgbench.reporting").joinpath("assets", "claims.toml").read_text(encoding="utf-8")
    return [
        Claim(
            text=entry["text"],
            metric=entry["metric"],
            higher_is_better=_higher_is_better(entry),
            a=entry["a"]["model"],
            b=entry["b"]["model"],
            value_a=entry["a"]["value"],
            value_b=entry["b"]["value"],
            table=entry["table"],
            unit=entry.get("unit", ""),
            settings_a=entry["a"].get("settings"),
            settings_b=entry["b"].get("settings"),
        )
        for entry in tomllib.loads(text)["claim"]
    ]


def _higher_is_better(entry: Mapping[str, str]) -> bool:
    known = SCORES.get(entry["metric"])
    return entry["better"] == "higher" if known is None else bool(known.higher_is_better)


class Evidence:
    """What the records say about claims."""

    def __init__(self, records: Sequence[RunRecord], scores: AllScores) -> None:
        self._profiles = newest(records, "profile")
        self._all_scores = scores
        self._codebooks = codebook_use(records)
        self._group_of = {member: record.subject for record in records for member in members(record)}
        presets = {record.subject: record.preset for record in records if record.preset and record.family != ANCHOR}
        # Groups of trainings answer before their members.
        self._presets = dict(sorted(presets.items(), key=lambda entry: entry[0] in self._group_of))
        self._models = models(records)
        self._imagenet = {record.subject for record in records if _on_imagenet(record)}
        epochs = {row.model: re.fullmatch(r"(\d+) ep", row.train) for row in published_results() if row.table in ("1", "3")}
        self._epochs = {_preset(model): int(found[1]) for model, found in epochs.items() if found}
        self._seen = {subject: _images_seen(record) for subject, record in newest(records, "train").items()}

    def judge(self, claim: Claim) -> Judged:
        """The claim itself, judged by runs of the models it names."""
        pairs = self._judging(claim)
        if not pairs:
            return Judged(claim=claim, outcome="not measured here", reason=self._missing(claim))
        return self._answer(claim, *pairs[0], strict=True)

    def at_this_scale(self, claims: Sequence[Claim]) -> list[Judged]:
        """The claims' questions asked of models of the same families and of equal size, each question once."""
        answered = {(claim.metric, a, b) for claim in claims for a, b in self._judging(claim)}
        asked: dict[tuple[str, str, str], Judged] = {}
        for claim in claims:
            for a, b in self._alike(claim):
                key = claim.metric, self._group_of.get(a, a), self._group_of.get(b, b)
                if (claim.metric, a, b) not in answered and key not in asked and self._has(claim, a) and self._has(claim, b):
                    asked[key] = self._answer(claim, a, b)
        return list(asked.values())

    def _judging(self, claim: Claim) -> list[tuple[str, str]]:
        """Pairs of runs of the claim's own models that have its metric as the papers define it."""
        return [
            (a, b)
            for a in self._named(claim.a, claim, claim.settings_a)
            for b in self._named(claim.b, claim, claim.settings_b)
            if self._has(claim, a, strict=True) and self._has(claim, b, strict=True)
            if not claim.of_variants or self._differ_only(claim, a, b)
        ]

    def _alike(self, claim: Claim) -> list[tuple[str, str]]:
        """Subjects that answer a claim's question at another scale: nothing differs but what the claim is about."""
        if claim.of_variants:
            chosen = [subject for subject, preset in self._presets.items() if preset.startswith(f"{_family(claim.a)}-")]
            return [
                (a, b)
                for a in chosen
                for b in chosen
                if self._presets[a] == self._presets[b] and self._differ_only(claim, a, b)
            ]
        families = _family(claim.a), _family(claim.b)
        if families[0] == families[1] or not all(families) or "(" in claim.a + claim.b:
            return []
        return [(a, b) for a, b in self._pairs(*families) if self._models[a].changed == self._models[b].changed]

    def _differ_only(self, claim: Claim, a: str, b: str) -> bool:
        """Whether two variants of one preset have what the claim says of each, and everything else in common."""
        one, other = self._models[a], self._models[b]
        if claim.settings_a is None or claim.settings_b is None or one.sampling != other.sampling:
            return False
        about = claim.settings_a.keys() | claim.settings_b.keys()
        rests = [{key: value for key, value in model.changed.items() if key not in about} for model in (one, other)]
        return one.chosen(about) == claim.settings_a and other.chosen(about) == claim.settings_b and rests[0] == rests[1]

    def _pairs(self, family_a: str, family_b: str) -> list[tuple[str, str]]:
        """Subjects of both families whose presets differ only in the family: ``nvg-tiny`` and ``var-tiny``."""
        return [
            (a, b)
            for a, preset_a in self._presets.items()
            for b, preset_b in self._presets.items()
            if preset_a.startswith(f"{family_a}-")
            and preset_b.startswith(f"{family_b}-")
            and preset_a.removeprefix(family_a) == preset_b.removeprefix(family_b)
        ]

    def _named(self, model: str, claim: Claim, settings: Mapping[str, Any] | None) -> list[str]:
        """Subjects that are the published ``model``, as far as the claim asks for it: costs do not depend on training.

        Their settings are those of the preset, changed in ``settings`` alone.

        A claim about a tokenizer means that of any size.
        """
        wanted = _preset(model)
        pattern = rf"{wanted}-d\d+" if wanted in _FAMILIES else re.escape(wanted)
        if claim.of_variants and settings is None:
            return []
        found = [
            subject
            for subject, preset in self._presets.items()
            if re.fullmatch(pattern, preset) and self._models[subject].is_preset_with(settings or {}, trained=not claim.of_cost)
        ]
        if claim.of_cost:
            return found
        return [subject for subject in found if subject in self._imagenet and not self._cut_short(subject)]

    def _cut_short(self, subject: str) -> bool:
        """Whether a run trained here saw clearly fewer images than the published model; imported weights did not."""
        seen, epochs = self._seen.get(subject), self._epochs.get(self._presets[subject], 0)
        return seen is not None and seen < _ENOUGH * epochs * _IMAGENET_IMAGES

    def _missing(self, claim: Claim) -> str:
        sides = ((claim.a, claim.settings_a), (claim.b, claim.settings_b))
        if claim.of_variants and (untrainable := [model for model, settings in sides if settings is None]):
            return f"nvgbench has no {untrainable[0]}"
        absent = [model for model, settings in sides if not self._named(model, claim, settings)]
        if absent:
            return "no run of either model" if len(absent) == 2 else f"no run of {absent[0]}"
        return "not measured for both models"

    def _has(self, claim: Claim, subject: str, *, strict: bool = False) -> bool:
        if claim.metric in SCORES:
            return bool(self._by_key(claim, subject, strict=strict))
        return self._number(claim, subject) is not None

    def _by_key(self, claim: Claim, subject: str, *, strict: bool = False) -> dict[str, Scored]:
        """A subject's values of a claim's score, that by the papers' protocol first; none of unfinished or earlier weights.

        Args:
            strict: only with the papers' Inception, as the claim names the score.
        """
        wanted = SCORES[claim.metric]
        scores = self._all_scores.tokenizers if wanted.of_reconstructions else self._all_scores.models
        metrics = scores.get(subject, {})
        found = [
            scored
            for key, scored in metrics.items()
            if score_of(scored.metric.name) == wanted
            and (scored.metric.name == wanted.name or not strict)
            and has_value(metrics, key)
            and not scored.caution
        ]
        found.sort(key=lambda scored: scored.key != score_key(scored.metric.name, _PAPERS_PROTOCOL))
        return {scored.key: scored for scored in found}

    def _of_both(self, claim: Claim, a: str, b: str, *, strict: bool = False) -> tuple[Scored, Scored]:
        """The claim's score of two subjects that have it: comparable values of one protocol if any, the papers' first."""
        left, right = (self._by_key(claim, subject, strict=strict) for subject in (a, b))
        shared = [(left[key], right[key]) for key in left if key in right]
        comparable = [pair for pair in shared if why_not_comparable(*pair) is None]
        # Values of different protocols are not comparable, and the verdict says that.
        return [*comparable, *shared, (next(iter(left.values())), next(iter(right.values())))][0]

    def _number(self, claim: Claim, subject: str) -> Number | None:
        """What was measured of a claim that is not about a score."""
        if not claim.of_cost:
            use = self._codebooks.get(subject)
            return None if use is None else of_record(claim.metric, *use)
        record = self._profiles.get(subject)
        found = None if record is None else find_measurement(record, claim.metric, 1)
        return None if record is None or found is None or not found.samples else of_measurement(found, record)

    def _answer(self, claim: Claim, a: str, b: str, *, strict: bool = False) -> Judged:
        if claim.metric in SCORES:
            return _by_interval(claim, *self._of_both(claim, a, b, strict=strict))
        one, other = self._number(claim, a), self._number(claim, b)
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


def _preset(model: str) -> str:
    """The preset that reproduces the published ``model``, or of which it is a variant in parentheses."""
    name = model.lower()
    name = name.partition(" (")[0] if name not in _PRESETS and re.fullmatch(r"[a-z]+-d\d+ \(.*", name) else name
    return _PRESETS.get(name, name)


def _family(model: str) -> str:
    return _FAMILIES.get(re.split(r"[-, ]", model.lower())[0], "")


def _by_interval(claim: Claim, a: Scored, b: Scored) -> Judged:
    """Scores: decided if the interval of the difference excludes zero."""

    def judged(outcome: Outcome, reason: str, interval: Interval | None = None) -> Judged:
        return Judged(
            claim=claim,
            outcome=outcome,
            reason=reason,
            subject_a=a.record.subject,
            subject_b=b.record.subject,
            a=of_metric(a),
            b=of_metric(b),
            shown_a=score(float(a.metric)),
            shown_b=score(float(b.metric)),
            interval=interval,
        )

    reason = why_not_comparable(a, b)
    if reason is not None:
        return judged("not comparable", reason)
    found = compare(b, a)
    ahead = found.value > 0 if claim.higher_is_better else found.value < 0
    if found.interval is None:
        return judged("inconclusive", f"{'as' if ahead else 'not as'} the paper claims, but undecided without intervals")
    covers = noise(found.interval.source)
    if found.interval.low <= 0 <= found.interval.high:
        return judged("inconclusive", f"the interval of the difference includes zero ({covers})", found.interval)
    outcome: Outcome = "supported" if ahead else "not supported"
    return judged(outcome, f"the interval of the difference excludes zero ({covers})", found.interval)


def _by_range(claim: Claim, a: str, b: str, one: Number, other: Number) -> Judged:
    """Time, memory and codebook use: decided if the ranges of the repetitions do not overlap."""

    def judged(outcome: Outcome, reason: str) -> Judged:
        shown = [quantity(number.value, number.unit) if claim.of_cost else f"{number.value:.1%}" for number in (one, other)]
        return Judged(
            claim=claim, outcome=outcome, reason=reason, subject_a=a, subject_b=b, a=one, b=other,
            shown_a=shown[0], shown_b=shown[1],
        )  # fmt: skip

    if one.device != other.device:
        return judged("not comparable", f"measured on different devices: {one.device} and {other.device}")
    ahead = one.value > other.value if claim.higher_is_better else one.value < other.value
    decided: Outcome = "supported" if ahead else "not supported"
    ends = [_ends(one), _ends(other)]
    apart = ends[0][1] < ends[1][0] or ends[1][1] < ends[0][0]
    if one.low is None and other.low is None:
        if not claim.of_cost:
            return judged("inconclusive", "one value each, without an interval; another training may differ")
        return judged(decided if apart else "inconclusive", "one value each")
    if apart:
        return judged(decided, "the ranges of the repetitions do not overlap")
    return judged("inconclusive", "the ranges of the repetitions overlap")


def _ends(number: Number) -> tuple[float, float]:
    """The range of a number; the number twice if it has none."""
    return (number.value, number.value) if number.low is None or number.high is None else (number.low, number.high)
