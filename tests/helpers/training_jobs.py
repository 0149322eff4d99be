"""Small trainings of the real families, and processes to run (and kill) them in."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvgbench.config.load import load_preset, parse_overrides
from nvgbench.config.schema import RunConfig
from tests.helpers.forked import forked

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


def train(folder: Path, family: str, *settings: str, **options: Any) -> None:
    """Train in this process."""
    import torch

    from nvgbench.training.run import train_run

    options = {"device": torch.device("cpu"), "progress": silent} | options
    train_run(small_config(family, *settings), folder, **options)


@dataclass(frozen=True)
class Signal:
    """A signal that a training sends itself right before its ``operation``-th change of a file named ``*name``, counted from 1.

    File operations happen in the same order on every machine, however fast it is.
    """

    number: signal.Signals
    operation: int
    name: str = ""

    def arm(self, folder: Path) -> None:
        """Count the changes of files in ``folder`` by this process, which cannot be undone."""
        operations = itertools.count(1)

        def count(event: str, arguments: tuple) -> None:
            if event not in _CHANGES and not (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
                return
            file = str(arguments[0])
            if file.startswith(str(folder)) and file.endswith(self.name) and next(operations) == self.operation:
                os.kill(os.getpid(), self.number)

        sys.addaudithook(count)


_CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "shutil.rmtree"}


def _child(folder: Path, family: str, settings: tuple[str, ...], environment: dict[str, str], sent: Signal | None) -> None:
    os.environ.update(environment)
    if sent is not None:
        sent.arm(folder)
    train(folder, family, *settings)


def start(
    folder: Path, family: str, *settings: str, environment: dict[str, str] | None = None, sent: Signal | None = None
) -> Any:
    """Train in a new process."""
    process = forked().Process(target=_child, args=(folder, family, settings, environment or {}, sent))
    process.start()
    return process


def weights(folder: Path) -> dict[str, bytes]:
    """Every weight file of a run."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


def log(folder: Path) -> list[dict]:
    """The training log without what depends on the clock."""
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in ("seconds", "images_per_second", "speed")} for row in rows]
