"""What a trained tokenizer loses if its latents are quantized over other clusters or in fewer stages than in training.

Shape letters: B batch, N images, L positions, C latent channels, n clusters, H and W pixels, h and w the latent grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nvgbench.ablations.clusterings import FAST, Maps, nested, slow_clusterings
from nvgbench.ablations.study import Row, Tables
from nvgbench.ablations.subject import Subject
from nvgbench.autoencoder.quantization import nearest_codes
from nvgbench.data.dataset import ImageDataset
from nvgbench.data.images import to_uint8
from nvgbench.data.loader import sequential_batches
from nvgbench.errors import InputError
from nvgbench.evaluation.scores import frechet_with_error
from nvgbench.interfaces import FeatureExtractor
from nvgbench.metrics.reconstruction import psnr
from nvgbench.metrics.uncertainty import mean_interval
from nvgbench.progress import Report, quiet

Floats = NDArray[np.float64]

ALL_STAGES = "all"
_BATCH = 16
_REPLICATES = 1000
_FEWEST = 3
"""Images of a Fréchet distance."""


def schedules(tokens: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Which of a tokenizer's stages are used: name -> their numbers of clusters, finest last.

    Groups of 4 and 16 use every second and fourth stage of groups of 2; with growing and shrinking groups, each stage has a
    group size of its own (1, 2, 4, 16, 256 and 1, 16, 64, 128, 256 of nine stages).
    """
    last = len(tokens) - 1
    found = {ALL_STAGES: tokens}
    size = tokens[1]
    for step in (2, 4):
        if last % step == 0 and last > step and tokens[-1] == size**last:
            found[f"groups of {size**step}"] = tokens[::step]
    powers = {0, last, *(2**power for power in range(last.bit_length()) if 2**power < last)}
    if len(powers) < last + 1:
        found["growing groups"] = tuple(tokens[stage] for stage in sorted(powers))
        found["shrinking groups"] = tuple(tokens[last - stage] for stage in sorted(powers, reverse=True))
    return found


def canvases(quantizer: Any, latent_BChw: Tensor, maps: Maps) -> Iterator[tuple[int, Tensor]]:
    """The canvas ``[B, C, h, w]`` after every stage that ``maps`` has, with its number of clusters.

    The quantizer's own residual quantization (equations 4 and 5), for clusters of any size and with stages left out. A stage is
    refined as the stage with as many clusters was in training.

    Args:
        quantizer: a trained `nvgbench.nvg.quantizer.GranularityQuantizer`.
        latent_BChw: continuous latents.
        maps: clusters -> labels ``[B, L]``; clusters may be of unequal size, and empty.
    """
    latent_BLC = latent_BChw.flatten(2).transpose(1, 2).float()
    canvas_BLC = torch.zeros_like(latent_BLC)
    for tokens in sorted(maps):
        labels_BL = maps[tokens].to(latent_BLC.device)
        member_BnL = F.one_hot(labels_BL, max(tokens, int(labels_BL.max()) + 1)).transpose(1, 2).float()
        means_BnC = member_BnL @ (latent_BLC - canvas_BLC) / member_BnL.sum(2, keepdim=True).clamp(min=1)
        indices_Bn = nearest_codes(means_BnC.flatten(0, 1), quantizer.codebook_VC).unflatten(0, means_BnC.shape[:2])
        canvas_BLC = canvas_BLC + quantizer.refine(indices_Bn, labels_BL, quantizer.stage_tokens.index(tokens))
        yield tokens, canvas_BLC.transpose(1, 2).unflatten(2, latent_BChw.shape[2:])


def quantization_error(canvas_BChw: Tensor, latent_BChw: Tensor) -> Floats:
    """Squared error of a canvas as a share of the latent's sum of squares around its mean, ``[B]``; NaN for a flat latent."""
    latent_BCL = latent_BChw.flatten(2).double()
    total_B = (latent_BCL - latent_BCL.mean(2, keepdim=True)).square().sum((1, 2))
    error_B = (canvas_BChw.flatten(2).double() - latent_BCL).square().sum((1, 2))
    return torch.where(total_B > 0, error_B / total_B, torch.nan).cpu().numpy()


@torch.no_grad()
def requantize(
    subject: Subject,
    dataset: ImageDataset,
    extractor: FeatureExtractor | None = None,
    *,
    seed: int,
    slow_images: int = 16,
    report: Report = quiet,
) -> Tables:
    """Quantization error and reconstructions of one tokenizer, by clustering and by the stages that are used.

    Args:
        subject: with its tokenizer.
        dataset: images of its size.
        extractor: of the Fréchet distance between images and reconstructions; none is computed if None.
        seed: of random splits.
        slow_images: how many of the images the slow clusterings get.
        report: opens a progress display.

    Returns:
        ``quantization_error``: rows of clustering, tokens, error_mean, error_low, error_high (95 % bootstrap over images), n:
        the error after the stage with so many clusters. ``reconstruction``: rows of clustering, stages, tokens (of all stages
        used), error and PSNR with intervals, the error's difference from the method's own maps on the same images, and
        ``rFD[extractor]``, which slow clusterings lack: they have fewer images.
    """
    work = _Work(subject, extractor, seed)
    slow = {name: one for name, one in slow_clusterings(subject).items() if not name.startswith("greedy")}
    done = 0
    with report("reconstructions") as progress:
        for batch in sequential_batches(dataset, _BATCH):
            images_B3HW = batch.images_B3HW.to(subject.device)
            latent_BChw = subject.latent(images_B3HW)
            work.reference(to_uint8(images_B3HW))
            few = max(0, min(len(images_B3HW), slow_images - done))
            for name, cluster in FAST.items():
                maps = cluster(subject, latent_BChw, work.rng)
                work.add(name, ALL_STAGES, latent_BChw, maps)
            for schedule, tokens in schedules(subject.tokens()).items():
                if schedule != ALL_STAGES:
                    greedy = nested("greedy")(subject, latent_BChw, work.rng)
                    work.add("greedy", schedule, latent_BChw, {n: greedy[n] for n in tokens[1:-1]})
            for name, cluster in slow.items() if few else ():
                work.add(name, ALL_STAGES, latent_BChw[:few], cluster(subject, latent_BChw[:few], work.rng))
            done += len(images_B3HW)
            progress(done, len(dataset))
    return {"quantization_error": work.errors(), "reconstruction": work.reconstructions()}


