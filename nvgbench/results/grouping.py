"""Repetitions as one record with an interval over them: several trained models, or several sampling seeds. No torch."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from scipy.stats import t

from nvgbench.errors import InputError
from nvgbench.results.compare import Scored, latest_metrics, why_not_comparable
from nvgbench.results.schema import RunRecord
from nvgbench.results.scores import score_of
from nvgbench.types import Interval, MetricValue

LEVEL = 0.95
_SEEDED = re.compile(r"(?P<name>.+)-seed(?P<seed>\d+)$")
_REPEATED: dict[str, str] = {"training": "training runs", "sampling": "sampling seeds"}


def training_groups(records: Iterable[RunRecord], kinds: Sequence[str] = ("eval",)) -> list[RunRecord]:
    """Records for each family of runs that ``train --seeds`` made: subject NAME for NAME-seed0, NAME-seed1 ….

    Their intervals are Student's over the runs, so that they cover training and the sampling noise inside it. A score that is
    missing in a run, or must not be compared between two of them, is left out. Families of one run give no record; what the
    first run has from several evaluations (by other rules, of other extractors) gives one for each, with its provenance.
    """
    members: dict[str, list[tuple[int, list[RunRecord]]]] = {}
    by_subject: dict[str, list[RunRecord]] = {}
    for record in records:
        if record.kind in kinds:
            by_subject.setdefault(record.subject, []).append(record)
    for subject, own in by_subject.items():
        found = _SEEDED.match(subject)
        if found:
            members.setdefault(found["name"], []).append((int(found["seed"]), own))
    groups = []
    for name, runs in members.items():
        if len(runs) < 2:
            continue
        runs.sort(key=lambda run: run[0])
        newest = [latest_metrics(own, kinds)[own[0].subject] for _, own in runs]
        seeds = {"training_seeds": [seed for seed, _ in runs]}
        subjects = [own[0].subject for _, own in runs]
        for origin in dict.fromkeys(one.record.id for one in newest[0].values()):
            leading = {key: one for key, one in newest[0].items() if one.record.id == origin}
            group = _group(name, [leading, *newest[1:]], "training", seeds)
            groups.append(dataclasses.replace(group, provenance={**group.provenance, "members": subjects}))
    return [group for group in groups if group.metrics]


def members(record: RunRecord) -> tuple[str, ...]:
    """The runs that a record of `training_groups` is over; empty for any other record."""
    provenance = record.provenance
    return tuple(provenance.get("members", ())) if provenance.get("repeated") == "training" else ()


def over_sampling_seeds(records: Sequence[RunRecord]) -> RunRecord:
    """One record of one subject's evaluations with several sampling seeds: means with Student's intervals.

    Raises:
        InputError: fewer than two records, several subjects, equal seeds, or nothing that can be compared.
    """
    subjects = {record.subject for record in records}
    seeds = [_seeds(record).get("sampling") for record in records]
    if len(records) < 2 or len(subjects) != 1 or len(set(seeds)) != len(seeds):
        raise InputError(f"{len(records)} evaluations of {', '.join(sorted(subjects))} with sampling seeds {seeds}; "
                         "expected at least 2 of one model with different seeds")  # fmt: skip
    scored = [latest_metrics([record], [record.kind])[record.subject] for record in records]
    group = _group(records[0].subject, scored, "sampling", {"sampling": seeds})
    if not group.metrics:
        raise InputError(f"the evaluations of {records[0].subject!r} have no score that may be compared between them")
    return group


def t_interval(values: Sequence[float], source: Literal["training", "sampling"]) -> Interval:
    """Student's interval of the mean of repetitions.

    Raises:
        InputError: fewer than two values.
    """
    if len(values) < 2:
        raise InputError(f"an interval over {len(values)} {_REPEATED[source]}; expected at least 2")
    mean = float(np.mean(values))
    reach = float(t.ppf((1 + LEVEL) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
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
        # Reconstructions do not depend on the sampling seed; their own interval stays.
        same = source == "sampling" and len(set(values)) == 1
        interval = t_interval(values, source)
        if (score := score_of(leading.metric.name)) is not None:
            interval = score.clip(interval)
        metrics.append(leading.metric if same else _mean(leading.metric, values, interval))
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


def _mean(metric: MetricValue, values: Sequence[float], interval: Interval) -> MetricValue:
    note = f"mean of {len(values)} {_REPEATED[interval.source]}"
    return dataclasses.replace(
        metric,
        value=float(np.mean(values)),
        interval=interval,
        stderr=float(np.std(values, ddof=1) / np.sqrt(len(values))),
        note="; ".join(filter(None, (metric.note, note))),
    )


def _tail(one: Scored, source: str) -> str:
    return "" if source == "training" else f" seed {_seeds(one.record).get('sampling')}"


def _seeds(record: RunRecord) -> Mapping[str, Any]:
    seeds = record.provenance.get("seeds")
    return seeds if isinstance(seeds, Mapping) else {}
