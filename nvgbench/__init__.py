"""Honest measurement of structured image generators: NVG beside VAR and autoregressive baselines.

Everything listed here is imported when it is first used, so that ``import nvgbench`` takes no time.

>>> import nvgbench as nb
>>> nb.__version__
'0.1.0'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nvgbench.api.doctor import doctor
    from nvgbench.api.jobs import ablate, gate, profile, records, report, train
    from nvgbench.api.paper import profile_paper
    from nvgbench.api.runs import Run, Samples, load_run
    from nvgbench.api.scoring import compare, density_coverage, fid, inception_score, kid, precision_recall, score
    from nvgbench.api.structure import build_structure
    from nvgbench.errors import InputError
    from nvgbench.evaluation.doctor.diagnosis import Diagnosis
    from nvgbench.evaluation.scores import Scores
    from nvgbench.results.compare import Comparison
    from nvgbench.types import Interval, MetricValue

_HOMES = {
    "nvgbench.api.scoring": ("compare", "density_coverage", "fid", "inception_score", "kid", "precision_recall", "score"),
    "nvgbench.api.doctor": ("doctor",),
    "nvgbench.api.runs": ("Run", "Samples", "load_run"),
    "nvgbench.api.jobs": ("ablate", "gate", "profile", "records", "report", "train"),
    "nvgbench.api.paper": ("profile_paper",),
    "nvgbench.api.structure": ("build_structure",),
    "nvgbench.errors": ("InputError",),
    "nvgbench.evaluation.doctor.diagnosis": ("Diagnosis",),
    "nvgbench.evaluation.scores": ("Scores",),
    "nvgbench.results.compare": ("Comparison",),
    "nvgbench.types": ("Interval", "MetricValue"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Comparison",
    "Diagnosis",
    "InputError",
    "Interval",
    "MetricValue",
    "Run",
    "Samples",
    "Scores",
    "ablate",
    "build_structure",
    "compare",
    "density_coverage",
    "doctor",
    "fid",
    "gate",
    "inception_score",
    "kid",
    "load_run",
    "precision_recall",
    "profile",
    "profile_paper",
    "records",
    "report",
    "score",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'nvgbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
