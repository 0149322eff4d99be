"""Weights of networks that other people trained: from torch's cache, else downloaded into it."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from nvgbench.errors import InputError
from nvgbench.files import whole_file

_TIMEOUT_SECONDS = 20


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A published file of weights.

    Attributes:
        url: where it is published.
        what: what needs it, for error messages.
        way_out: the setting that does without it.
    """

    url: str
    what: str
    way_out: str

    def fetch(self) -> Path:
        """The file in torch's cache (``torch.hub.get_dir()/checkpoints``), downloaded only if it is not there yet.

        Raises:
            InputError: not in the cache and not to be had.
        """
        file = Path(torch.hub.get_dir()) / "checkpoints" / self.url.rsplit("/", 1)[-1]
        if not file.exists():
            try:
                _download(self.url, file)
            except OSError as error:
                raise InputError(
                    f"{self.what} needs {file.name} in {file.parent}: it is not there and the download failed ({error}); "
                    f"put the file from {self.url} there, or go without: --set {self.way_out}"
                ) from None
        return file

    def load(self, network: nn.Module, file: Path, rename: Callable[[str], str] = str) -> str:
        """Fill ``network`` from a fetched file, and return the first 16 digits of the file's SHA-256.

        Args:
            network: what is filled, on the CPU.
            file: as `fetch` gave it.
            rename: from the network's keys to the file's.

        Raises:
            InputError: the file is damaged or holds something else.
        """
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
            network.load_state_dict({key: state[rename(key)] for key in network.state_dict()})
        except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
            raise InputError(
                f"{file} does not hold the weights that {self.what} needs ({type(error).__name__}); "
                f"delete it to download it anew, or go without: --set {self.way_out}"
            ) from None
        with file.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()[:16]


def _download(url: str, file: Path) -> None:
    with (
        urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response,
        whole_file(file) as temporary,
        temporary.open("wb") as target,
    ):
        shutil.copyfileobj(response, target)
