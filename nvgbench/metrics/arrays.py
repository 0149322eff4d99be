"""Checks of what comes in: feature matrices, moments, logits, pictures. Shape letters: N images, D features, K classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvgbench.errors import InputError

Floats = NDArray[np.float64]


def as_matrix(values: Any, what: str, *, rows: int = 1, columns: int | None = None) -> Floats:
    """``values`` (array or CPU tensor ``[N, D]``) as a finite float64 matrix.

    Args:
        values: the numbers.
        what: their name in the message, e.g. ``generated features``.
        rows: fewest rows that will do.
        columns: the number of columns asked for, where it is fixed.

    Raises:
        InputError: not a matrix, too few rows, another width, NaN or infinity.
    """
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2:
        raise InputError(f"{what}: got shape {matrix.shape}, expected a matrix [images, features]")
    if len(matrix) < rows:
        raise InputError(f"{what}: got {len(matrix)} images, at least {rows} are needed; use more images")
    if columns is not None and matrix.shape[1] != columns:
        raise InputError(f"{what}: got {matrix.shape[1]} features an image, expected {columns}; use one extractor")
    if not np.isfinite(matrix).all():
        raise InputError(f"{what}: {int((~np.isfinite(matrix)).sum())} numbers are NaN or infinite; look at the images")
    return matrix


def as_pair(x: Any, y: Any, *, rows: int = 1) -> tuple[Floats, Floats]:
    """Features of the generated and of the reference images, of one width; see `as_matrix`."""
    first = as_matrix(x, "generated features", rows=rows)
    return first, as_matrix(y, "reference features", rows=rows, columns=first.shape[1])
