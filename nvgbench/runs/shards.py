"""Weights of a checkpoint that every process of a sharded training wrote its share of, as safetensors files in one folder.

`torch.distributed.checkpoint` writes and reads them; any number of processes, also a single one, can read what others wrote.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def read_shards(folder: Path, into: dict[str, Tensor]) -> None:
    """Fill tensors, sharded or whole, with those of the same name; each process reads what it holds.

    Raises:
        OSError, ValueError: the files are damaged, or a tensor is missing.
    """
    import torch.distributed.checkpoint as dcp
    from safetensors import SafetensorError
    from torch.distributed.checkpoint.api import CheckpointException

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        try:
            dcp.load(into, storage_reader=dcp.HuggingFaceStorageReader(str(folder)), no_dist=True)
        except (CheckpointException, SafetensorError, RuntimeError) as error:
            raise ValueError(error) from error


def read_whole(folder: Path, device: torch.device | str) -> dict[str, Tensor]:
    """All tensors of a folder, whole.

    Raises:
        OSError, ValueError: the files are damaged.
    """
    import torch
    import torch.distributed.checkpoint as dcp
    from safetensors import SafetensorError

    try:
        entries: dict[str, Any] = dcp.HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    except (SafetensorError, KeyError) as error:
        raise ValueError(error) from error
    found = {name: torch.empty(one.size, dtype=one.properties.dtype, device=device) for name, one in entries.items()}
    read_shards(folder, found)
    return found
