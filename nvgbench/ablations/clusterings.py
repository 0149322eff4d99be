"""Ways to cluster the positions of a latent grid: the method's, and what it is compared with.

Maps are ``tokens -> labels [B, L]`` for every inner stage; 1 token and one token per position are the same in every clustering.
Shape letters: B batch, S stages, C latent channels, h and w the latent grid, L = h·w positions, n clusters, G members of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvgbench.ablations.subject import Subject
from nvgbench.errors import InputError
from nvgbench.nvg.clustering import ChildOrder, Method, build_structure
from nvgbench.nvg.stages import stage_tokens

Maps = Mapping[int, Tensor]
Clustering = Callable[[Subject, Tensor, torch.Generator], Maps]
"""Subject, latents ``[B, C, h, w]``, random source -> maps."""

_KMEANS_ROUNDS = 10
_LARGEST_MATCHING = 64
"""Positions above which an optimal matching takes minutes per image."""


def nested(
    method: Method, *, group_size: int | None = None, child_order: ChildOrder = "matched", tie_break: Any = "xor"
) -> Clustering:
    """The stages of `nvgbench.nvg.clustering.build_structure`, with the subject's group size or another one."""

    def cluster(subject: Subject, latent_BChw: Tensor, rng: torch.Generator) -> Maps:
        size = group_size or subject.group_size
        structure_BSL = build_structure(
            _rows(latent_BChw), group_size=size, method=method, child_order=child_order, grid=subject.grid, generator=rng,
            tie_break=tie_break,
        )  # fmt: skip
        tokens = stage_tokens(subject.positions, size)
        return {tokens[stage]: structure_BSL[:, stage] for stage in range(1, len(tokens) - 1)}

    return cluster


def matching(subject: Subject, latent_BChw: Tensor, rng: torch.Generator) -> Maps:
    """Pairs of clusters joined by the matching with the least total squared distance, stage by stage (networkx)."""
    import networkx

    points_BLC = _rows(latent_BChw).double().cpu().numpy()
    found: dict[int, list[NDArray[np.int64]]] = {}
    for points_LC in points_BLC:
        labels_L, means_nC = np.arange(len(points_LC)), points_LC
        while len(means_nC) > 2:
            distances = ((means_nC[:, None] - means_nC[None]) ** 2).sum(-1)
            graph = networkx.Graph()
            graph.add_weighted_edges_from(
                (i, j, float(distances[i, j])) for i in range(len(means_nC)) for j in range(i + 1, len(means_nC))
            )
            parent_n = np.empty(len(means_nC), np.int64)
            pairs = sorted(sorted(pair) for pair in networkx.min_weight_matching(graph))
            for number, pair in enumerate(pairs):
                parent_n[pair] = number
            labels_L = parent_n[labels_L]
            means_nC = np.stack([means_nC[pair].mean(0) for pair in pairs])
            found.setdefault(len(pairs), []).append(labels_L)
    return {tokens: torch.from_numpy(np.stack(found[tokens])) for tokens in sorted(found)}


