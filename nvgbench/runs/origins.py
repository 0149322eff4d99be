"""The trained weights that a run was started from: ``origins.json``. Importing this file does not import torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nvgbench.errors import InputError
from nvgbench.files import write_text

Origins = dict[str, dict[str, Any]]
"""By phase: run, configuration hash, step, SHA-256 of the weights, the published file if any and, for a generator, how many
classes kept their embedding and how many are new."""


def read_origins(path: Path) -> Origins:
    """The origins stored at ``path``; empty if there is no such file.

    Raises:
        InputError: the file is damaged.
    """
    try:
        return TypeAdapter(Origins).validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise InputError(f"{path} is damaged ({problem}); restore it, or train under another `name=`") from None


def note_origin(path: Path, phase: str, origin: Mapping[str, Any]) -> None:
    """Store the origin of a phase."""
    write_text(path, json.dumps({**read_origins(path), phase: dict(origin)}, indent=1) + "\n")
