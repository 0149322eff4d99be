"""Repetitions as one record with an interval over them: several trainings, or several sampling seeds. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import stdtrit

from nvgbench.errors import InputError
from nvgbench.results.compare import LEVEL, Scored, latest_metrics, why_not_comparable
from nvgbench.results.models import model_name
from nvgbench.results.schema import RunRecord
from nvgbench.results.scores import score_of
from nvgbench.types import Interval, MetricValue

_REPEATED: dict[str, str] = {"training": "training runs", "sampling": "sampling seeds"}


@dataclass(frozen=True)
class Replicate:
    """One of several trainings of a configuration, as records know it.

    Attributes:
        of: hash of the configuration without the training's seed (`nvgbench.config.load.replicate_hash`).
        seed: the training's seed.
        name: common name of trainings that were started together; empty for others.
    """

    of: str
    seed: int
    name: str = ""


def replicate_of(record: RunRecord) -> Replicate | None:
    """Which training a record is about; None if it is not about a trained run, whatever its name."""
    if record.family in ("external", "anchor"):
        return None
    entry = record.provenance.get("replicate")
    if not isinstance(entry, Mapping) or "of" not in entry or "seed" not in entry:
        return None
    return Replicate(str(entry["of"]), int(entry["seed"]), str(entry.get("name", "")))


def training_groups(
    records: Iterable[RunRecord], kinds: Sequence[str] = ("eval",), taken: Container[str] = ()
) -> list[RunRecord]:
    """A record for each group of trainings: runs whose configurations differ only in the training's seed.

    The group has the name that its trainings were started under, else that of the model: its preset and changed settings. A
    name that is a subject's already is followed by the beginning of the configuration's hash. Its intervals are Student's over
    the runs, so they cover training and the sampling noise within it. Scores that a run lacks, or that are not comparable
    between two runs, are left out. What the first run has from several evaluations (by other protocols, with other extractors)
    makes a record each, with its provenance.

    A member that is not of its finished run makes the whole group a group with a caution.

    Args:
        records: of any runs; of each subject the newest value of each score counts. Records of trainings tell which scores are
            of earlier weights.
        kinds: kinds of records whose scores count.
        taken: more names of subjects.
    """
    records = list(records)
    latest = latest_metrics(records, kinds)
    by_subject: dict[str, list[RunRecord]] = {}
    for record in records:
        if record.kind in kinds:
            by_subject.setdefault(record.subject, []).append(record)
    groups: list[RunRecord] = []
    for of, subjects in _replicates(by_subject).items():
        if len(subjects) < 2:
            continue
        seeds = sorted(subjects)
        runs = [by_subject[subjects[seed]] for seed in seeds]
        name = _common_name(runs)
        if name in taken or name in by_subject or any(group.subject == name for group in groups):
            name = f"{name} ({of[:8]})"
        newest = [latest[subjects[seed]] for seed in seeds]
        cautions = {subjects[seed]: _caution(own) for seed, own in zip(seeds, newest, strict=True)}
        for origin in dict.fromkeys(one.record.id for one in newest[0].values()):
            leading = {key: one for key, one in newest[0].items() if one.record.id == origin}
            group = _group(name, [leading, *newest[1:]], "training", {"training_seeds": seeds})
            provenance = {key: value for key, value in group.provenance.items() if key != "replicate"}
            provenance["members"] = [subjects[seed] for seed in seeds]
            if any(cautions.values()):
                provenance["caution"] = "; ".join(f"{name}: {caution}" for name, caution in cautions.items() if caution)
            groups.append(dataclasses.replace(group, provenance=provenance))
    return [group for group in groups if group.metrics]


def _replicates(by_subject: Mapping[str, Sequence[RunRecord]]) -> dict[str, dict[int, str]]:
    """Hash of the configuration -> seed of the training -> subject.

    Of two runs with the same seed, which are the same model, the one that was started together with others counts.
    """
    found: dict[str, dict[int, str]] = {}
    named: set[tuple[str, int]] = set()
    for subject, records in by_subject.items():
        replicate = replicate_of(max(records, key=lambda record: record.created))
        if replicate is None:
            continue
        place = (replicate.of, replicate.seed)
        subjects = found.setdefault(replicate.of, {})
        if replicate.seed not in subjects or (replicate.name and place not in named):
            subjects[replicate.seed] = subject
        if replicate.name:
            named.add(place)
    return found


def _caution(scores: Mapping[str, Scored]) -> str:
    """Why the scores of generated images are not of the finished run."""
    return next((one.caution for one in scores.values() if one.caution and not one.of_reconstructions), "")


def _common_name(runs: Sequence[Sequence[RunRecord]]) -> str:
    replicates = [replicate_of(record) for records in runs for record in records]
    names = {one.name for one in replicates if one is not None and one.name}
    if len(names) == 1:
        return names.pop()
    first = runs[0][0]
    return model_name(first) if first.preset else first.subject


def members(record: RunRecord) -> tuple[str, ...]:
    """The runs behind a record of `training_groups`; empty for any other record."""
    provenance = record.provenance
    return tuple(provenance.get("members", ())) if provenance.get("repeated") == "training" else ()


def over_sampling_seeds(records: Sequence[RunRecord]) -> RunRecord:
    """One record for a subject's evaluations with several sampling seeds: means with Student's intervals.

    Raises:
        InputError: fewer than two records, several subjects, equal seeds, or no comparable score.
    """
    subjects = {record.subject for record in records}
    seeds = [_seeds(record).get("sampling") for record in records]
    if len(records) < 2 or len(subjects) != 1 or len(set(seeds)) != len(seeds):
        raise InputError(f"{len(records)} evaluations of {', '.join(sorted(subjects))} with sampling seeds {seeds}; "
                         "expected at least 2 of one model with different seeds")  # fmt: skip
    scored = [latest_metrics([record], [record.kind])[record.subject] for record in records]
    group = _group(records[0].subject, scored, "sampling", {"sampling": seeds})
    if not group.metrics:
        raise InputError(f"the evaluations of {records[0].subject!r} have no score that is comparable among them")
    return group


def t_interval(values: Sequence[float], source: Literal["training", "sampling"]) -> Interval:
    """Student's t interval of the mean of repetitions.

    Raises:
        InputError: fewer than two values.
    """
    if len(values) < 2:
        raise InputError(f"an interval over {len(values)} {_REPEATED[source]}; expected at least 2")
    mean = float(np.mean(values))
    reach = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2) * np.std(values, ddof=1) / np.sqrt(len(values)))
    method = f"Student's t over {len(values)} {_REPEATED[source]}"
    return Interval(mean - reach, mean + reach, LEVEL, source, method, n=len(values), df=len(values) - 1)


def _group(
    subject: str, runs: Sequence[dict[str, Scored]], source: Literal["training", "sampling"], seeds: dict[str, Any]
) -> RunRecord:
    first = next(iter(runs[0].values())).record
    metrics, rows = [], []
    for key, leading in runs[0].items():
        others = [run.get(key) for run in runs]
        scored = [one for one in others if one is not None and one.metric.value is not None]
        if len(scored) < len(runs) or any(why_not_comparable(leading, one) for one in scored):
            continue
        values = [float(one.metric.value) for one in scored if one.metric.value is not None]
        # Reconstructions do not depend on the sampling seed: they keep their own interval.
        same = source == "sampling" and len(set(values)) == 1
        metrics.append(leading.metric if same else _mean(leading.metric, values, source))
        rows.append({"score": key, **{one.record.subject + _tail(one, source): one.metric.value for one in scored}})
    return dataclasses.replace(
        first,
        subject=subject,
        metrics=tuple(metrics),
        measurements=(),
        tables={f"scores over {_REPEATED[source]}": rows},
        artifacts=first.artifacts if source == "sampling" else (),
        provenance={**first.provenance, "seeds": {**_seeds(first), **seeds}, "repeated": source},
        id=f"{first.id}-{source}",
        created=max(run[key].record.created for run in runs for key in runs[0] if key in run),
    )


def _mean(metric: MetricValue, values: Sequence[float], source: Literal["training", "sampling"]) -> MetricValue:
    """The mean of repetitions; without interval if all are equal, which says nothing about further ones."""
    spread = len(set(values)) > 1
    interval = t_interval(values, source) if spread else None
    if interval is not None and (score := score_of(metric.name)) is not None:
        interval = score.clip(interval)
    note = f"mean of {len(values)} {_REPEATED[source]}"
    return dataclasses.replace(
        metric,
        value=float(np.mean(values)),
        interval=interval,
        stderr=float(np.std(values, ddof=1) / np.sqrt(len(values))) if spread else None,
        note="; ".join(filter(None, (metric.note, note))),
    )


def _tail(one: Scored, source: str) -> str:
    return "" if source == "training" else f" seed {_seeds(one.record).get('sampling')}"


def _seeds(record: RunRecord) -> Mapping[str, Any]:
    seeds = record.provenance.get("seeds")
    return seeds if isinstance(seeds, Mapping) else {}
