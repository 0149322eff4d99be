"""What was measured on a run is kept in the folder of runs, and not measured again with the same settings and weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from nvgbench import __version__
from nvgbench.ablations.study import STUDIES_FOLDER, Context, Tables
from nvgbench.files import write_text
from nvgbench.runs.folder import PHASES, RunFolder


def remembered(name: str, version: int, run: RunFolder, context: Context, measure: Callable[[], Tables]) -> Tables:
    """The tables of a measurement, from the folder of runs if they are there.

    Args:
        name, version: of the measurement. Studies that use the same ones share its results.
        run: what is measured.
        context: the settings.
        measure: makes the tables.
    """
    settings = {field: str(getattr(context, field)) for field in ("images", "samples", "seed", "data", "extractor", "device")}
    weights = [run.state(phase) for phase in PHASES]
    files = [state and dict(state.files) for state in weights]
    key = [__version__, name, version, settings, run.hash, files]
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = context.root / STUDIES_FOLDER / "measured" / f"{name}-{digest}.json"
    try:
        tables: Tables = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError):  # not measured yet, or damaged
        tables = measure()
        write_text(path, json.dumps(tables))
    return tables
