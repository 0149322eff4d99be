"""Many tests at once: p-values adjusted so that the share of false alarms among the failures stays below a promised rate."""

from __future__ import annotations

from collections.abc import Sequence


def adjusted_p_values(p_values: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's (1995) adjusted p-values, in the order given.

    Those at or below a rate alpha are the failures that may be upheld: the expected share of false ones among them is at most
    alpha for independent (and for positively dependent) tests. Where nothing has changed every failure is a false one, and
    alpha then bounds the probability of any failure at all.
    """
    count = len(p_values)
    order = sorted(range(count), key=lambda index: p_values[index], reverse=True)
    adjusted = [1.0] * count
    smallest = 1.0
    for position, index in enumerate(order):
        smallest = min(smallest, p_values[index] * count / (count - position))
        adjusted[index] = smallest
    return adjusted
