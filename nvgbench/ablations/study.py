"""The interface of a study: one file that asks a question, says what to train or probe, measures it and words the answer.

Importing this file does not import torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nvgbench.progress import Report, quiet
from nvgbench.results.study import Chart, Finding
from nvgbench.runs.folder import RunFolder

if TYPE_CHECKING:
    import torch

Row = dict[str, Any]
Tables = dict[str, list[Row]]
STUDIES_FOLDER = "studies"
"""Subfolder of the folder of runs for trainings started by studies, and what was measured."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A model that a study trains.

    Attributes:
        name: in tables and findings.
        settings: overrides of the preset by key (``model.structure_rope``).
        preset: another preset than the study's; the study's if empty.
        baseline: name of the variant that it is compared with; the study's first variant if empty.
        teacher: name of the variant whose run it learns from, see `nvgbench.training.run.train_run`; it comes before this one.
        optional: left out, with the reason on the page, where what its training needs is not installed; unless it is asked for
            by name.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    preset: str = ""
    baseline: str = ""
    teacher: str = ""
    optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much a study may spend.

    Attributes:
        seeds: trainings per variant.
        images: held-out images that are probed.
        samples: generated images that are scored, per training.
        settings: overrides of every training.
    """

    seeds: int
    images: int
    samples: int
    settings: Mapping[str, Any] = field(default_factory=dict)


BUDGETS: dict[str, Budget] = {
    "quick": Budget(
        seeds=1,
        images=32,
        samples=256,
        settings={
            "data.train_images": 1024,
            "data.eval_images": 512,
            "train.tokenizer.steps": 200,
            "train.generator.steps": 150,
        },
    ),
    "standard": Budget(seeds=3, images=128, samples=2000),
    "paper": Budget(seeds=5, images=2000, samples=50_000),
}
"""``quick`` shows that everything runs, and rarely decides anything."""


@dataclass(frozen=True)
class StudiedRun:
    """A run with its place in the study's design.

    Attributes:
        variant: name of the variant; the run's own name if the study probes existing runs.
        seed: of the training.
        folder: the run.
    """

    variant: str
    seed: int
    folder: RunFolder


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a measurement may use.

    Attributes:
        root: the folder of runs.
        device: where models run.
        images: number of held-out images.
        samples: number of generated images.
        seed: of noise, random splits and samples.
        data: data source of the images; the run's own held-out images if None.
        extractor: feature extractor of the scores.
        report: opens a progress display.
    """

    root: Path
    device: torch.device
    images: int
    samples: int
    seed: int = 0
    data: str | None = None
    extractor: str = "classifier"
    report: Report = quiet


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """What a study makes of its tables; more tables may be added, e.g. one of differences that a chart is drawn from."""

    findings: Sequence[Finding]
    charts: Sequence[Chart] = ()
    tables: Mapping[str, list[Row]] = field(default_factory=dict)


class Study(ABC):
    """A question, its design, its measurement and its answer.

    A study that lists `variants` has them trained, with several seeds each; one without variants probes existing runs. Register
    it in `nvgbench.ablations.registry`, or under the entry-point group ``nvgbench.studies``.

    Attributes:
        name: the command, ``nvgbench ablate NAME``.
        question: one line.
        varies: what is changed, with its levels in words.
        reports: the tables of its record, one line each.
        limits: what it does not show.
        version: raised when the measurement changes, so that it is repeated.
        presets: the preset of each budget, for studies with variants.
        compares_sources: whether its variants differ in their data, so that several data sources may be given.
        preset, sources: what it is run with, set by the runner; no sources mean the study's or the preset's own.
    """

    name: str
    question: str
    varies: ClassVar[Mapping[str, str]]
    reports: ClassVar[Mapping[str, str]]
    limits: str = ""
    version: int = 1
    presets: ClassVar[Mapping[str, str]] = {"quick": "nvg-tiny", "standard": "nvg-tiny", "paper": "nvg-d12"}
    compares_sources: ClassVar[bool] = False
    preset: str = "nvg-tiny"
    sources: Sequence[str] = ()

    def variants(self, preset: str) -> Sequence[Variant]:
        """The models to train; none if the study probes existing runs."""
        return ()

    def check(self, runs: Sequence[StudiedRun], context: Context) -> None:  # noqa: B027 - optional
        """Refuse runs that cannot be studied, before anything is measured.

        Raises:
            InputError: says which run and why.
        """

    @abstractmethod
    def measure(self, run: StudiedRun, context: Context) -> Tables:
        """The rows of one run. They are kept and not measured again with the same settings."""

    def measure_together(self, runs: Sequence[StudiedRun], context: Context) -> Tables:
        """Rows that need several runs at once; none by default."""
        return {}

    @abstractmethod
    def conclude(self, tables: Mapping[str, list[Row]]) -> Conclusion:
        """The answer in words, with figures.

        Args:
            tables: the rows of all runs, each with its ``variant``, ``seed`` and ``run``.
        """
