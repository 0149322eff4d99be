"""A folder of runs as left by a small comparison: three models, two anchors, pictures, profiles, a study."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nvgbench.results.schema import Artifact, RunRecord
from nvgbench.results.store import ResultStore
from nvgbench.results.study import Chart, Finding, StudyPage
from nvgbench.types import Interval, Measurement, MetricValue

MODELS = {"nvg-shapes": ("nvg", 21.4), "var-shapes": ("var", 22.1), "ar-shapes": ("ar", 34.9)}
DATA = {"name": "shapes", "images": 8192, "fingerprint": "d" * 64}
EXTRACTOR = {"name": "classifier", "fingerprint": "e" * 64}


def provenance(**extra: Any) -> dict[str, Any]:
    return {
        "time": "2026-05-04T10:00:00+00:00",
        "nvgbench": "0.1.0",
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "dirty": False,
        "python": "3.11.7",
        "libraries": {"torch": "2.15.0", "numpy": "2.4.6"},
        "machine": {"platform": "Linux", "cpu": "Processor 3000", "cores": 16, "memory": 2**36, "gpu": "NVIDIA H200"},
        "config_hash": "0011223344556677",
        "seeds": [0],
        **extra,
    }


def metric(name: str, value: float, half: float, better: bool | None, n: int = 2000, unit: str = "") -> MetricValue:
    interval = Interval(value - half, value + half, 0.95, "sampling", "bootstrap over generated images, 1000 replicates")
    return MetricValue(name=name, value=value, n=n, n_reference=2048, higher_is_better=better, interval=interval, unit=unit)


def scores(fd: float) -> tuple[MetricValue, ...]:
    quality = 1 / (1 + fd / 40)
    return (
        metric("FD[classifier]", fd, 0.03 * fd + 0.2, False),
        metric("IS[classifier]", 9 * quality, 0.12, True),
        metric("precision[classifier]", quality, 0.02, True),
        metric("recall[classifier]", 0.9 * quality, 0.025, True),
        metric("density[classifier]", 1.05 * quality, 0.03, True),
        metric("coverage[classifier]", 0.97 * quality, 0.02, True),
        metric("accuracy[classifier]", 0.5 + quality / 2, 0.015, True),
        metric("nearest-training-ratio[classifier]", 1.02, 0.04, None),
    )


def write_samples(path: Path, seed: int, columns: int = 10, rows: int = 6, side: int = 32) -> None:
    """A grid of coloured discs on gradients."""
    rng = np.random.default_rng(seed)
    sheet = np.full((rows * (side + 2), columns * (side + 2), 3), 255, dtype=np.uint8)
    y, x = np.mgrid[0:side, 0:side]
    for row in range(rows):
        for column in range(columns):
            tile = np.linspace(rng.integers(40, 200, 3), rng.integers(40, 200, 3), side)[:, None, :].repeat(side, axis=1)
            cy, cx, radius = rng.uniform(10, 22), rng.uniform(10, 22), rng.uniform(4, 10)
            tile[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = rng.integers(0, 255, 3)
            top, left = row * (side + 2) + 1, column * (side + 2) + 1
            sheet[top : top + side, left : left + side] = tile
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path)


def train_record(subject: str, family: str, number: int) -> RunRecord:
    def curve(phase: str, losses: dict[str, float], steps: int) -> list[dict[str, Any]]:
        rng = np.random.default_rng(number)
        return [
            {
                "phase": phase,
                "step": step,
                "lr": 1e-4,
                **{f"loss/{k}": v * (0.4 + math.exp(-step / steps * 5) + 0.02 * rng.normal()) for k, v in losses.items()},
            }
            for step in range(0, steps, steps // 100)
        ]

    generator_losses = {"content": 6.0 + number / 4, "structure": 1.1} if family == "nvg" else {"content": 6.3 + number / 4}
    rows = [
        {"phase": "tokenizer", "steps": 6000, "images": 384_000, "seconds": 900.0, "taken_from": ""},
        {"phase": "generator", "steps": 12000, "images": 768_000, "seconds": 2100.0 + 100 * number, "taken_from": ""},
    ]
    tables = {
        "training": rows,
        "curve": curve("tokenizer", {"l1": 0.3, "codebook": 0.1}, 6000) + curve("generator", generator_losses, 12000),
    }
    return RunRecord(
        kind="train",
        subject=subject,
        family=family,
        preset=f"{family}-shapes",
        tables=tables,
        provenance=provenance(dataset=DATA),
    )


def profile_record(subject: str, family: str, number: int) -> RunRecord:
    rng = np.random.default_rng(number)

    def measured(name: str, unit: str, value: float, batch: int, better: bool = False, repeats: int = 10) -> Measurement:
        samples = tuple(float(value * (1 + 0.02 * rng.normal())) for _ in range(repeats))
        return Measurement(
            name=name, unit=unit, samples=samples, higher_is_better=better, conditions={"batch_size": batch, "device": "cuda:0"}
        )

    slow = (3.1, 1.0, 4.2)[number]
    silent = "not available: NVML does not answer"
    energy = Measurement(name="energy", unit="J/image", samples=(), note=silent, conditions={"batch_size": 64})
    return RunRecord(
        kind="profile",
        subject=subject,
        family=family,
        preset=f"{family}-shapes",
        measurements=(
            measured("flops", "FLOP/image", 4.2e9 * slow, 1, repeats=1),
            Measurement(name="flops_analytic", unit="FLOP/image", samples=(4.18e9 * slow,)),
            measured("latency", "s", 0.018 * slow, 1),
            measured("throughput", "images/s", 2400 / slow, 64, better=True),
            measured("peak_memory_cuda", "B", 1.4e9 + 4e8 * number, 64, repeats=1),
            measured("peak_memory_process", "B", 2.9e9, 64, repeats=1),
            measured("energy", "J/image", 0.21 * slow, 64, repeats=3) if number < 2 else energy,
        ),
        tables={"parameters": [{"part": "tokenizer", "count": 9_400_000}, {"part": "content", "count": 21_000_000 + number}]},
        provenance=provenance(device={"device": "cuda:0"}, model={"run": subject, "step": 12000}),
    )


def reconstruction_scores(number: int) -> tuple[MetricValue, ...]:
    return (
        metric("PSNR", 24.2 - number, 0.1, True, unit="dB"),
        metric("SSIM", 0.83 - 0.02 * number, 0.004, True),
        metric("rFD[classifier]", 4.1 + number, 0.2, False),
        metric("codebook-use", 0.93, 0.01, None),
    )


def class_rows(fd: float) -> list[dict[str, Any]]:
    return [{"class": label, "n": 200, "n_reference": 200, "value": fd + 3 * label} for label in range(10)]


def codebook_rows(family: str) -> list[dict[str, Any]]:
    stages = {"nvg": 7, "var": 6, "ar": 1}[family]
    rows: list[dict[str, Any]] = [
        {"stage": str(stage), "tokens": 2048 * 2**stage, "use": min(1.0, 0.1 * 2**stage), "perplexity": 40.0 * 2**stage}
        for stage in range(stages)
    ]
    return [*rows, {"stage": "all", "tokens": 1, "use": 0.93, "perplexity": 730.0}]


def ablation_record(subject: str) -> RunRecord:
    stability, quality = [], []
    levels = [("noise", "0.0001", 4.5), ("noise", "0.001", 2.2), ("noise", "0.01", 0.9), ("noise", "0.1", 0.25)]
    levels += [
        ("bf16", "", 1.4),
        ("flip", "", 0.6),
        ("shift", "1 px", 0.5),
        ("crop", "28 px of the side", 0.3),
        ("chance", "", 0),
    ]
    for perturbation, level, strength in levels:
        for clustering in ("greedy", "quadtree", "random"):
            for stage in range(1, 6):
                strongest = {"greedy": strength, "quadtree": 9 if perturbation in ("noise", "bf16") else 0.8, "random": 0}[
                    clustering
                ]
                ari = 1 - math.exp(-strongest * (0.4 + 0.25 * stage))
                row = {"perturbation": perturbation, "level": level, "clustering": clustering, "stage": stage}
                band = {"ari_mean": ari, "ari_low": ari - 0.03, "ari_high": min(1, ari + 0.03), "nmi_mean": ari, "n": 512}
                stability.append({**row, "tokens": 2**stage, **band})
    for clustering, base in (("greedy", 0.55), ("quadtree", 0.42), ("random", 0.02)):
        for stage in range(1, 6):
            share = base * (1 - math.exp(-stage / 2)) + (stage / 6) ** 2 * 0.35
            band = {"explained_mean": share, "explained_low": share - 0.01, "explained_high": share + 0.01, "n": 512}
            quality.append({"clustering": clustering, "stage": stage, "tokens": 2**stage, **band})
    tables = {"cluster_stability": stability, "cluster_quality": quality}
    chart = Chart(
        table="cluster_stability", y="ari_mean", x="tokens", series="clustering", panel=("perturbation", "level"),
        label="ARI", log_x=True, caption="agreement of structure maps",
    )  # fmt: skip
    finding = Finding(text="greedy maps agree by 0.5 [0.4, 0.6]", subject=subject, value=0.5, low=0.4, high=0.6)
    page = StudyPage(
        name="clusters", question="How stable are structure maps?", design=("noise: on the features",), findings=(finding,),
        charts=(chart,), tables=("cluster_quality",), limits="nothing about use",
    )  # fmt: skip
    study = provenance(study=page.as_tree())
    return RunRecord(kind="ablation", subject=subject, family="nvg", tables=tables, provenance=study)


def write_runs(root: Path) -> Path:
    """Fill ``root`` and return it."""
    for number, (subject, (family, fd)) in enumerate(MODELS.items()):
        folder = root / subject
        store = ResultStore(folder)
        store.append(train_record(subject, family, number))
        write_samples(folder / "pictures" / "samples.png", number)
        write_samples(folder / "pictures" / "reference.png", 99, rows=2)
        artifacts = [
            Artifact(kind="samples", path="pictures/samples.png", caption="six samples of each class, seeds 0 to 59"),
            Artifact(kind="reference", path="pictures/reference.png", caption="held-out images"),
        ]
        if family == "nvg":
            write_samples(folder / "pictures" / "trace.png", 7, columns=7, rows=4, side=64)
            artifacts.append(Artifact(kind="trace", path="pictures/trace.png", caption="stages 1 to 7 of two samples"))
        store.append(
            RunRecord(
                kind="eval",
                subject=subject,
                family=family,
                preset="nvg-d16" if family == "nvg" else f"{family}-shapes",
                metrics=scores(fd) + reconstruction_scores(number),
                tables={"codebook by stage": codebook_rows(family), "FD[classifier] by class": class_rows(fd)},
                artifacts=tuple(artifacts),
                provenance=provenance(extractor=EXTRACTOR, dataset=DATA, settings={"guidance": [1, 3.5]}),
            )
        )
        store.append(profile_record(subject, family, number))
    store = ResultStore(root)
    for name, fd in (("real images", 3.2), ("class mean image", 148.0)):
        record = RunRecord(
            kind="eval", subject=name, family="anchor", metrics=scores(fd), provenance=provenance(extractor=EXTRACTOR)
        )
        store.append(record)
    store.append(ablation_record("nvg-shapes"))
    return root