class _Work:
    """Numbers per image and features, by clustering and stages used."""

    def __init__(self, subject: Subject, extractor: FeatureExtractor | None, seed: int) -> None:
        if subject.tokenizer is None:
            raise InputError(f"{subject.name} has no quantizer, which is measured here")
        self.subject, self.tokenizer, self.extractor = subject, subject.tokenizer, extractor
        self.rng = torch.Generator().manual_seed(seed)
        self._stage: dict[tuple[str, int], list[Floats]] = {}
        self._final: dict[tuple[str, str], list[Floats]] = {}
        self._psnr: dict[tuple[str, str], list[Floats]] = {}
        self._features: dict[tuple[str, str], list[Tensor]] = {}
        self._real: list[Tensor] = []
        self._images_B3HW: Tensor | None = None
        self._tokens: dict[str, tuple[int, ...]] = schedules(subject.tokens())

    def reference(self, images_B3HW: Tensor) -> None:
        """Images (uint8) that the next reconstructions are compared with."""
        self._images_B3HW = images_B3HW
        if self.extractor is not None:
            self._real.append(self.extractor(images_B3HW)[0])

    def add(self, clustering: str, schedule: str, latent_BChw: Tensor, inner: Maps) -> None:
        """Quantize over the inner stages' maps between the first and the last one, which are the same in all clusterings."""
        positions, batch = self.subject.positions, len(latent_BChw)
        zeros_BL = torch.zeros((batch, positions), dtype=torch.int64)
        maps = {1: zeros_BL, **inner, positions: torch.arange(positions).expand(batch, -1)}
        key = clustering, schedule
        canvas_BChw = latent_BChw
        for tokens, canvas_BChw in canvases(self.tokenizer.quantizer, latent_BChw, maps):
            if schedule == ALL_STAGES:
                self._stage.setdefault((clustering, tokens), []).append(quantization_error(canvas_BChw, latent_BChw))
        self._final.setdefault(key, []).append(quantization_error(canvas_BChw, latent_BChw))
        assert self._images_B3HW is not None
        copies_B3HW = to_uint8(self.tokenizer.decode(canvas_BChw))
        self._psnr.setdefault(key, []).append(psnr(self._images_B3HW[:batch], copies_B3HW).numpy())
        if self.extractor is not None:
            self._features.setdefault(key, []).append(self.extractor(copies_B3HW)[0])

    def errors(self) -> list[Row]:
        rows = []
        for (clustering, tokens), parts in self._stage.items():
            finite_N = _finite(np.concatenate(parts))
            rows.append({"clustering": clustering, "tokens": tokens, **summary("error", finite_N), "n": len(finite_N)})
        return rows

    def reconstructions(self) -> list[Row]:
        own_N = np.concatenate(self._final["greedy", ALL_STAGES])
        rows = []
        for (clustering, schedule), parts in self._final.items():
            error_N = np.concatenate(parts)
            row: Row = {
                "clustering": clustering, "stages": schedule, "tokens": sum(self._tokens[schedule]),
                **summary("error", _finite(error_N)), **summary("difference", _finite(error_N - own_N[: len(error_N)])),
                **summary("PSNR", np.concatenate(self._psnr[clustering, schedule])), "n": len(error_N),
            }  # fmt: skip
            if self.extractor is not None:
                whole = len(error_N) == len(own_N) >= _FEWEST
                row[f"rFD[{self.extractor.name}]"] = self._distance(clustering, schedule) if whole else None
            rows.append(row)
        return rows

    def _distance(self, clustering: str, schedule: str) -> float:
        made, real = (torch.cat(parts).numpy() for parts in (self._features[clustering, schedule], self._real))
        return float(frechet_with_error(made, real).value)


def summary(name: str, values_N: Floats, highest: float = np.inf) -> Mapping[str, float | None]:
    """Mean of one number per image and its 95 % bootstrap interval: ``name_mean``, ``name_low``, ``name_high``."""
    mean = float(values_N.mean()) if len(values_N) else None
    interval = mean_interval(values_N, _REPLICATES, seed=0) if len(values_N) > 1 else None
    low, high = (None, None) if interval is None else (interval.low, min(interval.high, highest))
    return {f"{name}_mean": mean, f"{name}_low": low, f"{name}_high": high}


def _finite(values_N: Floats) -> Floats:
    return values_N[np.isfinite(values_N)]
