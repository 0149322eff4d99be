"""What only a CUDA device can show: the same tokens as on the CPU, training in bf16, the GPU's own counters."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from nvgbench.config.load import load_preset
from nvgbench.metrics.neighbours import neighbour_scores
from nvgbench.nvg.clustering import build_structure
from nvgbench.profiling.energy import energy_per_image
from nvgbench.profiling.memory import peak_cuda_memory
from nvgbench.registry import family_names
from nvgbench.runs.folder import RunFolder
from nvgbench.runs.models import seeded_tokenizer, untrained_generator
from nvgbench.types import SampleRequest
from tests.helpers.training_jobs import log, train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
CUDA = torch.device("cuda")


@pytest.mark.parametrize("child_order", ["matched", "raster"])
def test_clusters_equal_those_of_the_cpu(child_order: str) -> None:
    # Distances are rounded alike on integers, so that nothing but the algorithm can differ.
    latent_BLC = torch.randint(-8, 9, (16, 64, 8), generator=torch.Generator().manual_seed(0)).float()
    expected_BSL = build_structure(latent_BLC, child_order=child_order)
    assert torch.equal(build_structure(latent_BLC.cuda(), child_order=child_order).cpu(), expected_BSL)


@pytest.mark.parametrize("family", family_names())
def test_images_hardly_depend_on_the_batch(family: str) -> None:
    generator = untrained_generator(load_preset(f"{family}-tiny", []), 10, seed=0, device=CUDA)
    seeds_B, labels_B = torch.arange(8), torch.arange(8) % 10
    together = generator.generate(SampleRequest(labels_B=labels_B.cuda(), seeds_B=seeds_B)).images_B3HW
    alone = torch.cat(
        [generator.generate(SampleRequest(labels_B=labels_B[[i]].cuda(), seeds_B=seeds_B[[i]])).images_B3HW for i in range(8)]
    )
    # Matrix products of other shapes take other kernels: a token near a tie may flip, but not in most images.
    assert ((together.int() - alone.int()).abs().amax(dim=(1, 2, 3)) <= 1).float().mean() >= 0.75


@pytest.mark.parametrize("family", family_names())
def test_tokens_equal_those_of_the_cpu(family: str) -> None:
    tokenizer = seeded_tokenizer(load_preset(f"{family}-tiny", []), 0).eval()
    images_B3HW = torch.rand(32, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    expected = tokenizer.encode(images_B3HW)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        found = tokenizer.cuda().encode(images_B3HW.cuda())
    for here, there in zip(found.indices, expected.indices, strict=True):
        # Rounding may decide a near tie otherwise, and whatever hangs on it.
        assert (here.cpu() == there).float().mean() > 0.9


@pytest.mark.parametrize("family", family_names())
def test_bf16_training_runs_resumes_and_samples(family: str, tmp_path: Path) -> None:
    settings = ("train.precision=bf16", "train.checkpoint_every=3")
    train(tmp_path / "run", family, *settings, device=CUDA)
    rows = log(tmp_path / "run")
    assert all(math.isfinite(value) for row in rows for value in row["losses"].values())
    train(tmp_path / "run", family, *settings, device=CUDA)
    assert log(tmp_path / "run") == rows, "a finished run is left alone"
    generator = RunFolder(tmp_path / "run").load_generator(CUDA)
    images = generator.generate(SampleRequest(labels_B=torch.arange(4).cuda(), seeds_B=torch.arange(4))).images_B3HW
    assert images.shape == (4, 3, 16, 16)


def test_the_counters_of_the_gpu_are_read() -> None:
    a = torch.randn(2048, 2048, device=CUDA)
    energy = energy_per_image(lambda: a @ a, 1, CUDA, seconds=1.0, windows=1)
    assert energy.samples or energy.note.startswith("not available")
    memory = peak_cuda_memory(lambda: torch.zeros(1 << 24, device=CUDA), CUDA)
    assert memory.samples[0] >= 4 << 24


def test_neighbour_scores_equal_those_of_the_cpu() -> None:
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(400, 32, generator=rng).numpy(), (torch.randn(500, 32, generator=rng) + 0.2).numpy()
    here, there = (neighbour_scores(x, y, device=device) for device in (CUDA, "cpu"))
    for name in ("precision", "recall", "density", "coverage"):
        # One neighbour in 400 may change sides by rounding.
        assert getattr(here, name) == pytest.approx(getattr(there, name), abs=1 / 400 + 1e-12)
