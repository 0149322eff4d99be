"""Which scores the records hold, and the order of models and metrics on the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nvgbench.reporting.quantities import interval_text, score
from nvgbench.results.compare import Scored, latest_metrics, why_not_comparable
from nvgbench.results.grouping import members
from nvgbench.results.schema import RunRecord
from nvgbench.results.scores import HEADLINE, SCORES, score_of, score_rank

ANCHOR = "anchor"

Scores = Mapping[str, Mapping[str, Scored]]
"""Subject -> key of the score (`nvgbench.results.compare.score_key`) -> newest value."""


@dataclass(frozen=True, kw_only=True)
class AllScores:
    """The newest scores of models, of anchors and of reconstructions."""

    models: Scores
    anchors: Scores
    tokenizers: Scores


def collect_scores(records: Iterable[RunRecord]) -> AllScores:
    """The newest value of every score of every subject."""
    generated: dict[str, dict[str, Scored]] = {}
    reconstructed: dict[str, dict[str, Scored]] = {}
    for subject, metrics in latest_metrics(records, ("eval", "reconstruction")).items():
        for key, scored in metrics.items():
            (reconstructed if scored.of_reconstructions else generated).setdefault(subject, {})[key] = scored
    anchors = {s: m for s, m in generated.items() if next(iter(m.values())).record.family == ANCHOR}
    models = {s: m for s, m in generated.items() if s not in anchors}
    return AllScores(models=models, anchors=anchors, tokenizers=reconstructed)


def single_trainings(models: Scores) -> Scores:
    """The members of training groups, by group and seed.

    The group represents them: the best of several seeds is lucky, not better.
    """
    records = (scored.record for metrics in models.values() for scored in metrics.values())
    return {member: models[member] for record in records for member in members(record) if member in models}


def ranked(models: Scores) -> Scores:
    """The models that are ranked and compared: groups of trainings, and models trained once."""
    single = single_trainings(models)
    return {subject: metrics for subject, metrics in models.items() if subject not in single}


def metric_order(scores: Iterable[Mapping[str, Scored]]) -> list[str]:
    """Keys of all metrics in the order of the table of scores, each by nvgbench's protocol first; unknown names last."""
    found = {key: scored.metric.name for metrics in scores for key, scored in metrics.items()}
    return sorted(found, key=lambda key: (score_rank(found[key]), key != found[key]))


def primary_metric(scores: Scores) -> str | None:
    """Key of the score that summary and figures use: the Fréchet distance that most models have, with Inception first."""
    scores = ranked(scores)
    distances = Counter(
        key
        for metrics in scores.values()
        for key, scored in metrics.items()
        if scored.metric.value is not None and score_of(scored.metric.name) == SCORES[HEADLINE]
    )
    return max((key for key in metric_order(scores.values()) if key in distances), key=distances.__getitem__, default=None)


def most_comparable(name: str, scores: Scores) -> Scored:
    """The value of a score that most of its other values are comparable with."""
    scored = [metrics[name] for metrics in scores.values() if name in metrics]
    return max(scored, key=lambda one: sum(why_not_comparable(one, other) is None for other in scored))


def model_order(models: Scores) -> list[str]:
    """Models by their primary score, best first; then unfinished ones and those not comparable with most others, then those
    without it.

    Members of training groups come last, by group and seed.
    """
    groups = ranked(models)
    name = primary_metric(groups)
    order = list(groups) if name is None else sorted(groups, key=lambda subject: _place(groups, subject, name))
    return [*order, *single_trainings({**{subject: models[subject] for subject in order}, **models})]


def _place(models: Scores, subject: str, name: str) -> tuple[bool, bool, float]:
    if not has_value(models[subject], name):
        return True, True, 0.0
    scored = models[subject][name]
    assert scored.metric.value is not None
    apart = bool(scored.caution) or why_not_comparable(most_comparable(name, models), scored) is not None
    return False, apart, scored.metric.value


def has_value(metrics: Mapping[str, Scored], name: str) -> bool:
    """Whether a score was measured and could be computed."""
    return name in metrics and metrics[name].metric.value is not None


def value_text(scored: Scored) -> str:
    """A score that has a value, and its interval."""
    assert scored.metric.value is not None
    return f"{score(scored.metric.value)} {interval_text(scored.metric.interval, scored.metric.value)}".rstrip()
