"""Captured sampling with every objective of the structure, with a stand-in for CUDA graphs."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from nvgbench.nvg.image_generator import NvgImageGenerator
from nvgbench.nvg.structure_flow.registry import OBJECTIVES
from nvgbench.sampling.capture import GraphCache
from nvgbench.types import SampleRequest
from tests.helpers.fake_graphs import FakeGraphs
from tests.helpers.small_models import build_small

STEPS, SOLVERS = (3, 1, 2), ("euler", "heun")


def _draw(images: NvgImageGenerator, settings: dict[str, object]) -> Tensor:
    order_B = torch.arange(5)
    return images.generate(SampleRequest(labels_B=order_B, seeds_B=order_B, settings=settings)).images_B3HW


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_captured_structure_has_the_bits_of_eager_structure(objective: str) -> None:
    """Whatever steps and solver were captured before; changes of both must show, or a stale graph would not."""
    guidance = {"content_guidance": [1.0, 3.0], "structure_guidance": [1.0, 2.0]}
    images = build_small("nvg", model={"structure_objective": objective}, sampling=guidance).images()
    assert isinstance(images, NvgImageGenerator)
    requests = [{"flow_steps": steps, "flow_solver": solver} for solver, steps in itertools.product(SOLVERS, STEPS)]
    images.graphs.enabled = False
    expected = [_draw(images, settings) for settings in requests]
    fake = FakeGraphs()
    images.graphs = GraphCache(True, (images.generator, images.tokenizer), graphs=fake)
    for _ in range(2):
        for settings, eager in zip(requests, expected, strict=True):
            captures, replays = fake.captures, fake.replays
            assert torch.equal(_draw(images, settings), eager), settings
            assert fake.replays > replays
    assert fake.captures == captures  # the second round has only replayed
    drawn = [image.numpy().tobytes() for image in expected]
    euler, heun = drawn[: len(STEPS)], drawn[len(STEPS) :]
    # A Bernoulli structure always takes one step, and only the flow has solvers, which agree on one step.
    assert len(set(euler)) == len(set(heun)) == (1 if objective == "bernoulli" else len(STEPS))
    assert (euler != heun) == (objective == "flow")