def balanced_k_means(subject: Subject, latent_BChw: Tensor, rng: torch.Generator) -> Maps:
    """k-means with clusters of equal size: every round assigns positions to places by the Hungarian method (scipy)."""
    from scipy.optimize import linear_sum_assignment

    def cluster(points_LC: NDArray[np.float64], n: int) -> NDArray[np.int64]:
        length = len(points_LC)
        start_n = torch.randperm(length, generator=rng)[:n].numpy()
        means_nC, labels_L = points_LC[start_n], np.zeros(length, np.int64)
        for _ in range(_KMEANS_ROUNDS):
            distances_Ln = ((points_LC[:, None] - means_nC[None]) ** 2).sum(-1)
            _, place_L = linear_sum_assignment(np.repeat(distances_Ln, length // n, axis=1))
            before_L, labels_L = labels_L, place_L // (length // n)
            if (labels_L == before_L).all():
                break
            means_nC = np.stack([points_LC[labels_L == number].mean(0) for number in range(n)])
        return labels_L

    return _each_image(subject, latent_BChw, cluster)


def ward(subject: Subject, latent_BChw: Tensor, rng: torch.Generator) -> Maps:
    """Ward's hierarchy cut at as many clusters as the stage has; their sizes differ (scipy)."""
    from scipy.cluster.hierarchy import cut_tree, linkage

    tokens = subject.tokens()[1:-1]
    points_BLC = _rows(latent_BChw).double().cpu().numpy()
    labels_BLS = np.stack([cut_tree(linkage(points_LC, "ward"), n_clusters=tokens) for points_LC in points_BLC])
    return {n: torch.from_numpy(labels_BLS[:, :, stage]) for stage, n in enumerate(tokens)}


def slic(subject: Subject, latent_BChw: Tensor, rng: torch.Generator) -> Maps:
    """SLIC superpixels of the latents (Achanta et al. 2012, section 3), with as many clusters as the stage has.

    k-means in feature and position together, started from the cells of the quadtree: D² = d_c² + (d_s / S)² m², where S is the
    distance of neighbouring cells and m the standard deviation of the image's latents, so that both parts weigh alike. On
    grids this small scikit-image's SLIC has other numbers of clusters than asked for (256 instead of 128 on 16 x 16).
    """
    h, w = subject.grid
    place_L2 = np.stack(np.meshgrid(np.arange(h), np.arange(w), indexing="ij"), -1).reshape(-1, 2).astype(float)
    cells = nested("quadtree")(subject, latent_BChw[:1], rng)

    def cluster(points_LC: NDArray[np.float64], n: int) -> NDArray[np.int64]:
        weight = (float((points_LC - points_LC.mean(0)).std()) or 1.0) / np.sqrt(len(points_LC) / n)
        joined_LD = np.concatenate((points_LC, weight * place_L2), axis=1)
        labels_L = cells[n][0].cpu().numpy()
        for _ in range(_KMEANS_ROUNDS):
            means_nD = np.stack([joined_LD[labels_L == number].mean(0) for number in range(n)])
            distances_Ln = ((joined_LD[:, None] - means_nD[None]) ** 2).sum(-1)
            before_L, labels_L = labels_L, distances_Ln.argmin(1)
            # A cluster that lost all positions starts anew at the worst one.
            for number in np.setdiff1d(np.arange(n), labels_L):
                sizes_n = np.bincount(labels_L, minlength=n)
                worst = np.where(sizes_n[labels_L] > 1, distances_Ln[np.arange(len(labels_L)), labels_L], -1).argmax()
                labels_L[worst] = number
            if (labels_L == before_L).all():
                break
        return labels_L

    return _each_image(subject, latent_BChw, cluster)


FAST: dict[str, Clustering] = {"greedy": nested("greedy"), "quadtree": nested("quadtree"), "random": nested("random")}
"""Measured on all images."""


def slow_clusterings(subject: Subject) -> dict[str, Clustering]:
    """Measured on few images: other algorithms, and other group sizes than the subject's."""
    found: dict[str, Clustering] = {"k-means": balanced_k_means, "Ward": ward, "SLIC": slic}
    if subject.positions <= _LARGEST_MATCHING:
        found["matching"] = matching
    for size in (2, 4, 16):
        if size == subject.group_size:
            continue
        try:
            stages = len(stage_tokens(subject.positions, size))
        except InputError:  # the grid is no power of this size
            continue
        if stages > 2:
            found[f"greedy, groups of {size}"] = nested("greedy", group_size=size)
    return found


def _rows(latent_BChw: Tensor) -> Tensor:
    """[B, C, h, w] to [B, L, C]."""
    return latent_BChw.flatten(2).transpose(1, 2)


def _each_image(
    subject: Subject, latent_BChw: Tensor, cluster: Callable[[NDArray[np.float64], int], NDArray[np.int64]]
) -> Maps:
    points_BLC = _rows(latent_BChw).double().cpu().numpy()
    return {
        tokens: torch.from_numpy(np.stack([cluster(points_LC, tokens) for points_LC in points_BLC]))
        for tokens in subject.tokens()[1:-1]
    }
