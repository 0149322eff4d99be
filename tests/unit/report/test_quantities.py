from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvgbench.reporting import quantities
from nvgbench.types import Measurement


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.0123, "s", "12.3 ms"),
        (2.0, "s", "2.00 s"),
        (3.2e-5, "s", "32.0 µs"),
        (1.5 * 2**30, "B", "1.50 GiB"),
        (6.01e11, "FLOP/image", "601 GFLOP/image"),
        (0.8, "J/image", "800 mJ/image"),
        (123.456, "images/s", "123 images/s"),
        (21.5, "dB", "21.5 dB"),
        (0.0, "B", "0 B"),
    ],
)
def test_quantities(value: float, unit: str, expected: str) -> None:
    assert quantities.quantity(value, unit).replace("\u202f", " ") == expected


@pytest.mark.parametrize(
    ("value", "text"), [(0.001234, "0.00123"), (9.999, "10.0"), (99.96, "100"), (12345.0, "12,300"), (-1.5, "-1.50"), (0, "0")]
)
def test_significant_digits(value: float, text: str) -> None:
    assert quantities.significant(value) == text


@given(st.floats(1e-9, 1e15))
def test_significant_rounds_to_its_digits(value: float) -> None:
    # Three digits: an error of at most half a unit of the third one, which is 0.5 % of the value.
    assert float(quantities.significant(value).replace(",", "")) == pytest.approx(value, rel=0.0051)


def test_counts_and_scores() -> None:
    assert quantities.count(320_000_000).replace("\u202f", " ") == "320 M"
    assert quantities.count(9_999) == "9,999"
    assert quantities.score(274.4) == "274.40"
    assert quantities.score(3.03) == "3.03"


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (5.754, 5.561, 5.939, "[5.56, 5.94]"),
        (0.386, 0.2841, 0.4882, "[0.28, 0.49]"),
        (0.0005, 0.0000883, 0.00283, "[0.0001, 0.0028]"),
        (0.0, 0.0, 0.00192, "[0, 0.00192]"),
        (237.5, 236.24, 238.81, "[236.24, 238.81]"),
        (1.0, 1.0, 1.0, "[1.00, 1.00]"),
    ],
)
def test_interval_ends_have_significant_digits(value: float, low: float, high: float, text: str) -> None:
    assert quantities.ends_text(low, high, value) == text


def test_durations() -> None:
    shown = [quantities.duration(seconds).replace("\u202f", " ") for seconds in (42, 3000, 11520)]
    assert shown == ["42.0 s", "50.0 min", "3.20 h"]


def test_a_measurement_without_samples_gives_the_reason() -> None:
    missing = Measurement(name="energy", unit="J/image", samples=(), note="not available: no GPU")
    assert quantities.measurement_text(missing) == "not available: no GPU"
    assert quantities.measurement_text(Measurement(name="latency", unit="s", samples=(3.0, 1.0, 2.0))).startswith("2.00")
