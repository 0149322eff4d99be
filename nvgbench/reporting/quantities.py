"""Numbers as text. Records hold plain SI units; only this file formats them."""

from __future__ import annotations

import math

from nvgbench.types import Interval, Measurement

NOT_AVAILABLE = "not available"
THIN_SPACE = "\u202f"  # narrow no-break space, between number and unit
MINUS = "\u2212"

_SCALES: dict[str, tuple[tuple[float, str], ...]] = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "B": ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B")),
    "FLOP": ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1.0, "FLOP")),
    "J": ((1e3, "kJ"), (1.0, "J"), (1e-3, "mJ")),
    "": ((1e9, "B"), (1e6, "M"), (1e3, "k"), (1.0, "")),
}


def significant(value: float, digits: int = 3) -> str:
    """``value`` to this many significant digits, never in exponent form, thousands grouped: 0.00123, 1.50, 12,300."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    rounded = round(value, digits - 1 - exponent)
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:,.{decimals}f}"


def quantity(value: float, unit: str) -> str:
    """A number with its unit, scaled: ``12.3 ms``, ``1.50 GiB``; a denominator stays (``2.00 GFLOP/image``)."""
    factor, scaled = _scale(value, unit)
    return f"{significant(value / factor)}{THIN_SPACE}{scaled}" if scaled else significant(value)


def _scale(value: float, unit: str) -> tuple[float, str]:
    """Factor and unit that bring ``value`` to a readable size."""
    base, slash, denominator = unit.partition("/")
    scales = _SCALES.get(base) if base else None
    if scales is None:
        return 1.0, unit
    factor, symbol = next(((f, s) for f, s in scales if abs(value) >= f), scales[-1])
    return factor, f"{symbol}{slash}{denominator}"


def signed(value: float, magnitude: str) -> str:
    """``magnitude``, the text of ``abs(value)``, with the sign of ``value``; zeros have no sign."""
    if not magnitude.strip("0.%"):
        return magnitude
    return f"{'+' if value > 0 else MINUS}{magnitude}"


def duration(seconds: float) -> str:
    """A time in seconds, minutes or hours: ``42.0 s``, ``50.0 min``, ``3.20 h``."""
    for limit, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= limit:
            return f"{significant(seconds / limit)}{THIN_SPACE}{unit}"
    return quantity(seconds, "s")


def count(value: int) -> str:
    """A count in thousands, millions or billions: ``320 M``; small ones in full."""
    if abs(value) < 10_000:
        return f"{value:,}"
    factor, symbol = next((f, s) for f, s in _SCALES[""] if abs(value) >= f)
    return f"{significant(value / factor)}{THIN_SPACE}{symbol}"


def score(value: float) -> str:
    """A score: three significant digits below 10, two decimals above, as is usual for FID and IS."""
    return f"{value:,.2f}" if abs(value) >= 10 else significant(value)


def decimals(value: float) -> int:
    """How many decimals `score` gives ``value``."""
    return len(score(value).partition(".")[2])


def interval_text(interval: Interval | None, value: float) -> str:
    """``[low, high]`` of the score ``value``, empty if it has no interval; see `ends_text`."""
    return "" if interval is None else ends_text(interval.low, interval.high, value)


def ends_text(low: float, high: float, value: float) -> str:
    """``[low, high]`` with the decimals of the score ``value``, or fewer if that leaves two digits of its half width."""
    half = (high - low) / 2
    places = decimals(value)
    if half > 0 and math.isfinite(half):
        telling = max(2, 1 - math.floor(math.log10(half)))
        places = min(places, telling) if value else telling
    return f"[{', '.join(f'{end:,.{places}f}' if end else '0' for end in (low, high))}]"


def covered_text(interval: Interval | None) -> str:
    """What an interval covers: ``95 % interval, sampling noise only``; empty if there is none."""
    return "" if interval is None else f"{interval.level:.0%} interval, {noise(interval.source)}".replace("%", f"{THIN_SPACE}%")


def noise(source: str) -> str:
    """The noise that an interval covers."""
    return {"sampling": "sampling noise only", "training": "training noise"}.get(source, f"{source} noise")


def measurement_text(measurement: Measurement) -> str:
    """The median of the samples with its unit, or why there are none."""
    if not measurement.samples:
        return measurement.note or NOT_AVAILABLE
    return quantity(measurement.median, measurement.unit)


def range_text(measurement: Measurement) -> str:
    """Smallest and largest of several samples: ``11.9 to 13.0 ms``; empty for one."""
    if len(measurement.samples) < 2:
        return ""
    low, high = min(measurement.samples), max(measurement.samples)
    factor, unit = _scale(high, measurement.unit)
    return f"{significant(low / factor)} to {significant(high / factor)}{THIN_SPACE}{unit}"
