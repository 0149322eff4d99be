"""Evaluations with small stand-ins for model and extractor, in processes of their own that can be killed."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from nvgbench.config.schema import DataConfig, TokenizerConfig
from nvgbench.data.source import training_set
from nvgbench.evaluation import evaluate, scorer
from nvgbench.evaluation.evaluate import Evaluator
from nvgbench.evaluation.options import EvaluationOptions
from nvgbench.nvg.config import NvgSamplingConfig
from nvgbench.results.schema import RunRecord
from nvgbench.runs.folder import DatasetInfo
from nvgbench.training.distributed import join_processes
from nvgbench.types import ModelSpec, SampleRequest, SampleResult, TokenSequence
from tests.helpers.forked import forked

SAMPLES = 1600
REFERENCE = 700


class Painter:
    """Noise whose brightness is the class; writes down what it was asked for."""

    spec = ModelSpec(name="painter", family="nvg", image_size=16, num_classes=10, provenance={"step": 3})

    def __init__(self, diary: Path, pause: float) -> None:
        self.diary = diary
        self.pause = pause

    def generate(self, request: SampleRequest) -> SampleResult:
        time.sleep(self.pause)
        images = torch.zeros(len(request.labels_B), 3, 16, 16, dtype=torch.uint8)
        for image, label, seed in zip(images, request.labels_B.tolist(), request.seeds_B.tolist(), strict=True):
            rng = torch.Generator().manual_seed(seed)
            image += torch.randint(0, 150 + 10 * label, image.shape, generator=rng, dtype=torch.uint8)
        note(self.diary, f"drawn {int(request.seeds_B[0])} {len(images)}")
        return SampleResult(images)


class Thumbnails:
    """Stands in for a network: features are a 2x2 thumbnail, logits ten fixed projections of it."""

    name, fingerprint, provenance = "classifier", "f" * 64, {"weights_sha256": "0" * 64}

    def __init__(self, diary: Path, pause: float) -> None:
        self.diary = diary
        self.pause = pause
        self.head = torch.randn(12, 10, generator=torch.Generator().manual_seed(0))

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        time.sleep(self.pause)
        small = torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 2).flatten(1)
        if len(images) > 1:  # one image asks for the number of features alone
            note(self.diary, f"extracted {len(images)}")
        return small, small @ self.head


class Rounding:
    """A tokenizer that keeps the mean brightness in 4 levels."""

    grid, codebook_size, stage_tokens = (1, 1), 4, (1,)

    def encode(self, images_B3HW: torch.Tensor) -> TokenSequence:
        return TokenSequence((images_B3HW.mean(dim=(1, 2, 3)).add(1).mul(2).floor().clamp(0, 3).long()[:, None],))

    def decode(self, source: TokenSequence) -> torch.Tensor:
        return ((source.indices[0].float() + 0.5) / 2 - 1)[:, :, None, None].expand(-1, 3, 16, 16)


def noted(data: DataConfig) -> DatasetInfo:
    """What a run notes of the data that it is trained on."""
    train = training_set(data)
    return DatasetInfo(name=train.name, classes=train.classes, images=len(train), fingerprint=train.fingerprint)


def note(diary: Path, line: str) -> None:
    """One line at once, so that those of several processes do not mix and a killed one leaves whole lines."""
    descriptor = os.open(diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode() + b"\n")
    os.close(descriptor)


def diary_of(root: Path, word: str) -> list[str]:
    """What was written down under ``word``."""
    path = root / "diary"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.removeprefix(f"{word} ") for line in lines if line.startswith(f"{word} ")]


def evaluate_run(root: Path, *, keep: bool = True, pause: float = 0.0) -> RunRecord | None:
    """Evaluate the painter in this process, or this process's part of it under torchrun's environment."""
    diary, folder = root / "diary", root / "painter"
    scorer.open_extractor = lambda *_, **__: Thumbnails(diary, pause)  # type: ignore[assignment]
    evaluate.config_hash = lambda config: "0123456789abcdef"  # type: ignore[assignment]
    evaluate.changed_settings = lambda config: {}  # type: ignore[assignment]
    from nvgbench.evaluation import reconstructions

    reconstructions.load_lpips = lambda device: (None, "LPIPS: not here")  # type: ignore[assignment]
    data = DataConfig(source="shapes", image_size=16, train_images=40, eval_images=REFERENCE)
    run: Any = SimpleNamespace(
        name="painter",
        path=folder,
        dataset=noted(data),
        config=SimpleNamespace(
            data=data, family="nvg", name="nvg-tiny", tokenizer=TokenizerConfig(), model=None, sampling=NvgSamplingConfig()
        ),
        samples_path=folder / "samples",
        records_path=folder / "records.jsonl",
        replicate={"of": "0123456789abcdef", "seed": 0},
        load_generator=lambda device, **chosen: Painter(diary, pause),
        load_tokenizer=lambda device: Rounding(),
    )
    options = EvaluationOptions(n=SAMPLES, extractor="classifier", batch_size=50, keep_samples=keep)
    with join_processes(torch.device("cpu")) as (processes, device):
        return Evaluator(root, options, device, share=processes.share()).run(run)


def _child(root: Path, keep: bool, pause: float, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    evaluate_run(root, keep=keep, pause=pause)


def start(root: Path, *, keep: bool = True, pause: float = 0.0, environment: dict[str, str] | None = None) -> Any:
    """Evaluate in a process of its own."""
    process = forked().Process(target=_child, args=(root, keep, pause, environment or {}))
    process.start()
    return process
