"""Small trainings of the real families, and processes to run (and kill) them in."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nvgbench.config.load import load_preset, parse_overrides
from nvgbench.config.schema import RunConfig

SMALL = (
    "data.image_size=16",
    "data.train_images=24",
    "tokenizer.channel_multipliers=[1,2,2]",
    "tokenizer.codebook_size=32",
    "model.depth=1",
    "train.steps=8",
    "train.log_every=2",
    "train.checkpoint_every=3",
    "train.tokenizer.batch_size=4",
    "train.generator.batch_size=4",
    "train.generator.learning_rate=1e-3",
)
EXTRA = {"nvg": ("model.head_size=24",), "var": ("tokenizer.quantizer.scales=[1,2,4]",), "ar": ()}


def small_config(family: str, *settings: str) -> RunConfig:
    """A few seconds of training on one core."""
    return load_preset(f"{family}-tiny", [*SMALL, *EXTRA[family], *settings])


def small_settings(family: str) -> dict[str, Any]:
    """The same as settings by key."""
    return parse_overrides([*SMALL, *EXTRA[family]])


def silent(event: object) -> None:
    """Progress that nobody sees."""


class Moments:
    """Counts the moments of a training in this process: progress events and flushes of files to disk.

    Flushes lie within the writing of logs and checkpoints, and the count is the same in every run. The instance is the
    training's ``progress``.

    Args:
        moment: when to call ``act``, from 1; never if 0.
        act: what happens then.
    """

    def __init__(self, moment: int = 0, act: Callable[[], None] = lambda: None) -> None:
        self.passed = 0
        self._moment, self._act, self._fsync = moment, act, os.fsync

    def __call__(self, event: object) -> None:
        self.passed += 1
        if self.passed == self._moment:
            self._act()

    def __enter__(self) -> Moments:
        def fsync(descriptor: int) -> None:
            self._fsync(descriptor)
            self(None)

        os.fsync = fsync
        return self

    def __exit__(self, *_: object) -> None:
        os.fsync = self._fsync


def train(folder: Path, family: str, *settings: str, **options: Any) -> None:
    """Train in this process."""
    import torch

    from nvgbench.training.run import train_run

    options = {"device": torch.device("cpu"), "progress": silent} | options
    train_run(small_config(family, *settings), folder, **options)


def _child(
    folder: Path, family: str, settings: tuple[str, ...], environment: dict[str, str], moment: int, number: signal.Signals
) -> None:
    os.environ.update(environment)
    with Moments(moment, lambda: os.kill(os.getpid(), number)) as progress:
        train(folder, family, *settings, progress=progress)


def start(
    folder: Path,
    family: str,
    *settings: str,
    environment: dict[str, str] | None = None,
    moment: int = 0,
    number: signal.Signals = signal.SIGKILL,
) -> Any:
    """Train in a process of its own, which sends itself a signal at a moment of `Moments`.

    The fork server has imported torch already, so that the process starts at once.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["nvgbench.training.run", "nvgbench.autoencoder.objective", "nvgbench.nvg.objective", "nvgbench.nvg.generator"]
    )
    process = context.Process(target=_child, args=(folder, family, settings, environment or {}, moment, number))
    process.start()
    return process


def weights(folder: Path) -> dict[str, bytes]:
    """Every weight file of a run."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


def log(folder: Path) -> list[dict]:
    """The training log without what depends on the clock."""
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in ("seconds", "images_per_second")} for row in rows]
