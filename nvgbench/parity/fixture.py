"""Golden numbers on disk: a JSON file that describes them, and an ``.npz`` of the same name with the arrays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nvgbench.errors import InputError, did_you_mean


@dataclass(frozen=True)
class Fixture:
    """One fixture.

    Attributes:
        name: file name, for messages.
        facts: the JSON file: ``config``, ``settings``, ``arrays`` (contents of the archive), state-dict shapes, scalars.
        arrays: the archive; empty if the JSON file lists no arrays.
        intact: whether the archive has the expected SHA-256; None if none is known.
    """

    name: str
    facts: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    intact: bool | None = None

    def fact(self, *path: str) -> Any:
        """An entry of the JSON file, by its keys.

        Raises:
            InputError: no such entry.
        """
        found: Any = self.facts
        for depth, key in enumerate(path):
            if not isinstance(found, Mapping) or key not in found:
                known = found.keys() if isinstance(found, Mapping) else ()
                where = " of ".join(repr(part) for part in reversed(path[:depth])) or "the JSON file"
                raise InputError(
                    f"{self.name} is incomplete or has another layout: {where} has no {key!r}{did_you_mean(key, known)}; "
                    "give a fixture of this family in the layout of the shipped ones"
                )
            found = found[key]
        return found

    def array(self, name: str) -> np.ndarray:
        """An array that others are recomputed from.

        Raises:
            InputError: it is not in the archive.
        """
        if name not in self.arrays:
            raise InputError(f"{self.name} is incomplete: it lacks the array {name!r}, from which others are recomputed")
        return self.arrays[name]

    @property
    def settings(self) -> Mapping[str, Mapping[str, Any]]:
        """Settings of groups of arrays, by the common start of their names."""
        return self.facts.get("settings", {})

    def with_settings(self, read: Callable[[Fixture, str], tuple[str, dict[str, Any]] | None]) -> Fixture:
        """A fixture with settings: this one, or for the first layout, which lists none, a copy with those that ``read`` finds.

        Args:
            read: called with the fixture and the name of each array and fact; returns group and settings, or None.
        """
        if "settings" in self.facts:
            return self
        found = filter(None, (read(self, name) for name in (*self.arrays, *self.facts)))
        return replace(self, facts={**self.facts, "settings": dict(found)})

    @property
    def absent(self) -> list[str]:
        """Arrays that the JSON file lists but the archive lacks; they are not checked."""
        return [name for name in self.facts.get("arrays", {}) if name not in self.arrays]


def read_fixture(path: Path, sha256: str | None = None) -> Fixture:
    """Read a fixture from its JSON file and the archive beside it.

    Args:
        path: the JSON file.
        sha256: of the archive, if known: not every change of an input shows in an output.

    Raises:
        InputError: a file is missing, truncated or of another format, or contains objects instead of numbers.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; expected the JSON file of a fixture") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a JSON file ({error}); expected the JSON file of a fixture") from None
    if not isinstance(facts, dict):
        raise InputError(f"{path} contains a {type(facts).__name__}; expected the JSON object of a fixture")
    arrays = _read_archive(path) if "arrays" in facts or path.with_suffix(".npz").exists() else {}
    intact = None if sha256 is None else hashlib.sha256(path.with_suffix(".npz").read_bytes()).hexdigest() == sha256
    fixture = Fixture(path.name, facts, arrays, intact)
    _compare_with_listing(fixture)
    return fixture


def _read_archive(path: Path) -> dict[str, np.ndarray]:
    stem = path.name.removesuffix(".json")
    try:
        with np.load(path.parent / f"{stem}.npz", allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise InputError(f"{path} lists arrays, but there is no {stem}.npz beside it") from None
    except Exception as error:  # damaged bytes raise anything
        raise InputError(
            f"{stem}.npz beside {path} is not a complete archive of numbers: {' '.join(str(error).split())[:200]}"
        ) from None


def _compare_with_listing(fixture: Fixture) -> None:
    """Compare shape and type of each array with the listing, whose entries are lists or objects."""
    listing = fixture.facts.get("arrays", {})
    if not isinstance(listing, Mapping):
        raise InputError(f"{fixture.name}: 'arrays' must give shape and type of each array; got a {type(listing).__name__}")
    for name, array in fixture.arrays.items():
        entry = listing.get(name)
        if entry is None:
            continue
        dtype, shape = (entry.get("dtype"), entry.get("shape")) if isinstance(entry, Mapping) else entry
        if str(array.dtype) != dtype or list(array.shape) != list(shape or ()):
            raise InputError(
                f"{fixture.name}: array {name!r} is {array.dtype} {list(array.shape)} in the archive but {dtype} {shape} in "
                "the listing; the two files do not belong together"
            )
