"""Describes the form that the schema expects for a key, for messages about values of another form."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Sequence
from typing import Any

# pydantic's types of errors about the form of a value, not its size: `ErrorDetails.type`.
_OF_FORM = (
    "tuple_type", "too_long", "too_short", "missing", "int_type", "int_parsing", "int_from_float", "float_type",
    "float_parsing", "bool_type", "bool_parsing", "string_type", "dataclass_type",
)  # fmt: skip
_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}
_EXAMPLES: dict[Any, Any] = {int: 8, float: 0.001, bool: True, str: "name"}


def expected_form(schema: Any, path: Sequence[str | int], problem: str, section: str) -> tuple[str, str] | None:
    """The key of a value whose form differs from the schema's, and the expected form with an example.

    Args:
        schema: dataclass that was validated.
        path: pydantic's location in it; entries of a list belong to the list's key.
        problem: pydantic's type of the error.
        section: dotted path of the dataclass.

    Returns:
        ``("sampling.top_p", "a list of 2 numbers, e.g. sampling.top_p=[1.0,0.5]")``; None for other problems.
    """
    if problem not in _OF_FORM:
        return None
    kind, default, keys = schema, None, [section] if section else []
    for part in path:
        if not dataclasses.is_dataclass(kind):
            break
        entry = getattr(kind, "__pydantic_fields__", {}).get(part)
        if entry is None:
            return None
        kind, default, keys = _without_none(entry.annotation), entry.default, [*keys, str(part)]
    key = ".".join(keys)
    if dataclasses.is_dataclass(kind):
        first = dataclasses.fields(kind)[0].name
        return (key, f"a section of keys, e.g. {key}.{first}=…") if problem == "dataclass_type" else None
    described = _describe(kind)
    if described is None:
        return None
    form, example = described
    fits = isinstance(default, (int, float, str, tuple))
    # Without spaces, so that the example is one word in a shell.
    return key, f"{form}, e.g. {key}={json.dumps(default if fits else example, separators=(',', ':'))}"


def _without_none(annotation: Any) -> Any:
    """``int`` of ``int | None``."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        kinds = [kind for kind in typing.get_args(annotation) if kind is not types.NoneType]
        return kinds[0] if len(kinds) == 1 else annotation
    return annotation


def _describe(kind: Any) -> tuple[str, Any] | None:
    """The form in words, and an example."""
    parts = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Annotated:
        return _describe(parts[0])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        forms = [_describe(part) for part in parts]
        known = [form for form in forms if form is not None]
        return (" or ".join(form for form, _ in known), known[0][1]) if len(known) == len(forms) else None
    if kind in _NAMES:
        return _NAMES[kind], _EXAMPLES[kind]
    parts = tuple(typing.get_args(part)[0] if typing.get_origin(part) is typing.Annotated else part for part in parts)
    if typing.get_origin(kind) is not tuple or parts[0] not in _PLURALS:
        return None
    if parts[-1] is Ellipsis:
        return f"a list of {_PLURALS[parts[0]]}", ["name"] if parts[0] is str else [1, 2, 4]
    return f"a list of {len(parts)} {_PLURALS[parts[0]]}", [_EXAMPLES[part] for part in parts]
