"""The arithmetic of OpenAI's guided-diffusion evaluator ("ADM", Dhariwal and Nichol 2021) where it is not exact.

Means are float32. Distances are computed from features rounded to float16 and are themselves float16: squares, norms, products
and sums are each rounded, after accumulation in float32, as GPUs do it. A block of 10,000 x 10,000 distances with one that is
not finite is recomputed in float32. The distance from a point to itself is whatever that arithmetic yields. Shape letters:
N generated, M reference images, D features, n and m a block of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.metrics.arrays import Floats, as_pair
from nvgbench.metrics.frechet import distance_to_factor, factor_of_features
from nvgbench.metrics.neighbours import MANIFOLD_NEIGHBOURS, Points, squared_distances

BLOCK = 10_000
"""Rows and columns of a block. Whether distances are finite is decided per block, so its size is part of the rules."""
_ROWS = 1_000


@dataclass(frozen=True)
class ManifoldScores:
    """Shares of generated images in the reference's balls, and of reference images in the generated set's."""

    precision: float
    recall: float


def adm_mean(features_ND: NDArray[np.float32]) -> Floats:
    """Mean ``[D]``, accumulated row by row in float32."""
    return features_ND.mean(axis=0, dtype=np.float32).astype(np.float64)


def adm_gaussian(features_MD: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """The Gaussian fitted to the reference: its mean ``[D]`` and a factor ``[D, r]`` of its covariance (ddof 1)."""
    return adm_mean(features_MD), factor_of_features(features_MD)


def adm_frechet(features_ND: NDArray[np.float32], centre: Floats, factor: Floats) -> float:
    """Squared Fréchet distance between the Gaussian fitted to ``features_ND`` and N(``centre``, ``factor`` ``factor``ᵀ).

    Only the means are rounded; the covariance term is exact.
    """
    shift = adm_mean(features_ND) - centre
    return float(shift @ shift) + distance_to_factor(features_ND, features_ND.mean(axis=0, dtype=np.float64), factor)


def adm_precision_recall(x: Any, y: Any, *, k: int = MANIFOLD_NEIGHBOURS, device: torch.device | str = "cpu") -> ManifoldScores:
    """Precision and recall of generated features ``x`` ``[N, D]`` against the reference ``y`` ``[M, D]``.

    Args:
        x: generated features.
        y: reference features.
        k: neighbours, the point itself being neighbour 0; balls are closed.
        device: where the distances are computed.

    Raises:
        InputError: fewer than k + 1 images in a set, different widths, NaN or infinity.
    """
    pair = as_pair(x, y)
    if min(map(len, pair)) <= k:
        raise InputError(f"{min(map(len, pair))} images are too few for {k} nearest neighbours; use at least {k + 1}")
    points_ND, points_MD = (torch.from_numpy(points.astype(np.float32)).to(device) for points in pair)
    radius_N, radius_M = _radii(points_ND, k), _radii(points_MD, k)
    inside_N = torch.zeros(len(points_ND), dtype=torch.bool, device=points_ND.device)
    inside_M = torch.zeros(len(points_MD), dtype=torch.bool, device=points_ND.device)
    for rows in _blocks(len(points_MD)):
        for columns in _blocks(len(points_ND)):
            distance_mn = half_distances(points_MD[rows], points_ND[columns])
            inside_N[columns] |= (distance_mn <= radius_M[rows, None]).any(dim=0)
            inside_M[rows] |= (distance_mn <= radius_N[columns]).any(dim=1)
    return ManifoldScores(*(float(inside.double().mean()) for inside in (inside_N, inside_M)))


def half_distances(a_nD: Tensor, b_mD: Tensor) -> Tensor:
    """Squared distances ``[n, m]`` of one block, float16 (float32 if any of them is not finite in float16)."""
    halves_a, halves_b = a_nD.half(), b_mD.half()
    norms_n, norms_m = (points.square().sum(dim=1, dtype=torch.float32).half() for points in (halves_a, halves_b))
    wide_b = halves_b.float().T
    distance_nm = torch.empty(len(a_nD), len(b_mD), dtype=torch.float16, device=a_nD.device)
    for low in range(0, len(a_nD), _ROWS):
        rows = slice(low, low + _ROWS)
        # Products of two float16 numbers are exact in float32; they are rounded after the sum.
        product = (halves_a[rows].float() @ wide_b).half()
        distance_nm[rows] = (norms_n[rows, None] - 2 * product + norms_m).clamp_(min=0)
    if bool(distance_nm.isfinite().all()):
        return distance_nm
    return squared_distances(Points.of(a_nD), Points.of(b_mD))


def _radii(points_ND: Tensor, k: int) -> Tensor:
    """Squared distance ``[N]`` (float32) from every point to its k-th neighbour."""
    found = []
    for rows in _blocks(len(points_ND)):
        nearest = torch.empty(rows.stop - rows.start, 0, device=points_ND.device)
        for columns in _blocks(len(points_ND)):
            distance_nm = half_distances(points_ND[rows], points_ND[columns]).float()
            best = distance_nm.topk(min(k + 1, distance_nm.shape[1]), dim=1, largest=False).values
            joined = torch.cat([nearest, best], dim=1)
            nearest = joined.topk(min(k + 1, joined.shape[1]), dim=1, largest=False).values
        found.append(nearest.amax(dim=1))
    return torch.cat(found)


def _blocks(count: int) -> Iterator[slice]:
    return (slice(low, min(low + BLOCK, count)) for low in range(0, count, BLOCK))
