"""What a training would cost, from the configuration alone: nothing is allocated, opened or trained.

Parameters and FLOPs of the generator are the family's analytic numbers; the tokenizer is built and run on the meta device.
FLOPs are 2 x multiply-accumulates. Memory is for one process; its activations are an estimate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nvgbench.config.schema import PhaseConfig, RunConfig
from nvgbench.data.catalog import SOURCES, is_source
from nvgbench.data.source import open_dataset
from nvgbench.registry import get_family
from nvgbench.runs.folder import PHASES
from nvgbench.training.plan import phase_steps, planned_modules, resolve_config
from nvgbench.training.precision import resolve_precision

# A pre-norm transformer block keeps about 17 values a token and channel for the backward pass
# (two norms, q, k, v, attention output, four times the width twice in the MLP, residuals).
_VALUES_A_CHANNEL = 17
_BACKWARD = 3  # forward and backward cost three times the forward pass


@dataclass(frozen=True, kw_only=True)
class PhaseEstimate:
    """Cost of one phase.

    Attributes:
        steps, batch_size: of the training.
        flops: of the whole phase; None where it cannot be told.
        memory: bytes by what they are for (weights, gradients, optimizer, average, activations).
    """

    steps: int
    batch_size: int
    flops: float | None
    memory: Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Cost of a run.

    Attributes:
        parameters: by part.
        sampling_flops: of one guided image, by part.
        training_flops: forward and backward of one image of generator training.
        images, classes: of the training set.
        warnings: what would be changed on the chosen device.
    """

    name: str
    parameters: Mapping[str, int]
    sampling_flops: Mapping[str, float]
    training_flops: float
    images: int
    classes: int
    phases: Mapping[str, PhaseEstimate]
    warnings: tuple[str, ...] = ()


def estimate(config: RunConfig, device: torch.device) -> Estimate:
    """Cost of training ``config`` as written; ``device`` decides the precision and what would have to be cut.

    Raises:
        InputError: a data set of unknown size that cannot be opened.
    """
    images, classes = _dataset_size(config)
    cost = get_family(config.family).cost(config, classes)
    parameters = dict(cost["parameters"])
    value_bytes = 2 if resolve_precision(config.train.precision, device) == "bf16" else 4
    tokenizer, _ = planned_modules(config, classes)
    tokenizer_parameters = sum(value.numel() for value in tokenizer.parameters())
    generator_parameters = sum(count for name, count in parameters.items() if name != "tokenizer")
    forward_flops, forward_values = _autoencoder_cost(tokenizer, config)
    training_flops = float(cost["training_flops"])
    tokenizer_phase = _phase(
        config, "tokenizer", images, tokenizer_parameters,
        flops_an_image=None if forward_flops is None else _BACKWARD * forward_flops,
        activations_an_image=None if forward_values is None else forward_values * value_bytes,
    )  # fmt: skip
    generator_phase = _phase(
        config, "generator", images, generator_parameters,
        flops_an_image=training_flops,
        activations_an_image=_transformer_activations(config, generator_parameters, training_flops, value_bytes),
        frozen=tokenizer_parameters,
    )  # fmt: skip
    return Estimate(
        name=config.name,
        parameters={"tokenizer": tokenizer_parameters} | parameters,
        sampling_flops=dict(cost["sampling_flops"]),
        training_flops=training_flops,
        images=images,
        classes=classes,
        phases={"tokenizer": tokenizer_phase, "generator": generator_phase},
        warnings=tuple(_cuts(config, device)),
    )


def describe(found: Estimate) -> str:
    """The estimate as a few lines of text."""
    lines = [
        f"{found.name}: nothing is trained (--dry-run)",
        f"data: {found.images:,} training images, {found.classes:,} classes",
        "parameters:",
        *(f"  {name:<12} {count:>15,}" for name, count in found.parameters.items()),
        f"  {'all':<12} {sum(found.parameters.values()):>15,}",
        "FLOPs of one guided sample (2 x multiply-accumulates):",
        *(f"  {name:<12} {_si(flops):>15}" for name, flops in found.sampling_flops.items()),
        f"FLOPs of generator training, one image, forward and backward: {_si(found.training_flops)}",
    ]
    for name, phase in found.phases.items():
        epochs = phase.steps * phase.batch_size / found.images
        lines += [
            f"{name}: {phase.steps:,} steps of {phase.batch_size:,} images = {epochs:,.1f} epochs",
            f"  {'training FLOPs':<26} {_si(phase.flops)}",
            "  memory of a process (activations are an estimate, and shrink with micro_batch_size and more processes):",
            *(f"    {what:<24} {_bytes(size)}" for what, size in phase.memory.items()),
        ]
    known = [phase.flops for phase in found.phases.values() if phase.flops is not None]
    lines.append(f"all training FLOPs: {_si(sum(known))}")
    return "\n".join([*lines, *found.warnings])


