"""Validation of feature matrices and logits. Shape letters: N images, D features, K classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvgbench.errors import InputError

Floats = NDArray[np.float64]


def as_matrix(values: Any, what: str, *, rows: int = 1, columns: int | None = None) -> Floats:
    """``values`` (array or CPU tensor ``[N, D]``) as a finite float64 matrix.

    Args:
        values: the numbers.
        what: their name in error messages, e.g. ``generated features``.
        rows: smallest number of rows.
        columns: required number of columns, if fixed.

    Raises:
        InputError: not a matrix, too few rows, another width, NaN or infinity.
    """
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2:
        raise InputError(f"{what}: got shape {matrix.shape}, expected a matrix [images, features]")
    if len(matrix) < rows:
        raise InputError(f"{what}: got {len(matrix)} images, at least {rows} are needed")
    if columns is not None and matrix.shape[1] != columns:
        raise InputError(f"{what}: got {matrix.shape[1]} features per image, expected {columns}; use one extractor")
    if not np.isfinite(matrix).all():
        raise InputError(f"{what}: {int((~np.isfinite(matrix)).sum())} numbers are NaN or infinite; check the images")
    return matrix


def as_pair(x: Any, y: Any, *, rows: int = 1) -> tuple[Floats, Floats]:
    """Features of the generated and of the reference images, of one width; see `as_matrix`."""
    first = as_matrix(x, "generated features", rows=rows)
    return first, as_matrix(y, "reference features", rows=rows, columns=first.shape[1])


FeatureMatrix = NDArray[np.float32] | NDArray[np.float64]
"""Features ``[N, D]``: float32 as extractors return them (never copied for their type alone), or float64."""

_ROWS = 4096
"""Rows checked or converted at once."""


def as_features(values: Any, what: str, *, rows: int = 1, columns: int | None = None) -> FeatureMatrix:
    """As `as_matrix`, but float32 stays float32 and is not copied: 50,000 x 2,048 float64 numbers would be 0.8 GB."""
    matrix = np.asarray(values)
    if matrix.dtype not in (np.float32, np.float64) or matrix.ndim != 2:
        return as_matrix(values, what, rows=rows, columns=columns)
    as_matrix(matrix[:0], what, rows=0, columns=columns)
    if len(matrix) < rows:
        as_matrix(matrix, what, rows=rows)
    broken = sum(int((~np.isfinite(part)).sum()) for part in row_parts(matrix))
    if broken:
        raise InputError(f"{what}: {broken} numbers are NaN or infinite; check the images")
    return matrix


def as_feature_pair(x: Any, y: Any, *, rows: int = 1) -> tuple[FeatureMatrix, FeatureMatrix]:
    """Features of the generated and of the reference images, of one width; see `as_features`."""
    first = as_features(x, "generated features", rows=rows)
    return first, as_features(y, "reference features", rows=rows, columns=first.shape[1])


def row_parts(matrix: FeatureMatrix, size: int = _ROWS) -> Iterator[FeatureMatrix]:
    """The rows of ``matrix`` in blocks, as views."""
    for low in range(0, len(matrix), size):
        yield matrix[low : low + size]
