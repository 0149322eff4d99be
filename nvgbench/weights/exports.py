"""Exports a run's weights in the layout of the original project, so that its code can load them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nvgbench.config.load import load_preset, to_dict
from nvgbench.config.schema import RunConfig
from nvgbench.errors import InputError
from nvgbench.files import StrPath, whole_file
from nvgbench.interfaces import OriginalProject
from nvgbench.runs import checkpoint as ckpt
from nvgbench.runs.folder import Phase, RunFolder, Weights
from nvgbench.weights.families import original_project
from nvgbench.weights.imports import KEPT, POSITIONS

# The section of the configuration that the weights of each part depend on.
_SECTION = {"tokenizer": "tokenizer", "generator": "model"}
# Keys of those sections that only matter in training.
_TRAINING_ONLY = (
    "losses", "codebook_std", "drop_path", "label_drop", "gate_init", "dropout",
    "alignment", "alignment_weight", "alignment_block", "alignment_folder",
)  # fmt: skip


def export_part(
    run: RunFolder, part: Phase, out: StrPath, *, weights: Weights = "averaged", step: int | None = None
) -> list[str]:
    """Write one part of a run as the original project's code would.

    An imported run reproduces the file that it was made from: every tensor with its name, type, shape and values, in the same
    order. For a run that was trained here, tensors that are not learned are computed; a generator's moving average is
    written beside the plain weights if the project does so, a tokenizer with the weights that the run uses.

    Args:
        run: the run.
        part: which of its parts.
        out: the file.
        weights: ``plain`` leaves the moving average out.
        step: of the part's checkpoint; the last one if None.

    Returns:
        The settings (``key = value``) that affect the model but cannot be stored in the layout.

    Raises:
        InputError: a family without an original layout, a file name without the project's suffix, an untrained part.
        OSError: the file cannot be written.
    """
    config = run.config
    project = original_project(config.family)
    out = Path(out)
    if out.suffix != project.suffix:
        raise InputError(f"`out={out}`: files of {project.title} end in {project.suffix}; use that suffix")
    tensors = original_state(run, part, weights=weights, step=step)
    content = tensors if project.container is None else {project.container: tensors}
    with whole_file(out) as temporary:
        torch.save(content, temporary)
    plain, average = project.prefixes(part)
    names = {key.removeprefix(plain): value for key, value in tensors.items() if not (average and key.startswith(average))}
    return _lost_settings(project, config, part, names)


def original_state(run: RunFolder, part: Phase, *, weights: Weights = "averaged", step: int | None = None) -> dict[str, Tensor]:
    """The state dict that `export_part` writes.

    Raises:
        InputError: the part is untrained or damaged, there is no such step, or the family has no original layout.
    """
    config = run.config
    project = original_project(config.family)
    checkpoint = run.checkpoint(part, step)
    prefixes, derived = _prefixes(project, part, checkpoint), project.derived(part, config)
    averaged = weights == "averaged"
    if not averaged:
        prefixes = {"weights": prefixes["weights"]}
    imported = KEPT in ckpt.read_state(checkpoint).files
    found: dict[str, Tensor] = dict(ckpt.load_tensors(checkpoint, KEPT)) if imported else {}
    for role, prefix in prefixes.items():
        file = ckpt.EMA if role == "ema" else ckpt.model_file(checkpoint, ema=averaged and "ema" not in prefixes)
        tensors = project.to_original(part, ckpt.load_tensors(checkpoint, file), config)
        found |= {prefix + name: tensor for name, tensor in ({} if imported else derived).items()}
        found |= {prefix + name: tensor for name, tensor in tensors.items()}
    return _in_file_order(found, checkpoint)


def _in_file_order(tensors: Mapping[str, Tensor], checkpoint: Path) -> dict[str, Tensor]:
    """The tensors in the order of the imported file, if the run was imported."""
    imported = POSITIONS in ckpt.read_state(checkpoint).files
    positions = ckpt.load_tensors(checkpoint, POSITIONS)["places"].tolist() if imported else []
    if len(positions) != len(tensors):
        return dict(tensors)
    return {name: tensors[name] for _, name in sorted(zip(positions, sorted(tensors), strict=True))}


def _prefixes(project: OriginalProject, part: Phase, checkpoint: Path) -> Mapping[str, str]:
    """Role (``weights``, ``ema``) -> prefix of the tensors' names."""
    source: Mapping[str, Any] = ckpt.read_state(checkpoint).source
    if "prefixes" in source:
        return source["prefixes"]
    plain, average = project.prefixes(part)
    if part == "generator" and average is not None and ckpt.read_state(checkpoint).has(ckpt.EMA):
        return {"weights": plain, "ema": average}
    return {"weights": plain}


def _lost_settings(project: OriginalProject, config: RunConfig, part: Phase, tensors: Mapping[str, Tensor]) -> list[str]:
    """Settings that an import of the file would not recover, as names and shapes do not show them."""
    generator, tokenizer = (tensors, None) if part == "generator" else (None, tensors)
    sizes = project.sizes(generator, tokenizer)
    inferred = load_preset(sizes.preset, [f"{key}={json.dumps(value)}" for key, value in sizes.settings.items()])
    section = _SECTION[part]
    here, there = (_flat(to_dict(getattr(one, section)), section) for one in (config, inferred))
    return [f"{key} = {here.get(key)}" for key in sorted(here | there) if here.get(key) != there.get(key)]


def _flat(tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if key not in _TRAINING_ONLY:
            found |= _flat(value, f"{prefix}.{key}") if isinstance(value, Mapping) else {f"{prefix}.{key}": value}
    return found
