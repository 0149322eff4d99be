"""Model families and presets by name, looked up lazily; a misspelt name gets suggestions."""

from __future__ import annotations

import functools
import importlib.resources
from importlib.metadata import entry_points
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

from nvgbench.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from nvgbench.interfaces import ModelFamily

GROUP = "nvgbench.models"


@functools.cache
def family_names() -> tuple[str, ...]:
    """Names of all registered model families, sorted."""
    return tuple(sorted({entry.name for entry in entry_points(group=GROUP)}))


@functools.cache
def get_family(name: str) -> ModelFamily:
    """The model family registered as ``name``.

    Raises:
        InputError: no such family.
    """
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            return entry.load()
    raise InputError(f"no model family {name!r}; known: {', '.join(family_names())}{did_you_mean(name, family_names())}")


@functools.cache
def preset_files() -> dict[str, Traversable]:
    """Every preset of every family: name -> its TOML file, in alphabetical order."""
    found: dict[str, Traversable] = {}
    for family in family_names():
        folder = importlib.resources.files(get_family(family).presets)
        for entry in folder.iterdir():
            if entry.name.endswith(".toml"):
                found[entry.name.removesuffix(".toml")] = entry
    return dict(sorted(found.items()))


def get_preset(name: str) -> Traversable:
    """The TOML file of preset ``name``.

    Raises:
        InputError: no such preset.
    """
    files = preset_files()
    if name not in files:
        raise InputError(f"no preset {name!r}; known: {', '.join(files)}{did_you_mean(name, files)}")
    return files[name]
