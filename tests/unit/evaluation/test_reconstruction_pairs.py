"""Two tokenizers on the same held-out images are compared image by image."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from nvgbench.data.image_set import in_memory
from nvgbench.data.images import to_float, to_uint8
from nvgbench.evaluation.paired import paired_margins
from nvgbench.evaluation.reconstruction_pairs import mean_of
from nvgbench.evaluation.reconstructions import evaluate_reconstructions
from nvgbench.extractors.cache import FeatureCache
from nvgbench.metrics.reconstruction import psnr
from nvgbench.metrics.uncertainty import interval_of
from nvgbench.results.compare import Scored, compare
from nvgbench.results.schema import RunRecord
from nvgbench.types import TokenSequence
from tests.helpers.evaluation_jobs import Thumbnails

N = 80


class Blur:
    """A tokenizer that moves each image towards its mean by a share; its tokens are the image itself."""

    grid, codebook_size, stage_tokens = (1, 1), 4, (1,)

    def __init__(self, share: float) -> None:
        self.share = share

    def encode(self, images_B3HW: torch.Tensor) -> TokenSequence:
        self.images_B3HW = images_B3HW
        return TokenSequence((torch.zeros(len(images_B3HW), 1, dtype=torch.int64),))

    def decode(self, source: TokenSequence) -> torch.Tensor:
        return torch.lerp(self.images_B3HW, self.images_B3HW.mean(dim=(2, 3), keepdim=True), self.share)

    def copies(self, images_B3HW: torch.Tensor) -> torch.Tensor:
        """What `evaluate_reconstructions` makes of uint8 images."""
        return to_uint8(self.decode(self.encode(to_float(images_B3HW))))


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """Images whose contrasts differ much, so that the PSNR of one tokenizer varies much more than the difference of two."""
    monkeypatch.setattr("nvgbench.evaluation.reconstructions.load_lpips", lambda device: (None, "LPIPS: not here"))
    rng = np.random.default_rng(0)
    contrast = rng.uniform(10, 120, (N, 1, 1, 1))
    return torch.from_numpy((128 + contrast * rng.uniform(-1, 1, (N, 3, 16, 16))).astype(np.uint8))


def record(root: Path, images: torch.Tensor, share: float) -> RunRecord:
    cache, extractor = FeatureCache(root / "_features"), Thumbnails(root / "diary", 0)
    (scores,) = evaluate_reconstructions(Blur(share), in_memory("held-out", images), [extractor], cache=cache)
    about = {"extractor": {"name": extractor.name, "fingerprint": extractor.fingerprint}}
    return RunRecord(kind="eval", subject=f"blur {share}", metrics=scores.metrics, provenance={**scores.provenance, **about})


def scored(record: RunRecord, name: str) -> Scored:
    return Scored(next(metric for metric in record.metrics if metric.name == name), record)


def test_the_error_is_that_of_the_differences_of_each_image(tmp_path: Path, images: torch.Tensor) -> None:
    weak, strong = record(tmp_path, images, 0.5), record(tmp_path, images, 0.52)
    margins = paired_margins(weak, strong, tmp_path)
    assert margins.keys() == {"PSNR", "SSIM", "rFD[classifier]"}
    assert all(margin.paired and "same image" in margin.method for margin in margins.values())
    each_N = [psnr(images, Blur(share).copies(images)).double().numpy() for share in (0.5, 0.52)]
    change_N = each_N[1] - each_N[0]
    assert margins["PSNR"].stderr == pytest.approx(change_N.std(ddof=1) / np.sqrt(N))
    before, after = scored(weak, "PSNR"), scored(strong, "PSNR")
    assert before.metric.value == each_N[0].mean()
    assert before.metric.stderr == pytest.approx(each_N[0].std(ddof=1) / np.sqrt(N))
    # Contrast moves both scores by far more than two per cent of blur do.
    assert compare(before, after).verdict == "inconclusive"
    assert compare(before, after, margin=margins["PSNR"]).verdict == "worse"


def test_other_images_or_no_numbers_make_no_pairs(tmp_path: Path, images: torch.Tensor) -> None:
    weak, strong = record(tmp_path, images, 0.5), record(tmp_path, images, 0.6)
    assert paired_margins(weak, record(tmp_path, images.flip(0), 0.6), tmp_path) == {}
    without = {key: value for key, value in strong.provenance.items() if key != "reconstructions"}
    assert paired_margins(weak, dataclasses.replace(strong, provenance=without), tmp_path) == {}
    # Numbers whose mean is not the recorded one are of another computation.
    moved = tuple(dataclasses.replace(metric, value=metric.value + 0.1) for metric in strong.metrics)
    assert paired_margins(weak, dataclasses.replace(strong, metrics=moved), tmp_path).keys() == {"rFD[classifier]"}
    for path in (tmp_path / "_features" / "reconstructions").iterdir():
        path.write_bytes(b"damaged")
    assert paired_margins(weak, strong, tmp_path).keys() == {"rFD[classifier]"}
    assert paired_margins(weak, strong, tmp_path / "elsewhere") == {}


def test_equal_numbers_have_no_interval() -> None:
    assert interval_of(mean_of(np.full(7, 100.0))) is None
