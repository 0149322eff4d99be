"""Two processes on one batch do what one process does."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nvgbench.data.loader import step_indices
from nvgbench.data.source import open_dataset
from nvgbench.results.store import read_records
from nvgbench.runs import checkpoint as ckpt
from nvgbench.runs.folder import RunFolder
from nvgbench.runs.seeding import mix_seed
from nvgbench.types import SampleRequest
from tests.helpers.process_group import environments
from tests.helpers.training_jobs import log, start, train


def _start_two(folder: Path, family: str, *settings: str) -> list[Any]:
    return [start(folder, family, *settings, environment=place) for place in environments(2)]


@pytest.mark.parametrize("own", [(), ("train.parallel=fsdp",), ("train.parallel=fsdp", "model.shared_modulation=true")])
def test_two_processes_equal_one(tmp_path: Path, own: tuple[str, ...]) -> None:
    """VAR without label drop draws nothing at random, so that the mean of two gradients is the gradient of the whole batch."""
    settings = ("model.label_drop=0", "train.steps=6", *own)
    train(tmp_path / "one", "var", *settings)
    for process in _start_two(tmp_path / "two", "var", *settings):
        process.join(timeout=60)
        assert process.exitcode == 0
    for one, two in zip(log(tmp_path / "one"), log(tmp_path / "two"), strict=True):
        assert (one["phase"], one["step"]) == (two["phase"], two["step"])
        # codes_used and perplexity are counted over a process's own images
        names = [name for name in one["losses"] if not name.endswith(("codes_used", "perplexity"))]
        # float32 sums in another order, through a few steps of Adam
        assert [two["losses"][name] for name in names] == pytest.approx([one["losses"][name] for name in names], rel=1e-3)
        assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-2)
    states = [RunFolder(tmp_path / name).state("generator") for name in ("one", "two")]
    assert states[0].images == states[1].images == 24
    found = [ckpt.latest_checkpoint(tmp_path / name / "checkpoints" / "tokenizer") for name in ("one", "two")]
    one, two = (ckpt.load_tensors(path, ckpt.WEIGHTS) for path in found)
    apart = sum(float((one[name] - two[name]).abs().sum()) for name in one)
    assert apart / sum(value.numel() for value in one.values()) < 1e-4  # Adam's steps are 1e-3 here
    (record,) = read_records(tmp_path / "two")
    assert record.measurements[0].conditions["processes"] == 2


@pytest.mark.parametrize("family", ["nvg", "ar"])
def test_a_sharded_training_validates_and_leaves_a_run_that_can_be_used(tmp_path: Path, family: str) -> None:
    settings = (
        "train.parallel=fsdp",
        "train.validate_every=4",
        "train.steps=4",
        "data.eval_images=8",
        "tokenizer.losses.adversarial=patch",
        "train.activation_checkpointing=true",
        "train.generator.frozen=['*embed*']",
    )
    for process in _start_two(tmp_path, family, *settings):
        process.join(timeout=120)
        assert process.exitcode == 0
    losses = [row["losses"] for row in log(tmp_path) if row["step"] == 4]
    assert {"heldout/tokenizer", "heldout/averaged/tokenizer"} <= set(losses[0])
    assert {"heldout/generator", "heldout/averaged/generator"} <= set(losses[1])
    numbers = torch.arange(2)
    result = RunFolder(tmp_path).load_generator().generate(SampleRequest(labels_B=numbers, seeds_B=numbers))
    assert result.images_B3HW.shape == (2, 3, 16, 16)
    # The mode is no part of the run's identity.
    train(tmp_path, family, *settings[1:], continue_with={"train.generator.steps": 6})
    assert RunFolder(tmp_path).state("generator").step == 6


def test_an_image_that_one_process_cannot_read_stops_both_with_a_checkpoint(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label, index in itertools.product(("a", "b"), range(12)):
        (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(tmp_path / "data" / label / f"{index}.png")
    source = f"imagefolder:{tmp_path / 'data'}"
    dataset = open_dataset(source, image_size=16, split="train", augment="random-crop")
    # The third of the four images of step 3 is the second process's.
    index = step_indices(len(dataset), 4, seed=mix_seed(0, "tokenizer", "order"), step=3)[2]
    Path(dataset.describe(index)).write_bytes(b"\x89PNG broken")
    settings = (f"data.source={source}", "data.augment=random-crop", "data.train_images=null", "train.cache_tokens=false")
    processes = _start_two(tmp_path / "run", "ar", *settings, "train.checkpoint_every=100")
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 1
    state = RunFolder(tmp_path / "run").state("tokenizer")
    assert (state.step, state.images, state.final) == (3, 12, False)
    assert not (tmp_path / "run" / ".lock").exists()
