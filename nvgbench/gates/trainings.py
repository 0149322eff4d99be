"""Trainings of several seeds in a gate: the group is judged with its training interval, in place of its members' scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from nvgbench.gates.baseline import SCORED_KINDS, Baseline
from nvgbench.results.compare import Scored
from nvgbench.results.grouping import members, training_groups
from nvgbench.results.schema import RunRecord

Scores = Mapping[str, Mapping[str, Scored]]


def with_groups(baseline: Baseline, records: Sequence[RunRecord]) -> tuple[Baseline, list[RunRecord]]:
    """Both with a record for each family of trainings: NAME of NAME-seed0, NAME-seed1 …, of one environment.

    They are made from the members each time, so that a baseline whose members are renewed one by one never holds a stale mean.
    A run that bears the name itself goes before the group.
    """
    taken = frozenset([*baseline.subjects, *(record.subject for record in records)])
    groups = tuple(
        dataclasses.replace(group, records=(*group.records, *_groups(group.records, taken))) for group in baseline.groups
    )
    made = [one for group in Baseline.of(records).groups for one in _groups(group.records, taken)]
    return Baseline(groups), [*records, *made]


def group_names(baseline: Baseline) -> list[str]:
    """Names of the families of trainings that a baseline holds."""
    known = frozenset(baseline.subjects)
    return [subject for subject in with_groups(baseline, ())[0].subjects if subject not in known]


def spoken_for(known: Sequence[Scores], now: Scores) -> frozenset[tuple[str, str]]:
    """Member and score (by its key) of all scores that are judged by the group: those that it has on both sides."""
    pairs = (
        (scores[subject][key], new)
        for scores in known
        for subject, metrics in now.items()
        for key, new in metrics.items()
        if key in scores.get(subject, {})
    )
    return frozenset((member, new.key) for old, new in pairs for one in (old, new) for member in members(one.record))


def _groups(records: Sequence[RunRecord], taken: frozenset[str]) -> Iterator[RunRecord]:
    return (group for group in training_groups(records, SCORED_KINDS) if group.subject not in taken)
