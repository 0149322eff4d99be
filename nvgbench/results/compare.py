"""Comparing scores: which ones are comparable, and what the intervals decide. No torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

from nvgbench.errors import InputError, did_you_mean
from nvgbench.results.protocols import OWN
from nvgbench.results.schema import RunRecord
from nvgbench.results.scores import score_of, score_rank, scores_with_choice
from nvgbench.results.weights import GENERATOR, TOKENIZER, newest_trainings, weights_caution
from nvgbench.types import Interval, MetricValue

if TYPE_CHECKING:
    import pandas

Decision = Literal["better", "worse", "different", "inconclusive"]

LEVEL = 0.95
_IDENTITY = ("reference", "extractor", "dataset")
"""Provenance entries that must agree if both records have them."""
_FINGERPRINTS = ("fingerprint", "sha256", "weights_sha256", "hash")


@dataclass(frozen=True)
class Scored:
    """A metric and the record it comes from.

    Attributes:
        caution: why it is not a score of the finished run (`nvgbench.results.weights`); empty if it is.
    """

    metric: MetricValue
    record: RunRecord
    caution: str = ""

    @property
    def key(self) -> str:
        """See `score_key`."""
        return score_key(self.metric.name, self.metric.protocol)

    @property
    def of_reconstructions(self) -> bool:
        """Whether it is about the tokenizer's reconstructions rather than about generated images."""
        score = score_of(self.metric.name)
        return score is not None and score.of_reconstructions


@dataclass(frozen=True, kw_only=True)
class Margin:
    """The standard error of a difference, computed from the images of both models.

    Attributes:
        stderr: standard error of the difference.
        paired: whether images with equal seeds were compared pairwise.
        method: how it was computed, in words.
    """

    stderr: float
    paired: bool
    method: str


