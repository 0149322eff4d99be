"""Mean and covariance of features, accumulated batch by batch in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from nvgbench.errors import InputError
from nvgbench.metrics.arrays import Floats, as_features, as_matrix, row_parts


class Moments:
    """Streaming mean ``[D]`` and covariance ``[D, D]``, float64, ddof 1.

    Batches are merged by the pairwise update of Chan, Golub and LeVeque (1983), which does not suffer from cancellation as sums
    of squares do, so the order of batches and merges changes the result by rounding only.
    """

    def __init__(self, dimension: int) -> None:
        if dimension < 1:
            raise InputError(f"moments of {dimension} features; expected at least 1")
        self.count = 0
        self.mean: Floats = np.zeros(dimension)
        self._scatter: Floats = np.zeros((dimension, dimension))

    @classmethod
    def of(cls, features: Any) -> Moments:
        """The moments of a matrix ``[N, D]``.

        Raises:
            InputError: not a finite matrix.
        """
        matrix = as_features(features, "features")
        moments = cls(matrix.shape[1])
        for rows in row_parts(matrix):
            moments._add(np.asarray(rows, dtype=np.float64))
        return moments

    def update(self, features: Any) -> None:
        """Add a batch ``[B, D]``; an empty batch changes nothing.

        Raises:
            InputError: another width, NaN or infinity.
        """
        batch = as_matrix(features, "features", rows=0, columns=len(self.mean))
        if len(batch):
            self._add(batch)

    def merge(self, other: Moments) -> None:
        """Add the images that ``other`` has accumulated.

        Raises:
            InputError: another width.
        """
        if len(other.mean) != len(self.mean):
            raise InputError(f"cannot merge moments of {len(other.mean)} features into {len(self.mean)}")
        if other.count:
            self._join(other.count, other.mean, other._scatter)

    @property
    def covariance(self) -> Floats:
        """Sample covariance ``[D, D]`` (divided by N - 1).

        Raises:
            InputError: fewer than two images.
        """
        if self.count < 2:
            raise InputError(f"a covariance needs at least 2 images, got {self.count}")
        return self._scatter / (self.count - 1)

    def _add(self, batch_BD: Floats) -> None:
        mean = batch_BD.mean(axis=0)
        centred_BD = batch_BD - mean
        # numpy recognises a matrix times its own transpose and computes half of it
        self._join(len(batch_BD), mean, centred_BD.T @ centred_BD)

    def _join(self, count: int, mean: Floats, scatter: Floats) -> None:
        total = self.count + count
        delta = mean - self.mean
        self._scatter += scatter
        if self.count:
            self._scatter += np.outer(delta, delta) * (self.count * count / total)
        self.mean = self.mean + delta * (count / total)
        self.count = total
