"""Runs a study: plan, train, measure, conclude, record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nvgbench.ablations.execute import Outcome, Showing, measure_runs, silent, train_jobs
from nvgbench.ablations.plan import Cost, Job, cannot_be_trained, job_costs, plan_jobs, study_variants, write_queue
from nvgbench.ablations.registry import get_study
from nvgbench.ablations.study import BUDGETS, Context, Row, StudiedRun, Study
from nvgbench.errors import InputError, did_you_mean
from nvgbench.progress import Report, quiet
from nvgbench.results.provenance import collect
from nvgbench.results.schema import RunRecord
from nvgbench.results.study import StudyPage
from nvgbench.runs.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class StudyRequest:
    """What a study is run with.

    Attributes:
        study: its name.
        root: the folder of runs.
        device: where models are trained and run.
        targets: existing runs, for studies that probe.
        budget: ``quick``, ``standard`` or ``paper``.
        preset: of the trainings; that of the budget if None.
        variants: names of the variants to compare, with their baselines; all if empty.
        seeds: training seeds; as many as the budget has if None.
        settings: overrides of every training by key.
        images, samples: held-out and generated images; the budget's if None.
        seed: of noise, random splits and samples.
        sources: data source of trainings and images; the preset's or the run's own if there is none. Several for studies that
            compare them.
        extractor: feature extractor of the scores.
        jobs: processes that work at once.
    """

    study: str
    root: Path
    device: torch.device
    targets: Sequence[RunFolder] = ()
    budget: str = "standard"
    preset: str | None = None
    variants: Sequence[str] = ()
    seeds: Sequence[int] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    images: int | None = None
    samples: int | None = None
    seed: int = 0
    sources: Sequence[str] = ()
    extractor: str = "classifier"
    jobs: int = 1

    def __post_init__(self) -> None:
        if self.budget not in BUDGETS:
            known = ", ".join(BUDGETS)
            raise InputError(f"no budget {self.budget!r}{did_you_mean(self.budget, BUDGETS)}; known: {known}")
        if self.jobs < 1:
            raise InputError(f"`jobs={self.jobs}`; expected at least 1 process")


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """What a study will do.

    Attributes:
        study: the study.
        preset: of its trainings.
        jobs: its trainings, finished ones included; none if it probes existing runs.
        runs: what is measured.
        context: of the measurements.
        left_out: optional variants that cannot be trained here, with the reason.
    """

    study: Study
    preset: str
    jobs: tuple[Job, ...]
    runs: tuple[StudiedRun, ...]
    context: Context
    request: StudyRequest
    left_out: Mapping[str, str] = field(default_factory=dict)

    def costs(self) -> list[Cost]:
        """What each job still costs."""
        return job_costs(self.jobs, self.request.root, self.request.device)


def plan_study(request: StudyRequest, report: Report = quiet) -> StudyPlan:
    """Everything that will be trained and measured; nothing is done yet.

    Raises:
        InputError: an unknown study, variant, preset or setting; runs where the study trains its own, or none where it probes.
    """
    study, budget = get_study(request.study), BUDGETS[request.budget]
    preset = request.preset or study.presets[request.budget]
    study.preset, study.sources = preset, request.sources
    if len(request.sources) > 1 and not study.compares_sources:
        raise InputError(f"study {study.name} has one data source, got {len(request.sources)}: {', '.join(request.sources)}")
    data = None if study.compares_sources or not request.sources else request.sources[0]
    variants = study_variants(study, preset, request.variants)
    if variants and request.targets:
        raise InputError(f"study {study.name} trains its own runs and takes none; leave {request.targets[0].name} out")
    if not variants and not request.targets:
        raise InputError(f"study {study.name} probes existing runs; name at least one run with a trained tokenizer")
    jobs = plan_jobs(
        variants, preset, budget, seeds=request.seeds, root=request.root, device=request.device,
        settings=request.settings, data=data,
    )  # fmt: skip
    left_out = {} if request.variants else cannot_be_trained(jobs, variants)
    jobs = [job for job in jobs if job.variant not in left_out]
    context = Context(
        root=request.root,
        device=request.device,
        images=request.images or budget.images,
        samples=request.samples or budget.samples,
        seed=request.seed,
        data=data,
        extractor=request.extractor,
        report=report,
    )
    probed = (StudiedRun(run.name, run.config.train.seed, run) for run in request.targets)
    runs = tuple(job.run for job in jobs) or tuple(probed)
    return StudyPlan(
        study=study, preset=preset, jobs=tuple(jobs), runs=runs, context=context, request=request, left_out=left_out
    )


def run_study(plan: StudyPlan, showing: Showing = silent) -> RunRecord:
    """Do what is planned and not done yet, and word the answer.

    Runs that fail are listed in the record's table ``runs``; the same call tries them again.

    Args:
        plan: of `plan_study`.
        showing: progress of trainings, if they run in this process.

    Raises:
        InputError: runs that cannot be studied, or no run that could be measured.
        Interrupted: SIGINT or SIGTERM; the same call resumes.
    """
    study, request = plan.study, plan.request
    if plan.jobs:
        write_queue(plan.jobs, study.name, request.root)
    failed = train_jobs(plan.jobs, request.root, request.device, workers=request.jobs, showing=showing)
    ready = [run for run in plan.runs if run.folder.path not in failed]
    study.check(ready, plan.context)
    outcomes = measure_runs(study.name, ready, plan.context, workers=request.jobs, keep_going=bool(plan.jobs))
    outcomes += [Outcome(run, {}, failed[run.folder.path]) for run in plan.runs if run.folder.path in failed]
    measured = [one for one in outcomes if not one.error]
    if not measured:
        raise InputError(f"study {study.name}: no run could be measured; the first failed with: {outcomes[0].error}")
    tables: dict[str, list[Row]] = {}
    together = study.measure_together([one.run for one in measured], plan.context)
    nowhere = {"variant": "", "seed": None, "run": ""}
    shared = {name: [nowhere | row for row in rows] for name, rows in together.items()}
    for found in (*(one.tables for one in measured), shared):
        for name, rows in found.items():
            tables.setdefault(name, []).extend(rows)
    return _record(plan, tables, outcomes)


def _record(plan: StudyPlan, tables: dict[str, list[Row]], outcomes: Sequence[Outcome]) -> RunRecord:
    study, request, context = plan.study, plan.request, plan.context
    conclusion = study.conclude(tables)
    tables = tables | dict(conclusion.tables)
    page = StudyPage(
        name=study.name,
        question=study.question,
        design=tuple(f"{name}: {text}" for name, text in study.varies.items()),
        findings=tuple(conclusion.findings),
        charts=tuple(conclusion.charts),
        tables=tuple(name for name in study.reports if name in tables),
        limits=" ".join((study.limits, *(f"Left out here: {name} ({reason})." for name, reason in plan.left_out.items()))),
    )
    first = None if plan.jobs else plan.runs[0].folder
    return RunRecord(
        kind="ablation",
        subject=f"{study.name} of {plan.preset}" if first is None else first.name,
        family="" if first is None else first.config.family,
        preset="" if first is None else first.config.name,
        tables=tables | {"runs": [_run_row(one) for one in outcomes]},
        provenance=collect(
            None if first is None else first.hash,
            study=page.as_tree(),
            budget=request.budget,
            settings=dict(request.settings),
            dataset=_dataset(first, request.sources),
            extractor_name=context.extractor if plan.jobs else None,
            images=context.images,
            samples=context.samples if plan.jobs else None,
            seeds=[request.seed],
            device=str(request.device),
        ),
    )


def _run_row(outcome: Outcome) -> Row:
    run = outcome.run
    row = {"variant": run.variant, "seed": run.seed, "run": run.folder.name, "error": outcome.error}
    if outcome.error:
        return row
    return row | {"config_hash": run.folder.hash, "tokenizer": run.folder.tokenizer_fingerprint()}


def _dataset(first: RunFolder | None, sources: Sequence[str]) -> dict[str, Any] | None:
    """The images of a probe; trainings name theirs in their own records."""
    name = ", ".join(sources) or (None if first is None else first.config.data.source)
    return None if name is None else {"name": name}
