"""Comparing scores: what may be compared at all, and what the intervals decide. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

from nvgbench.errors import InputError
from nvgbench.results.protocols import OWN
from nvgbench.results.schema import RunRecord
from nvgbench.results.scores import score_of
from nvgbench.types import Interval, MetricValue

Outcome = Literal["better", "worse", "different", "inconclusive"]

IDENTITY = ("reference", "extractor", "dataset")
"""Provenance entries that must agree wherever both records have them."""
_FINGERPRINTS = ("fingerprint", "sha256", "weights_sha256", "hash")


@dataclass(frozen=True)
class Scored:
    """A metric and the record that it comes from."""

    metric: MetricValue
    record: RunRecord

    @property
    def key(self) -> str:
        """What it is filed under, see `score_key`."""
        return score_key(self.metric.name, self.metric.protocol)


@dataclass(frozen=True, kw_only=True)
class Margin:
    """The standard error of a difference that was computed from the images of both models.

    Attributes:
        stderr: standard error of the difference.
        paired: whether images of equal seeds were held against each other.
        method: how, for people.
    """

    stderr: float
    paired: bool
    method: str


@dataclass(frozen=True, kw_only=True)
class Difference:
    """``candidate`` minus ``baseline``.

    Attributes:
        value: the difference.
        low, high: its interval, where both scores have one (`difference_interval`); else None.
        outcome: what the interval decides; ``different`` where neither direction is better.
        covers: what varies in the interval (``sampling`` or ``training``), the weaker of the two.
        method: where the interval comes from.
        paired: whether images of equal seeds were held against each other.
        forced: why the two must not be compared, where they were all the same; else empty.
    """

    baseline: MetricValue
    candidate: MetricValue
    value: float
    low: float | None
    high: float | None
    outcome: Outcome
    covers: str
    method: str = "intervals of both"
    paired: bool = False
    forced: str = ""


def score_key(name: str, protocol: str) -> str:
    """What tells a score from those by other rules: ``FID`` by nvgbench's protocol, ``FID (adm)`` by adm's.

    Versions of a protocol share a key: the newer number takes the older one's place, and the two are not comparable.

    Args:
        name: the score's name, with its extractor.
        protocol: id and version, or the id alone; empty for numbers that follow none.
    """
    id = protocol.partition("/")[0]
    return name if id in ("", OWN) else f"{name} ({id})"


def latest_metrics(records: Iterable[RunRecord], kinds: Iterable[str]) -> dict[str, dict[str, Scored]]:
    """For every subject the newest value of every metric by `score_key`, in the order in which they first appear.

    Newest is by the record's time; of two records of the same second the later line wins.
    """
    wanted = frozenset(kinds)
    found: dict[str, dict[str, Scored]] = {}
    for record in records:
        if record.kind not in wanted:
            continue
        known = found.setdefault(record.subject, {})
        for metric in record.metrics:
            scored = Scored(metric, record)
            if scored.key not in known or record.created >= known[scored.key].record.created:
                known[scored.key] = scored
    return found


def why_not_comparable(a: Scored, b: Scored) -> str | None:
    """The first reason why two scores must not be compared, or None.

    The Fréchet distance and its kin are biased by the number of images, and differently for each model, so that unequal n
    cannot be corrected for; another reference or another extractor is another quantity. A reference that only one of them
    names may be another one.
    """
    checks: tuple[tuple[str, Any, Any], ...] = (
        ("metric", a.metric.name, b.metric.name),
        ("protocol", a.metric.protocol, b.metric.protocol),
        ("number of images", a.metric.n, b.metric.n),
        ("number of reference images", a.metric.n_reference, b.metric.n_reference),
    )
    for what, left, right in checks:
        if left != right:
            return f"{what} differs: {left} and {right}"
    score = score_of(a.metric.name)
    for key in IDENTITY if score is None or score.uses_extractor else ("reference", "dataset"):
        left, right = (reference_of(one) if key == "reference" else identity(one.record.provenance.get(key)) for one in (a, b))
        if key == "reference" and (left is None) != (right is None):
            return f"reference not recorded with the {'first' if left is None else 'second'} of the two"
        if left is not None and right is not None and left != right:
            return f"{key} differs: {left} and {right}"
    return None


def reference_of(scored: Scored) -> Any:
    """What identifies the images that a score was taken against; None where its record does not say.

    Records that do not name the images behind their reconstructions (older ones) have one reference for all scores.
    """
    provenance = scored.record.provenance
    score = score_of(scored.metric.name)
    # Reconstructions are of the run's own held-out images, whatever reference the samples were scored against.
    own = provenance.get("reconstruction_reference") if score is not None and score.of_reconstructions else None
    return identity(provenance.get("reference") if own is None else own)


def identity(entry: Any) -> Any:
    """What identifies a reference, an extractor or a data set: its fingerprint where it has one, else the entry itself."""
    if isinstance(entry, Mapping):
        for key in _FINGERPRINTS:
            if entry.get(key):
                return entry[key]
    return entry


def compare(baseline: Scored, candidate: Scored, *, margin: Margin | None = None, force: bool = False) -> Difference:
    """Hold ``candidate`` against ``baseline``.

    Args:
        baseline, candidate: the scores.
        margin: the error of their difference where it is known better than from the two intervals.
        force: compare what must not be compared and note the reason in `Difference.forced`; scores of another name never are.

    Raises:
        InputError: the two must not be compared (`why_not_comparable`), or one has no value.
    """
    reason = why_not_comparable(baseline, candidate)
    if reason is not None and not (force and baseline.metric.name == candidate.metric.name):
        subjects = f"{baseline.record.subject!r} and {candidate.record.subject!r}"
        raise InputError(f"{candidate.key} of {subjects} is not comparable: {reason}")
    old, new = baseline.metric, candidate.metric
    if old.value is None or new.value is None:
        empty = baseline if old.value is None else candidate
        raise InputError(f"{empty.key} of {empty.record.subject!r} has no value: {empty.metric.note or 'no reason recorded'}")
    difference = new.value - old.value
    low, high = difference_interval(old, new) or (None, None)
    covers = ""
    if margin is not None:
        reach = NormalDist().inv_cdf(0.975) * margin.stderr
        low, high, covers = difference - reach, difference + reach, "sampling"
    if old.interval and new.interval:
        covers = "training" if old.interval.source == new.interval.source == "training" else "sampling"
    return Difference(
        baseline=old,
        candidate=new,
        value=difference,
        low=low,
        high=high,
        outcome=decide(low, high, new.higher_is_better),
        covers=covers,
        method="intervals of both" if margin is None else margin.method,
        paired=margin is not None and margin.paired,
        forced=reason or "",
    )


def difference_interval(old: MetricValue, new: MetricValue) -> tuple[float, float] | None:
    """Interval of ``new`` minus ``old`` from the intervals of both, as if they were independent (Zou and Donner 2008).

    Scores of the same images or against the same reference are positively correlated, so that this is cautious for them.
    None where one has no interval, no value, or an interval of another level.
    """
    if old.value is None or new.value is None or old.interval is None or new.interval is None:
        return None
    if not math.isclose(old.interval.level, new.interval.level):
        return None
    difference = new.value - old.value
    below = math.hypot(new.value - new.interval.low, old.interval.high - old.value)
    above = math.hypot(new.interval.high - new.value, old.value - old.interval.low)
    return difference - below, difference + above


def decide(low: float | None, high: float | None, higher_is_better: bool | None) -> Outcome:
    """What the interval of a difference (candidate minus baseline) says about the candidate."""
    if low is None or high is None or low <= 0 <= high:
        return "inconclusive"
    if higher_is_better is None:
        return "different"
    return "better" if (low > 0) == higher_is_better else "worse"


def standard_error(interval: Interval) -> float:
    """The standard error of a normal distribution with such an interval."""
    return (interval.high - interval.low) / 2 / NormalDist().inv_cdf(0.5 + interval.level / 2)
