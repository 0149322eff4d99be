"""A run on disk: its configuration, data set, checkpoints, log and records, and what can be loaded from them.

``runs/<name>/`` holds ``config.toml``, ``dataset.json``, ``checkpoints/<phase>/step-…/``, ``train.jsonl``, ``samples/`` and
``records.jsonl``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import TypeAdapter, ValidationError

from nvgbench.config.load import config_hash, load_file, replicate_hash, to_dict, to_toml
from nvgbench.config.schema import RunConfig
from nvgbench.errors import InputError, did_you_mean
from nvgbench.files import write_text
from nvgbench.interfaces import ImageGenerator
from nvgbench.registry import get_family
from nvgbench.runs import checkpoint as ckpt
from nvgbench.runs.seeding import mix_seed
from nvgbench.types import ModelSpec

if TYPE_CHECKING:
    from torch import nn

CONFIG = "config.toml"
_DATASET = "dataset.json"
_GROUP = "group.json"
Phase = Literal["tokenizer", "generator"]
PHASES: tuple[Phase, ...] = ("tokenizer", "generator")


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """The data set that a run was trained on.

    Attributes:
        name: the source, for people.
        classes: their names; a label is an index into them.
        images: number of training images.
        fingerprint: SHA-256 of what determines the images.
    """

    name: str
    classes: tuple[str, ...]
    images: int
    fingerprint: str


class RunFolder:
    """A folder that holds one run; opening it reads nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, config: RunConfig, group: str = "") -> RunFolder:
        """Make the folder, or open it again for the same configuration.

        Args:
            group: common name of the trainings of several seeds, if this is one of them.

        Raises:
            InputError: the folder holds a run with another configuration, or files that are no run.
            OSError: the folder cannot be written to.
        """
        run = cls(path)
        if (path / CONFIG).exists():
            run.check_same(config)
        elif path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise InputError(f"{path} exists and is no run; choose another --name or --runs, or remove it")
        else:
            write_text(path / CONFIG, to_toml(config))
        if group and not (path / _GROUP).exists():
            write_text(path / _GROUP, json.dumps({"name": group}) + "\n")
        return run

    def check_same(self, config: RunConfig) -> None:
        """Refuse a configuration other than the stored one.

        Raises:
            InputError: names the keys that differ and the ways out.
        """
        if config == self.config:
            return
        there, here = _flat(to_dict(self.config)), _flat(to_dict(config))
        keys = [key for key in sorted(there | here) if there.get(key) != here.get(key)]
        shown = "; ".join(f"{key}: {there.get(key, 'not set')!r} there, {here.get(key, 'not set')!r} now" for key in keys[:5])
        more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
        raise InputError(
            f"{self.path} holds a run with another configuration ({shown}{more}); "
            "use another --name, remove that folder, or drop the settings that differ"
        )

    @property
    def name(self) -> str:
        """The folder's name, which names the model in tables."""
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
        except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
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
        """Folder of a phase's checkpoints."""
        return self.path / "checkpoints" / phase

    def state(self, phase: str) -> ckpt.CheckpointState | None:
        """State of a phase's last checkpoint; None where there is none.

        Raises:
            InputError: it is damaged.
        """
        found = ckpt.latest_checkpoint(self.checkpoints(phase))
        return None if found is None else ckpt.read_state(found)

    def is_finished(self, phase: str = "generator") -> bool:
        """Whether a phase was trained to its end."""
        state = self.state(phase)
        return state is not None and state.final

    @property
    def dataset(self) -> DatasetInfo:
        """What the run was trained on.

        Raises:
            InputError: the training never got as far as opening it.
        """
        path = self.path / _DATASET
        try:
            return TypeAdapter(DatasetInfo).validate_python(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise InputError(f"{path} is missing; the run has not begun, start it with 'nvgbench train'") from None
        except (UnicodeDecodeError, json.JSONDecodeError, ValidationError) as error:
            raise InputError(f"{path} is damaged ({' '.join(str(error).split())}); remove it and train again") from None

    def note_dataset(self, info: DatasetInfo) -> None:
        """Store what the run is trained on, or check that it is still the same.

        Raises:
            InputError: the run was begun with other images.
        """
        if not (self.path / _DATASET).exists():
            write_text(self.path / _DATASET, json.dumps(asdict(info), indent=1))
        elif self.dataset.fingerprint != info.fingerprint:
            raise InputError(
                f"{self.path} was begun with other images ({self.dataset.images} of {self.dataset.name}; now {info.images} of "
                f"{info.name}, or their content changed); restore them or use another --name"
            )

    def load_tokenizer(self, device: torch.device | str = "cpu", ema: bool = True) -> nn.Module:
        """The trained tokenizer, frozen and in evaluation mode; the averaged weights where there are any.

        Raises:
            InputError: not trained yet, or damaged.
        """
        config = self.config
        tokenizer = get_family(config.family).build_tokenizer(config)
        return self._load(tokenizer, "tokenizer", device, ema)

    def load_generator(self, device: torch.device | str = "cpu", ema: bool = True) -> ImageGenerator:
        """The trained model, ready to make images; the averaged weights where there are any.

        A generator that is still being trained is loaded as of its last checkpoint; ``spec.provenance["step"]`` says which.

        Raises:
            InputError: not trained yet, or damaged.
        """
        config = self.config
        family = get_family(config.family)
        classes = len(self.dataset.classes)
        tokenizer = self.load_tokenizer(device)
        generator = self._load(family.build_generator(config, tokenizer, classes), "generator", device, ema)
        state = self.state("generator")
        assert state is not None
        provenance = {
            "run": self.name,
            "step": state.step,
            "finished": state.final,
            "config_hash": self.hash,
            "seed": config.train.seed,
            "weights": self._weights_hash("generator", ema),
            "tokenizer_weights": self._weights_hash("tokenizer"),
            "dataset": self.dataset.name,
            **self._origins(),
        }
        spec = _spec(config, self.name, classes, provenance)
        return family.image_generator(config, tokenizer, generator, spec)

    def tokenizer_fingerprint(self) -> str:
        """SHA-256 of the trained tokenizer's weights."""
        return self._weights_hash("tokenizer")

    def _origins(self) -> dict[str, Any]:
        """The published file (name, SHA-256) behind each phase that was not trained but imported."""
        found = {}
        for phase in PHASES:
            state = self.state(phase)
            if state is not None and "sha256" in state.source:
                found[phase] = {key: state.source[key] for key in ("file", "sha256")}
        return {"published": found} if found else {}

    def _load(self, module: nn.Module, phase: str, device: torch.device | str, ema: bool) -> nn.Module:
        found = self._checkpoint(phase)
        tensors = ckpt.load_tensors(found, ckpt.model_file(found, ema))
        try:
            module.load_state_dict(tensors)
        except RuntimeError as error:
            raise InputError(
                f"{found}: the weights do not fit {self.path / CONFIG} ({' '.join(str(error).split())[:200]}); "
                "were they written by another version? Train again under another --name"
            ) from None
        return module.to(device).eval().requires_grad_(False)

    def _checkpoint(self, phase: str) -> Path:
        found = ckpt.latest_checkpoint(self.checkpoints(phase))
        if found is None:
            preset = self.config.name
            raise InputError(f"{self.path} has no trained {phase} yet; run 'nvgbench train {preset} --name {self.name}' first")
        return found

    def _weights_hash(self, phase: str, ema: bool = True) -> str:
        found = self._checkpoint(phase)
        return ckpt.read_state(found).files[ckpt.model_file(found, ema)]


def untrained_generator(config: RunConfig, num_classes: int, seed: int, device: torch.device | str = "cpu") -> ImageGenerator:
    """A model with freshly drawn weights, for profiling and tests.

    Args:
        seed: of the weights; the global random state is left as it was.
    """
    family = get_family(config.family)
    with torch.random.fork_rng(devices=[]):
        tokenizer = seeded_tokenizer(config, seed)
        generator = seeded_generator(config, tokenizer, num_classes, seed)
    tokenizer, generator = (module.to(device).eval().requires_grad_(False) for module in (tokenizer, generator))
    provenance = {"weights": "untrained", "seed": seed, "config_hash": config_hash(config)}
    return family.image_generator(config, tokenizer, generator, _spec(config, config.name, num_classes, provenance))


def seeded_tokenizer(config: RunConfig, seed: int) -> nn.Module:
    """A tokenizer with weights drawn from ``seed``; reseeds torch's global generator."""
    torch.manual_seed(mix_seed(seed, "weights", "tokenizer"))
    return get_family(config.family).build_tokenizer(config)


def seeded_generator(config: RunConfig, tokenizer: nn.Module, num_classes: int, seed: int) -> nn.Module:
    """A generator with weights drawn from ``seed``; reseeds torch's global generator."""
    torch.manual_seed(mix_seed(seed, "weights", "generator"))
    return get_family(config.family).build_generator(config, tokenizer, num_classes)


def find_runs(root: Path) -> list[RunFolder]:
    """All runs in and below ``root`` (itself included), sorted by path; hidden folders are what killed processes leave."""
    found = [path.parent for path in sorted(root.rglob(CONFIG))]
    return [RunFolder(path) for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts)]


def is_run(run: str | os.PathLike[str], root: str | os.PathLike[str]) -> bool:
    """Whether there is a run of this path, or of this name below ``root``."""
    return any((path / CONFIG).exists() for path in (Path(root, run), Path(run)))


def find_run(run: str, root: Path) -> RunFolder:
    """A run by the path of its folder or by its name below ``root``.

    Raises:
        InputError: no such run; the message names those that there are.
    """
    for path in (root / run, Path(run)):
        if (path / CONFIG).exists():
            return RunFolder(path)
    names = [str(found.path.relative_to(root)) for found in find_runs(root)] if root.is_dir() else []
    known = f"known: {', '.join(names)}" if names else "there are none yet; 'nvgbench train PRESET' makes one"
    raise InputError(f"no run {run!r} in {root}{did_you_mean(run, names)}; {known}")


def _spec(config: RunConfig, name: str, num_classes: int, provenance: Mapping[str, Any]) -> ModelSpec:
    return ModelSpec(
        name=name,
        family=config.family,
        image_size=config.data.image_size,
        num_classes=num_classes,
        parameters=dict(get_family(config.family).cost(config, num_classes).parameters),
        provenance=dict(provenance),
    )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
