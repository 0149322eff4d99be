"""Least squares of a two-way layout: value = variant + seed + error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ROUNDING = 1e-12
"""Residuals this small relative to the values are rounding errors."""


@dataclass(frozen=True, kw_only=True)
class TwoWayFit:
    """Effects of variants with the seeds as blocks. Cells may be missing.

    Attributes:
        variants: name -> its index in the arrays, shape letter V.
        effects_V: estimates of the variants' effects; only differences of variants that share seeds have a meaning.
        covariance_VV: of the estimates, in units of the error's variance.
        spread: standard deviation of the error, pooled over all variants; 0 where it cannot be estimated.
        degrees: degrees of freedom of the spread, (V - 1)(S - 1) for V variants with S seeds each.
    """

    variants: Mapping[str, int]
    effects_V: NDArray[np.float64]
    covariance_VV: NDArray[np.float64]
    spread: float
    degrees: int

    def difference(self, name: str, base: str) -> tuple[float, float]:
        """The difference of two variants, and its standard error in units of the spread (sqrt(2 / S) with S seeds each)."""
        a, b = self.variants[name], self.variants[base]
        cov = self.covariance_VV
        return float(self.effects_V[a] - self.effects_V[b]), float(np.sqrt(cov[a, a] + cov[b, b] - 2 * cov[a, b]))


def fit_two_way(values: Mapping[str, Mapping[int, float]]) -> TwoWayFit:
    """Fit variant and seed effects.

    Args:
        values: variant -> seed -> value; at least one value.
    """
    cells = [(name, seed) for name, by_seed in values.items() for seed in by_seed]
    variants = {name: index for index, name in enumerate(values)}
    seeds = {seed: index for index, seed in enumerate(dict.fromkeys(seed for _, seed in cells), start=len(variants))}
    design = np.zeros((len(cells), len(variants) + len(seeds)))
    for row, (name, seed) in enumerate(cells):
        design[row, [variants[name], seeds[seed]]] = 1
    observed = np.array([values[name][seed] for name, seed in cells])
    inverse = np.linalg.pinv(design)
    effects = inverse @ observed
    degrees = len(cells) - int(np.linalg.matrix_rank(design))
    residuals = observed - design @ effects
    spread = float(np.sqrt(residuals @ residuals / degrees)) if degrees else 0.0
    count = len(variants)
    return TwoWayFit(
        variants=variants,
        effects_V=effects[:count],
        covariance_VV=(inverse @ inverse.T)[:count, :count],
        spread=0.0 if spread <= _ROUNDING * np.abs(observed).max() else spread,
        degrees=degrees,
    )
