"""The record of a profile: what was measured beside the family's own formulas."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch

from nvgbench.config.load import changed_settings, config_hash, override_dataclass, to_dict
from nvgbench.config.schema import ExecutionConfig, RunConfig
from nvgbench.device import describe_device, resolve_compile, resolve_precision, resolved_settings
from nvgbench.interfaces import ImageGenerator
from nvgbench.profiling.details import Computation, Details
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
    skipped: Collection[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> RunRecord:
    """Measure a generator, and put the counted FLOPs beside the family's own formula.

    Args:
        generator: on ``device``.
        config: its configuration.
        plan: what to measure.
        device: where it runs.
        settings: overrides of the sampling settings.
        skipped: parts of the family's sampler that this generator leaves out.
        progress: called with (steps done, steps) after each step.

    Raises:
        InputError: unknown sampling settings.
    """
    settings = settings or {}
    sampling = override_dataclass(config.sampling, settings, "sampling")
    cost = get_family(config.family).cost(dataclasses.replace(config, sampling=sampling), generator.spec.num_classes)
    by_part = {part: float(flops) for part, flops in cost.sampling_flops.items() if part not in skipped}
    computation = _computation(sampling, by_part, device)
    plan = dataclasses.replace(plan, settings=settings, eager=computation.eager)
    measurements = profile_generator(generator, plan, device, progress)
    details = Details(generator, computation, plan.repeats, settings, device).tables(measurements)
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
        tables={
            "parameters": [{"part": part, "count": n} for part, n in generator.spec.parameters.items() if part not in skipped],
            **details,
        },
        provenance=collect(
            generator.spec.provenance.get("config_hash", config_hash(config)),
            gpu=described.get("gpu"),
            device=described,
            model=dict(generator.spec.provenance),
            changed=changed_settings(config),
            settings=resolved_settings(to_dict(sampling), device),
            image_size=generator.spec.image_size,
        ),
    )


def _computation(sampling: Any, flops: Mapping[str, float], device: torch.device) -> Computation:
    if not isinstance(sampling, ExecutionConfig):
        return Computation(precision="fp32", compiled=False, eager={}, flops=flops)
    return Computation(
        precision=resolve_precision(sampling.precision, device),
        compiled=resolve_compile(sampling.compile, device),
        eager={"compile": False},
        flops=flops,
    )
