"""The cost of a training, from the configuration alone: nothing is allocated or trained.

Parameters and FLOPs of the generator are the family's analytic numbers; the tokenizer is built and run on the meta device.
FLOPs are 2 x multiply-accumulates. Memory is for one process; its activations are an estimate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nvgbench.autoencoder.tokenizer import ConvTokenizer
from nvgbench.config.schema import PhaseConfig, RunConfig
from nvgbench.data.catalog import SOURCES, is_source
from nvgbench.data.source import open_dataset
from nvgbench.interfaces import CostCard
from nvgbench.registry import get_family
from nvgbench.runs.folder import PHASES
from nvgbench.training.frozen import frozen_parameters
from nvgbench.training.plan import phase_steps, planned_modules, resolve_config
from nvgbench.training.precision import resolve_precision

# A pre-norm transformer block stores about 17 values per token and channel for the backward pass
# (two norms, q, k, v, attention output, four times the width twice in the MLP, residuals).
_VALUES_PER_CHANNEL = 17
_FORWARD_AND_BACKWARD = 3  # in units of the forward pass


@dataclass(frozen=True, kw_only=True)
class PhaseEstimate:
    """Cost of one phase.

    Attributes:
        steps, batch_size: of the training.
        flops: of the whole phase; None if unknown.
        memory: bytes by purpose (weights, gradients, optimizer, average, activations).
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
        notes: see `nvgbench.interfaces.CostCard`.
        images, classes: of the training set.
        warnings: what would be different on the chosen device.
    """

    name: str
    parameters: Mapping[str, int]
    sampling_flops: Mapping[str, float]
    training_flops: float | None
    images: int
    classes: int
    phases: Mapping[str, PhaseEstimate]
    notes: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def estimate(config: RunConfig, device: torch.device) -> Estimate:
    """Cost of training ``config`` as written; the warnings say what ``device`` would change.

    Raises:
        InputError: a data set of unknown size that cannot be opened.
    """
    images, classes = _dataset_size(config)
    cost = get_family(config.family).cost(config, classes)
    parameters = dict(cost.parameters)
    value_bytes = 2 if resolve_precision(config.train.precision, device) == "bf16" else 4
    tokenizer, generator = planned_modules(config, classes)
    tokenizer_parameters = sum(value.numel() for value in tokenizer.parameters())
    generator_parameters = sum(count for name, count in parameters.items() if name != "tokenizer")
    forward_flops, forward_values = _autoencoder_cost(tokenizer, config)
    tokenizer_phase = _phase(
        config, "tokenizer", images, tokenizer_parameters,
        flops_per_image=None if forward_flops is None else _FORWARD_AND_BACKWARD * forward_flops,
        activations_per_image=None if forward_values is None else forward_values * value_bytes,
        frozen=frozen_parameters(tokenizer, config.train.tokenizer.frozen),
    )  # fmt: skip
    generator_phase = _phase(
        config, "generator", images, generator_parameters,
        flops_per_image=cost.training_flops,
        activations_per_image=_transformer_activations(cost, generator_parameters, value_bytes),
        frozen=frozen_parameters(generator, config.train.generator.frozen),
        beside=tokenizer_parameters,
    )  # fmt: skip
    return Estimate(
        name=config.name,
        parameters={"tokenizer": tokenizer_parameters} | parameters,
        sampling_flops=cost.sampling_flops,
        training_flops=cost.training_flops,
        images=images,
        classes=classes,
        phases={"tokenizer": tokenizer_phase, "generator": generator_phase},
        notes=cost.notes,
        warnings=tuple(_cuts(config, device)),
    )


def describe(found: Estimate) -> str:
    """The estimate as text, one line per quantity."""
    notes = {name: f"  ({note})" for name, note in found.notes.items()}
    lines = [
        f"{found.name}: estimated cost; nothing is trained",
        f"data: {found.images:,} training images, {found.classes:,} classes",
        "parameters:",
        *(f"  {name:<12} {count:>15,}" for name, count in found.parameters.items()),
        f"  {'all':<12} {sum(found.parameters.values()):>15,}",
        "FLOPs per guided sample (2 x multiply-accumulates):",
        *(f"  {name:<12} {flops_text(flops):>15}{notes.get(name, '')}" for name, flops in found.sampling_flops.items()),
        *([f"  {'all':<12} {flops_text(sum(found.sampling_flops.values())):>15}"] if found.sampling_flops else []),
        "FLOPs of generator training per image, forward and backward: "
        f"{flops_text(found.training_flops)}{notes.get('training', '')}",
    ]
    for name, phase in found.phases.items():
        epochs = phase.steps * phase.batch_size / found.images
        lines += [
            f"{name}: {phase.steps:,} steps of {phase.batch_size:,} images = {epochs:,.1f} epochs",
            f"  {'training FLOPs':<26} {flops_text(phase.flops)}",
            "  memory per process (activations are an estimate; micro_batch_size and more processes reduce them):",
            *(f"    {what:<24} {_bytes(size)}" for what, size in phase.memory.items()),
        ]
    known = [phase.flops for phase in found.phases.values() if phase.flops is not None]
    lines.append(f"total training FLOPs: {flops_text(sum(known))}")
    return "\n".join([*lines, *found.warnings])


def _cuts(config: RunConfig, device: torch.device) -> list[str]:
    """What training on ``device`` would change; the estimate is for the configuration as written."""
    actual, _ = resolve_config(config, device)
    batches = {name: (getattr(config.train, name).batch_size, getattr(actual.train, name).batch_size) for name in PHASES}
    return [
        f"warning: training on this CPU would reduce the {name} batch from {planned} to {reduced} images "
        f"(train.cpu_batch_size); the estimate is for {planned}"
        for name, (planned, reduced) in batches.items()
        if planned != reduced
    ]


def _dataset_size(config: RunConfig) -> tuple[int, int]:
    """Training images and classes; data sets of known size are not opened and need not be on this machine."""
    data = config.data
    info = SOURCES.get(data.source.partition(":")[0]) if is_source(data.source) else None
    if info is None or info.train_images is None or info.num_classes is None or info.unlimited:
        dataset = open_dataset(data.source, image_size=data.image_size, split="train", limit=data.train_images, seed=data.seed)
        return len(dataset), 0 if data.classes == "none" else len(dataset.classes)
    return min(info.train_images, data.train_images or info.train_images), 0 if data.classes == "none" else info.num_classes


def _phase(
    config: RunConfig,
    name: str,
    images: int,
    parameters: int,
    *,
    flops_per_image: float | None,
    activations_per_image: float | None,
    frozen: int,
    beside: int = 0,
) -> PhaseEstimate:
    """The cost of a phase that trains all but ``frozen`` of ``parameters``, with a model of ``beside`` parameters in memory."""
    phase: PhaseConfig = getattr(config.train, name)
    steps = phase_steps(config, name, images)
    images_per_pass = min(phase.micro_batch_size or phase.batch_size, phase.batch_size)
    activations = None if activations_per_image is None else activations_per_image * images_per_pass
    trained = parameters - frozen
    memory: dict[str, float | None] = {
        "weights": 4.0 * (parameters + beside),
        "gradients": 4.0 * trained,
        "optimizer (two moments)": 8.0 * trained,
        "average (EMA)": 4.0 * trained if phase.ema_decay > 0 else 0.0,
        f"activations, {images_per_pass:,} images": activations,
    }
    flops = None if flops_per_image is None else flops_per_image * steps * phase.batch_size
    return PhaseEstimate(steps=steps, batch_size=phase.batch_size, flops=flops, memory=memory)


def _autoencoder_cost(tokenizer: nn.Module, config: RunConfig) -> tuple[float | None, float | None]:
    """FLOPs and stored values of one image through encoder and decoder; None for tokenizers built otherwise."""
    if not isinstance(tokenizer, ConvTokenizer):
        return None, None
    values = 0

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal values
        values += output.numel() if isinstance(output, Tensor) else 0

    hooks = [
        module.register_forward_hook(count)
        for half in (tokenizer.encoder, tokenizer.decoder)
        for module in half.modules()
        if not list(module.children())
    ]
    side = config.data.image_size
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        tokenizer.encoder(torch.empty(1, 3, side, side, device="meta"))
        tokenizer.decoder(torch.empty(1, config.tokenizer.latent_channels, *config.grid, device="meta"))
    for hook in hooks:
        hook.remove()
    return float(counter.get_total_flops()), float(values)


def _transformer_activations(cost: CostCard, parameters: int, value_bytes: int) -> float | None:
    """Bytes stored per image for the backward pass: tokens x layers x width x `_VALUES_PER_CHANNEL`.

    Tokens follow from the FLOPs (6 per parameter and token), the width from the parameters (12 width² per layer).
    """
    if not cost.layers or not cost.training_flops:
        return None
    tokens = cost.training_flops / (2 * _FORWARD_AND_BACKWARD * parameters)
    width = math.sqrt(parameters / (12 * cost.layers))
    return tokens * cost.layers * width * _VALUES_PER_CHANNEL * value_bytes


def flops_text(value: float | None) -> str:
    """A number of FLOPs with three digits and its unit."""
    if value is None:
        return "not available"
    exponent = 0 if value < 1 else min(int(math.log10(value)) // 3, 8)
    return f"{value / 1000**exponent:.3g} {'kMGTPEZY'[exponent - 1] if exponent else ''}FLOP"


def _bytes(value: float | None) -> str:
    if value is None:
        return "not available"
    return f"{value / 2**20:.1f} MiB" if value < 2**30 else f"{value / 2**30:,.1f} GiB"
