"""The study ``clusters``: how stable structure maps are, and how much of the features they explain.

Stages 0 (one cluster) and K (one position per cluster) are the same in every map and left out. The clusterings without features
are the controls: a fixed quadtree never changes unless the image moves, a random split agrees with nothing.

Shape letters: B batch, N images, S stages, T inner stages (S - 2), L positions, C latent channels, h and w the latent grid.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from nvgbench.ablations.views import View, same_place, views
from nvgbench.data.dataset import ImageDataset
from nvgbench.data.loader import sequential_batches
from nvgbench.errors import InputError
from nvgbench.metrics.stability import adjusted_rand_index, normalized_mutual_information
from nvgbench.metrics.uncertainty import mean_interval
from nvgbench.nvg.clustering import build_structure
from nvgbench.nvg.quantizer import cluster_means, stage_tokens

Clustering = Literal["greedy", "quadtree", "random"]
CLUSTERINGS: tuple[Clustering, ...] = get_args(Clustering)
Row = dict[str, Any]
Count = Callable[[int, int], None]

_BATCH = 32
_REPLICATES = 1000


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What the study measures: an encoder and the hierarchy built on it.

    Attributes:
        name: of the run, for tables.
        encode: float images ``[B, 3, H, W]`` in [-1, 1] to float latents ``[B, C, h, w]``.
        grid: height and width of the latent grid.
        group_size: clusters of a stage merged into one of the stage before.
        device: where the encoder is.
    """

    name: str
    encode: Callable[[Tensor], Tensor]
    grid: tuple[int, int]
    group_size: int = 2
    device: torch.device | str = "cpu"

    def latent(self, images_B3HW: Tensor) -> Tensor:
        """Latents in full float32: TF32 rounds inputs to 10 bits of mantissa, which changes hierarchies."""
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            return self.encode(images_B3HW.to(self.device)).float()

    def tokens(self) -> tuple[int, ...]:
        """Clusters of every stage.

        Raises:
            InputError: the grid's positions cannot be grouped down to one cluster, or there is no inner stage.
        """
        try:
            tokens = stage_tokens(self.grid[0] * self.grid[1], self.group_size)
        except InputError as error:
            raise InputError(f"{self.name} has no hierarchy of structure maps: {error}") from None
        if len(tokens) < 3:
            raise InputError(f"{self.name} has {len(tokens)} stages, all of them trivial; use a larger grid or smaller groups")
        return tokens


def study_clusters(
    subjects: Sequence[Subject], dataset: ImageDataset, *, images: int, seed: int, progress: Count
) -> dict[str, list[Row]]:
    """Measure agreement of structure maps and explained variance.

    Perturbations and quality are measured on the first subject; the perturbation ``seed`` compares every pair of subjects
    and is left out if there is only one.

    Args:
        dataset: images of the subjects' size; the first ``images`` of it are used.
        seed: of noise and random splits.
        progress: called with images done and images in all.

    Returns:
        ``cluster_stability``: rows of perturbation, level, clustering, stage, tokens, ari_mean, ari_low, ari_high (95 %
        bootstrap over images), nmi_mean, n. ``cluster_quality``: rows of clustering, stage, tokens, explained_mean,
        explained_low, explained_high, n (flat images, which have nothing to explain, are left out).

    Raises:
        InputError: no subject, subjects that cannot be compared, or fewer than two images.
    """
    _check(subjects, dataset, images)
    count = min(images, len(dataset))
    subject, tokens = subjects[0], subjects[0].tokens()
    work = [*views(subject.grid, dataset.image_size)]
    draws = _Draws(seed)
    scores = _Scores()
    first_maps: dict[Clustering, list[Tensor]] = {clustering: [] for clustering in CLUSTERINGS}
    done = 0
    progress(0, count)
    for batch in sequential_batches(dataset, _BATCH, limit=count):
        latents = [each.latent(batch.images_B3HW) for each in subjects]
        maps = [_all_maps(each, latent_BChw, draws, each.name) for each, latent_BChw in zip(subjects, latents, strict=True)]
        for clustering, structure_BSL in maps[0].items():
            first_maps[clustering].append(structure_BSL.cpu())
            scores.add("explained", "", clustering, explained_variance(latents[0], structure_BSL[:, 1:-1]))
        for (a, maps_a), (b, maps_b) in itertools.combinations(zip(subjects, maps, strict=True), 2):
            for clustering in CLUSTERINGS:
                pair = f"{a.name} / {b.name}"
                scores.compare("seed", pair, clustering, maps_a[clustering], maps_b[clustering], same_place, subject.grid)
        for view in work:
            viewed_BChw = _viewed_latent(subject, view, batch.images_B3HW, latents[0], draws)
            viewed = _all_maps(subject, viewed_BChw, draws, f"{view.perturbation} {view.level}")
            for clustering in CLUSTERINGS:
                first, other = maps[0][clustering], viewed[clustering]
                scores.compare(view.perturbation, view.level, clustering, first, other, view.align, subject.grid)
        done += len(batch.labels_B)
        progress(done, count)
    for clustering, parts in first_maps.items():
        structure_NSL = torch.cat(parts)
        scores.compare("chance", "", clustering, structure_NSL, structure_NSL.roll(1, 0), same_place, subject.grid)
    return scores.tables(tokens)


