"""A run on disk: its configuration, data set, checkpoints, log and records.

``runs/<name>/`` holds ``config.toml``, ``dataset.json``, ``checkpoints/<phase>/step-…/``, ``train.jsonl``, ``samples/``,
``records.jsonl``, ``origins.json`` of a fine-tuning, and ``segments.json`` once its settings have changed. Importing this file
does not import torch.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nvgbench.config.identity import CONTINUABLE, FREE, differing
from nvgbench.config.load import load_file, override_config, to_dict, to_toml
from nvgbench.config.schema import RunConfig
from nvgbench.errors import InputError
from nvgbench.files import StrPath, remove_leftovers, write_text
from nvgbench.runs import checkpoint as ckpt
from nvgbench.runs.dataset_info import DatasetInfo, check_images, moved_source, read_dataset_info
from nvgbench.runs.lock import LOCK
from nvgbench.runs.origins import Origins, note_origin, read_origins
from nvgbench.runs.segments import History, Segment, read_history, write_history

if TYPE_CHECKING:
    import torch
    from torch import nn

    from nvgbench.interfaces import ImageGenerator

CONFIG = "config.toml"
_DATASET = "dataset.json"
_GROUP = "group.json"
_SEGMENTS = "segments.json"
_ORIGINS = "origins.json"
Phase = Literal["tokenizer", "generator"]
Weights = Literal["averaged", "plain"]
"""The moving average of the weights (if there is one), or the weights themselves."""
PHASES: tuple[Phase, ...] = ("tokenizer", "generator")


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
        for file in (
            path / CONFIG,
            path / _DATASET,
            path / _GROUP,
            path / _SEGMENTS,
            path / _ORIGINS,
            run.log_path,
            run.token_cache_path,
        ):
            remove_leftovers(file)
        if run.exists:
            run.reconciled(config)
        else:
            run.check_free()
            write_text(path / CONFIG, to_toml(config))
        if group and not (path / _GROUP).exists():
            write_text(path / _GROUP, json.dumps({"name": group}) + "\n")
        return run

    @property
    def exists(self) -> bool:
        """Whether the run has been started."""
        return (self.path / CONFIG).exists()

    def check_free(self) -> None:
        """Refuse a folder with other things in it.

        Raises:
            InputError: it is a file, or a folder that is no run and not empty.
        """
        path = self.path
        # A process that was killed while it created the run leaves no more than these.
        known = (LOCK, f".{CONFIG}.")
        if path.is_file() or (path.is_dir() and not all(entry.name.startswith(known) for entry in path.iterdir())):
            raise InputError(f"{path} exists and is no run; use another `name=` or `runs=`, or remove it")

    def reconciled(self, config: RunConfig) -> RunConfig:
        """The run's configuration with the settings of ``config`` that do not determine the weights.

        Args:
            config: what is asked for; the rest of it must be that of the run, now or when it was started.

        Raises:
            InputError: other settings differ; the message names them.
        """
        current = self.config
        changed = differing(to_dict(current), to_dict(config))
        if any(key not in FREE for key in differing(to_dict(self.history.first), to_dict(config))):
            fixed = {key: values for key, values in changed.items() if key not in FREE}
            if fixed:
                raise self._other_configuration(fixed)
        free = {key: now for key, (_, now) in changed.items() if key in FREE}
        return override_config(current, free) if free else current

    def _other_configuration(self, keys: Mapping[str, tuple[Any, Any]]) -> InputError:
        def show(value: Any) -> str:
            return "not set" if value is None else repr(value)

        shown = "; ".join(f"{key}: {show(there)} there, {show(now)} now" for key, (there, now) in list(keys.items())[:5])
        more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
        remedy = "use another `name=`, remove that folder, or leave out the settings that differ"
        if (offer := self._continuable(keys)) is not None:
            remedy += f"; to change them from the last checkpoint on, use {offer}"
        return InputError(f"{self.path} holds a run with another configuration ({shown}{more}); {remedy}")

    def _continuable(self, keys: Mapping[str, tuple[Any, Any]]) -> str | None:
        """How to change all of these settings of the started run; None if that is not possible."""
        has_generator = self.state("generator") is not None
        offers = []
        for key, (there, now) in keys.items():
            if key not in CONTINUABLE or there is None or now is None:
                return None
            if key.endswith((".steps", ".epochs")) and now < there:
                return None
            if has_generator and key.startswith("train.tokenizer."):
                return None  # the generator was trained on this tokenizer
            name = "train.generator.steps" if has_generator and key == "train.steps" else key
            offers.append(f"`continue_with={name}={now}`")
        return " ".join(offers)

    def update(self, config: RunConfig, history: History | None = None) -> None:
        """Store a changed configuration; the identity of the run stays unless a history with a new segment is given.

        Raises:
            OSError: a file cannot be written.
        """
        if history is not None:
            write_history(self.path / _SEGMENTS, history)
        elif not (self.path / _SEGMENTS).exists():
            write_history(self.path / _SEGMENTS, self.history)
        write_text(self.path / CONFIG, to_toml(config))

    @property
    def history(self) -> History:
        """The configuration that the run was started with, and its segments.

        Raises:
            InputError: this is no run folder, or a file of it is damaged.
        """
        return read_history(self.path / _SEGMENTS) or History.start(self.stored_config)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The parts of the training, oldest first; more than one if settings were changed on the way."""
        return self.history.segments

    @property
    def name(self) -> str:
        """The folder's name, which is the model's name in tables."""
        return self.path.resolve().name

    @property
    def config(self) -> RunConfig:
        """The resolved configuration; images that were moved together with the run are found at their new place.

        Raises:
            InputError: this is no run folder, or its configuration is broken.
        """
        config = self.stored_config
        if not self.knows_dataset:
            return config
        source = moved_source(config.data.source, self.path, self.dataset.relative)
        return dataclasses.replace(config, data=dataclasses.replace(config.data, source=source))

    @property
    def stored_config(self) -> RunConfig:
        """The resolved configuration as it is stored.

        Raises:
            InputError: this is no run folder, or its configuration is broken.
        """
        return load_file(self.path / CONFIG)

    @property
    def hash(self) -> str:
        """Hash of the configuration that the run was started with and, if there are more, of its segments."""
        return self.segments[-1].hash

    @property
    def replicate(self) -> dict[str, Any]:
        """What tells this training from others of the same configuration, for records.

        ``of`` (hash of the configuration without its seed), ``seed`` and, if the run was trained together with others, their
        common ``name``.

        Raises:
            InputError: this is no run folder, or a file of it is damaged.
        """
        config, path = self.config, self.path / _GROUP
        # Trainings that start from other weights are no repetitions of each other.
        start = "".join(f"+{origin['weights'][:16]}" for origin in self.origins.values())
        found: dict[str, Any] = {"of": self.segments[-1].replicate + start, "seed": config.train.seed}
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
    def knows_dataset(self) -> bool:
        """Whether the training has opened its data set yet."""
        return (self.path / _DATASET).exists()

    @property
    def dataset(self) -> DatasetInfo:
        """The data set that the run was trained on.

        Raises:
            InputError: the training has not opened it yet, or the file is damaged.
        """
        return read_dataset_info(self.path / _DATASET)

    def note_dataset(self, info: DatasetInfo, accept: bool = False) -> None:
        """Store the data set of the run, or check that it is still the same.

        Args:
            info: the images as they are now.
            accept: take other images of the same classes, and keep a note of those before.

        Raises:
            InputError: the run was started with other images.
        """
        if self.knows_dataset:
            before = self.dataset
            self.check_dataset(info, accept)
            if before.fingerprint == info.fingerprint:
                info = dataclasses.replace(before, relative=info.relative or before.relative)
            else:
                steps = {phase: state.step for phase in PHASES if (state := self.state(phase)) is not None}
                note = {"images": before.images, "fingerprint": before.fingerprint, "steps": steps}
                info = dataclasses.replace(info, accepted=(*before.accepted, note))
            if info == before:
                return
        write_text(self.path / _DATASET, json.dumps(asdict(info), indent=1))

    def check_dataset(self, info: DatasetInfo, accept: bool = False) -> None:
        """Compare images with those that the run was started with, wherever they are.

        Args:
            info: the images as they are now.
            accept: whether other images of the same classes will do.

        Raises:
            InputError: they are others.
        """
        check_images(self.path, self.dataset, info, accept)

    @property
    def origins(self) -> Origins:
        """The trained weights that the phases of a fine-tuning started from, see `nvgbench.runs.origins`.

        Raises:
            InputError: the file is damaged.
        """
        return read_origins(self.path / _ORIGINS)

    def note_origin(self, phase: Phase, origin: Mapping[str, Any]) -> None:
        """Store the trained weights that a phase starts from."""
        note_origin(self.path / _ORIGINS, phase, origin)

    def load_tokenizer(
        self, device: torch.device | str = "cpu", *, weights: Weights = "averaged", step: int | None = None
    ) -> nn.Module:
        """The trained tokenizer, frozen and in evaluation mode.

        Args:
            device: where it is used.
            weights: the moving average, if there is one, or the weights themselves.
            step: of the checkpoint; the last one if None.

        Raises:
            InputError: not trained yet, no such checkpoint, or damaged.
        """
        from nvgbench.runs.models import load_tokenizer

        return load_tokenizer(self, device, weights, step)

    def load_generator(
        self, device: torch.device | str = "cpu", *, weights: Weights = "averaged", step: int | None = None
    ) -> ImageGenerator:
        """The trained model, ready to make images.

        A generator that is still being trained is loaded from its last checkpoint; ``spec.provenance["step"]`` is its step.
        The tokenizer is the one that the generator was trained with, averaged; only if ``weights`` is ``plain`` and the file of
        its average is damaged, its plain weights are used.

        Args:
            device: where it is used.
            weights: the moving average of the generator, if there is one, or the weights themselves.
            step: of the generator's checkpoint; the last one if None.

        Raises:
            InputError: not trained yet, no such checkpoint, or damaged.
        """
        from nvgbench.runs.models import load_generator

        return load_generator(self, device, weights, step)

    def checkpoint(self, phase: str, step: int | None = None) -> Path:
        """A phase's checkpoint of this step, or the last one.

        Raises:
            InputError: there is none.
        """
        root = self.checkpoints(phase)
        found = ckpt.latest_checkpoint(root) if step is None else ckpt.find_checkpoint(root, step)
        if found is not None:
            return found
        steps = ckpt.kept_steps(root)
        if not steps:
            raise InputError(f"{self.path} has no trained {phase} yet; train {self.config.name} as `name={self.name}` first")
        known = ", ".join(map(str, steps))
        raise InputError(f"{self.path} has no checkpoint of the {phase} at `step={step}`; there are: {known}")

    def tokenizer_fingerprint(self) -> str:
        """SHA-256 of the trained tokenizer's weights."""
        found = self.checkpoint("tokenizer")
        return ckpt.read_state(found).digest(ckpt.model_file(found))

    def provenance(self, weights: Weights = "averaged", step: int | None = None) -> dict[str, Any]:
        """Where the trained model comes from: run, step, configuration, weights, data set, published files.

        Args:
            weights: which weights of the generator.
            step: of the generator's checkpoint; the last one if None.

        Raises:
            InputError: not trained yet, or damaged.
        """
        return self.provenance_of(self.checkpoint("generator", step), weights)

    def provenance_of(self, found: Path, weights: Weights = "averaged") -> dict[str, Any]:
        """The same for one of the generator's checkpoints.

        Raises:
            InputError: damaged, or removed meanwhile.
        """
        state, segments = ckpt.read_state(found), self.segments
        return {
            "run": self.name,
            "step": state.step,
            "total_steps": state.total_steps,
            "finished": state.final,
            "config_hash": segments[-1].hash,
            "seed": self.config.train.seed,
            "weights": state.digest(ckpt.model_file(found, weights == "averaged")),
            "weights_kind": "averaged" if ckpt.model_file(found, weights == "averaged") == ckpt.EMA else "plain",
            "tokenizer_weights": self.tokenizer_fingerprint(),
            "dataset": self.dataset.name,
            **({"origins": origins} if (origins := self.origins) else {}),
            **({"segments": [asdict(segment) for segment in segments]} if len(segments) > 1 else {}),
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
