"""The models of a run: with trained weights from its checkpoints, or with random ones."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from nvgbench.config.load import config_hash
from nvgbench.config.schema import RunConfig
from nvgbench.errors import InputError
from nvgbench.interfaces import ImageGenerator
from nvgbench.registry import get_family
from nvgbench.runs.checkpoint import WEIGHTS, VanishedError, load_tensors, model_file, read_state
from nvgbench.runs.seeding import mix_seed
from nvgbench.types import ModelSpec

if TYPE_CHECKING:
    from nvgbench.runs.folder import RunFolder, Weights

_Loaded = TypeVar("_Loaded")
_ATTEMPTS = 10


def load_tokenizer(
    run: RunFolder, device: torch.device | str = "cpu", weights: Weights = "averaged", step: int | None = None
) -> nn.Module:
    """The run's trained tokenizer, see `nvgbench.runs.folder.RunFolder.load_tokenizer`."""
    return _retried(lambda: _tokenizer(run, device, run.checkpoint("tokenizer", step), weights))


def load_generator(
    run: RunFolder, device: torch.device | str = "cpu", weights: Weights = "averaged", step: int | None = None
) -> ImageGenerator:
    """The run's trained model, see `nvgbench.runs.folder.RunFolder.load_generator`."""
    return _retried(lambda: _generator(run, device, weights, step))


def _retried(load: Callable[[], _Loaded]) -> _Loaded:
    """``load()``, again if a training replaces the checkpoint meanwhile."""
    for _ in range(_ATTEMPTS - 1):
        with contextlib.suppress(VanishedError):
            return load()
    return load()


def _tokenizer(run: RunFolder, device: torch.device | str, found: Path, weights: Weights) -> nn.Module:
    config = run.config
    return _load(get_family(config.family).build_tokenizer(config), found, device, weights)


def _generator(run: RunFolder, device: torch.device | str, weights: Weights, step: int | None) -> ImageGenerator:
    config = run.config
    family = get_family(config.family)
    classes = len(run.dataset.classes)
    found = run.checkpoint("generator", step)
    provenance = run.provenance_of(found, weights)
    place = run.checkpoint("tokenizer")
    try:
        tokenizer = _tokenizer(run, device, place, "averaged")
    except VanishedError:
        raise
    except InputError:
        if weights == "averaged":
            raise
        tokenizer = _tokenizer(run, device, place, "plain")
        provenance["tokenizer_weights"] = read_state(place).digest(WEIGHTS)
    generator = _load(family.build_generator(config, tokenizer, classes), found, device, weights)
    return family.image_generator(config, tokenizer, generator, _spec(config, run.name, classes, provenance))


def untrained_generator(config: RunConfig, num_classes: int, seed: int, device: torch.device | str = "cpu") -> ImageGenerator:
    """A model with randomly initialised weights, for profiling and tests.

    Args:
        config: its sizes.
        num_classes: number of classes.
        seed: of the weights; the global random state is not changed.
        device: where it is used.
    """
    family = get_family(config.family)
    with torch.random.fork_rng(devices=[]):
        tokenizer = seeded_tokenizer(config, seed)
        generator = seeded_generator(config, tokenizer, num_classes, seed)
    tokenizer, generator = (module.to(device).eval().requires_grad_(False) for module in (tokenizer, generator))
    provenance = {"weights": "untrained", "seed": seed, "config_hash": config_hash(config)}
    return family.image_generator(config, tokenizer, generator, _spec(config, config.name, num_classes, provenance))


def seeded_tokenizer(config: RunConfig, seed: int) -> nn.Module:
    """A tokenizer with random weights from ``seed``; reseeds torch's global generator."""
    torch.manual_seed(mix_seed(seed, "weights", "tokenizer"))
    return get_family(config.family).build_tokenizer(config)


def seeded_generator(config: RunConfig, tokenizer: nn.Module, num_classes: int, seed: int) -> nn.Module:
    """A generator with random weights from ``seed``; reseeds torch's global generator."""
    torch.manual_seed(mix_seed(seed, "weights", "generator"))
    return get_family(config.family).build_generator(config, tokenizer, num_classes)


def _load(module: nn.Module, found: Path, device: torch.device | str, weights: Weights) -> nn.Module:
    tensors = load_tensors(found, model_file(found, weights == "averaged"))
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(
            f"{found}: the weights do not fit the run's configuration ({' '.join(str(error).split())[:200]}); "
            "were they written by another version? Train again under another `name=`"
        ) from None
    return module.to(device).eval().requires_grad_(False)


def _spec(config: RunConfig, name: str, num_classes: int, provenance: Mapping[str, Any]) -> ModelSpec:
    return ModelSpec(
        name=name,
        family=config.family,
        image_size=config.data.image_size,
        num_classes=num_classes,
        parameters=dict(get_family(config.family).cost(config, num_classes).parameters),
        provenance=dict(provenance),
    )
