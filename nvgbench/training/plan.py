"""From a preset to the training on this machine: whether the models can be built, batch sizes, number of steps."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import torch
from torch import nn

from nvgbench.config.load import to_dict
from nvgbench.config.schema import PhaseConfig, RunConfig
from nvgbench.errors import InputError
from nvgbench.registry import get_family


def planned_modules(config: RunConfig, num_classes: int) -> tuple[nn.Module, nn.Module]:
    """Tokenizer and generator on the meta device, without memory for their weights.

    Raises:
        InputError: sizes that do not fit together.
    """
    family = get_family(config.family)
    with torch.device("meta"):
        tokenizer = family.build_tokenizer(config)
        return tokenizer, family.build_generator(config, tokenizer, num_classes)


def resolve_config(config: RunConfig, device: torch.device) -> tuple[RunConfig, list[str]]:
    """The configuration that is trained and stored on ``device``, and a warning for each change.

    On a CPU, batches are limited to ``train.cpu_batch_size``. The path of the images becomes absolute.
    """
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, source=absolute_source(config.data.source)))
    limit = config.train.cpu_batch_size
    if device.type != "cpu" or limit is None:
        return config, []
    warnings = []
    phases: dict[str, Any] = {}
    for name in ("tokenizer", "generator"):
        phase: PhaseConfig = getattr(config.train, name)
        if phase.batch_size > limit:
            micro = phase.micro_batch_size
            micro = micro if micro is not None and limit % micro == 0 else None
            phases[name] = dataclasses.replace(phase, batch_size=limit, micro_batch_size=micro)
            warnings.append(
                f"warning: {name} batch reduced from {phase.batch_size} to {limit} images on the CPU (train.cpu_batch_size); "
                "results will differ from the preset's"
            )
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **phases)), warnings


def phase_steps(config: RunConfig, phase: str, images: int) -> int:
    """Training steps of a phase over ``images`` images: ``train.steps`` if set, else the phase's own steps or epochs."""
    if config.train.steps is not None:
        return config.train.steps
    own: PhaseConfig = getattr(config.train, phase)
    if own.steps is not None:
        return own.steps
    assert own.epochs is not None
    return max(1, round(own.epochs * images / own.batch_size))


def absolute_source(source: str) -> str:
    """The data source with an absolute path, if it has a path at all."""
    name, colon, location = source.partition(":")
    return f"{name}{colon}{os.path.abspath(location)}" if location and os.path.exists(location) else source


def micro_batch(phase: str, config: PhaseConfig, processes: int) -> int | None:
    """Images per backward pass of a process; None for all of its share.

    Raises:
        InputError: the batch cannot be divided as configured.
    """
    if config.batch_size % processes:
        raise InputError(
            f"train.{phase}.batch_size = {config.batch_size} cannot be divided over {processes} processes; "
            f"choose a multiple of {processes}"
        )
    share = config.batch_size // processes
    if config.micro_batch_size and config.micro_batch_size < share and share % config.micro_batch_size:
        raise InputError(
            f"train.{phase}.micro_batch_size = {config.micro_batch_size} does not divide the {share} images "
            "per process; choose a divisor"
        )
    return config.micro_batch_size


def tokenizer_differences(here: RunConfig, there: RunConfig) -> list[str]:
    """Keys that differ and must agree to reuse a tokenizer; how it was trained does not matter."""
    mine, theirs = ({"family": c.family, "image_size": c.data.image_size} | to_dict(c.tokenizer) for c in (here, there))
    return [key for key in sorted(mine | theirs) if key != "losses" and mine.get(key) != theirs.get(key)]