def _cuts(config: RunConfig, device: torch.device) -> list[str]:
    """What training on ``device`` would change of the plan, which is for the configuration as written."""
    cut, _ = resolve_config(config, device)
    batches = {name: (getattr(config.train, name).batch_size, getattr(cut.train, name).batch_size) for name in PHASES}
    return [
        f"warning: training here would cut the {name} batch from {planned} to {borne} images, as a CPU bears no more "
        f"(train.cpu_batch_size); the plan above is for {planned}"
        for name, (planned, borne) in batches.items()
        if planned != borne
    ]


def _dataset_size(config: RunConfig) -> tuple[int, int]:
    """Training images and classes; data sets of known size are not opened, so they need not be on this machine."""
    data = config.data
    info = SOURCES.get(data.source.partition(":")[0]) if is_source(data.source) else None
    if info is None or info.train_images is None or info.num_classes is None or info.unlimited:
        dataset = open_dataset(data.source, image_size=data.image_size, split="train", limit=data.train_images, seed=data.seed)
        return len(dataset), len(dataset.classes)
    return min(info.train_images, data.train_images or info.train_images), info.num_classes


def _phase(
    config: RunConfig,
    name: str,
    images: int,
    parameters: int,
    *,
    flops_an_image: float | None,
    activations_an_image: float | None,
    frozen: int = 0,
) -> PhaseEstimate:
    phase: PhaseConfig = getattr(config.train, name)
    steps = phase_steps(config, name, images)
    at_once = min(phase.micro_batch_size or phase.batch_size, phase.batch_size)
    memory: dict[str, float | None] = {
        "weights": 4.0 * (parameters + frozen),
        "gradients": 4.0 * parameters,
        "optimizer (two moments)": 8.0 * parameters,
        "average (EMA)": 4.0 * parameters if phase.ema_decay > 0 else 0.0,
        f"activations, {at_once:,} images": None if activations_an_image is None else activations_an_image * at_once,
    }
    flops = None if flops_an_image is None else flops_an_image * steps * phase.batch_size
    return PhaseEstimate(steps=steps, batch_size=phase.batch_size, flops=flops, memory=memory)


def _autoencoder_cost(tokenizer: nn.Module, config: RunConfig) -> tuple[float | None, float | None]:
    """FLOPs and stored values of one image through encoder and decoder; None for tokenizers built otherwise."""
    encoder, decoder = getattr(tokenizer, "encoder", None), getattr(tokenizer, "decoder", None)
    if not isinstance(encoder, nn.Module) or not isinstance(decoder, nn.Module):
        return None, None
    values = 0

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal values
        values += output.numel() if isinstance(output, Tensor) else 0

    hooks = [
        module.register_forward_hook(count)
        for half in (encoder, decoder)
        for module in half.modules()
        if not list(module.children())
    ]
    side = config.data.image_size
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        encoder(torch.empty(1, 3, side, side, device="meta"))
        decoder(torch.empty(1, config.tokenizer.latent_channels, *config.grid, device="meta"))
    for hook in hooks:
        hook.remove()
    return float(counter.get_total_flops()), float(values)


def _transformer_activations(config: RunConfig, parameters: int, training_flops: float, value_bytes: int) -> float | None:
    """Bytes kept for the backward pass by one image: tokens x layers x width x `_VALUES_A_CHANNEL`.

    Tokens follow from the FLOPs (6 a parameter and token), the width from the parameters (12 width² a layer).
    """
    depth = getattr(config.model, "depth", None)
    if not depth:
        return None
    tokens = training_flops / (2 * _BACKWARD * parameters)
    width = math.sqrt(parameters / (12 * depth))
    return tokens * depth * width * _VALUES_A_CHANNEL * value_bytes


def _si(value: float | None) -> str:
    if value is None:
        return "not available"
    exponent = 0 if value < 1 else min(int(math.log10(value)) // 3, 8)
    return f"{value / 1000**exponent:.3g} {'kMGTPEZY'[exponent - 1] if exponent else ''}FLOP"


def _bytes(value: float | None) -> str:
    if value is None:
        return "not available"
    return f"{value / 2**20:.1f} MiB" if value < 2**30 else f"{value / 2**30:,.1f} GiB"
