"""Precision, recall, density and coverage over nearest neighbours, never with the whole matrix of distances in memory.

Precision and recall: Kynkäänniemi et al. (2019), k = 3, with the point itself as neighbour 0 and closed balls, as OpenAI's
guided-diffusion evaluator and torch-fidelity have it. Density and coverage: Naeem et al. (2020), k = 5, open balls, as their
package prdc has it. Distances are float32 after the mean of the reference is taken off both sets (the evaluator's float16
distances move precision by about 0.005). Shape letters: N generated, M reference, D features, k neighbours; n, m rows and
columns of a tile of distances, o rows of it with a hit, h hits.
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
from nvgbench.metrics.recall_error import recall_contributions

MANIFOLD_NEIGHBOURS = 3
DENSITY_NEIGHBOURS = 5
TILE = 1024
"""Rows and columns of distances computed at once: 4 MiB, which are compared while they are still in the cache."""
KEPT_HITS = 3
"""Hits remembered of each reference image: the errors ask whether there is none, one, two, or more (`hits_contributions`)."""
_KEPT_RATIO = 4
"""Neighbours that recall's error knows of each generated image, for each one that makes the radius: of 12 at least 3 stay."""
_CANDIDATES = 12
"""Generated images that recall's error knows of each reference image; some of 12 are always in a subset."""


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
        reached_M: per reference image, whether it counts for recall (float64, 0 or 1).
        recall_contributions_R: see `nvgbench.metrics.recall_error.recall_contributions`.
        coverage_hits_Mh: for each reference image, the nearest generated images in its ball, up to `KEPT_HITS`; -1 behind them.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    inside_N: NDArray[np.float64]
    density_N: NDArray[np.float64]
    reached_M: NDArray[np.float64]
    recall_contributions_R: NDArray[np.float64]
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
    ours, theirs = _centred(generated, reference, device)
    own_Nn, index_Nn = nearest_others(ours, min(_KEPT_RATIO * manifold_k, len(ours) - 1))
    generated_radius_N = own_Nn[:, manifold_k - 1]
    near_Mn, _ = nearest_others(theirs, max(manifold_k, density_k))
    manifold_radius_M, density_radius_M = near_Mn[:, manifold_k - 1], near_Mn[:, density_k - 1]

    inside_N = torch.zeros(len(ours), dtype=torch.bool, device=device)
    balls_N = torch.zeros(len(ours), dtype=torch.int64, device=device)
    nearest = _Smallest.none(len(theirs), KEPT_HITS, device)
    # How far a reference image lies outside of a generated image's ball, below 0 inside.
    candidates = _Smallest.none(len(theirs), min(_CANDIDATES, len(ours)), device)
    for rows in _tiles(len(theirs)):
        for columns in _tiles(len(ours)):
            distance_mn = squared_distances(theirs[rows], ours[columns])
            # Counts of int32 take half the time of `any`; those of int64, the default, copy the tile into int64 first.
            inside_N[columns] |= (distance_mn <= manifold_radius_M[rows, None]).sum(dim=0, dtype=torch.int32) > 0
            balls_N[columns] += (distance_mn < density_radius_M[rows, None]).sum(dim=0, dtype=torch.int32)
            # Many a ball has no image of this tile inside, and the search of its row would take long.
            hit_o = (distance_mn.amin(dim=1) < density_radius_M[rows]).nonzero().squeeze(1)
            nearest.add(hit_o + rows.start, distance_mn[hit_o], columns.start)
            candidates.add(rows, distance_mn.sub_(generated_radius_N[columns]), columns.start)
    density_N = balls_N.cpu().numpy().astype(np.float64) / density_k
    inside = inside_N.cpu().numpy().astype(np.float64)
    reached = (candidates.value_Rc[:, 0] <= 0).cpu().numpy().astype(np.float64)
    coverage_Mh = nearest.index_Rc.where(nearest.value_Rc < density_radius_M[:, None], -1).cpu().numpy()
    distance_Mc = candidates.value_Rc + generated_radius_N[candidates.index_Rc]
    own, index, distance, candidate = (part.cpu().numpy() for part in (own_Nn, index_Nn, distance_Mc, candidates.index_Rc))
    return NeighbourScores(
        precision=float(inside.mean()),
        recall=float(reached.mean()),
        density=float(density_N.mean()),
        coverage=float((coverage_Mh[:, 0] >= 0).mean()),
        inside_N=inside,
        density_N=density_N,
        reached_M=reached,
        recall_contributions_R=recall_contributions(own, index, distance, candidate, manifold_k),
        coverage_hits_Mh=coverage_Mh,
    )


