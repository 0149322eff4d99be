"""Things found by name: built in, installed under an entry-point group, or imported as ``module:attribute``.

Importing this file does not import torch, and listing names imports nothing of what they name.
"""

from __future__ import annotations

import functools
import importlib.resources
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from importlib.resources.abc import Traversable
from typing import Generic, TypeVar

from nvgbench.errors import InputError, did_you_mean
from nvgbench.interfaces import ModelFamily

T = TypeVar("T")


class Registry(Generic[T]):
    """Objects of one kind by name.

    Args:
        kind: what they are, for messages: ``model family``.
        group: entry-point group under which other packages register theirs.
        built_in: name -> ``module:attribute`` of nvgbench's own; no other package can take these names.
        importable: also accept ``module:attribute`` as a name.
    """

    def __init__(self, kind: str, group: str, built_in: Mapping[str, str] | None = None, *, importable: bool = False) -> None:
        self.kind = kind
        self.group = group
        self._built_in = {name: EntryPoint(name, value, group) for name, value in (built_in or {}).items()}
        self._importable = importable

    def names(self) -> tuple[str, ...]:
        """The built-in names in their order, then the installed ones sorted."""
        return tuple(self._entries())

    def get(self, name: str) -> T:
        """What is registered as ``name``.

        Raises:
            InputError: nothing is, or it cannot be imported.
        """
        entries = self._entries()
        if name in entries:
            entry = entries[name]
        elif self._importable and ":" in name:
            entry = EntryPoint(name, name, self.group)
        else:
            raise InputError(f"no {self.kind} {name!r}{did_you_mean(name, entries)}; known: {', '.join(entries)}")
        try:
            return entry.load()
        except Exception as error:  # a module of another package can fail in any way
            if name in self._built_in:
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            remedy = "; add its folder to PYTHONPATH" if isinstance(error, ModuleNotFoundError) else ""
            raise InputError(f"{self.kind} {name!r} cannot be imported ({reason}){remedy}") from error

    def _entries(self) -> dict[str, EntryPoint]:
        installed = _installed(self.group, tuple(sys.path))
        return self._built_in | {name: entry for name, entry in installed.items() if name not in self._built_in}


@functools.cache
def _installed(group: str, path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Entry points of a group by name, sorted; ``path`` is ``sys.path``, so that a change of it is noticed."""
    return {entry.name: entry for entry in sorted(entry_points(group=group), key=lambda entry: entry.name)}


FAMILIES: Registry[ModelFamily] = Registry("model family", "nvgbench.models")


def family_names() -> tuple[str, ...]:
    """Names of all registered model families, sorted."""
    return FAMILIES.names()


def get_family(name: str) -> ModelFamily:
    """The model family registered as ``name``.

    Raises:
        InputError: no such family, or something else is registered under that name.
    """
    family = FAMILIES.get(name)
    if not isinstance(family, ModelFamily):
        raise InputError(f"model family {name!r} is a {type(family).__name__}; derive it from nvgbench.interfaces.ModelFamily")
    return family


def preset_files() -> dict[str, Traversable]:
    """Every preset of every family: name -> its TOML file, sorted by name."""
    return _preset_files(family_names())


@functools.cache
def _preset_files(families: tuple[str, ...]) -> dict[str, Traversable]:
    found: dict[str, Traversable] = {}
    for family in families:
        for file in importlib.resources.files(get_family(family).presets).iterdir():
            if file.name.endswith(".toml"):
                found[file.name.removesuffix(".toml")] = file
    return dict(sorted(found.items()))


def get_preset(name: str) -> Traversable:
    """The TOML file of preset ``name``.

    Raises:
        InputError: no such preset.
    """
    files = preset_files()
    if name not in files:
        raise InputError(f"no preset {name!r}{did_you_mean(name, files)}; known: {', '.join(files)}")
    return files[name]


def tokenizer_folders() -> dict[str, Traversable]:
    """Every trained tokenizer that comes with a family: name -> folder of the run that trained it, sorted by name."""
    return _tokenizer_folders(family_names())


@functools.cache
def _tokenizer_folders(families: tuple[str, ...]) -> dict[str, Traversable]:
    packages = [package for family in families if (package := get_family(family).tokenizers) is not None]
    folders = [entry for package in packages for entry in importlib.resources.files(package).iterdir() if entry.is_dir()]
    return {
        folder.name: folder for folder in sorted(folders, key=lambda folder: folder.name) if not folder.name.startswith("_")
    }
