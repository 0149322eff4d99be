"""A run's weights in the layout of the original project, so that its code can load them."""

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
from nvgbench.files import whole_file
from nvgbench.interfaces import OriginalProject
from nvgbench.runs import checkpoint as ckpt
from nvgbench.runs.folder import Phase, RunFolder
from nvgbench.weights.families import original_project
from nvgbench.weights.imports import KEPT, PLACES

# Sections of the configuration that decide what the weights mean.
_MEANING = {"tokenizer": "tokenizer", "generator": "model"}
# Keys of those sections that only matter while a model is trained.
_TRAINING_ONLY = (
    "losses", "codebook_std", "drop_path", "label_drop", "gate_init", "dropout",
    "alignment", "alignment_weight", "alignment_block", "alignment_folder",
)  # fmt: skip


def export_part(run: RunFolder, part: Phase, out: Path) -> list[str]:
    """Write one part of a run as the original project's code would.

    A run that was imported gives every tensor of the file that it was made of, in the same order, with the same name, type,
    shape and values.
    For one that was trained here, tensors that nobody learns are computed; a generator's moving average is written beside
    the plain weights where the project does so, a tokenizer as the run uses it.

    Returns:
        The settings that matter, ``key = value``, and that the layout cannot carry.

    Raises:
        InputError: a family without an original layout, a file name without the project's suffix, a part not trained.
        OSError: the file cannot be written.
    """
    config = run.config
    project = original_project(config.family)
    if out.suffix != project.suffix:
        raise InputError(f"--out {out}: the files of {project.title} end in {project.suffix}; use that")
    tensors = original_state(run, part)
    content = tensors if project.container is None else {project.container: tensors}
    with whole_file(out) as temporary:
        torch.save(content, temporary)
    plain, average = project.prefixes(part)
    names = {key.removeprefix(plain): value for key, value in tensors.items() if not (average and key.startswith(average))}
    return _not_carried(project, config, part, names)


def original_state(run: RunFolder, part: Phase) -> dict[str, Tensor]:
    """The state dict that `export_part` writes.

    Raises:
        InputError: the part is not trained, damaged, or of a family without an original layout.
    """
    config = run.config
    project = original_project(config.family)
    checkpoint = ckpt.latest_checkpoint(run.checkpoints(part))
    if checkpoint is None:
        raise InputError(f"{run.path} has no trained {part}; nothing was written")
    prefixes, derived = _prefixes(project, part, checkpoint), project.derived(part, config)
    imported = KEPT in ckpt.read_state(checkpoint).files
    found: dict[str, Tensor] = dict(ckpt.load_tensors(checkpoint, KEPT)) if imported else {}
    for role, prefix in prefixes.items():
        file = ckpt.EMA if role == "ema" else ckpt.model_file(checkpoint, ema="ema" not in prefixes)
        tensors = project.to_original(part, ckpt.load_tensors(checkpoint, file), config)
        found |= {prefix + name: tensor for name, tensor in ({} if imported else derived).items()}
        found |= {prefix + name: tensor for name, tensor in tensors.items()}
    return _in_the_files_order(found, checkpoint)


def _in_the_files_order(tensors: Mapping[str, Tensor], checkpoint: Path) -> dict[str, Tensor]:
    """The tensors as the imported file has them one after the other, where the run knows that."""
    known = PLACES in ckpt.read_state(checkpoint).files
    places = ckpt.load_tensors(checkpoint, PLACES)["places"].tolist() if known else []
    if len(places) != len(tensors):
        return dict(tensors)
    return {name: tensors[name] for _, name in sorted(zip(places, sorted(tensors), strict=True))}


def _prefixes(project: OriginalProject, part: Phase, checkpoint: Path) -> Mapping[str, str]:
    """What stands before the names of the plain and of the averaged weights."""
    source: Mapping[str, Any] = ckpt.read_state(checkpoint).source
    if "prefixes" in source:
        return source["prefixes"]
    plain, average = project.prefixes(part)
    if part == "generator" and average is not None and (checkpoint / ckpt.EMA).exists():
        return {"weights": plain, "ema": average}
    return {"weights": plain}


def _not_carried(project: OriginalProject, config: RunConfig, part: Phase, tensors: Mapping[str, Tensor]) -> list[str]:
    """What importing the file again would get wrong: settings that do not show in names and shapes."""
    generator, tokenizer = (tensors, None) if part == "generator" else (None, tensors)
    sizes = project.sizes(generator, tokenizer)
    told = load_preset(sizes.preset, [f"{key}={json.dumps(value)}" for key, value in sizes.settings.items()])
    section = _MEANING[part]
    here, there = (_flat(to_dict(getattr(one, section)), section) for one in (config, told))
    return [f"{key} = {here.get(key)}" for key in sorted(here | there) if here.get(key) != there.get(key)]


def _flat(tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if key not in _TRAINING_ONLY:
            found |= _flat(value, f"{prefix}.{key}") if isinstance(value, Mapping) else {f"{prefix}.{key}": value}
    return found
