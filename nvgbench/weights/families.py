"""Which registered families have an original project, and which of them a file comes from."""

from __future__ import annotations

from collections.abc import Collection

from nvgbench.errors import InputError
from nvgbench.interfaces import ModelFamily, OriginalProject
from nvgbench.registry import family_names, get_family


def original_projects() -> dict[str, OriginalProject]:
    """The original projects of the families that have one, by the family's name."""
    found = {name: _project(get_family(name)) for name in family_names()}
    return {name: project for name, project in found.items() if project is not None}


def original_project(family: str) -> OriginalProject:
    """The project whose files the family's models fit.

    Raises:
        InputError: the family has none.
    """
    projects = original_projects()
    if family not in projects:
        raise InputError(f"family {family!r} has no published files; those that have: {', '.join(projects)}")
    return projects[family]


def recognise(keys: Collection[str]) -> tuple[str, str]:
    """Family and part (``tokenizer`` or ``generator``) of a state dict with these keys.

    Raises:
        InputError: no family knows it.
    """
    projects = original_projects()
    for name, project in projects.items():
        part = project.part(keys)
        if part is not None:
            return name, part
    first = next(iter(keys), "")
    raise InputError(f"its tensors ({first!r} …) belong to no published model; files of {', '.join(projects)} can be read")


def _project(family: ModelFamily) -> OriginalProject | None:
    """Families need not have the attribute."""
    return getattr(family, "original", None)
