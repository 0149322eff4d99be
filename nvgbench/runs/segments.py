"""The segments of a run: parts of its training with different settings. Importing this file does not import torch.

``segments.json`` exists once something has changed since the run was started. It holds the first configuration and the list of
segments; ``config.toml`` always holds the current configuration.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nvgbench.config.load import build_config, config_hash, replicate_hash, to_dict
from nvgbench.config.schema import RunConfig
from nvgbench.errors import InputError
from nvgbench.files import write_text


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of a training.

    Attributes:
        hash: of its configuration and its history; that of the first segment is `nvgbench.config.load.config_hash`.
        replicate: the same without the seed, see `nvgbench.config.load.replicate_hash`.
        steps: completed steps of each phase at its start.
        settings: what changed against the segment before.
        notes: what else changed, e.g. that the optimizer started anew.
        rewound: the step that a return to an earlier checkpoint was asked for, if the segment began with one.
    """

    hash: str
    replicate: str
    steps: dict[str, int] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    rewound: int | None = None


@dataclass(frozen=True, kw_only=True)
class History:
    """The segments of a run, oldest first, and the configuration that it was started with."""

    first: RunConfig
    segments: tuple[Segment, ...]

    @classmethod
    def start(cls, config: RunConfig) -> History:
        """The history of a run in which nothing has changed."""
        return cls(first=config, segments=(Segment(hash=config_hash(config), replicate=replicate_hash(config)),))

    def extended(
        self, steps: Mapping[str, int], settings: Mapping[str, Any], notes: tuple[str, ...] = (), rewound: int | None = None
    ) -> History:
        """With a new segment from ``steps`` on; segments of which no step is left are merged into it."""
        kept, changed = list(self.segments), dict(settings)
        while len(kept) > 1 and all(kept[-1].steps.get(phase, 0) >= step for phase, step in steps.items()):
            changed = kept.pop().settings | changed
        last = kept[-1]
        new = Segment(
            hash=_mixed(last.hash, steps, changed),
            replicate=_mixed(last.replicate, steps, changed),
            steps=dict(steps),
            settings=changed,
            notes=notes,
            rewound=rewound,
        )
        return History(first=self.first, segments=(*kept, new))


def read_history(path: Path) -> History | None:
    """The history stored at ``path``; None if there is none, because nothing has changed yet.

    Raises:
        InputError: the file is damaged.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        segments = TypeAdapter(tuple[Segment, ...]).validate_python(tree["segments"])
        if not segments:
            raise ValueError("it lists no segments")
        return History(first=build_config(tree["first"], str(path)), segments=segments)
    except FileNotFoundError:
        return None
    except (ValidationError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} is damaged ({' '.join(str(error).split())[:200]}); restore it, or train under another `name=`"
        ) from None


def write_history(path: Path, history: History) -> None:
    """Store a history, completely or not at all."""
    tree = {"first": to_dict(history.first), "segments": [asdict(segment) for segment in history.segments]}
    write_text(path, json.dumps(tree, indent=1) + "\n")


def _mixed(before: str, steps: Mapping[str, int], settings: Mapping[str, Any]) -> str:
    text = json.dumps([before, dict(steps), dict(settings)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
