"""How well a tokenizer reconstructs its images. Shape letters: B batch, H and W pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nvgbench.data.image_set import ImageSet
from nvgbench.data.images import to_float, to_uint8
from nvgbench.evaluation.reconstruction_pairs import keep_numbers, mean_of
from nvgbench.evaluation.rules.base import Rules, moved
from nvgbench.evaluation.scores import Scores
from nvgbench.evaluation.values import metric_value
from nvgbench.extractors.cache import FeatureCache
from nvgbench.interfaces import CodebookTokenizer, FeatureExtractor, Tokenizer
from nvgbench.metrics.codebook import CodebookUse
from nvgbench.metrics.frechet_pairs import frechet_of_pairs
from nvgbench.metrics.reconstruction import Distance, load_lpips, psnr, ssim
from nvgbench.metrics.uncertainty import Contributions
from nvgbench.progress import Report, quiet
from nvgbench.results.missing import lpips_reason
from nvgbench.types import Features, MetricValue, TokenSequence


def evaluate_reconstructions(
    tokenizer: Tokenizer,
    images: ImageSet,
    extractors: Sequence[FeatureExtractor],
    *,
    cache: FeatureCache,
    rules: Rules | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    report: Report = quiet,
) -> list[Scores]:
    """PSNR, SSIM, LPIPS (if its weights are available), rFID or ``rFD[…]``, and codebook use if there is a codebook.

    Args:
        tokenizer: in eval mode on ``device``.
        images: held-out images.
        extractors: for the Fréchet distance between images and reconstructions; the reconstructions are made once.
        cache: where features are kept.
        rules: another evaluator's rules for the Fréchet distance; nvgbench's own if None.
        device: where the tokenizer is.
        batch_size: images per batch.
        report: opens a progress display.

    Returns:
        By extractor: scores, codebook use by stage, and as provenance ``lpips`` (what was loaded, or why not), ``missing`` (why
        there is no LPIPS), ``reconstruction_reference`` (name, fingerprint and number of ``images``) and ``reconstructions``
        (their fingerprint). The number of each image is kept in the cache (`nvgbench.evaluation.reconstruction_pairs`).
    """
    lpips, lpips_note = load_lpips(device)
    tally = _Tally(tokenizer, lpips, device, batch_size)
    name = f"reconstructions of {images.name}"
    reconstructed = dataclasses.replace(images, name=name, stream=tally.reconstructions(images), keys={})
    with report("reconstructions and their features") as update:
        made = cache.extract_all(reconstructed.chunks(), extractors, lambda done: update(done, images.count))
    with report("features of the reference") as update:
        originals = cache.extract_all(images.chunks(), extractors, lambda done: update(done, images.count))
    numbers = {score: torch.cat(parts).double().numpy() for score, parts in tally.numbers.items() if parts}
    keep_numbers(cache, originals[0], made[0], numbers)
    found = {score: mean_of(numbers_N) for score, numbers_N in numbers.items()}
    metrics = [metric_value(score, None, mean, images.count) for score, mean in found.items()]
    rows = [] if tally.use is None else tally.use.rows()
    for score, key in (("codebook-use", "use"), ("codebook-perplexity", "perplexity")) if rows else ():
        count = Contributions(value=rows[-1][key], parts=np.zeros(0))
        metrics.append(metric_value(score, None, count, images.count))
    held_out = {"name": images.name, "fingerprint": originals[0].fingerprint, "n": images.count}
    provenance: dict[str, Any] = {
        "lpips": lpips_note,
        "reconstruction_reference": held_out,
        "reconstructions": {"fingerprint": made[0].fingerprint},
    }
    if lpips is None:
        provenance["missing"] = {"LPIPS": lpips_reason(lpips_note)}
    tables = {"codebook by stage": rows} if rows else {}
    distances = [_distance(*one, rules) for one in zip(extractors, made, originals, strict=True)]
    place = len(found)  # before the codebook's
    return [
        Scores(metrics=(*metrics[:place], distance, *metrics[place:]), tables=tables, provenance=provenance)
        for distance in distances
    ]


def _distance(extractor: FeatureExtractor, made: Features, originals: Features, rules: Rules | None) -> MetricValue:
    """The Fréchet distance of reconstructions."""
    x, y = made.features_ND, originals.features_ND
    if rules is not None:
        x, y = rules.pool(x), rules.pool(y)
    distance = metric_value("rFID", extractor.name, frechet_of_pairs(x, y), len(x), len(y))
    return distance if rules is None else moved(distance, rules.frechet(x, y), rules.identity)


class _Tally:
    """Reconstructs chunk by chunk, keeps only the numbers, and counts codes."""

    def __init__(self, tokenizer: Tokenizer, lpips: Distance | None, device: torch.device | str, batch_size: int) -> None:
        self.tokenizer = tokenizer
        self.lpips = lpips
        self.device = device
        self.batch_size = batch_size
        self.use = None
        if isinstance(tokenizer, CodebookTokenizer):
            self.use = CodebookUse(tokenizer.codebook_size, len(tokenizer.stage_tokens))
        self.numbers: dict[str, list[Tensor]] = {"PSNR": [], "SSIM": [], "LPIPS": []}

    def reconstructions(self, images: ImageSet) -> Callable[[int], Iterator[Tensor]]:
        """A reader of the reconstructions; to be read once."""

        def read(size: int) -> Iterator[Tensor]:
            for chunk in images.read(size):
                yield torch.cat([self._reconstruct(batch.to(self.device)) for batch in chunk.split(self.batch_size)])

        return read

    @torch.no_grad()
    def _reconstruct(self, originals_B3HW: Tensor) -> Tensor:
        tokens = self.tokenizer.encode(to_float(originals_B3HW))
        if self.use is not None:
            assert isinstance(tokens, TokenSequence)
            self.use.update(tokens)
        copies_B3HW = to_uint8(self.tokenizer.decode(tokens))
        self.numbers["PSNR"].append(psnr(originals_B3HW, copies_B3HW))
        self.numbers["SSIM"].append(ssim(originals_B3HW, copies_B3HW))
        if self.lpips is not None:
            self.numbers["LPIPS"].append(self.lpips(to_float(originals_B3HW), to_float(copies_B3HW)))
        return copies_B3HW.cpu()
