"""How well a tokenizer gives its images back. Shape letters: B batch, H and W pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nvgbench.data.image_set import ImageSet
from nvgbench.data.images import to_float, to_uint8
from nvgbench.evaluation.progress import Report, quiet
from nvgbench.evaluation.rules.base import Rules, moved
from nvgbench.evaluation.scores import Scores, ScoreSettings, extract, value_of
from nvgbench.extractors.cache import FeatureCache
from nvgbench.interfaces import FeatureExtractor, Tokenizer
from nvgbench.metrics.codebook import CodebookUse
from nvgbench.metrics.frechet import distance_to_factor, gaussian_of
from nvgbench.metrics.reconstruction import Distance, load_lpips, psnr, ssim
from nvgbench.metrics.uncertainty import frechet_interval, mean_interval


def evaluate_reconstructions(
    tokenizer: Tokenizer,
    images: ImageSet,
    extractor: FeatureExtractor,
    settings: ScoreSettings,
    *,
    cache: FeatureCache,
    rules: Rules | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    report: Report = quiet,
) -> Scores:
    """PSNR, SSIM, LPIPS (where its weights can be had), rFID or ``rFD[…]``, and how the codebook is used.

    Args:
        tokenizer: in evaluation mode on ``device``.
        images: held-out images.
        extractor: for the Fréchet distance between images and reconstructions.
        settings: see `nvgbench.evaluation.scores.ScoreSettings`.
        cache: where features are kept.
        rules: another evaluator's, for the Fréchet distance; nvgbench's own where not given.
        device: where the tokenizer is.
        batch_size: images at once.
        report: opens a progress display.

    Returns:
        Scores, the use of the codebook, and as provenance ``lpips`` (what was loaded, or why not) and
        ``reconstruction_reference`` (name, fingerprint and number of ``images``).
    """
    lpips, lpips_note = load_lpips(device)
    tally = _Tally(tokenizer, lpips, device, batch_size)
    name = f"reconstructions of {images.name}"
    given_back = dataclasses.replace(images, name=name, stream=tally.reconstructions(images), keys={})
    made = extract(given_back, extractor, cache, report, "reconstructions and their features").features_ND
    originals = extract(images, extractor, cache, report, "features of the reference")
    real = originals.features_ND
    if rules is not None:
        made, real = rules.pool(made), rules.pool(real)
    metrics = []
    for name, parts in tally.numbers.items():
        if parts:
            values = torch.cat(parts).double().numpy()
            interval = mean_interval(values, settings.bootstrap, settings.seed)
            metrics.append(value_of(name, None, float(values.mean()), len(values), interval))
    centre, factor = gaussian_of(real)
    value = distance_to_factor(made, centre, factor)
    interval = frechet_interval(value, made, centre, factor)
    distance = value_of("rFID", extractor.name, value, len(made), interval, len(real))
    metrics.append(distance if rules is None else moved(distance, rules.frechet(made, real), rules.identity))
    rows = tally.use.rows()
    for name, key in (("codebook-use", "use"), ("codebook-perplexity", "perplexity")):
        metrics.append(value_of(name, None, rows[-1][key], images.count, None))
    held_out = {"name": images.name, "fingerprint": originals.fingerprint, "n": images.count}
    origin = {"lpips": lpips_note, "reconstruction_reference": held_out}
    return Scores(metrics=tuple(metrics), tables={"codebook by stage": rows}, provenance=origin)


class _Tally:
    """Reconstructs chunk by chunk, so that nothing but the numbers is kept, and counts on the way."""

    def __init__(self, tokenizer: Tokenizer, lpips: Distance | None, device: torch.device | str, batch_size: int) -> None:
        self.tokenizer = tokenizer
        self.lpips = lpips
        self.device = device
        self.batch_size = batch_size
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
        self.use.update(tokens)
        copies_B3HW = to_uint8(self.tokenizer.decode(tokens))
        self.numbers["PSNR"].append(psnr(originals_B3HW, copies_B3HW))
        self.numbers["SSIM"].append(ssim(originals_B3HW, copies_B3HW))
        if self.lpips is not None:
            self.numbers["LPIPS"].append(self.lpips(to_float(originals_B3HW), to_float(copies_B3HW)))
        return copies_B3HW.cpu()
