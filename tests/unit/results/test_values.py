"""Values as a notebook shows them."""

from __future__ import annotations

import math

from nvgbench.types import Interval, Measurement, MetricValue

FID = MetricValue(
    name="FID", value=3.0312345, n=50_000, n_reference=50_000, interval=Interval(2.95, 3.11, 0.95, "sampling", "jackknife")
)


def test_a_score_is_a_number() -> None:
    assert float(FID) == 3.0312345
    missing = MetricValue(name="LPIPS", value=None, n=10, note="no weights")
    assert math.isnan(float(missing))
    assert repr(missing) == "LPIPS = not available; n = 10; nvgbench/2; no weights"


def test_a_score_shows_what_makes_it_comparable() -> None:
    assert repr(FID) == ("FID = 3.0312 [2.95, 3.11] (95 %, sampling); n = 50,000 against 50,000 reference images; nvgbench/2")
    assert repr(MetricValue(name="PSNR", value=20.0, n=5, unit="dB")) == "PSNR = 20 dB; n = 5; nvgbench/2"
    html = MetricValue(name="<FD>", value=1.0, n=2)._repr_html_()
    assert html == "<b>&lt;FD&gt;</b> = 1 <small>n = 2; nvgbench/2</small>"


def test_the_median_of_a_measurement() -> None:
    assert Measurement(name="latency", unit="s", samples=(3.0, 1.0, 2.0, 10.0)).median == 2.5
