"""Published weights of other networks: taken from torch hub's folder, or downloaded into it."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from nvgbench.errors import InputError
from nvgbench.files import file_sha256

_TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A published file of weights.

    Attributes:
        url: where it is published; its last part is the file's name.
        what: what needs it, for messages.
        without: the setting or argument that does without it, for messages.
        sha256: the first digits of its SHA-256, if they are published.
        argument: the argument that names a copy of it elsewhere, if there is one, for messages.
    """

    url: str
    what: str
    without: str
    sha256: str = ""
    argument: str = ""

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def path(self) -> Path:
        """Where the file is, or would be: in torch hub's folder (``torch.hub.get_dir()/checkpoints``)."""
        return Path(torch.hub.get_dir()) / "checkpoints" / self.name

    def fetch(self) -> Path:
        """The file at `path`, downloaded if it is not there yet.

        Raises:
            InputError: the file is not there and cannot be downloaded, or the download has another SHA-256.
        """
        file = self.path
        if file.exists():
            return file
        timeout = socket.getdefaulttimeout()
        socket.setdefaulttimeout(_TIMEOUT_SECONDS)  # torch hub sets none, and would wait for ever for a silent server
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(self.url, str(file), hash_prefix=self.sha256 or None, progress=False)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            elsewhere = f" or name it by `{self.argument}=`" if self.argument else ""
            raise InputError(
                f"{self.what} needs {self.name} in {file.parent}: it is not there and the download failed ({reason}); "
                f"put the file from {self.url} there{elsewhere}, or go without: `{self.without}`"
            ) from None
        finally:
            socket.setdefaulttimeout(timeout)
        return file

    def load(self, network: nn.Module, file: Path, rename: Callable[[str], str] = str) -> str:
        """Load a fetched file into ``network``.

        Args:
            network: on the CPU.
            file: what `fetch` returned.
            rename: maps the network's keys to the file's.

        Returns:
            The first 16 digits of the file's SHA-256.

        Raises:
            InputError: the file is damaged or holds something else.
        """
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
            network.load_state_dict({key: state[rename(key)] for key in network.state_dict()})
        except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
            raise InputError(
                f"{file} does not hold the weights that {self.what} needs ({type(error).__name__}); "
                f"delete it to download it again, or go without: `{self.without}`"
            ) from None
        return file_sha256(file)[:16]
