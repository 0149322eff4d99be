"""Reading published files of weights without executing code in them."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.files import StrPath, file_sha256

# Lightning stores the tensors under this key, beside the state of the training.
LIGHTNING = "state_dict"


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """A file of weights.

    Attributes:
        name: the file's name, without its folder.
        sha256: of the whole file, hexadecimal.
        tensors: its state dict, on the CPU, memory-mapped if the format allows it.
    """

    name: str
    sha256: str
    tensors: Mapping[str, Tensor]

    @property
    def mark(self) -> dict[str, str]:
        """What a run records of it."""
        return {"file": self.name, "sha256": self.sha256}


def read_published(path: StrPath) -> PublishedFile:
    """The tensors of a ``.pth`` (a state dict) or a Lightning ``.ckpt`` (a state dict under the key ``state_dict``).

    Raises:
        InputError: no such file, a truncated or damaged one, one with objects other than tensors, or without a state dict.
    """
    path = Path(path)
    content = _load(path)
    tree = content.get(LIGHTNING, content) if isinstance(content, Mapping) else content
    if not isinstance(tree, Mapping) or not tree or not all(isinstance(key, str) for key in tree):
        raise InputError(f"{path} holds {_kind(tree)} instead of a state dict; give the original, unmodified file")
    others = [key for key, value in tree.items() if not isinstance(value, Tensor)]
    if others:
        raise InputError(
            f"{path} is no state dict: {others[0]!r} is {_kind(tree[others[0]])}; give the original, unmodified file"
        )
    return PublishedFile(name=path.name, sha256=file_sha256(path), tensors=dict(tree))


def _load(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"no file {path}; expected a file of weights")
    with path.open("rb") as handle:
        is_archive = handle.read(2) == b"PK"
    if is_archive and not _is_whole_zip(path):
        raise InputError(f"{path} is truncated at {path.stat().st_size:,} bytes; download or copy it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that torch did not write; they are refused below
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found is None:
            raise InputError(f"{path} is no file of weights, or is damaged; give the original, unmodified file") from None
        raise InputError(
            f"{path} contains Python objects ({found[1]}), and loading them could execute code; if you "
            "trust the file, save only its state dict: torch.save(torch.load(FILE, weights_only=False)['state_dict'], NEW)"
        ) from None
    except Exception as error:  # damaged bytes raise anything, also in torch's own unpickler
        reason = str(error).strip().splitlines()[:1]
        raise InputError(f"{path} cannot be read as weights ({''.join(reason)[:200]}); download or copy it again") from None


def _is_whole_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # raised for some damages of the end
        return False


def _kind(value: object) -> str:
    return "nothing" if value is None or value == {} else f"a {type(value).__name__}"
