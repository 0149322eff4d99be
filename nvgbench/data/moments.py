"""Mean and covariance of features as reference files carry them. Shape letters: D features."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvgbench.data.archive import npz_arrays
from nvgbench.errors import InputError
from nvgbench.files import StrPath


@dataclass(frozen=True)
class StoredMoments:
    """Mean ``[D]`` and covariance ``[D, D]`` of Inception's pool (2048) or spatial (2023) features in a reference file."""

    mean_D: NDArray[np.float64]
    covariance_DD: NDArray[np.float64]


def read_moments(path: StrPath, mean: str, covariance: str) -> StoredMoments | None:
    """The moments under two keys of an npz; None if it has no such keys, or ``path`` is no npz.

    Raises:
        InputError: they cannot be read or have other shapes than ``[D]`` and ``[D, D]``.
    """
    arrays = npz_arrays(path, (mean, covariance)) if zipfile.is_zipfile(path) else {}
    if len(arrays) < 2:
        return None
    found = StoredMoments(arrays[mean].astype(np.float64), arrays[covariance].astype(np.float64))
    shapes = found.mean_D.shape, found.covariance_DD.shape
    if found.mean_D.ndim != 1 or found.covariance_DD.shape != (len(found.mean_D),) * 2:
        raise InputError(f"{path}: {mean} and {covariance} have shapes {shapes[0]} and {shapes[1]}; expected [D] and [D, D]")
    return found
