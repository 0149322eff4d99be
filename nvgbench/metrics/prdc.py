"""Precision, recall, density and coverage over nearest neighbours, never with the whole matrix of distances in memory.

Precision and recall: Kynkäänniemi et al. (2019), k = 3, with the point itself as neighbour 0 and closed balls, as OpenAI's
guided-diffusion evaluator and torch-fidelity have it. Density and coverage: Naeem et al. (2020), k = 5, open balls, as their
package prdc has it. Distances are float32 after the mean of the reference is taken off both sets (the evaluator's float16
distances move precision by about 0.005). Shape letters: N generated, M reference, D features, k neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.metrics.arrays import Features, as_feature_pair

MANIFOLD_NEIGHBOURS = 3
DENSITY_NEIGHBOURS = 5
BLOCK_ELEMENTS = 2**24
"""Distances held at once: 64 MiB of float32."""
KEPT_HITS = 3
"""Hits remembered of each reference image: the errors ask whether there is none, one, two, or more (`hits_contributions`)."""


@dataclass(frozen=True)
class NeighbourScores:
    """The four scores, and what their errors need.

    Attributes:
        precision: share of generated images inside a ball of the reference.
        recall: share of reference images inside a ball of the generated set.
        density: mean number of reference balls around a generated image, divided by k.
        coverage: share of reference balls with a generated image inside.
        inside_N: per generated image, whether it counts for precision (float64, 0 or 1).
        density_N: per generated image, its term of density.
        recall_hits_Mh: for each reference image, up to `KEPT_HITS` generated images whose balls hold it; -1 where fewer do.
        coverage_hits_Mh: for each reference image, up to `KEPT_HITS` generated images in its ball; -1 where there are fewer.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    inside_N: NDArray[np.float64]
    density_N: NDArray[np.float64]
    recall_hits_Mh: NDArray[np.int64]
    coverage_hits_Mh: NDArray[np.int64]


def neighbour_scores(
    x: Any,
    y: Any,
    *,
    manifold_k: int = MANIFOLD_NEIGHBOURS,
    density_k: int = DENSITY_NEIGHBOURS,
    device: torch.device | str = "cpu",
) -> NeighbourScores:
    """Precision, recall, density and coverage of generated features ``x`` ``[N, D]`` against the reference ``y`` ``[M, D]``.

    Args:
        x: generated features.
        y: reference features.
        manifold_k: k of precision and recall.
        density_k: k of density and coverage.
        device: where the distances are computed.

    Raises:
        InputError: fewer than k + 1 images in a set, different widths, NaN or infinity.
    """
    if min(manifold_k, density_k) < 1:
        raise InputError(f"k = {min(manifold_k, density_k)} neighbours; expected at least 1")
    generated, reference = as_feature_pair(x, y)
    needed = max(manifold_k, density_k) + 1
    for name, points in (("generated", generated), ("reference", reference)):
        if len(points) < needed:
            raise InputError(
                f"{len(points)} {name} images are too few for {needed - 1} nearest neighbours; use at least {needed}"
            )
    points_ND, points_MD = _centred(generated, reference, device)
    generated_radius_N = neighbour_radii(points_ND, (manifold_k,))[0]
    manifold_radius_M, density_radius_M = neighbour_radii(points_MD, (manifold_k, density_k))

    inside_N = torch.zeros(len(points_ND), dtype=torch.bool, device=points_ND.device)
    balls_N = torch.zeros(len(points_ND), dtype=torch.int64, device=points_ND.device)
    recall_hits, coverage_hits = [], []
    for rows in _row_blocks(len(points_MD), len(points_ND)):
        distance_mN = squared_distances(points_MD[rows], points_ND)
        inside_N |= (distance_mN <= manifold_radius_M[rows, None]).any(dim=0)
        in_ball_mN = distance_mN < density_radius_M[rows, None]
        balls_N += in_ball_mN.sum(dim=0)
        coverage_hits.append(first_hits(in_ball_mN))
        recall_hits.append(first_hits(distance_mN <= generated_radius_N))
    density_N = balls_N.cpu().numpy().astype(np.float64) / density_k
    inside = inside_N.cpu().numpy().astype(np.float64)
    recall_Mh, coverage_Mh = np.concatenate(recall_hits), np.concatenate(coverage_hits)
    return NeighbourScores(
        precision=float(inside.mean()),
        recall=float((recall_Mh[:, 0] >= 0).mean()),
        density=float(density_N.mean()),
        coverage=float((coverage_Mh[:, 0] >= 0).mean()),
        inside_N=inside,
        density_N=density_N,
        recall_hits_Mh=recall_Mh,
        coverage_hits_Mh=coverage_Mh,
    )


def neighbour_radii(points_ND: Tensor, neighbours: tuple[int, ...]) -> list[Tensor]:
    """Squared distance ``[N]`` of every point to its k-th neighbour, itself being neighbour 0, for each k asked for."""
    found = []
    for rows in _row_blocks(len(points_ND), len(points_ND)):
        distance_nN = squared_distances(points_ND[rows], points_ND)
        # A point is at distance 0 from itself; the product would leave rounding there.
        index = torch.arange(rows.start, rows.start + len(distance_nN), device=points_ND.device)
        distance_nN[torch.arange(len(distance_nN), device=points_ND.device), index] = 0
        found.append(distance_nN.topk(max(neighbours) + 1, dim=1, largest=False).values)
    sorted_Nk = torch.cat(found)
    return [sorted_Nk[:, k] for k in neighbours]


def nearest_distances(x: Any, y: Any, *, device: torch.device | str = "cpu") -> NDArray[np.float64]:
    """Distance ``[N]`` of every row of ``x`` to the nearest row of ``y``."""
    points_ND, points_MD = _centred(*as_feature_pair(x, y), device)
    nearest = [
        squared_distances(points_ND[rows], points_MD).amin(dim=1) for rows in _row_blocks(len(points_ND), len(points_MD))
    ]
    return torch.cat(nearest).double().sqrt().cpu().numpy()


def _centred(generated: Features, reference: Features, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Both sets in float32, the mean of the reference taken off."""
    centre = reference.mean(axis=0, dtype=np.float64)

    def move(points: Features) -> Tensor:
        moved = torch.empty(points.shape, dtype=torch.float32, device=device)
        for rows in _row_blocks(*points.shape):
            moved[rows] = torch.from_numpy(points[rows] - centre).to(device, torch.float32)
        return moved

    return move(generated), move(reference)


def squared_distances(a_nD: Tensor, b_mD: Tensor) -> Tensor:
    """Squared Euclidean distances ``[n, m]`` by one fused product, never below 0."""
    norms = a_nD.square().sum(dim=1)[:, None] + b_mD.square().sum(dim=1)
    return torch.addmm(norms, a_nD, b_mD.T, alpha=-2).clamp_(min=0)


def _row_blocks(rows: int, columns: int) -> list[slice]:
    step = max(BLOCK_ELEMENTS // max(columns, 1), 1)
    return [slice(low, min(low + step, rows)) for low in range(0, rows, step)]


def first_hits(hit_mN: Tensor) -> NDArray[np.int64]:
    """Column numbers of the first `KEPT_HITS` true entries of every row, -1 where there are fewer."""
    left_mN = hit_mN.clone()
    found = []
    for _ in range(min(KEPT_HITS, hit_mN.shape[1])):
        any_m1, column_m1 = left_mN.max(dim=1, keepdim=True)
        found.append(torch.where(any_m1, column_m1, -1))
        left_mN.scatter_(1, column_m1, False)
    return torch.cat(found, dim=1).cpu().numpy()
