"""The two halves of a configuration: what determines the weights, and what may change whenever a run is resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from nvgbench.config.schema import PhaseConfig

FREE = frozenset(
    {
        "description",
        "data.source",  # images are identified by their fingerprint, not by their place
        "data.eval_images",
        "data.workers",
        "train.log_every",
        "train.checkpoint_every",
        "train.keep_last",
        "train.keep_best",
        "train.keep_optimizer",
        "train.tensorboard",
        "train.validate_every",
        "train.wandb",
        "train.compile",
        "train.parallel",
        "train.activation_checkpointing",
    }
)
"""Settings that do not determine the weights."""

CONTINUABLE = frozenset(
    {
        "train.steps",
        "train.precision",
        "train.cache_tokens",
        *(
            f"train.{phase}.{entry.name}"
            for phase in ("tokenizer", "generator")
            for entry in dataclasses.fields(PhaseConfig)
            if entry.name != "frozen"  # the optimizer's state is of the trained parameters
        ),
    }
)
"""Settings that determine the weights, and may be changed on request from some step on."""

# Keys that the schema got after records with hashes had been written. At these values they are left out of hashes.
_ADDED: Mapping[str, Any] = {
    "data.classes": "all",
    "data.flip": False,
    "train.keep_last": 1,
    "train.keep_optimizer": False,
    "train.parallel": "ddp",
    "train.activation_checkpointing": False,
    "train.tokenizer.frozen": [],
    "train.generator.frozen": [],
    "model.canvas_input": "clean",
    "model.canvas_noise": 0.5,
    "model.content_target": "final-canvas",
    "sampling.precision": "auto",
    "sampling.compile": "auto",
    "sampling.kv_cache": True,
    "model.structure_objective": "flow",
    "model.flow_map_loss": "lagrangian",
    "model.structure_target": "data",
    "sampling.flow_solver": "euler",
}


# What a value stands for in hashes: what it was called, or did, when records with hashes were written.
_FORMERLY: Mapping[str, Mapping[Any, Any]] = {"train.compile": {"auto": False}}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"train": {"seed": 0}}`` as ``{"train.seed": 0}``."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings in which two configurations (nested dicts) differ, with both values; None stands for a missing one."""
    one, other = flatten(there), flatten(here)
    keys = [key for key in sorted(one | other) if one.get(key) != other.get(key)]
    return {key: (one.get(key), other.get(key)) for key in keys}


def hashed_part(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A configuration without the keys that older versions did not have, where they hold their defaults."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found[key] = hashed_part(value, f"{name}.")
        elif not (name in _ADDED and value == _ADDED[name]):
            found[key] = _FORMERLY.get(name, {}).get(value, value) if isinstance(value, str) else value
    return found
