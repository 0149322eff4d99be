"""Precision, recall, density and coverage from nearest neighbours, without ever holding the whole distance matrix.

Precision and recall: Kynkäänniemi et al. (2019), k = 3, with the point itself as neighbour 0 and closed balls, as in OpenAI's
guided-diffusion evaluator and torch-fidelity. Density and coverage: Naeem et al. (2020), k = 5, open balls, as in their
package prdc. Distances are float32, with the mean of the reference subtracted from both sets (the evaluator's float16
distances move precision by about 0.005). Shape letters: N generated, M reference, D features, k neighbours; n, m rows and
columns of a tile of distances, o rows of it with a hit, h hits.

Clipped density and coverage (`nvgbench.metrics.clipped`) come from the same distances.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.metrics.arrays import FeatureMatrix, Floats, as_feature_pair
from nvgbench.metrics.clipped import clipped_coverage, clipped_density, clipped_radii, reference_density
from nvgbench.metrics.metric import MetricInputs
from nvgbench.metrics.recall_error import LEFT_OUT, recall_contributions
from nvgbench.metrics.uncertainty import (
    JACKKNIFE,
    Contributions,
    contributions_to_mean,
    equal_terms_interval,
    leave_one_out,
    share_interval,
)
from nvgbench.results.scores import SCORES
from nvgbench.types import Interval

MANIFOLD_NEIGHBOURS = 3
DENSITY_NEIGHBOURS = 5
TILE = 1024
"""Rows and columns of distances computed at once: 4 MiB, compared while they are still in the CPU's cache."""
KEPT_HITS = 3
"""Hits remembered per reference image: the errors depend on whether there is none, one, two, or more (`hit_contributions`)."""
_KEPT_RATIO = 4
"""Neighbours kept per generated image for recall's error, relative to k: of 12, at least 3 remain in nearly every subset."""
_CANDIDATES = 12
"""Generated images kept per reference image for recall's error; some of 12 are always in a subset."""


