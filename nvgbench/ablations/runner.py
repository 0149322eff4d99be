"""Studies of trained runs: load what they need, record the result."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from nvgbench.ablations.clusters import Count, Subject, study_clusters
from nvgbench.data.source import open_dataset
from nvgbench.errors import InputError
from nvgbench.interfaces import LatentTokenizer, Progress
from nvgbench.nvg.config import GranularityConfig
from nvgbench.results.provenance import collect
from nvgbench.results.schema import RunRecord
from nvgbench.runs.folder import RunFolder

Showing = Callable[[str], AbstractContextManager[Progress]]
"""Opens a progress display for the run of this name."""


def cluster_record(
    runs: Sequence[RunFolder],
    *,
    images: int,
    seed: int,
    device: torch.device,
    progress: Count,
    data: str | None = None,
) -> RunRecord:
    """Run the study ``clusters`` on the tokenizers of ``runs``; see `nvgbench.ablations.clusters.study_clusters`.

    Args:
        images: how many held-out images.
        seed: of noise and random splits.
        data: data source of the images; the held-out images of the first run's own source if None.

    Raises:
        InputError: no runs, runs without a trained tokenizer or with the same one, or runs that cannot be compared.
    """
    if not runs:
        raise InputError("`runs=` is empty; name at least one run with a trained tokenizer")
    _check_distinct(runs)
    settings = runs[0].config.data
    for run in runs:
        if run.config.data.image_size != settings.image_size:
            raise InputError(
                f"{run.name} has images of {run.config.data.image_size} px, {runs[0].name} of {settings.image_size} px; "
                "compare runs with the same image size"
            )
    subjects = [cluster_subject(run, device) for run in runs]
    dataset = open_dataset(
        data or settings.source, image_size=settings.image_size, split="eval", limit=images, seed=settings.seed
    )
    tables = study_clusters(subjects, dataset, images=images, seed=seed, progress=progress)
    first = runs[0]
    return RunRecord(
        kind="ablation",
        subject=first.name,
        family=first.config.family,
        preset=first.config.name,
        tables=tables,
        provenance=collect(
            first.hash,
            study="clusters",
            runs=[_identity(run) for run in runs],
            dataset={"name": dataset.name, "fingerprint": dataset.fingerprint, "images": min(images, len(dataset))},
            seeds=[seed],
            device=str(device),
        ),
    )


def cluster_subject(run: RunFolder, device: torch.device) -> Subject:
    """The trained tokenizer of a run as a subject of the study.

    Raises:
        InputError: not trained yet, or the tokenizer has no continuous latent.
    """
    tokenizer = run.load_tokenizer(device)
    if not isinstance(tokenizer, LatentTokenizer):
        raise InputError(
            f"the tokenizer of {run.name} has no continuous latents ('latent' and 'grid'), which the study clusters"
        )
    quantizer = run.config.tokenizer.quantizer
    group_size = quantizer.group_size if isinstance(quantizer, GranularityConfig) else 2
    return Subject(name=run.name, encode=tokenizer.latent, grid=tokenizer.grid, group_size=group_size, device=device)


def retrained_tokenizers(
    run: RunFolder, count: int, *, root: Path, device: torch.device, showing: Showing
) -> Iterator[RunFolder]:
    """Train ``count`` more tokenizers configured as ``run``'s, with the seeds after its own, in ``root``/NAME-seedN.

    Finished ones are used as they are, interrupted ones are resumed.

    Raises:
        InputError: a folder of that name holds another run.
        Interrupted: SIGINT or SIGTERM; the same call resumes.
    """
    from nvgbench.training.run import train_run

    config = run.config
    for seed in range(config.train.seed + 1, config.train.seed + 1 + count):
        name = f"{run.name}-seed{seed}"
        other = dataclasses.replace(config, train=dataclasses.replace(config.train, seed=seed))
        with showing(name) as progress:
            yield train_run(other, root / name, device=device, progress=progress, phases=("tokenizer",))


def _identity(run: RunFolder) -> dict[str, Any]:
    return {
        "run": run.name,
        "seed": run.config.train.seed,
        "config_hash": run.hash,
        "tokenizer": run.tokenizer_fingerprint(),
    }


def _check_distinct(runs: Sequence[RunFolder]) -> None:
    seen: dict[str, str] = {}
    for run in runs:
        fingerprint = run.tokenizer_fingerprint()
        if fingerprint in seen:
            raise InputError(
                f"{run.name} and {seen[fingerprint]} have the same tokenizer: nothing to compare; "
                "name each tokenizer once (`retrain=1` trains another)"
            )
        seen[fingerprint] = run.name
