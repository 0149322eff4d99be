"""Records for the tests of the gates."""

from __future__ import annotations

from typing import Any

from nvgbench.results.schema import RunRecord
from nvgbench.types import Interval, Measurement, MetricValue

HERE = {"machine": {"cpu": "C", "cores": 2}, "libraries": {"torch": "2.0", "numpy": "2.0"}, "device": "cpu", "python": "3.11.7"}


def metric(name: str, value: float | None, half: float | None = 0.1, better: bool | None = False, n: int = 1000) -> MetricValue:
    interval = None if half is None or value is None else Interval(value - half, value + half, 0.95, "sampling", "bootstrap")
    return MetricValue(name=name, value=value, n=n, n_reference=500, higher_is_better=better, interval=interval)


def evaluation(*metrics: MetricValue, subject: str = "model", **changes: Any) -> RunRecord:
    return RunRecord(kind="eval", subject=subject, metrics=metrics, **changes)


def profile(seconds: tuple[float, ...], gpu: str = "G", flops: float = 1e9) -> RunRecord:
    return RunRecord(
        kind="profile",
        subject="model",
        measurements=(
            Measurement(name="latency", unit="s", samples=seconds, conditions={"batch_size": 1}),
            Measurement(name="flops", unit="FLOP/image", samples=(flops,), conditions={"batch_size": 1}),
            Measurement(name="energy", unit="J/image", samples=(), note="not available: CPU"),
        ),
        provenance={"machine": {"gpu": gpu, "cpu": "C", "cores": 2}, "device": {"device": "cuda:0"}},
    )