Margins = Callable[[RunRecord, RunRecord], Mapping[str, Margin]]
"""Margins of two records' scores by `score_key`, for the scores that have one."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """``candidate`` minus ``baseline``.

    Attributes:
        value: the difference.
        interval: its interval if both scores have one (`difference_interval`) or a margin is known. Its source is ``training``
            only if both scores' intervals cover training.
        verdict: what the interval decides about the candidate; ``different`` if neither direction is better.
        paired: whether images with equal seeds were compared pairwise.
        forced: why the two are not comparable, if they were compared anyway; else empty.
    """

    baseline: MetricValue
    candidate: MetricValue
    value: float
    interval: Interval | None
    verdict: Decision
    paired: bool = False
    forced: str = ""


@dataclass(frozen=True, repr=False)
class Comparison(Mapping[str, Difference]):
    """Two models' scores compared: a mapping from the score's key (`score_key`) to its `Difference`, in the table's order.

    `verdict`, `difference` and `interval` are those of the first score, FID or the Fréchet distance if both models have it.

    Attributes:
        differences: candidate minus baseline, by key of the score; at least one.
        baseline, candidate: names of the models.
        only_baseline, only_candidate: keys of the scores that one model alone has.
        cautions: what stands against relying on the scores, such as weights of an unfinished training; one line each.
    """

    differences: Mapping[str, Difference]
    baseline: str = "baseline"
    candidate: str = "candidate"
    only_baseline: tuple[str, ...] = ()
    only_candidate: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()

    def __getitem__(self, key: str) -> Difference:
        return self.differences[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.differences)

    def __len__(self) -> int:
        return len(self.differences)

    @property
    def _first(self) -> Difference:
        return next(iter(self.differences.values()))

    @property
    def verdict(self) -> Decision:
        """What is decided about the candidate."""
        return self._first.verdict

    @property
    def difference(self) -> float:
        """Candidate minus baseline."""
        return self._first.value

    @property
    def interval(self) -> Interval | None:
        """Interval of the difference."""
        return self._first.interval

    def to_frame(self) -> pandas.DataFrame:
        """One row per score: both values, difference, its interval and the verdict."""
        import pandas

        rows = [
            {
                "score": key,
                "baseline": found.baseline.value,
                "candidate": found.candidate.value,
                "difference": found.value,
                "low": None if found.interval is None else found.interval.low,
                "high": None if found.interval is None else found.interval.high,
                "covers": "" if found.interval is None else found.interval.source,
                "verdict": found.verdict,
                "paired": found.paired,
                "forced": found.forced,
            }
            for key, found in self.items()
        ]
        return pandas.DataFrame(rows).set_index("score").astype({"low": float, "high": float})

    def __repr__(self) -> str:
        width = max(map(len, self))
        lines = [f"{self.candidate} compared with {self.baseline} (difference: {self.candidate} minus {self.baseline})"]
        lines += [_line(key.ljust(width), found) for key, found in self.items()]
        for name, keys in ((self.baseline, self.only_baseline), (self.candidate, self.only_candidate)):
            lines += [f"only {name} has: {', '.join(keys)}"] if keys else []
        lines += [f"warning: {caution}" for caution in self.cautions]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html())


def _line(name: str, found: Difference) -> str:
    interval = found.interval
    noise = "no interval"
    if interval is not None:
        paired = ", paired" if found.paired else ""
        noise = f"{interval.low:+.4g} to {interval.high:+.4g}; {100 * interval.level:g} %, {interval.source}{paired}"
    marked = f"  FORCED: {found.forced}" if found.forced else ""
    values = f"{found.baseline.value:.5g} -> {found.candidate.value:.5g}"
    return f"{found.verdict:<12}  {name}  {values}  {found.value:+.4g} ({noise}){marked}"


def score_key(name: str, protocol: str) -> str:
    """What tells a score from those by other protocols: ``FID`` by nvgbench's own, ``FID (adm)`` by adm's.

    Versions of a protocol share a key: the newer number replaces the older one, and the two are not comparable.

    Args:
        name: the score's name, with its extractor.
        protocol: id and version, or the id alone; empty for numbers that follow none.
    """
    id = protocol.partition("/")[0]
    return name if id in ("", OWN) else f"{name} ({id})"


def latest_metrics(records: Iterable[RunRecord], kinds: Iterable[str]) -> dict[str, dict[str, Scored]]:
    """Subject -> `score_key` -> newest value, in the order in which they first appear.

    Newest is by the record's time; of two records of the same second the later one wins. Records of trainings among them tell
    which scores are of earlier weights (`Scored.caution`).
    """
    records, wanted = list(records), frozenset(kinds)
    trained = newest_trainings(records)
    found: dict[str, dict[str, Scored]] = {}
    for record in records:
        if record.kind not in wanted:
            continue
        known = found.setdefault(record.subject, {})
        for metric in record.metrics:
            scored = with_caution(Scored(metric, record), trained)
            if scored.key not in known or record.created >= known[scored.key].record.created:
                known[scored.key] = scored
    return found


def with_caution(scored: Scored, trainings: Mapping[str, RunRecord]) -> Scored:
    """The score with its caution, given the newest training of every subject (`nvgbench.results.weights`)."""
    phase = TOKENIZER if scored.of_reconstructions else GENERATOR
    caution = weights_caution(scored.record, trainings.get(scored.record.subject), phase)
    return dataclasses.replace(scored, caution=caution) if caution else scored


def why_not_comparable(a: Scored, b: Scored) -> str | None:
    """The first reason why two scores are not comparable, or None.

    The Fréchet distance and similar scores are biased by the number of images, by an amount that differs between models, so
    unequal n cannot be corrected for. Another reference or extractor makes another quantity; a reference that only one of the
    two records names may be another one.
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
    for key in _IDENTITY if score is None or score.uses_extractor else ("reference", "dataset"):
        left, right = (reference_of(one) if key == "reference" else identity(one.record.provenance.get(key)) for one in (a, b))
        if key == "reference" and (left is None) != (right is None):
            return f"the {'first' if left is None else 'second'} record names no reference"
        if left is not None and right is not None and left != right:
            return f"{key} differs: {left} and {right}"
    return _other_choice(a, b)


