"""The record of a profile: what was measured beside the family's own formulas."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch

from nvgbench.config.load import changed_settings, config_hash, override_dataclass, to_dict
from nvgbench.config.schema import RunConfig
from nvgbench.device import describe_device
from nvgbench.interfaces import ImageGenerator
from nvgbench.profiling.profile import ProfilePlan, profile_generator
from nvgbench.registry import get_family
from nvgbench.results.provenance import collect
from nvgbench.results.schema import RunRecord
from nvgbench.types import Measurement


def profile_record(
    generator: ImageGenerator,
    config: RunConfig,
    plan: ProfilePlan,
    device: torch.device,
    *,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RunRecord:
    """Measure a generator, and put the counted FLOPs beside the family's own formula.

    Args:
        generator: on ``device``.
        config: its configuration.
        plan: what to measure.
        device: where it runs.
        settings: overrides of the sampling settings.
        progress: called with (steps done, steps) after each step.

    Raises:
        InputError: unknown sampling settings.
    """
    settings = settings or {}
    sampling = override_dataclass(config.sampling, settings, "sampling")
    cost = get_family(config.family).cost(dataclasses.replace(config, sampling=sampling), generator.spec.num_classes)
    measurements = profile_generator(generator, dataclasses.replace(plan, settings=settings), device, progress)
    by_part = {part: float(flops) for part, flops in cost.sampling_flops.items()}
    analytic = Measurement(
        name="flops_analytic",
        unit="FLOP/image",
        samples=(sum(by_part.values()),) if by_part else (),
        conditions={"parts": by_part, "batch_size": 1},
    )
    described = describe_device(device)
    return RunRecord(
        kind="profile",
        subject=generator.spec.name,
        family=generator.spec.family,
        preset=config.name,
        measurements=(*measurements, analytic),
        tables={"parameters": [{"part": part, "count": number} for part, number in generator.spec.parameters.items()]},
        provenance=collect(
            generator.spec.provenance.get("config_hash", config_hash(config)),
            gpu=described.get("gpu"),
            device=described,
            model=dict(generator.spec.provenance),
            changed=changed_settings(config),
            settings=to_dict(sampling),
            image_size=generator.spec.image_size,
        ),
    )
