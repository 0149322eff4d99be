"""A run on disk: its configuration, data set, checkpoints, log and records.

``runs/<name>/`` holds ``config.toml``, ``dataset.json``, ``checkpoints/<phase>/step-…/``, ``train.jsonl``, ``samples/`` and
``records.jsonl``. Importing this file does not import torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter

from nvgbench.config.load import config_hash, load_file, replicate_hash, to_dict, to_toml
from nvgbench.config.schema import RunConfig
from nvgbench.errors import InputError
from nvgbench.files import StrPath, remove_leftovers, write_text
from nvgbench.runs import checkpoint as ckpt

if TYPE_CHECKING:
    import torch
    from torch import nn

    from nvgbench.interfaces import ImageGenerator

CONFIG = "config.toml"
_DATASET = "dataset.json"
_GROUP = "group.json"
Phase = Literal["tokenizer", "generator"]
PHASES: tuple[Phase, ...] = ("tokenizer", "generator")


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """The data set that a run was trained on.

    Attributes:
        name: of the source, for display.
        classes: names of the classes; a label is an index into them.
        images: number of training images.
        fingerprint: SHA-256 of what determines the images.
    """

    name: str
    classes: tuple[str, ...]
    images: int
    fingerprint: str


class RunFolder:
    """The folder of one run; making the object reads nothing."""

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, path: StrPath, config: RunConfig, group: str = "") -> RunFolder:
        """Create the folder, or open it again with the same configuration; remove what killed processes left in it.

        Args:
            path: of the folder.
            config: of the run.
            group: common name of the trainings of several seeds, if this is one of them.

        Raises:
            InputError: the folder holds a run with another configuration, or other files.
            OSError: the folder cannot be written.
        """
        run, path = cls(path), Path(path)
        for file in (path / CONFIG, path / _DATASET, path / _GROUP, run.log_path, run.token_cache_path):
            remove_leftovers(file)
        if (path / CONFIG).exists():
            run.check_same(config)
        elif path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise InputError(f"{path} exists and is no run; use another `name=` or `runs=`, or remove it")
        else:
            write_text(path / CONFIG, to_toml(config))
        if group and not (path / _GROUP).exists():
            write_text(path / _GROUP, json.dumps({"name": group}) + "\n")
        return run

    def check_same(self, config: RunConfig) -> None:
        """Refuse a configuration other than the stored one.

        Raises:
            InputError: names the keys that differ.
        """
        if config == self.config:
            return
        there, here = _flat(to_dict(self.config)), _flat(to_dict(config))
        keys = [key for key in sorted(there | here) if there.get(key) != here.get(key)]
        shown = "; ".join(f"{key}: {there.get(key, 'not set')!r} there, {here.get(key, 'not set')!r} now" for key in keys[:5])
        more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
        raise InputError(
            f"{self.path} holds a run with another configuration ({shown}{more}); "
            "use another `name=`, remove that folder, or leave out the settings that differ"
        )

    @property
    def name(self) -> str:
        """The folder's name, which is the model's name in tables."""
        return self.path.resolve().name

    @property
    def config(self) -> RunConfig:
        """The resolved configuration.

        Raises:
            InputError: this is no run folder, or its configuration is broken.
        """
        return load_file(self.path / CONFIG)

    @property
    def hash(self) -> str:
        """Hash of the configuration."""
        return config_hash(self.config)

    @property
    def replicate(self) -> dict[str, Any]:
        """What tells this training from others of the same configuration, for records.

        ``of`` (hash of the configuration without its seed), ``seed`` and, if the run was trained together with others, their
        common ``name``.

        Raises:
            InputError: this is no run folder, or a file of it is damaged.
        """
        config, path = self.config, self.path / _GROUP
        found: dict[str, Any] = {"of": replicate_hash(config), "seed": config.train.seed}
        try:
            return found | {"name": json.loads(path.read_text(encoding="utf-8"))["name"]}
        except FileNotFoundError:
            return found
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            raise InputError(f"{path} is damaged ({' '.join(str(error).split())}); remove it") from None

    @property
    def records_path(self) -> Path:
        return self.path / "records.jsonl"

    @property
    def log_path(self) -> Path:
        return self.path / "train.jsonl"

    @property
    def samples_path(self) -> Path:
        return self.path / "samples"

    @property
    def token_cache_path(self) -> Path:
        return self.path / "tokens.safetensors"

    def checkpoints(self, phase: str) -> Path:
        """The folder of a phase's checkpoints."""
        return self.path / "checkpoints" / phase

    def state(self, phase: str) -> ckpt.CheckpointState | None:
        """The state of a phase's last checkpoint; None if there is no checkpoint.

        Raises:
            InputError: the checkpoint is damaged.
        """
        found = ckpt.latest_checkpoint(self.checkpoints(phase))
        return None if found is None else ckpt.read_state(found)

    def is_finished(self, phase: str = "generator") -> bool:
        """Whether a phase is completely trained."""
        state = self.state(phase)
        return state is not None and state.final

    @property
    def dataset(self) -> DatasetInfo:
        """The data set that the run was trained on.

        Raises:
            InputError: the training has not opened it yet, or the file is damaged.
        """
        path = self.path / _DATASET
        try:
            return TypeAdapter(DatasetInfo).validate_python(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise InputError(f"{path} is missing: the training of this run has not started") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is damaged ({' '.join(str(error).split())}); remove it and train again") from None

    def note_dataset(self, info: DatasetInfo) -> None:
        """Store the data set of the run, or check that it is still the same.

        Raises:
            InputError: the run was started with other images.
        """
        if not (self.path / _DATASET).exists():
            write_text(self.path / _DATASET, json.dumps(asdict(info), indent=1))
        elif self.dataset.fingerprint != info.fingerprint:
            raise InputError(
                f"{self.path} was started with other images ({self.dataset.images} of {self.dataset.name}; now {info.images} "
                f"of {info.name}, or their content changed); restore them or use another `name=`"
            )

    def load_tokenizer(self, device: torch.device | str = "cpu", ema: bool = True) -> nn.Module:
        """The trained tokenizer, frozen and in evaluation mode.

        Args:
            device: where it is used.
            ema: use the moving average of the weights, if there is one.

        Raises:
            InputError: not trained yet, or damaged.
        """
        from nvgbench.runs.models import load_tokenizer

        return load_tokenizer(self, device, ema)

    def load_generator(self, device: torch.device | str = "cpu", ema: bool = True) -> ImageGenerator:
        """The trained model, ready to make images.

        A generator that is still being trained is loaded from its last checkpoint; ``spec.provenance["step"]`` is its step.

        Args:
            device: where it is used.
            ema: use the moving average of the generator's weights, if there is one.

        Raises:
            InputError: not trained yet, or damaged.
        """
        from nvgbench.runs.models import load_generator

        return load_generator(self, device, ema)

    def checkpoint(self, phase: str) -> Path:
        """A phase's last checkpoint.

        Raises:
            InputError: there is none.
        """
        found = ckpt.latest_checkpoint(self.checkpoints(phase))
        if found is None:
            raise InputError(f"{self.path} has no trained {phase} yet; train {self.config.name} as `name={self.name}` first")
        return found

    def tokenizer_fingerprint(self) -> str:
        """SHA-256 of the trained tokenizer's weights."""
        return self._weights_hash("tokenizer")

    def provenance(self, ema: bool = True) -> dict[str, Any]:
        """Where the trained model comes from: run, step, configuration, weights, data set, published files.

        Raises:
            InputError: not trained yet, or damaged.
        """
        state = ckpt.read_state(self.checkpoint("generator"))
        return {
            "run": self.name,
            "step": state.step,
            "finished": state.final,
            "config_hash": self.hash,
            "seed": self.config.train.seed,
            "weights": self._weights_hash("generator", ema),
            "tokenizer_weights": self._weights_hash("tokenizer"),
            "dataset": self.dataset.name,
            **self._published(),
        }

    def _published(self) -> dict[str, Any]:
        """The published file (name, SHA-256) of each phase that was imported."""
        found = {}
        for phase in PHASES:
            state = self.state(phase)
            if state is not None and "sha256" in state.source:
                found[phase] = {key: state.source[key] for key in ("file", "sha256")}
        return {"published": found} if found else {}

    def _weights_hash(self, phase: str, ema: bool = True) -> str:
        found = self.checkpoint(phase)
        return ckpt.read_state(found).files[ckpt.model_file(found, ema)]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
