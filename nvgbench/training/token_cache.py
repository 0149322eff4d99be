"""Tokens for the generator's training: made batch by batch, or once for the whole data set and kept in the run folder.

Shape letters: B batch, N images of the data set, L positions, n tokens of a stage.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nvgbench.data.dataset import ImageDataset
from nvgbench.data.loader import sequential_batches, step_indices
from nvgbench.files import whole_file
from nvgbench.interfaces import Progress, Tokenizer
from nvgbench.training.interrupt import Interrupted, StopSignal
from nvgbench.types import ImageBatch, TokenBatch, TokenSequence

_VERSION = 1


class TokenCache:
    """All training images as tokens, in the narrowest integers that hold them."""

    def __init__(self, indices: tuple[Tensor, ...], structure_NL: Tensor | None, labels_N: Tensor) -> None:
        self.indices = indices
        self.structure_NL = structure_NL
        self.labels_N = labels_N

    def __len__(self) -> int:
        return len(self.labels_N)

    def batch(self, rows_B: Tensor) -> TokenBatch:
        """The images ``rows_B``, as int64."""
        structure = None if self.structure_NL is None else self.structure_NL[rows_B].long()
        tokens = TokenSequence(tuple(index[rows_B].long() for index in self.indices), structure)
        return TokenBatch(tokens, self.labels_N[rows_B])

    def batches(
        self, batch_size: int, *, seed: int, start_step: int = 0, rank: int = 0, world_size: int = 1
    ) -> Iterator[TokenBatch]:
        """The batches that `nvgbench.data.loader.training_batches` would give, tokenized."""
        share = batch_size // world_size
        for step in itertools.count(start_step):
            rows = step_indices(len(self), batch_size, seed=seed, step=step)[rank * share : (rank + 1) * share]
            yield self.batch(torch.from_numpy(rows))


def cache_fingerprint(tokenizer_hash: str, dataset_fingerprint: str) -> str:
    """Changes with the tokenizer's weights, the images, or the file's layout."""
    return hashlib.sha256(json.dumps([_VERSION, tokenizer_hash, dataset_fingerprint]).encode()).hexdigest()


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
    """Tokenize the whole data set and write it to ``path``, whole or not at all.

    Raises:
        Interrupted: told to stop; nothing was written.
        OSError: the file cannot be written.
    """
    names = cast(Tokenizer, tokenizer)
    dtype = torch.int16 if max(names.codebook_size, names.grid[0] * names.grid[1]) <= 2**15 else torch.int32
    sequences: list[TokenSequence] = []
    labels = []
    done = 0
    for batch in sequential_batches(dataset, batch_size):
        sequences.append(_narrow(encode(tokenizer, batch, device).tokens, dtype).to("cpu"))
        labels.append(batch.labels_B)
        done += len(batch.labels_B)
        progress({"phase": "tokens", "done": done, "total": len(dataset)})
        if stop.received:
            raise Interrupted
    stages = range(sequences[0].stages)
    tensors = {f"indices.{stage}": torch.cat([tokens.indices[stage] for tokens in sequences]) for stage in stages}
    if sequences[0].structure_BL is not None:
        tensors["structure"] = torch.cat([cast(Tensor, tokens.structure_BL) for tokens in sequences])
    tensors["labels"] = torch.cat(labels)
    with whole_file(path) as temporary:
        save_file(tensors, temporary, metadata={"fingerprint": fingerprint})


def read_cache(path: Path, fingerprint: str) -> TokenCache | None:
    """The cache at ``path`` if it is whole and was made from these images with this tokenizer."""
    try:
        with safe_open(path, "pt") as handle:
            if (handle.metadata() or {}).get("fingerprint") != fingerprint:
                return None
        tensors = load_file(path)
    except (FileNotFoundError, SafetensorError):
        return None
    stages = sum(name.startswith("indices.") for name in tensors)
    return TokenCache(
        tuple(tensors[f"indices.{stage}"] for stage in range(stages)), tensors.get("structure"), tensors["labels"]
    )


@torch.no_grad()
def encode(tokenizer: nn.Module, batch: ImageBatch, device: torch.device, keep_images: bool = False) -> TokenBatch:
    """Tokenize a batch on ``device``; the images go along where they are to be kept."""
    images = batch.images_B3HW.to(device, non_blocking=True)
    tokens = cast(Tokenizer, tokenizer).encode(images)
    return TokenBatch(tokens, batch.labels_B.to(device, non_blocking=True), images if keep_images else None)


def _narrow(tokens: TokenSequence, dtype: torch.dtype) -> TokenSequence:
    structure = None if tokens.structure_BL is None else tokens.structure_BL.to(dtype)
    return TokenSequence(tuple(index.to(dtype) for index in tokens.indices), structure)
