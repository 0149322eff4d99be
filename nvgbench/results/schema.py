"""The record: what a command measured, and everything needed to judge it. No torch."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nvgbench.types import Measurement, MetricValue

SCHEMA_VERSION = 1

Kind = Literal["train", "sample", "eval", "reconstruction", "profile", "cost", "ablation"]


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file that belongs to a record (a picture of samples …), its path relative to the record file.

    Attributes:
        kind: ``samples``, ``trace``, ``reference``, ``curve`` …
        path: relative to the folder of the record file.
        caption: one line for the report.
        rows: what each row of a grid of equal tiles shows (class names), from the top; empty for other pictures.
    """

    kind: str
    path: str
    caption: str = ""
    rows: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One line of ``records.jsonl``.

    Attributes:
        kind: the kind of command that wrote it.
        subject: the model or run it is about (the name shown in tables).
        family: model family, ``anchor`` (a reference point such as the per-class mean image) or ``external``.
        metrics: scores.
        measurements: raw samples of time, memory, energy.
        tables: longer results by name, each a list of flat rows (ablation studies, codebook use per stage, curves).
        artifacts: pictures.
        provenance: see `nvgbench.results.provenance.collect`: commit, dirty, machine, versions …; the command adds
            config_hash, replicate, changed (`nvgbench.config.load.changed_settings`), seeds, dataset, extractor, settings.
    """

    kind: Kind
    subject: str
    family: str = ""
    preset: str = ""
    metrics: tuple[MetricValue, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    tables: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    created: str = field(default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))
