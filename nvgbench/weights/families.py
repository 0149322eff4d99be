"""The original projects of the registered families: which one a file comes from, and their published files by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from nvgbench.errors import InputError, did_you_mean
from nvgbench.interfaces import HubFile, OriginalProject
from nvgbench.registry import family_names, get_family
from nvgbench.weights.hub import hub_file


def original_projects() -> dict[str, OriginalProject]:
    """The original projects by the name of their family, for the families that have one."""
    found = {name: get_family(name).original for name in family_names()}
    return {name: project for name, project in found.items() if project is not None}


def original_project(family: str) -> OriginalProject:
    """The project whose files the family's models fit.

    Raises:
        InputError: the family has none.
    """
    projects = original_projects()
    if family not in projects:
        raise InputError(f"family {family!r} has no published files; families that do: {', '.join(projects)}")
    return projects[family]


def recognise(keys: Collection[str]) -> tuple[str, str]:
    """Family and part (``tokenizer`` or ``generator``) of a state dict with these keys.

    Raises:
        InputError: no family recognises it.
    """
    projects = original_projects()
    for name, project in projects.items():
        part = project.part(keys)
        if part is not None:
            return name, part
    first = next(iter(keys), "")
    raise InputError(f"its tensors ({first!r} …) are of no published model that is known here ({', '.join(projects)})")


def hub_files() -> Mapping[str, HubFile]:
    """Every published file of every family by its name."""
    return {name: file for project in original_projects().values() for name, file in project.hub.items()}


def find_published(given: str) -> Path:
    """A file of weights given by its path or by its published name (``var_d16.pth``, ``ae.ckpt`` …).

    Anything that is not a local file is looked up on the Hugging Face Hub.

    Raises:
        InputError: neither a file nor a published name, or the download failed.
    """
    if Path(given).is_file():
        return Path(given)
    known = hub_files()
    if given not in known:
        raise InputError(
            f"{given} is neither a file nor a published name{did_you_mean(given, known)}; names: {', '.join(known)}"
        )
    try:
        return hub_file(known[given].repository, given)
    except InputError as error:
        raise InputError(f"{error}; or download it elsewhere ({known[given].terms}) and give its path") from None