@dataclass(frozen=True)
class NeighbourScores:
    """Precision, recall, density and coverage, and what errors and the clipped scores are computed from.

    Attributes:
        precision: share of generated images inside a ball of the reference.
        recall: share of reference images inside a ball of the generated set.
        density: mean number of reference balls around a generated image, divided by k.
        coverage: share of reference balls with a generated image inside.
        inside_N: per generated image, whether it counts for precision (float64, 0 or 1).
        density_N: per generated image, its term of density.
        reached_M: per reference image, whether it counts for recall (float64, 0 or 1).
        recall_contributions_R: see `nvgbench.metrics.recall_error.recall_contributions`.
        coverage_hits_Mh: the nearest generated images in each reference image's ball, up to `KEPT_HITS`, padded with -1.
        clipped_balls_N: number of balls of clipped density around each generated image, int64.
        clipped_reference: see `nvgbench.metrics.clipped.reference_density`.
        clipped_hits_Mh: as ``coverage_hits_Mh``, but in closed balls and up to k + 1.
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
    clipped_balls_N: NDArray[np.int64]
    clipped_reference: float
    clipped_hits_Mh: NDArray[np.int64]


class NeighbourMetric:
    """Precision, recall, density, coverage and the clipped scores, which share their distances."""

    scores = tuple(
        SCORES[name] for name in ("precision", "recall", "density", "coverage", "clipped-density", "clipped-coverage")
    )
    fewest_images = DENSITY_NEIGHBOURS + 1

    def compute(self, inputs: MetricInputs) -> Mapping[str, Contributions]:
        found = neighbour_scores(inputs.generated.features_ND, inputs.reference.features_ND, device=inputs.device)
        return {
            "precision": Contributions(
                value=found.precision, parts=contributions_to_mean(found.inside_N), interval=share_interval(found.inside_N)
            ),
            "recall": Contributions(
                value=found.recall,
                parts=found.recall_contributions_R,
                method=f"{JACKKNIFE}, {LEFT_OUT:.0%} left out at once, {len(found.recall_contributions_R)} subsets",
                degenerate=share_interval(found.reached_M),
            ),
            "density": Contributions(
                value=found.density,
                parts=contributions_to_mean(found.density_N),
                degenerate=density_of_equal_terms(found.density_N),
            ),
            # As if reference images were reached one by one, if no image alone reaches any.
            "coverage": Contributions(
                value=found.coverage,
                parts=hit_contributions(found.coverage_hits_Mh, len(inputs.generated)),
                degenerate=share_interval(found.coverage_hits_Mh[:, 0] >= 0),
            ),
            "clipped-density": clipped_density(found.clipped_balls_N, found.clipped_reference, DENSITY_NEIGHBOURS),
            "clipped-coverage": clipped_coverage(found.clipped_hits_Mh, len(inputs.generated), DENSITY_NEIGHBOURS),
        }


def hit_contributions(hits_Mh: NDArray[np.int64], n: int) -> Floats:
    """Contributions ``[N]`` to coverage, the share of reference images that at least one generated image hits.

    Leaving an image out loses the reference images that it alone hits. If the numbers of hits vary as Poisson numbers of mean
    m, two images of one neighbourhood count m where 1 - exp(-m) = m - m²/2 + … is right; half of the second term, counted by
    pairs with the same two hits, is subtracted, which errs on the wide side.

    Args:
        hits_Mh: hits of each reference image, padded with -1; see `NeighbourScores`.
        n: number of generated images.
    """
    count_M = (hits_Mh >= 0).sum(axis=1)
    alone = hits_Mh[count_M == 1].max(axis=1)
    contributions_N = leave_one_out(-np.bincount(alone, minlength=n) / len(hits_Mh))
    two = np.sort(hits_Mh[count_M == 2], axis=1)[:, -2:]
    _, sizes = np.unique(two, axis=0, return_counts=True)
    variance = (contributions_N**2).sum()
    if variance == 0:
        return contributions_N
    kept = 1 - (sizes**2).sum() / 4 / len(hits_Mh) ** 2 / variance
    return contributions_N * np.sqrt(max(kept, 0.5))


def density_of_equal_terms(terms_N: Floats) -> Interval:
    """Interval of a density to which all images contribute equally: none lies in any ball, or all show the same picture.

    Another term is taken to be 1 away, or as far as 0 is. For a density of 0, 1 is what a real image has on average: it lies in
    each of the M balls with probability k / M. If images that lie in any ball lie in far more than k, the upper end is too low.
    """
    value = float(terms_N.mean())
    return equal_terms_interval(value, len(terms_N), reach=max(value, 1.0))


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
    near_Mn, near_index_Mn = nearest_others(theirs, max(manifold_k, density_k))
    manifold_radius_M, density_radius_M = near_Mn[:, manifold_k - 1], near_Mn[:, density_k - 1]
    near_Mk, near_index_Mk = (part[:, :density_k].cpu().numpy() for part in (near_Mn, near_index_Mn))
    clipped = clipped_radii(near_Mk[:, -1])
    clipped_radius_M = torch.from_numpy(clipped).to(device)

    inside_N = torch.zeros(len(ours), dtype=torch.bool, device=device)
    balls_N = torch.zeros(len(ours), dtype=torch.int64, device=device)
    clipped_balls_N = torch.zeros_like(balls_N)
    nearest = _Smallest.none(len(theirs), max(KEPT_HITS, density_k + 1), device)
    # How far a reference image lies outside a generated image's ball; negative inside.
    candidates = _Smallest.none(len(theirs), min(_CANDIDATES, len(ours)), device)
    for rows in _tiles(len(theirs)):
        for columns in _tiles(len(ours)):
            distance_mn = squared_distances(theirs[rows], ours[columns])
            # An int32 sum takes half the time of `any`; an int64 sum, the default, would first copy the tile to int64.
            inside_N[columns] |= (distance_mn <= manifold_radius_M[rows, None]).sum(dim=0, dtype=torch.int32) > 0
            balls_N[columns] += (distance_mn < density_radius_M[rows, None]).sum(dim=0, dtype=torch.int32)
            clipped_balls_N[columns] += (distance_mn <= clipped_radius_M[rows, None]).sum(dim=0, dtype=torch.int32)
            # Most balls hold no image of this tile, and searching their rows would take long.
            hit_o = (distance_mn.amin(dim=1) <= density_radius_M[rows]).nonzero().squeeze(1)
            nearest.add(hit_o + rows.start, distance_mn[hit_o], columns.start)
            candidates.add(rows, distance_mn.sub_(generated_radius_N[columns]), columns.start)
    density_N = balls_N.cpu().numpy().astype(np.float64) / density_k
    inside = inside_N.cpu().numpy().astype(np.float64)
    reached = (candidates.value_Rc[:, 0] <= 0).cpu().numpy().astype(np.float64)
    coverage_Mh = nearest.index_Rc.where(nearest.value_Rc < density_radius_M[:, None], -1)[:, :KEPT_HITS].cpu().numpy()
    clipped_Mh = nearest.index_Rc.where(nearest.value_Rc <= density_radius_M[:, None], -1)[:, : density_k + 1].cpu().numpy()
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
        clipped_balls_N=clipped_balls_N.cpu().numpy(),
        clipped_reference=reference_density(near_Mk, near_index_Mk, clipped),
        clipped_hits_Mh=clipped_Mh,
    )


@dataclass(frozen=True)
class Points:
    """Float32 points ``[N, D]`` and their squared lengths ``[N]``."""

    points_ND: Tensor
    square_N: Tensor

    @classmethod
    def of(cls, points_ND: Tensor) -> Points:
        # vecdot materialises all products before summing, so one tile at a time.
        parts = (points_ND[rows] for rows in _tiles(len(points_ND)))
        return cls(points_ND, torch.cat([torch.linalg.vecdot(part, part) for part in parts]))

    def __len__(self) -> int:
        return len(self.points_ND)

    def __getitem__(self, rows: slice) -> Points:
        return Points(self.points_ND[rows], self.square_N[rows])


@dataclass(frozen=True)
class _Smallest:
    """The smallest values seen so far in each row ``[R, c]``, ascending, and the columns that they come from."""

    value_Rc: Tensor
    index_Rc: Tensor

    @classmethod
    def none(cls, rows: int, count: int, device: torch.device | str) -> _Smallest:
        """Before anything was seen."""
        return cls(
            torch.full((rows, count), torch.inf, device=device), torch.zeros(rows, count, dtype=torch.int64, device=device)
        )

    def add(self, rows: slice | Tensor, value_rm: Tensor, first_column: int) -> None:
        """Add a tile of values of these rows that starts at ``first_column``."""
        count = self.value_Rc.shape[1]
        value_rc, index_rc = value_rm.topk(min(count, value_rm.shape[1]), dim=1, largest=False)
        values = torch.cat((self.value_Rc[rows], value_rc), dim=1)
        indices = torch.cat((self.index_Rc[rows], index_rc + first_column), dim=1)
        self.value_Rc[rows], chosen = values.topk(count, dim=1, largest=False)
        self.index_Rc[rows] = indices.gather(1, chosen)


def nearest_others(points: Points, count: int) -> tuple[Tensor, Tensor]:
    """Squared distances ``[N, count]`` from every point to its nearest others, ascending, and their indices (int64).

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
                # A search along columns is slower than a copy and a search along its rows.
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


def _centred(generated: FeatureMatrix, reference: FeatureMatrix, device: torch.device | str) -> tuple[Points, Points]:
    """Both sets in float32, with the mean of the reference subtracted."""
    centre = reference.mean(axis=0, dtype=np.float64)

    def move(points: FeatureMatrix) -> Points:
        moved = np.empty(points.shape, dtype=np.float32)
        # float64 differences, rounded as they are written: never a whole float64 matrix.
        np.subtract(points, centre, out=moved, dtype=np.float64, casting="same_kind")
        return Points.of(torch.from_numpy(moved).to(device))

    return move(generated), move(reference)


def squared_distances(a: Points, b: Points) -> Tensor:
    """Squared Euclidean distances ``[n, m]`` by one fused product, never below 0."""
    squares_nm = a.square_N[:, None] + b.square_N
    return squares_nm.addmm_(a.points_ND, b.points_ND.T, alpha=-2).clamp_(min=0)


def _tiles(count: int) -> list[slice]:
    return [slice(low, min(low + TILE, count)) for low in range(0, count, TILE)]
