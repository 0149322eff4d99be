"""Where a training reports beside ``train.jsonl``: TensorBoard and Weights & Biases, both optional packages."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from nvgbench.config.load import to_dict
from nvgbench.config.schema import RunConfig
from nvgbench.errors import InputError
from nvgbench.runs.folder import RunFolder


class Logger(Protocol):
    """Receives what is logged."""

    def row(self, row: Mapping[str, Any]) -> None:
        """A row of the training log: phase, step, losses (by name), lr, grad_norm, images_per_second, seconds."""
        ...

    def picture(self, phase: str, step: int, path: Path) -> None:
        """A PNG of reconstructions or samples."""
        ...

    def close(self) -> None: ...


class TensorBoardLogger:
    """TensorBoard's event files in ``folder``.

    Raises:
        InputError: the package is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self._writer = _imported("torch.utils.tensorboard", "tensorboard", "false").SummaryWriter(folder)

    def row(self, row: Mapping[str, Any]) -> None:
        for name, value in _numbers(row):
            self._writer.add_scalar(f"{row['phase']}/{name}", value, row["step"])

    def picture(self, phase: str, step: int, path: Path) -> None:
        self._writer.add_image(f"{phase}/pictures", np.asarray(Image.open(path)), step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class WandbLogger:
    """A run of Weights & Biases; a resumed training continues the same one. ``WANDB_MODE=offline`` keeps it on this machine.

    Each phase has its own step axis, as both count from 0.

    Args:
        project: its project there.
        run: the run, whose name it gets; local files go into its folder ``wandb``.
        config: shown beside the curves.

    Raises:
        InputError: the package is not installed.
    """

    def __init__(self, project: str, run: RunFolder, config: RunConfig) -> None:
        self._wandb = _imported("wandb", "wandb", "null")
        identity = hashlib.sha256(f"{run.path.resolve()} {run.history.segments[0].hash}".encode()).hexdigest()[:16]
        self._run = self._wandb.init(
            project=project, name=run.name, id=identity, resume="allow", dir=str(run.path), config=to_dict(config)
        )
        for phase in ("tokenizer", "generator"):
            self._run.define_metric(f"{phase}/step", hidden=True)
            self._run.define_metric(f"{phase}/*", step_metric=f"{phase}/step")

    def row(self, row: Mapping[str, Any]) -> None:
        phase = row["phase"]
        self._run.log({f"{phase}/step": row["step"]} | {f"{phase}/{name}": value for name, value in _numbers(row)})

    def picture(self, phase: str, step: int, path: Path) -> None:
        self._run.log({f"{phase}/step": step, f"{phase}/pictures": self._wandb.Image(str(path))})

    def close(self) -> None:
        self._run.finish()


def open_loggers(run: RunFolder, config: RunConfig) -> list[Logger]:
    """The loggers that the configuration names.

    Raises:
        InputError: a package is not installed.
    """
    found: list[Logger] = []
    if config.train.tensorboard:
        found.append(TensorBoardLogger(run.path / "tensorboard"))
    if config.train.wandb is not None:
        found.append(WandbLogger(config.train.wandb, run, config))
    return found


def check_loggers(config: RunConfig) -> None:
    """Find missing packages before anything is written.

    Raises:
        InputError: a package is not installed.
    """
    if config.train.tensorboard:
        _imported("torch.utils.tensorboard", "tensorboard", "false")
    if config.train.wandb is not None:
        _imported("wandb", "wandb", "null")


def _imported(module: str, package: str, off: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(
            f"train.{package} needs the package {package}: pip install 'nvgbench[{package}]', or use `train.{package}={off}`"
        ) from None


def _numbers(row: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """The numbers of a row by name, parts joined with slashes."""
    found: list[tuple[str, float]] = []
    for name, value in row.items():
        if isinstance(value, Mapping):
            found += _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "step":
            found.append((f"{prefix}{name}", value))
    return found
