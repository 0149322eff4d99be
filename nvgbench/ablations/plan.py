"""The trainings of a study: which there are, which are finished already, which tokenizers they share, what the rest costs."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from nvgbench.ablations.study import STUDIES_FOLDER, Budget, StudiedRun, Study, Variant
from nvgbench.config.load import config_hash, load_preset, replicate_hash, to_dict
from nvgbench.config.schema import RunConfig
from nvgbench.errors import InputError
from nvgbench.files import write_text
from nvgbench.registry import get_family
from nvgbench.runs.find import find_runs
from nvgbench.runs.folder import PHASES, RunFolder
from nvgbench.training.dry_run import estimate
from nvgbench.training.plan import resolve_config

_UTILISATION = 0.2
"""Assumed share of a matrix product's speed that training reaches, if no finished run tells it."""
_RATED_RUNS = 4

State = Literal["finished", "started", "new"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training of a study.

    Attributes:
        variant, seed: its place in the design.
        config: resolved for the device.
        folder: where it is, or will be trained.
        state: ``finished`` runs are used as they are.
        tokenizer: identifies what is trained before the generator; jobs with equal ones share a tokenizer.
        teacher: folder of the job that it learns from, if any.
    """

    variant: str
    seed: int
    config: RunConfig
    folder: Path
    state: State
    tokenizer: str
    teacher: Path | None = None

    @property
    def run(self) -> StudiedRun:
        return StudiedRun(self.variant, self.seed, RunFolder(self.folder))


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a job still costs.

    Attributes:
        flops: of the phases that are not trained yet; None if unknown.
        seconds: estimated duration; None if unknown.
        shares_tokenizer: whether its tokenizer comes from an earlier job.
    """

    flops: float | None
    seconds: float | None
    shares_tokenizer: bool


def study_variants(study: Study, preset: str, chosen: Sequence[str] | None) -> tuple[Variant, ...]:
    """The study's variants, or the chosen ones with their baselines.

    Raises:
        InputError: an unknown name.
    """
    known = {variant.name: variant for variant in study.variants(preset)}
    if not chosen:
        return tuple(known.values())
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise InputError(f"study {study.name} has no variant {unknown[0]!r}; known: {', '.join(known)}")
    first = next(iter(known))
    kept = {name for one in chosen for name in (one, known[one].baseline or first)}
    for name in reversed(known):  # a teacher may have one itself, before it
        if name in kept and known[name].teacher:
            kept.add(known[name].teacher)
    return tuple(variant for name, variant in known.items() if name in kept)


def plan_jobs(
    variants: Sequence[Variant],
    preset: str,
    budget: Budget,
    *,
    seeds: Sequence[int] | None,
    root: Path,
    device: torch.device,
    settings: Mapping[str, Any] | None = None,
    data: str | None = None,
) -> list[Job]:
    """The jobs of a study, variant by variant.

    Args:
        variants: of the study.
        preset: of the variants that name none.
        budget: seeds and overrides.
        seeds: training seeds; the first of the budget's number if None.
        root: folder of runs, searched for finished runs of the same configuration.
        device: where it will be trained; a CPU may reduce batches, which makes another configuration.
        settings: overrides of all variants, above those of the budget and below those of the variant.
        data: data source of all variants.

    Raises:
        InputError: an unknown preset or setting.
    """
    finished = _finished_runs(root)
    jobs: list[Job] = []
    for variant in variants:
        for seed in seeds or range(budget.seeds):
            overrides = {**budget.settings, **(settings or {}), **variant.settings, "train.seed": seed}
            config, _ = resolve_config(load_preset(variant.preset or preset, overrides, data), device)
            key = tokenizer_key(config)
            teacher = next((job for job in jobs if (job.variant, job.seed) == (variant.teacher, seed)), None)
            assert bool(teacher) == bool(variant.teacher), f"the teacher of {variant.name} has to come before it"
            known = finished.get((config_hash(config), key, config_hash(teacher.config) if teacher else ""))
            folder = known or root / STUDIES_FOLDER / f"{config.name}-{replicate_hash(config)[:8]}-seed{seed}"
            state: State = "finished" if known else "started" if (folder / "config.toml").exists() else "new"
            jobs.append(Job(variant=variant.name, seed=seed, config=config, folder=folder, state=state, tokenizer=key,
                            teacher=teacher.folder if teacher else None))  # fmt: skip
    return jobs


def cannot_be_trained(jobs: Sequence[Job], variants: Sequence[Variant]) -> dict[str, str]:
    """Optional variants that cannot be trained here, with the reason."""
    optional = {variant.name for variant in variants if variant.optional}
    reasons: dict[str, str] = {}
    for job in jobs:
        if job.variant in optional and job.state != "finished":
            try:
                get_family(job.config.family).check_training(job.config)
            except InputError as error:
                reasons[job.variant] = str(error)
    return reasons


def tokenizer_key(config: RunConfig) -> str:
    """Identifies everything that a tokenizer's training depends on, its seed included."""
    tree = to_dict(config)
    train = {name: value for name, value in tree["train"].items() if name in ("tokenizer", "steps", "seed", "precision")}
    data = {name: value for name, value in tree["data"].items() if name not in ("eval_images", "workers")}
    parts = {"family": config.family, "data": data, "tokenizer": tree["tokenizer"], "train": train}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def finished_tokenizers(root: Path) -> dict[str, Path]:
    """Finished tokenizers that were trained here, by `tokenizer_key`."""
    found: dict[str, Path] = {}
    for run in _readable(root):
        state = run.state("tokenizer")
        if state is not None and state.final and not _origin(state.source):
            found.setdefault(tokenizer_key(run.config), run.path)
    return found


def job_costs(jobs: Sequence[Job], root: Path, device: torch.device) -> list[Cost]:
    """What each job still costs; a shared tokenizer is counted once.

    Durations follow from the speed of finished runs on this machine, or from that of a matrix product.
    """
    have = set(finished_tokenizers(root))
    rate = _flops_per_second(root, device)
    costs = []
    for job in jobs:
        phases = estimate(job.config, device).phases
        run = RunFolder(job.folder)
        shared = job.tokenizer in have and not run.is_finished("tokenizer")
        open_phases = [name for name in PHASES if not (run.is_finished(name) or (name == "tokenizer" and shared))]
        flops = [phases[name].flops for name in open_phases]
        total = None if None in flops else float(sum(value for value in flops if value is not None))
        costs.append(Cost(flops=total, seconds=None if total is None else total / rate, shares_tokenizer=shared))
        have.add(job.tokenizer)
    return costs


def _finished_runs(root: Path) -> dict[tuple[str, str, str], Path]:
    """Finished runs by the hash of their configuration, their tokenizer's key, and the hash of the run they started from.

    A run with another run's tokenizer counts only if that is the tokenizer which it would have trained itself.
    """
    runs = [(run, run.hash) for run in _readable(root)]
    by_hash: dict[str, RunFolder] = {hash_: run for run, hash_ in runs}
    found: dict[tuple[str, str, str], Path] = {}
    for run, hash_ in runs:
        tokenizer = run.state("tokenizer")
        if tokenizer is None or not run.is_finished("generator"):
            continue
        key, source = tokenizer_key(run.config), _origin(tokenizer.source)
        donor = by_hash.get(str(source.get("config_hash"))) if source else None
        if not source or (donor is not None and tokenizer_key(donor.config) == key):
            found.setdefault((hash_, key, str(run.origins.get("generator", {}).get("config_hash", ""))), run.path)
    return found


def _origin(source: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where a tokenizer was taken from; empty if it was trained in place, or needs no training."""
    return {} if "untrained" in source else source


def _readable(root: Path) -> list[RunFolder]:
    """Runs whose configuration and checkpoints can be read; damaged ones are no help to a study."""
    found = []
    for run in find_runs(root) if root.is_dir() else []:
        try:
            assert run.config is not None
            for phase in PHASES:
                run.state(phase)
        except InputError:
            continue
        found.append(run)
    return found


def _flops_per_second(root: Path, device: torch.device) -> float:
    """Training speed: the median of some finished runs, else a share of a matrix product's."""
    rates = []
    for run in _readable(root)[-_RATED_RUNS:]:
        for phase, planned in estimate(run.config, device).phases.items():
            state = run.state(phase)
            if state is not None and state.final and state.seconds > 1 and planned.flops is not None:
                rates.append(planned.flops / state.seconds)
    if rates:
        return sorted(rates)[len(rates) // 2]
    side = 1024
    factor = torch.randn(side, side, device=device)
    product = factor @ factor
    start = time.perf_counter()
    for _ in range(5):
        product = factor @ product / side
    float(product.sum())  # waits for the device
    return _UTILISATION * 5 * 2 * side**3 / (time.perf_counter() - start)


def write_queue(jobs: Sequence[Job], study: str, root: Path) -> None:
    """Write ``studies/queue-<study>.json``: the trainings in their order, for those who follow them."""
    home = root / STUDIES_FOLDER
    listed = [{"name": f"{job.variant}, seed {job.seed}", "folder": os.path.relpath(job.folder, home)} for job in jobs]
    write_text(home / f"queue-{study}.json", json.dumps({"study": study, "jobs": listed}, indent=1) + "\n")
