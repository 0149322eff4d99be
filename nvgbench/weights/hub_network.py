"""Frozen networks that other people trained, loaded by the optional package transformers: from a folder, or from the Hub."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from nvgbench.errors import InputError

CONFIG_FILE = "config.json"
WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")
"""Either will do; not every repository has the first."""


@dataclass(frozen=True, kw_only=True)
class HubNetwork:
    """A published network.

    Attributes:
        repository: its weights on the Hugging Face Hub.
        model: name of its class in transformers.
        what: what needs it, for error messages.
        option: the setting that names a folder with the weights.
        way_out: the setting that does without it, where there is one.
    """

    repository: str
    model: str
    what: str
    option: str
    way_out: str = ""

    def find(self, folder: Path | None) -> Path:
        """The file of weights, its ``config.json`` beside it.

        Args:
            folder: where both lie; where not given, the Hub's cache and then the Hub.

        Raises:
            InputError: transformers is missing, no weights to be had, or a folder that does not hold them.
        """
        if importlib.util.find_spec("transformers") is None:
            raise InputError(
                f"{self.what} needs the package transformers; install it: pip install 'nvgbench[vision]'{self._or_without}"
            )
        wanted = f"{CONFIG_FILE} and {' or '.join(WEIGHTS_FILES)} of {self.repository}"
        if folder is not None:
            file = _weights_in(folder)
            if file is None:
                raise InputError(f"{self.option} {folder}: expected a folder with {wanted}{self._or_without}")
            return file
        found = self._download()
        if isinstance(found, Path):
            return found
        raise InputError(
            f"{self.what} needs {wanted}: the download failed ({found}); put them into a folder and name it by "
            f"{self.option}{self._or_without}"
        )

    def load(self, file: Path) -> nn.Module:
        """The network with the weights that `find` found: float32, on the CPU, frozen, in evaluation mode.

        Raises:
            InputError: the file is damaged or holds something else.
        """
        import transformers

        wrong = f"{file.parent}: not the weights of {self.repository}"
        try:
            network, info = getattr(transformers, self.model).from_pretrained(
                str(file.parent),
                local_files_only=True,
                use_safetensors=file.suffix == ".safetensors",
                weights_only=True,
                output_loading_info=True,
            )
        except Exception as error:
            raise InputError(f"{wrong} ({type(error).__name__}){self._or_without}") from None
        missing = info["missing_keys"]
        if missing:
            raise InputError(f"{wrong}: {len(missing)} tensors are missing, the first {min(missing)}{self._or_without}")
        return network.float().eval().requires_grad_(False)

    @property
    def _or_without(self) -> str:
        return f", or go without: --set {self.way_out}" if self.way_out else ""

    def _download(self) -> Path | str:
        """The file of weights in the Hub's cache, fetched where it is not there yet, or why it cannot be had."""
        from huggingface_hub import snapshot_download

        try:
            for candidate in WEIGHTS_FILES:
                file = _weights_in(Path(snapshot_download(self.repository, allow_patterns=[CONFIG_FILE, candidate])))
                if file is not None:
                    return file
        # Offline, its errors come from several libraries and have no common ancestor but this.
        except Exception as error:
            return type(error).__name__
        return "the repository holds neither"


def _weights_in(folder: Path) -> Path | None:
    if not (folder / CONFIG_FILE).is_file():
        return None
    return next((folder / name for name in WEIGHTS_FILES if (folder / name).is_file()), None)