def _other_choice(a: Scored, b: Scored) -> str | None:
    """How the choices within the protocol differ, as far as they concern the score."""
    score = score_of(a.metric.name)
    left, right = _choices(a), _choices(b)
    for key in sorted(left.keys() | right.keys()):
        # Choices of no score in particular, such as how images are resized, concern all.
        concerned = scores_with_choice(key)
        if a.of_reconstructions or (concerned and (score is None or score.name not in concerned)):
            continue
        if left.get(key) != right.get(key):
            shown = (str(side.get(key, "the default")) for side in (left, right))
            return f"{key.replace('_', ' ')} differs: {' and '.join(shown)}"
    return None


def _choices(scored: Scored) -> Mapping[str, Any]:
    protocol = scored.record.provenance.get("protocol")
    choices = protocol.get("choices") if isinstance(protocol, Mapping) else None
    return choices if isinstance(choices, Mapping) else {}


def reference_of(scored: Scored) -> Any:
    """What identifies the images that a score was computed against; None if its record does not name them.

    Reconstructions are compared with the run's own held-out images, whatever the reference of its samples.
    """
    return identity(scored.record.provenance.get("reconstruction_reference" if scored.of_reconstructions else "reference"))


def identity(entry: Any) -> Any:
    """What identifies a reference, an extractor or a data set: its fingerprint if it has one, else the entry itself."""
    if isinstance(entry, Mapping):
        for key in _FINGERPRINTS:
            if entry.get(key):
                return entry[key]
    return entry


