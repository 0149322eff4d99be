"""From a metric's contributions to the value that a record holds."""

from __future__ import annotations

from nvgbench.metrics.uncertainty import Contributions, interval_of
from nvgbench.results.protocols import Protocol
from nvgbench.results.scores import named_score
from nvgbench.types import MetricValue


def metric_value(
    score: str,
    extractor: str | None,
    found: Contributions,
    n: int,
    n_reference: int | None = None,
    *,
    protocol: Protocol | None = None,
) -> MetricValue:
    """A score as it is recorded: named after its extractor, its interval clipped to the range of the score.

    Args:
        score: its name in the table of scores.
        extractor: name of the extractor; None for scores without features.
        found: value and error.
        n: number of generated (or reconstructed) images.
        n_reference: number of reference images, if any.
        protocol: the rules that it follows; nvgbench's own if not given.
    """
    known = named_score(score)
    interval = interval_of(found)
    return MetricValue(
        name=known.called(extractor),
        value=found.value,
        n=n,
        n_reference=n_reference,
        unit=known.unit,
        higher_is_better=known.higher_is_better,
        interval=None if interval is None else known.clip(interval),
        stderr=found.stderr,
        protocol=known.tag if protocol is None else protocol.tag,
        note=found.note,
    )
