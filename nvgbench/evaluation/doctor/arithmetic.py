"""The Fréchet distance by the arithmetic of other programs: rounded moments and features, another divisor.

Shape letters: N images, D features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvgbench.metrics.arrays import FeatureMatrix, Floats
from nvgbench.metrics.moments import Moments

Gaussian = tuple[Floats, Floats]
"""Mean ``[D]`` and covariance ``[D, D]``."""


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """How moments are computed.

    Attributes:
        name: shown in tables.
        features: what is done to features before their moments are taken.
        moments: what is done to the moments, with the number of images behind them, if known.
    """

    name: str
    features: Callable[[FeatureMatrix], FeatureMatrix] = lambda features: features
    moments: Callable[[Gaussian, int | None], Gaussian] = lambda moments, n: moments

    def of(self, features: FeatureMatrix) -> Gaussian:
        """Mean and covariance of a set."""
        found = Moments.of(self.features(features))
        return self.moments((found.mean, found.covariance), len(features))


def _rounded(dtype: type) -> Callable[[Gaussian, int | None], Gaussian]:
    def cast(moments: Gaussian, n: int | None) -> Gaussian:
        return _cast(moments[0], dtype), _cast(moments[1], dtype)

    return cast


def _cast(values: NDArray, dtype: type) -> NDArray:
    """Rounded to ``dtype``; values beyond its range become its largest."""
    largest = float(np.finfo(dtype).max)
    return values.clip(-largest, largest).astype(dtype).astype(values.dtype)


def _divided_by_n(moments: Gaussian, n: int | None) -> Gaussian:
    return moments if n is None else (moments[0], moments[1] * ((n - 1) / n))


EXACT = Arithmetic(name="float64 moments")
OTHERS = (
    Arithmetic(name="moments rounded to float32", moments=_rounded(np.float32)),
    Arithmetic(name="moments rounded to float16", moments=_rounded(np.float16)),
    Arithmetic(name="features rounded to float16", features=lambda features: _cast(features, np.float16)),
    Arithmetic(name="covariance divided by N", moments=_divided_by_n),
)


def rough_distance(first: Gaussian, second: Gaussian) -> float:
    """Squared Fréchet distance of moments that rounding may have made indefinite; negative eigenvalues count as 0.

    `nvgbench.metrics.frechet.frechet_distance` refuses such moments; most programs take the real part of a complex root.
    """
    (mean1, covariance1), (mean2, covariance2) = first, second
    values, vectors = np.linalg.eigh(covariance1)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ covariance2 @ root).clip(min=0)).sum()
    return float(np.square(mean1 - mean2).sum() + np.trace(covariance1) + np.trace(covariance2) - 2 * cross)
