"""Statistics of reference sets: mean and covariance of features, as the field's evaluators store them.

Supported are ``mu`` and ``sigma`` in an npz (ADM, pytorch-fid and TTUR, clean-fid, EDM, MAR), with ``mu_s`` and ``sigma_s``
beside them in ADM's, and torch-fidelity's ``.pt``. Shape letters: D features.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvgbench.data.archive import is_zip, npz_arrays, reading
from nvgbench.errors import InputError
from nvgbench.files import StrPath, whole_file

_POOL = ("mu", "sigma")
_SPATIAL = ("mu_s", "sigma_s")
_COUNT = "n"
_ROUNDING = 1e-6
"""Asymmetry and negative eigenvalues that count as rounding of float32, relative to the largest entry and the trace."""


@dataclass(frozen=True)
class StoredMoments:
    """Mean ``[D]`` and covariance ``[D, D]`` of features in a reference file; D tells of which features.

    ADM's are of Inception's pool (2048) and spatial (2023) features.
    """

    mean_D: NDArray[np.float64]
    covariance_DD: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What a file holds of a set's features.

    Attributes:
        moments: ``mu`` and ``sigma``.
        spatial_moments: ``mu_s`` and ``sigma_s`` of ADM's files.
        count: number of images, if the file says.
    """

    moments: StoredMoments | None = None
    spatial_moments: StoredMoments | None = None
    count: int | None = None


def read_statistics(path: StrPath) -> Statistics | None:
    """The statistics in a file, with or without images beside them; None if it holds none.

    Raises:
        InputError: they cannot be read, or are no mean and covariance: other shapes than ``[D]`` and ``[D, D]``, values that
            are not finite, a matrix that is not symmetric or has negative eigenvalues.
    """
    if not is_zip(path):
        return None
    with reading(path), zipfile.ZipFile(path) as archive:
        is_torch = any(name.endswith("data.pkl") for name in archive.namelist())
    arrays = _torch_arrays(path) if is_torch else npz_arrays(path, (*_POOL, *_SPATIAL, _COUNT))
    if not any(set(keys) <= arrays.keys() for keys in (_POOL, _SPATIAL)):
        return None
    count = arrays.get(_COUNT)
    return Statistics(
        moments=_moments(path, arrays, *_POOL),
        spatial_moments=_moments(path, arrays, *_SPATIAL),
        count=int(count) if count is not None and count.ndim == 0 and count.dtype.kind in "iu" else None,
    )


def write_statistics(path: StrPath, statistics: Statistics) -> Path:
    """Write statistics to an npz that all of these evaluators read, whole or not at all; return its path.

    Raises:
        InputError: no moments, moments that `read_statistics` would refuse, or a name that does not end in ``.npz``.
        OSError: the file cannot be written.
    """
    path = Path(path)
    check_name(path)
    arrays: dict[str, Any] = {}
    for keys, moments in ((_POOL, statistics.moments), (_SPATIAL, statistics.spatial_moments)):
        if moments is not None:
            arrays |= dict(zip(keys, (moments.mean_D, moments.covariance_DD), strict=True))
            _moments(path, arrays, *keys)
    if not arrays:
        raise InputError("these statistics hold no moments; there is nothing to write")
    if statistics.count is not None:
        arrays[_COUNT] = np.int64(statistics.count)
    with whole_file(path) as temporary:
        np.savez(temporary, **arrays)
    return path


def check_name(path: StrPath) -> None:
    """Refuse a file name other than an npz's, before anything is computed.

    Raises:
        InputError: it does not end in ``.npz``.
    """
    if Path(path).suffix != ".npz":
        raise InputError(f"`out={str(path)!r}` does not end in .npz; statistics are written as an .npz file")


def _moments(path: StrPath, arrays: Mapping[str, NDArray], mean: str, covariance: str) -> StoredMoments | None:
    if not {mean, covariance} <= arrays.keys():
        return None
    mean_D, covariance_DD = arrays[mean], arrays[covariance]
    if mean_D.ndim != 1 or not len(mean_D) or covariance_DD.shape != (len(mean_D),) * 2:
        raise InputError(
            f"{path}: {mean} and {covariance} have shapes {mean_D.shape} and {covariance_DD.shape}; expected [D] and [D, D]"
        )
    if mean_D.dtype.kind not in "fiu" or covariance_DD.dtype.kind not in "fiu":
        raise InputError(f"{path}: {mean} and {covariance} are {mean_D.dtype} and {covariance_DD.dtype}; expected floats")
    found = StoredMoments(mean_D.astype(np.float64), covariance_DD.astype(np.float64))
    if fault := _fault(found):
        raise InputError(f"{path}: {fault.format(mean=mean, covariance=covariance)}; write or copy the file again")
    return found


def _fault(moments: StoredMoments) -> str | None:
    """Why these are no mean and covariance."""
    matrix = moments.covariance_DD
    if not (np.isfinite(moments.mean_D).all() and np.isfinite(matrix).all()):
        return "{mean} or {covariance} holds values that are not finite"
    largest, total = np.abs(matrix).max(), np.trace(matrix)
    if np.abs(matrix - matrix.T).max() > _ROUNDING * largest:
        return "{covariance} is not symmetric, so it is no covariance matrix"
    if largest == 0:
        return None  # of identical images
    try:
        np.linalg.cholesky(matrix + _ROUNDING * max(total, 0) * np.eye(len(matrix)))
    except np.linalg.LinAlgError:
        return "{covariance} has negative eigenvalues, so it is no covariance matrix"
    return None


def _torch_arrays(path: StrPath) -> dict[str, NDArray]:
    """The arrays or tensors of a dict that torch has saved, loaded without running code."""
    import torch
    from numpy._core.multiarray import _reconstruct

    allowed: list[Any] = [
        (_reconstruct, "numpy.core.multiarray._reconstruct"),  # as numpy 1 wrote it
        _reconstruct, np.ndarray, np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.float32)),
    ]  # fmt: skip
    with reading(path), torch.serialization.safe_globals(allowed):
        content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        return {}
    return {key: np.asarray(value) for key, value in content.items() if isinstance(value, np.ndarray | torch.Tensor)}