def compare(baseline: Scored, candidate: Scored, *, margin: Margin | None = None, force: bool = False) -> Difference:
    """The difference of two scores and what its interval decides.

    Args:
        baseline, candidate: the scores.
        margin: the error of their difference, if it is known better than from the two intervals.
        force: compare scores that are not comparable and note the reason in `Difference.forced`; different metrics never are.

    Raises:
        InputError: the two are not comparable (`why_not_comparable`), or one has no value.
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
    if margin is None:
        interval = difference_interval(old, new)
    else:
        reach = NormalDist().inv_cdf((1 + LEVEL) / 2) * margin.stderr
        interval = Interval(difference - reach, difference + reach, LEVEL, "sampling", margin.method)
    return Difference(
        baseline=old,
        candidate=new,
        value=difference,
        interval=interval,
        verdict=decide(interval, new.higher_is_better),
        paired=margin is not None and margin.paired,
        forced=reason or "",
    )


def compare_all(
    baseline: Mapping[str, Scored],
    candidate: Mapping[str, Scored],
    *,
    metrics: Iterable[str] = (),
    margins: Margins | None = None,
    force: bool = False,
    names: tuple[str, str] = ("baseline", "candidate"),
) -> Comparison:
    """Compare all scores that two models share.

    Args:
        baseline, candidate: each model's scores by `score_key`.
        metrics: only these scores: a recorded name (by every protocol), or a key. All if empty.
        margins: finds the errors of the differences from the images of both, for records whose scores are comparable.
        force: see `compare`.
        names: of the two models, for messages and for the result.

    Raises:
        InputError: no score in common, a name in ``metrics`` that not both have, or scores that are not comparable.
    """
    keys = _shared_keys(baseline, candidate, metrics, names)
    known: dict[tuple[str, str], Mapping[str, Margin]] = {}
    differences = {}
    for key in keys:
        old, new = baseline[key], candidate[key]
        pair = (old.record.id, new.record.id)
        comparable = margins is not None and why_not_comparable(old, new) is None
        if margins is not None and comparable and pair not in known:
            known[pair] = margins(old.record, new.record)
        margin = known.get(pair, {}).get(key) if comparable else None
        differences[key] = compare(old, new, margin=margin, force=force)
    return Comparison(
        differences,
        *names,
        only_baseline=tuple(key for key in baseline if key not in candidate),
        only_candidate=tuple(key for key in candidate if key not in baseline),
        cautions=tuple(
            f"{name}: {caution}"
            for name, scores in zip(names, (baseline, candidate), strict=True)
            for caution in dict.fromkeys(scores[key].caution for key in keys)
            if caution
        )
        + _unequal_precision([baseline[key].record for key in keys], [candidate[key].record for key in keys], names),
    )


def _unequal_precision(
    baseline: Sequence[RunRecord], candidate: Sequence[RunRecord], names: tuple[str, str]
) -> tuple[str, ...]:
    """A remark if one model was sampled in another precision than the other."""
    first, second = ({found for record in records if (found := _precision(record))} for records in (baseline, candidate))
    if not first or not second or first == second:
        return ()
    told = " and ".join(f"{name} in {', '.join(sorted(used))}" for name, used in zip(names, (first, second), strict=True))
    return (f"sampled in unequal precision: {told}",)


def _precision(record: RunRecord) -> str:
    """The precision that a model was sampled in; empty if it was not sampled here. float32 was the only one at first."""
    settings, seeds = record.provenance.get("settings"), record.provenance.get("seeds")
    if not isinstance(settings, Mapping) or not isinstance(seeds, Mapping) or "sampling" not in seeds:
        return ""
    return str(settings.get("precision", "fp32"))


def _shared_keys(
    baseline: Mapping[str, Scored], candidate: Mapping[str, Scored], metrics: Iterable[str], names: tuple[str, str]
) -> list[str]:
    """Keys of the scores that both have a value of, as far as ``metrics`` asks for them, in the table's order."""
    shared = [
        key
        for key, scored in baseline.items()
        if key in candidate and scored.metric.value is not None and candidate[key].metric.value is not None
    ]
    if not shared:
        raise InputError(
            f"{names[0]} and {names[1]} have no score in common: {', '.join(baseline) or 'none'} and "
            f"{', '.join(candidate) or 'none'}; evaluate both in the same way"
        )
    shared.sort(key=lambda key: score_rank(baseline[key].metric.name))
    chosen: dict[str, None] = {}
    for name in metrics:
        found = [key for key in shared if name in (key, baseline[key].metric.name)]
        if not found:
            near = did_you_mean(name, [*shared, *(baseline[key].metric.name for key in shared)])
            raise InputError(f"no score {name!r} of both{near}; both have: {', '.join(shared)}")
        chosen |= dict.fromkeys(found)
    return list(chosen) or shared


def difference_interval(old: MetricValue, new: MetricValue) -> Interval | None:
    """Interval of ``new`` minus ``old`` from the intervals of both, as if they were independent (Zou and Donner 2008).

    Scores of the same images or against the same reference are positively correlated, so the interval is too wide rather than
    too narrow for them. None if one has no interval, no value, or an interval of another level.
    """
    a, b = old.interval, new.interval
    if old.value is None or new.value is None or a is None or b is None or not math.isclose(a.level, b.level):
        return None
    difference = new.value - old.value
    below = math.hypot(new.value - b.low, a.high - old.value)
    above = math.hypot(b.high - new.value, old.value - a.low)
    source = "training" if a.source == b.source == "training" else "sampling"
    return Interval(difference - below, difference + above, a.level, source, "intervals of both")


def decide(interval: Interval | None, higher_is_better: bool | None) -> Decision:
    """What the interval of a difference (candidate minus baseline) says about the candidate."""
    if interval is None or interval.low <= 0 <= interval.high:
        return "inconclusive"
    if higher_is_better is None:
        return "different"
    return "better" if (interval.low > 0) == higher_is_better else "worse"


def standard_error(interval: Interval) -> float:
    """The standard error of a normal distribution with such an interval."""
    return (interval.high - interval.low) / 2 / NormalDist().inv_cdf(0.5 + interval.level / 2)
