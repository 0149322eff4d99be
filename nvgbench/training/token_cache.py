"""Tokens for the generator's training: made batch by batch, or once for the whole data set and stored in the run's folder.

Shape letters: B batch, N images of the data set, V views of each (augmented versions), L positions, n tokens of a stage.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nvgbench.data.dataset import ImageDataset
from nvgbench.data.loader import all_views, step_indices, step_rngs
from nvgbench.files import whole_file
from nvgbench.interfaces import CodebookTokenizer, Progress, Tokenizer
from nvgbench.training.interrupt import Interrupted, StopSignal
from nvgbench.types import ImageBatch, TokenBatch, Tokens, TokenSequence

_VERSION = 1


class TokenCache:
    """All training images as tokens; in the smallest integer type that holds them.

    Args:
        tensors: of the tokens, by name, see `_named`; N·V rows, the views of an image one after the other.
        labels_N: classes.
    """

    def __init__(self, tensors: Mapping[str, Tensor], labels_N: Tensor) -> None:
        self.tensors = tensors
        self.labels_N = labels_N

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def views(self) -> int:
        """V."""
        return len(next(iter(self.tensors.values()))) // len(self)

    def batch(self, images_B: Tensor, views_B: Tensor | int = 0) -> TokenBatch:
        """The tokens of the images ``images_B``, indices as int64."""
        rows_B = images_B * self.views + views_B
        rows = {name: tensor[rows_B] for name, tensor in self.tensors.items()}
        return TokenBatch(_unnamed({name: _as(tensor, torch.int64) for name, tensor in rows.items()}), self.labels_N[images_B])

    def batches(
        self, batch_size: int, *, seed: int, start_step: int = 0, rank: int = 0, world_size: int = 1
    ) -> Iterator[TokenBatch]:
        """The batches of `nvgbench.data.loader.training_batches`, tokenized."""
        share = batch_size // world_size
        positions = range(rank * share, (rank + 1) * share)
        for step in itertools.count(start_step):
            images = step_indices(len(self), batch_size, seed=seed, step=step)[positions.start : positions.stop]
            views: Tensor | int = 0
            if self.views > 1:
                views = torch.tensor([int(rng.integers(self.views)) for rng in step_rngs(seed, step, positions)])
            yield self.batch(torch.from_numpy(images), views)


def cache_fingerprint(tokenizer_hash: str, dataset_fingerprint: str, views: str = "none") -> str:
    """SHA-256 that changes with the tokenizer's weights, the images, their views (``flip``, ``ten-crop``), or the layout."""
    parts = [_VERSION, tokenizer_hash, dataset_fingerprint, *([] if views == "none" else [views])]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@torch.no_grad()
def build_cache(
    path: Path,
    fingerprint: str,
    tokenizer: nn.Module,
    dataset: ImageDataset,
    device: torch.device,
    *,
    batch_size: int,
    progress: Progress,
    stop: StopSignal,
) -> None:
    """Tokenize all views of the whole data set and write them to ``path``, completely or not at all.

    Raises:
        Interrupted: told to stop; nothing was written.
        OSError: the file cannot be written.
    """
    dtype = _index_type(tokenizer)
    parts: list[dict[str, Tensor]] = []
    labels = []
    done = 0
    for batch in all_views(dataset, batch_size):
        tokens = encode(tokenizer, batch, device).tokens
        parts.append({name: _as(tensor, dtype).cpu() for name, tensor in _named(tokens).items()})
        labels.append(batch.labels_B[:: dataset.views])
        done += len(labels[-1])
        progress({"phase": "tokens", "done": done, "total": len(dataset)})
        if stop.received:
            raise Interrupted
    tensors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    tensors["labels"] = torch.cat(labels)
    with whole_file(path) as temporary:
        save_file(tensors, temporary, metadata={"fingerprint": fingerprint})


def read_cache(path: Path, fingerprint: str) -> TokenCache | None:
    """The cache at ``path`` if it is complete and was made from these images with this tokenizer."""
    try:
        with safe_open(path, "pt") as handle:
            if (handle.metadata() or {}).get("fingerprint") != fingerprint:
                return None
        tensors = load_file(path)
    except (FileNotFoundError, SafetensorError):
        return None
    labels_N = tensors.pop("labels")
    return TokenCache(tensors, labels_N)


@torch.no_grad()
def encode(tokenizer: nn.Module, batch: ImageBatch, device: torch.device, keep_images: bool = False) -> TokenBatch:
    """Tokenize a batch on ``device``; with ``keep_images``, the batch includes the images."""
    images = batch.images_B3HW.to(device, non_blocking=True)
    tokens = cast(Tokenizer, tokenizer).encode(images)
    return TokenBatch(tokens, batch.labels_B.to(device, non_blocking=True), images if keep_images else None)


def _named(tokens: Tokens) -> dict[str, Tensor]:
    """The tensors of tokens by their names in the file."""
    if isinstance(tokens, Tensor):
        return {"latents": tokens.contiguous()}
    named = {f"indices.{stage}": index for stage, index in enumerate(tokens.indices)}
    return named if tokens.structure_BL is None else {**named, "structure": tokens.structure_BL}


def _unnamed(tensors: Mapping[str, Tensor]) -> Tokens:
    """The inverse of `_named`."""
    if "latents" in tensors:
        return tensors["latents"]
    stages = sum(name.startswith("indices.") for name in tensors)
    return TokenSequence(tuple(tensors[f"indices.{stage}"] for stage in range(stages)), tensors.get("structure"))


def _index_type(tokenizer: nn.Module) -> torch.dtype:
    """The narrowest integers that hold the codes and structure maps of a tokenizer."""
    if not isinstance(tokenizer, CodebookTokenizer):
        return torch.int64
    largest = max(tokenizer.codebook_size, tokenizer.grid[0] * tokenizer.grid[1])
    return torch.int16 if largest <= 2**15 else torch.int32


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Integers in another type; continuous latents as they are."""
    return tensor if tensor.is_floating_point() else tensor.to(dtype)
