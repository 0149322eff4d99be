"""Trainings with several seeds in a gate: the group is judged with its training interval, in place of its members' scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from nvgbench.gates.baseline import SCORED_KINDS, Baseline
from nvgbench.results.compare import Scored
from nvgbench.results.grouping import members, training_groups
from nvgbench.results.schema import RunRecord

Scores = Mapping[str, Mapping[str, Scored]]


def with_groups(
    baseline: Baseline, records: Sequence[RunRecord], trained: Sequence[RunRecord] = ()
) -> tuple[Baseline, list[RunRecord]]:
    """Both with a record for each group of trainings of one environment.

    Groups are made from their members each time, so a baseline whose members are renewed one by one never keeps a stale mean.

    Args:
        baseline: the accepted records.
        records: scores and measurements to judge.
        trained: records of trainings, which tell which of these scores are of earlier weights.
    """
    taken = frozenset([*baseline.subjects, *(record.subject for record in records)])
    groups = tuple(
        dataclasses.replace(group, records=(*group.records, *training_groups(group.records, SCORED_KINDS, taken)))
        for group in baseline.groups
    )
    made = [
        one for group in Baseline.of(records).groups for one in training_groups([*group.records, *trained], SCORED_KINDS, taken)
    ]
    return Baseline(groups), [*records, *made]


def group_names(baseline: Baseline) -> list[str]:
    """Names of the groups of trainings in a baseline."""
    known = frozenset(baseline.subjects)
    return [subject for subject in with_groups(baseline, ())[0].subjects if subject not in known]


def judged_by_group(known: Sequence[Scores], now: Scores) -> frozenset[tuple[str, str]]:
    """Member and key of all scores that the group is judged by instead: those that it has on both sides."""
    pairs = (
        (scores[subject][key], new)
        for scores in known
        for subject, metrics in now.items()
        for key, new in metrics.items()
        if key in scores.get(subject, {})
    )
    return frozenset((member, new.key) for old, new in pairs for one in (old, new) for member in members(one.record))