def explained_variance(latent_BChw: Tensor, structure_BTL: Tensor) -> np.ndarray:
    """Share of the sum of squares around the image's mean that cluster means explain, float64 ``[B, T]``; NaN if flat."""
    values_BLC = latent_BChw.flatten(2).transpose(1, 2).double()
    values_BLC = values_BLC - values_BLC.mean(1, keepdim=True)
    total_B = values_BLC.square().sum((1, 2))
    shares = []
    for structure_BL in structure_BTL.unbind(1):
        clusters = int(structure_BL.max()) + 1
        means_BnC = cluster_means(values_BLC, structure_BL, clusters)
        shares.append(means_BnC.square().sum((1, 2)) * (values_BLC.shape[1] / clusters) / total_B)
    return torch.stack(shares, dim=1).cpu().numpy()


class _Draws:
    """One stream of random numbers per purpose, so that adding a view leaves the others unchanged."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._streams: dict[str, torch.Generator] = {}

    def __getitem__(self, purpose: str) -> torch.Generator:
        if purpose not in self._streams:
            words = np.random.SeedSequence([self._seed % 2**64, *purpose.encode()]).generate_state(1, np.uint64)
            self._streams[purpose] = torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))
        return self._streams[purpose]


class _Scores:
    """Scores per image, by what was compared."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str, str, str], list[np.ndarray]] = {}

    def add(self, perturbation: str, level: str, clustering: str, scores_BT: np.ndarray, measure: str = "") -> None:
        self._values.setdefault((perturbation, level, clustering, measure), []).append(scores_BT)

    def compare(
        self,
        perturbation: str,
        level: str,
        clustering: str,
        first_BSL: Tensor,
        other_BSL: Tensor,
        align: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        grid: tuple[int, int],
    ) -> None:
        """Agreement of two sets of maps at every inner stage."""
        pairs = [
            align(first_BSL[:, stage].unflatten(1, grid), other_BSL[:, stage].unflatten(1, grid))
            for stage in range(1, first_BSL.shape[1] - 1)
        ]
        for name, measure in (("ari", adjusted_rand_index), ("nmi", normalized_mutual_information)):
            self.add(perturbation, level, clustering, np.stack([measure(*pair) for pair in pairs], axis=1), name)

    def tables(self, tokens: Sequence[int]) -> dict[str, list[Row]]:
        found = {key: np.concatenate(parts) for key, parts in self._values.items()}
        stability, quality = [], []
        for (perturbation, level, clustering, measure), scores_NT in found.items():
            for stage, scores_N in enumerate(scores_NT.T, start=1):
                place = {"clustering": clustering, "stage": stage, "tokens": tokens[stage]}
                if measure == "ari":
                    nmi_N = found[perturbation, level, clustering, "nmi"][:, stage - 1]
                    row = {"perturbation": perturbation, "level": level, **place, **_summary("ari", scores_N)}
                    stability.append({**row, "nmi_mean": float(nmi_N.mean()), "n": len(scores_N)})
                elif perturbation == "explained":
                    finite_N = scores_N[np.isfinite(scores_N)]
                    quality.append({**place, **_summary("explained", finite_N), "n": len(finite_N)})
        return {"cluster_stability": stability, "cluster_quality": quality}


def _summary(name: str, values_N: np.ndarray) -> Row:
    if len(values_N) < 2:
        return {f"{name}_mean": None, f"{name}_low": None, f"{name}_high": None}
    interval = mean_interval(values_N, _REPLICATES, seed=0)
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    return {f"{name}_mean": float(values_N.mean()), f"{name}_low": low, f"{name}_high": high}


def _all_maps(subject: Subject, latent_BChw: Tensor, draws: _Draws, purpose: str) -> Mapping[Clustering, Tensor]:
    """Structure maps ``[B, S, L]`` by every clustering."""
    latent_BLC = latent_BChw.flatten(2).transpose(1, 2)
    return {
        clustering: build_structure(
            latent_BLC,
            group_size=subject.group_size,
            method=clustering,
            grid=subject.grid,
            generator=draws[f"split {purpose}"],
        )
        for clustering in CLUSTERINGS
    }


def _viewed_latent(subject: Subject, view: View, images_B3HW: Tensor, latent_BChw: Tensor, draws: _Draws) -> Tensor:
    if view.image is not None:
        latent_BChw = subject.latent(view.image(images_B3HW))
    if view.features is not None:
        latent_BChw = view.features(latent_BChw, draws[f"features {view.perturbation} {view.level}"])
    return latent_BChw


def _check(subjects: Sequence[Subject], dataset: ImageDataset, images: int) -> None:
    if not subjects:
        raise InputError("`runs=` is empty; name at least one run with a trained tokenizer")
    if min(images, len(dataset)) < 2:
        raise InputError(f"{min(images, len(dataset))} images: chance agreement compares different images; use 2 or more")
    names = [subject.name for subject in subjects]
    if len(set(names)) < len(names):
        raise InputError(f"two runs have the same name ({', '.join(sorted(names))}); rename one folder")
    for subject in subjects:
        subject.tokens()
        if (subject.grid, subject.group_size) != (subjects[0].grid, subjects[0].group_size):
            raise InputError(
                f"{subject.name} has grid {subject.grid} and group size {subject.group_size}, {subjects[0].name} has "
                f"{subjects[0].grid} and {subjects[0].group_size}; compare runs with the same grid and group size"
            )
