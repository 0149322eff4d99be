"""A model of a few numbers, for tests of the loop: a denoiser and a critic of it, with every source of randomness in use."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from nvgbench.config.schema import PhaseConfig
from nvgbench.interfaces import Objective
from nvgbench.training.log import TrainLog
from nvgbench.training.loop import LoopSettings
from nvgbench.types import ImageBatch

SIDE = 4


class Denoiser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * SIDE**2, 3 * SIDE**2)
        self.gain = nn.Parameter(torch.ones(3 * SIDE**2))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x_BN: torch.Tensor) -> torch.Tensor:
        return self.linear(nn.functional.dropout(x_BN, 0.1, self.training)) * self.gain


class ToyObjective(Objective):
    """Two modules, two losses a step."""

    notes = ("a note",)

    def __init__(self, seed: int = 0, noise: float = 0.1, explode_at: int | None = None) -> None:
        torch.manual_seed(seed)
        self.model = Denoiser()
        self.critic = nn.Linear(3 * SIDE**2, 1)
        self.modules = {"model": self.model, "critic": self.critic}
        self.noise = noise
        self.explode_at = explode_at

    def losses(self, batch: ImageBatch, rng: torch.Generator, step: int) -> Iterator:
        x_BN = batch.images_B3HW.flatten(1)
        if self.noise:
            noisy_BN = x_BN + self.noise * torch.randn(x_BN.shape, generator=rng, device=x_BN.device)
            self.model.train()
        else:
            noisy_BN = x_BN
            self.model.eval()
        y_BN = self.model(noisy_BN)
        self.model.seen += 1
        mse = (y_BN - x_BN).square().mean()
        fooled = -self.critic(y_BN).mean()
        if step == self.explode_at:
            fooled = fooled / 0.0
        yield "model", mse + 0.1 * fooled, {"mse": mse.detach(), "fooled": fooled}
        yield "critic", self.critic(y_BN.detach()).mean() - self.critic(x_BN).mean(), {}


def image_batches(batch_size: int, rank: int = 0, world_size: int = 1):
    """Batches that depend on the step alone; joined over the ranks they are those of one process."""

    def batches(start: int) -> Iterator[ImageBatch]:
        for step in itertools.count(start):
            images = torch.randn(batch_size, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(step))
            share = batch_size // world_size
            rows = slice(rank * share, (rank + 1) * share)
            yield ImageBatch(images[rows], torch.zeros(share, dtype=torch.int64))

    return batches


def phase_config(**changes) -> PhaseConfig:
    defaults = {"steps": 10, "batch_size": 4, "learning_rate": 1e-2, "schedule": "cosine", "warmup_steps": 2, "ema_decay": 0.9}
    return PhaseConfig(**(defaults | changes))


def loop_settings(folder: Path, *, total_steps: int = 10, config: PhaseConfig | None = None, **changes) -> LoopSettings:
    defaults = {
        "phase": "tokenizer",
        "config": config or phase_config(),
        "total_steps": total_steps,
        "seed": 3,
        "folder": folder / "checkpoints" / "tokenizer",
        "log": TrainLog(folder / "train.jsonl"),
        "device": torch.device("cpu"),
        "progress": lambda event: None,
        "log_every": 3,
        "checkpoint_every": 4,
    }
    return LoopSettings(**(defaults | changes))
