"""The cost of a preset as a record: computed from the configuration, so that gates can compare it exactly on any machine."""

from __future__ import annotations

import torch

from nvgbench.config.load import changed_settings, config_hash
from nvgbench.config.schema import RunConfig
from nvgbench.results.provenance import collect
from nvgbench.results.schema import RunRecord
from nvgbench.training.dry_run import estimate
from nvgbench.types import Measurement


def cost_record(config: RunConfig) -> RunRecord:
    """The estimate of a training in float32: ``parameters[part]``, ``flops_sampling[part]`` (per guided image),
    ``flops_training`` (forward and backward of one image), ``flops_training[phase]`` (the whole phase) and
    ``memory_model[phase: what]`` (bytes of one process; activations are an estimate).

    Raises:
        InputError: a data set of unknown size that cannot be opened.
    """
    found = estimate(config, torch.device("cpu"))
    counted: dict[str, tuple[str, float | None]] = {
        **{f"parameters[{part}]": ("", count) for part, count in found.parameters.items()},
        **{f"flops_sampling[{part}]": ("FLOP/image", flops) for part, flops in found.sampling_flops.items()},
        "flops_training": ("FLOP/image", found.training_flops),
        **{f"flops_training[{name}]": ("FLOP", phase.flops) for name, phase in found.phases.items()},
        **{
            f"memory_model[{name}: {what}]": ("B", size)
            for name, phase in found.phases.items()
            for what, size in phase.memory.items()
        },
    }
    return RunRecord(
        kind="cost",
        subject=config.name,
        family=config.family,
        preset=config.name,
        measurements=tuple(
            # Rounded: sums of products may differ in the last bit between compilers.
            Measurement(name=name, unit=unit, samples=() if value is None else (float(round(value)),))
            for name, (unit, value) in counted.items()
        ),
        provenance=collect(config_hash(config), changed=changed_settings(config)),
    )
