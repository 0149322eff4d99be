"""Frozen published networks, loaded by the optional package transformers from a folder or from the Hugging Face Hub."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from nvgbench.errors import InputError
from nvgbench.files import StrPath
from nvgbench.weights.hub import hub_file

CONFIG_FILE = "config.json"
WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")
"""Either will do; not every repository has the first."""


@dataclass(frozen=True, kw_only=True)
class HubNetwork:
    """A published network.

    Attributes:
        repository: its weights on the Hub, owner and name.
        model: name of its class in transformers.
        what: what needs it, for messages.
        argument: the setting or argument that names a folder with the weights.
        without: the setting or argument that does without it, if there is one.
    """

    repository: str
    model: str
    what: str
    argument: str
    without: str = ""

    def find(self, folder: StrPath | None) -> Path:
        """The file of weights, with its ``config.json`` in the same folder.

        Args:
            folder: where both are; if not given, the Hub's cache, then the Hub.

        Raises:
            InputError: transformers is not installed, the download failed, or the folder does not hold the weights.
        """
        if importlib.util.find_spec("transformers") is None:
            raise InputError(
                f"{self.what} needs the package transformers; install it: pip install 'nvgbench[vision]'{self._or_without}"
            )
        wanted = f"{CONFIG_FILE} and {' or '.join(WEIGHTS_FILES)} of {self.repository}"
        if folder is not None:
            found = [file for name in WEIGHTS_FILES if (file := Path(folder, name)).is_file()]
            if not found or not Path(folder, CONFIG_FILE).is_file():
                raise InputError(f"`{self.argument}={folder}`: expected a folder with {wanted}{self._or_without}")
            return found[0]
        try:
            file = hub_file(self.repository, *WEIGHTS_FILES)
            hub_file(self.repository, CONFIG_FILE, revision=file.parent.name)  # of the same commit, so in the same folder
        except InputError as error:
            raise InputError(
                f"{self.what} needs {wanted}: the download failed ({error}); put them into a folder and name it by "
                f"`{self.argument}=`{self._or_without}"
            ) from None
        return file

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
        return f", or go without: `{self.without}`" if self.without else ""
