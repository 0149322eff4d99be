"""How well a tokenizer gives its images back. Shape letters: B batch, H and W pixels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nvgbench.data.images import to_float, to_uint8
from nvgbench.evaluation.progress import Report, quiet
from nvgbench.evaluation.samples import ImageSet, in_memory
from nvgbench.evaluation.scores import Scores, ScoreSettings, extract, value_of
from nvgbench.metrics.cache import FeatureCache
from nvgbench.metrics.codebook import CodebookUse
from nvgbench.metrics.frechet import frechet_from_features
from nvgbench.metrics.reconstruction import load_lpips, psnr, ssim
from nvgbench.metrics.uncertainty import frechet_interval, mean_interval
from nvgbench.protocols import FeatureExtractor, Tokenizer
from nvgbench.types import MetricValue


def evaluate_reconstructions(
    tokenizer: Tokenizer,
    images: ImageSet,
    extractor: FeatureExtractor,
    settings: ScoreSettings,
    *,
    cache: FeatureCache,
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
        device: where the tokenizer is.
        batch_size: images at once.
        report: opens a progress display.
    """
    use = CodebookUse(tokenizer.codebook_size, len(tokenizer.stage_tokens))
    lpips, lpips_note = load_lpips(device)
    numbers: dict[str, list[Tensor]] = {"PSNR": [], "SSIM": [], "LPIPS": []}
    copies = []
    with report("reconstructions") as update:
        for originals, reconstructed in _reconstructions(tokenizer, images, use, device, batch_size):
            numbers["PSNR"].append(psnr(originals, reconstructed))
            numbers["SSIM"].append(ssim(originals, reconstructed))
            if lpips is not None:
                numbers["LPIPS"].append(lpips(to_float(originals), to_float(reconstructed)))
            copies.append(reconstructed.cpu())
            update(sum(map(len, copies)), images.count)
    metrics = []
    for name, parts in numbers.items():
        if parts:
            values = torch.cat(parts).double().numpy()
            interval = mean_interval(values, settings.bootstrap, settings.seed)
            metrics.append(value_of(name, None, float(values.mean()), len(values), interval))
    metrics.append(_frechet(images, torch.cat(copies), extractor, settings, cache, report))
    rows = use.rows()
    everything = rows[-1]
    metrics.append(value_of("codebook-use", None, everything["use"], images.count, None))
    metrics.append(value_of("codebook-perplexity", None, everything["perplexity"], images.count, None))
    return Scores(metrics=tuple(metrics), tables={"codebook by stage": rows}, provenance={"lpips": lpips_note})


@torch.no_grad()
def _reconstructions(
    tokenizer: Tokenizer, images: ImageSet, use: CodebookUse, device: torch.device | str, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and their reconstructions, uint8, batch by batch; counts the codes on the way."""
    for chunk in images.read(batch_size):
        originals = chunk.to(device)
        tokens = tokenizer.encode(to_float(originals))
        use.update(tokens)
        yield originals, to_uint8(tokenizer.decode(tokens))


def _frechet(
    images: ImageSet,
    copies_N3HW: Tensor,
    extractor: FeatureExtractor,
    settings: ScoreSettings,
    cache: FeatureCache,
    report: Report,
) -> MetricValue:
    real = extract(images, extractor, cache, report, "features of the reference").features_ND
    given_back = in_memory(f"reconstructions of {images.name}", copies_N3HW)
    made = extract(given_back, extractor, cache, report, "features of the reconstructions").features_ND
    value = frechet_from_features(made, real)
    interval = frechet_interval(value, made, real, settings.bootstrap, settings.seed)
    return value_of("rFID", extractor.name, value, len(made), interval, len(real))
