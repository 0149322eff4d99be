"""Which model a record is about: its preset, and the settings that make it another one. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nvgbench.results.schema import RunRecord

_LENGTHS = frozenset(f"train.{phase}{length}" for phase in ("", "tokenizer.", "generator.") for length in ("steps", "epochs"))
"""How long was trained; the number of images seen tells it as well."""
_OF_TRAINING = ("train.", "data.train_images", "data.seed")
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Model:
    """The identity of a model.

    Attributes:
        preset: its preset.
        changed: settings by key in which it differs from the preset (`nvgbench.config.load.changed_settings`).
        sampling: the sampling settings of its newest scores, if known.
    """

    preset: str
    changed: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)

    def is_preset_with(self, settings: Mapping[str, Any], *, trained: bool = True) -> bool:
        """Whether exactly these settings differ from the preset, however long it was trained.

        Args:
            settings: values by key.
            trained: whether the recipe of the training counts, not the architecture alone.
        """
        found = {key: value for key, value in self.changed.items() if key not in _LENGTHS}
        if not trained:
            found = {key: value for key, value in found.items() if not key.startswith(_OF_TRAINING)}
        return found == dict(settings)

    def chosen(self, keys: Iterable[str]) -> dict[str, Any]:
        """What it changes of these settings."""
        return {key: self.changed[key] for key in keys if key in self.changed}


def models(records: Iterable[RunRecord]) -> dict[str, Model]:
    """Subject -> its model, by its newest records; older records without the entry count as unchanged presets."""
    found: dict[str, Model] = {}
    for record in sorted(records, key=lambda record: record.created):
        if not record.preset:
            continue
        changed, sampling = record.provenance.get("changed"), record.provenance.get("settings")
        known = found.get(record.subject, Model(preset=record.preset))
        found[record.subject] = Model(
            preset=record.preset,
            changed=changed if isinstance(changed, Mapping) else known.changed,
            sampling=sampling if record.kind == "eval" and isinstance(sampling, Mapping) else known.sampling,
        )
    return found


def model_name(record: RunRecord) -> str:
    """The preset, followed by what was changed: ``nvg-tiny (model.structure_rope=false)``."""
    changed = record.provenance.get("changed") or {}
    if not changed:
        return record.preset
    parts = [f"{key}={json.dumps(value)}" for key, value in sorted(changed.items())]
    more = f", {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
    return f"{record.preset} ({', '.join(parts[:_SHOWN])}{more})"


def other_model(old: RunRecord, new: RunRecord) -> str | None:
    """Why two records of one subject are not about the same model; None if they are, or if an older one does not tell."""
    before, after = (record.provenance.get("changed") for record in (old, new))
    if old.preset == new.preset and (before is None or after is None or before == after):
        return None
    return f"another model: {model_name(new)} now, {model_name(old)} in the baseline"


def other_sampling(old: RunRecord, new: RunRecord) -> str | None:
    """Why two records of one model are not about the same sampling; None if they are, or if an older one does not tell.

    Settings that only one of them has are ignored: versions add some.
    """
    before, after = (_settings(record) for record in (old, new))
    keys = [key for key, value in before.items() if key in after and after[key] != value]
    if not keys:
        return None
    here, there = (", ".join(f"{key}={found[key]}" for key in keys[:_SHOWN]) for found in (after, before))
    more = f" ({len(keys) - _SHOWN} more)" if len(keys) > _SHOWN else ""
    return f"other sampling settings: {here} now, {there} in the baseline{more}"


def _settings(record: RunRecord) -> dict[str, str]:
    """Sampling settings as JSON, in which lists and tuples are equal."""
    settings = record.provenance.get("settings")
    return {key: json.dumps(value, sort_keys=True) for key, value in settings.items()} if isinstance(settings, Mapping) else {}
