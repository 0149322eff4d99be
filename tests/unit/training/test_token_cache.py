"""Cached tokens are what tokenizing the loader's batches would give."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from nvgbench.data.dataset import ImageDataset
from nvgbench.data.loader import training_batches
from nvgbench.training.interrupt import Interrupted, StopSignal
from nvgbench.training.token_cache import build_cache, cache_fingerprint, encode, read_cache
from nvgbench.types import TokenSequence

CPU = torch.device("cpu")


class Numbers(ImageDataset):
    """Image i is grey of brightness i."""

    def __init__(self, count: int) -> None:
        labels = np.arange(count) % 3
        super().__init__(name="numbers", classes=("a", "b", "c"), labels=labels, image_size=16, fingerprint=f"numbers-{count}")

    def read(self, index: int) -> np.ndarray:
        return np.full((16, 16, 3), index, dtype=np.uint8)


class GreyTokenizer(nn.Module):
    """Brightness as the token of both stages."""

    grid = (2, 2)
    codebook_size = 70_000
    stage_tokens = (1, 4)

    def __init__(self, structure: bool) -> None:
        super().__init__()
        self.structure = structure

    def encode(self, images_B3HW: torch.Tensor) -> TokenSequence:
        grey_B = ((images_B3HW[:, 0, 0, 0] + 1) * 127.5).round().long()
        structure_BL = torch.arange(4).expand(len(grey_B), 4) if self.structure else None
        return TokenSequence((grey_B[:, None], grey_B[:, None].repeat(1, 4) + 69_000), structure_BL)

    def decode(self, tokens: TokenSequence) -> torch.Tensor:
        raise NotImplementedError


def build(path: Path, tokenizer: nn.Module, dataset: ImageDataset, stop: StopSignal | None = None) -> None:
    build_cache(
        path, "f", tokenizer, dataset, CPU, batch_size=8, progress=lambda event: None, stop=stop or StopSignal()
    )  # fmt: skip


@pytest.mark.parametrize("structure", [True, False])
def test_cached_batches_are_those_of_the_loader(tmp_path: Path, structure: bool) -> None:
    dataset, tokenizer = Numbers(21), GreyTokenizer(structure)
    build(tmp_path / "tokens.safetensors", tokenizer, dataset)
    cache = read_cache(tmp_path / "tokens.safetensors", "f")
    assert cache is not None
    for rank in range(2):
        place = {"seed": 5, "start_step": 3, "rank": rank, "world_size": 2}
        cached = cache.batches(6, **place)
        images = training_batches(dataset, 6, **place)
        for one, other in itertools.islice(zip(cached, images, strict=True), 6):
            expected = encode(tokenizer, other, CPU)
            assert torch.equal(one.labels_B, expected.labels_B)
            assert len(one.labels_B) == 3
            for mine, theirs in zip(one.tokens.indices, expected.tokens.indices, strict=True):
                assert mine.dtype == torch.int64
                assert torch.equal(mine, theirs)
            assert (one.tokens.structure_BL is None) == (not structure)
            if structure:
                assert torch.equal(one.tokens.structure_BL, expected.tokens.structure_BL)


@pytest.mark.parametrize(("codes", "dtype"), [(70_000, torch.int32), (2**15, torch.int16)])
def test_indices_are_kept_in_the_narrowest_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codes: int, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(GreyTokenizer, "codebook_size", codes)
    build(tmp_path / "tokens.safetensors", GreyTokenizer(True), Numbers(5))
    tensors = load_file(tmp_path / "tokens.safetensors")
    assert {name: tensor.dtype for name, tensor in tensors.items()} == {
        "indices.0": dtype, "indices.1": dtype, "structure": dtype, "labels": torch.int64,
    }  # fmt: skip


class LatentTokenizer(nn.Module):
    """The mean colour of an image as its continuous latent."""

    def encode(self, images_B3HW: torch.Tensor) -> torch.Tensor:
        return images_B3HW.mean((2, 3))

    def decode(self, tokens: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


def test_continuous_latents_are_kept_as_they_are(tmp_path: Path) -> None:
    dataset, tokenizer = Numbers(9), LatentTokenizer()
    build(tmp_path / "tokens.safetensors", tokenizer, dataset)
    cache = read_cache(tmp_path / "tokens.safetensors", "f")
    assert cache is not None
    batches = zip(cache.batches(4, seed=1), training_batches(dataset, 4, seed=1), strict=True)
    for one, other in itertools.islice(batches, 4):
        expected = encode(tokenizer, other, CPU)
        assert one.tokens.dtype == torch.float32
        assert torch.equal(one.tokens, expected.tokens)
        assert torch.equal(one.labels_B, expected.labels_B)


def test_a_cache_of_something_else_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "tokens.safetensors"
    assert read_cache(path, "f") is None
    build(path, GreyTokenizer(False), Numbers(5))
    assert read_cache(path, "g") is None
    path.write_bytes(path.read_bytes()[:-7])
    assert read_cache(path, "f") is None
    assert len({cache_fingerprint(a, b) for a in ("1", "2") for b in ("1", "2")}) == 4


def test_interrupted_tokenizing_writes_nothing(tmp_path: Path) -> None:
    stop = StopSignal()
    stop.received = True
    with pytest.raises(Interrupted):
        build(tmp_path / "tokens.safetensors", GreyTokenizer(False), Numbers(20), stop)
    assert list(tmp_path.iterdir()) == []


class Gradients(ImageDataset):
    """Every pixel of an image differs from the others; brightness tells the image."""

    def __init__(self, count: int, **options: Any) -> None:
        labels = np.arange(count) % 3
        super().__init__(
            name="gradients", classes=("a", "b", "c"), labels=labels, image_size=16, fingerprint="gradients", **options
        )

    def read(self, index: int) -> np.ndarray:
        noise = np.random.default_rng(index).integers(0, 100, (20, 17, 3), dtype=np.uint8)
        return noise + np.uint8(index)


@pytest.mark.parametrize(("augment", "views"), [("none", 2), ("ten-crop", 10)])
def test_cached_views_are_those_of_the_loader(tmp_path: Path, augment: Any, views: int) -> None:
    """Mirror images and ten crops are tokenized once each, and drawn as without the cache."""
    dataset, tokenizer = Gradients(7, augment=augment), GreyTokenizer(structure=True)
    dataset.flip = augment == "none"
    build(tmp_path / "tokens.safetensors", tokenizer, dataset)
    cache = read_cache(tmp_path / "tokens.safetensors", "f")
    assert cache is not None
    assert (len(cache), cache.views) == (7, views)
    place = {"seed": 5, "start_step": 3, "rank": 1, "world_size": 2}
    seen = set()
    for one, images in itertools.islice(zip(cache.batches(6, **place), training_batches(dataset, 6, **place), strict=True), 12):
        other = encode(tokenizer, images, CPU)
        assert torch.equal(one.labels_B, other.labels_B)
        for mine, theirs in zip(one.tokens.indices, other.tokens.indices, strict=True):
            assert torch.equal(mine, theirs)
        seen |= set(one.tokens.indices[0].flatten().tolist())
    assert len(seen) > 7, "more tokens than images: several views of them occur"


def test_the_views_enter_the_fingerprint() -> None:
    assert len({cache_fingerprint("t", "d", views) for views in ("none", "flip", "ten-crop")}) == 3
    assert cache_fingerprint("t", "d") == cache_fingerprint("t", "d", "none")