@dataclass(frozen=True)
class Points:
    """Float32 points ``[N, D]`` and their squared lengths ``[N]``."""

    points_ND: Tensor
    square_N: Tensor

    @classmethod
    def of(cls, points_ND: Tensor) -> Points:
        # vecdot holds all products before it sums them: a tile's at a time.
        parts = (points_ND[rows] for rows in _tiles(len(points_ND)))
        return cls(points_ND, torch.cat([torch.linalg.vecdot(part, part) for part in parts]))

    def __len__(self) -> int:
        return len(self.points_ND)

    def __getitem__(self, rows: slice) -> Points:
        return Points(self.points_ND[rows], self.square_N[rows])


@dataclass(frozen=True)
class _Smallest:
    """The smallest values of each row seen so far ``[R, c]``, rising, and the numbers of their columns."""

    value_Rc: Tensor
    index_Rc: Tensor

    @classmethod
    def none(cls, rows: int, count: int, device: torch.device | str) -> _Smallest:
        """Nothing seen yet."""
        return cls(
            torch.full((rows, count), torch.inf, device=device), torch.zeros(rows, count, dtype=torch.int64, device=device)
        )

    def add(self, rows: slice | Tensor, value_rm: Tensor, first_column: int) -> None:
        """Take in a tile of values of these rows, whose first column has that number."""
        count = self.value_Rc.shape[1]
        value_rc, index_rc = value_rm.topk(min(count, value_rm.shape[1]), dim=1, largest=False)
        values = torch.cat((self.value_Rc[rows], value_rc), dim=1)
        indices = torch.cat((self.index_Rc[rows], index_rc + first_column), dim=1)
        self.value_Rc[rows], chosen = values.topk(count, dim=1, largest=False)
        self.index_Rc[rows] = indices.gather(1, chosen)


def nearest_others(points: Points, count: int) -> tuple[Tensor, Tensor]:
    """Squared distances ``[N, count]`` of every point to its nearest others, the nearest first, and their numbers (int64).

    Distances are symmetric, so a tile above the diagonal serves its rows and its columns.
    """
    found = _Smallest.none(len(points), count, points.square_N.device)
    tiles = _tiles(len(points))
    for number, rows in enumerate(tiles):
        for columns in tiles[number:]:
            distance_nm = squared_distances(points[rows], points[columns])
            if columns == rows:
                distance_nm.fill_diagonal_(torch.inf)
            else:
                # A search along columns takes longer than a copy and a search of its rows.
                found.add(columns, distance_nm.T.contiguous(), rows.start)
            found.add(rows, distance_nm, columns.start)
    return found.value_Rc, found.index_Rc


def nearest_distances(x: Any, y: Any, *, device: torch.device | str = "cpu") -> NDArray[np.float64]:
    """Distance ``[N]`` of every row of ``x`` to the nearest row of ``y``."""
    ours, theirs = _centred(*as_feature_pair(x, y), device)
    nearest_N = torch.full_like(ours.square_N, torch.inf)
    for rows in _tiles(len(ours)):
        for columns in _tiles(len(theirs)):
            nearest_n = squared_distances(ours[rows], theirs[columns]).amin(dim=1)
            nearest_N[rows] = torch.minimum(nearest_N[rows], nearest_n)
    return nearest_N.double().sqrt().cpu().numpy()


def _centred(generated: Features, reference: Features, device: torch.device | str) -> tuple[Points, Points]:
    """Both sets in float32, the mean of the reference taken off."""
    centre = reference.mean(axis=0, dtype=np.float64)

    def move(points: Features) -> Points:
        moved = np.empty(points.shape, dtype=np.float32)
        # Differences of float64, rounded as they are written: never a whole matrix of them.
        np.subtract(points, centre, out=moved, dtype=np.float64, casting="same_kind")
        return Points.of(torch.from_numpy(moved).to(device))

    return move(generated), move(reference)


def squared_distances(a: Points, b: Points) -> Tensor:
    """Squared Euclidean distances ``[n, m]`` by one fused product, never below 0."""
    squares_nm = a.square_N[:, None] + b.square_N
    return squares_nm.addmm_(a.points_ND, b.points_ND.T, alpha=-2).clamp_(min=0)


def _tiles(count: int) -> list[slice]:
    return [slice(low, min(low + TILE, count)) for low in range(0, count, TILE)]
