"""Captured, compiled and bf16 sampling against the plain path, with a stand-in for CUDA graphs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from nvgbench.nvg.arithmetic import single_stream
from nvgbench.nvg.blocks import SingleStreamBlock, initialise
from nvgbench.nvg.image_generator import NvgImageGenerator
from nvgbench.nvg.rope import Rotation
from nvgbench.sampling.capture import GraphCache
from nvgbench.sampling.precision import bf16_copy
from nvgbench.types import SampleRequest
from tests.helpers.fake_graphs import FakeGraphs
from tests.helpers.small_models import build_small


@pytest.fixture
def plain() -> NvgImageGenerator:
    sampling = {"content_guidance": [1.0, 3.0], "structure_guidance": [1.0, 2.0], "flow_steps": 3, "gumbel": True}
    images = build_small("nvg", sampling=sampling).images()
    assert isinstance(images, NvgImageGenerator)
    return images


@pytest.fixture
def graphs(plain: NvgImageGenerator) -> FakeGraphs:
    """Counts the captures of ``plain``, which it makes a captured generator."""
    fake = FakeGraphs()
    plain.graphs = GraphCache(True, (plain.generator, plain.tokenizer), graphs=fake)
    return fake


def _draw(images: NvgImageGenerator, rows: int = 3, seed: int = 0, trace: bool = False, **settings: Any) -> Tensor:
    request = SampleRequest(labels_B=torch.arange(rows) % 3, seeds_B=torch.arange(rows) + seed, settings=settings, trace=trace)
    return images.generate(request).images_B3HW


def _changes(images: NvgImageGenerator) -> dict[str, Any]:
    return {
        "again": lambda: _draw(images),
        "seed": lambda: _draw(images, seed=7),
        "batch": lambda: _draw(images, rows=2),
        "steps": lambda: _draw(images, flow_steps=2),
        "schedule": lambda: _draw(images, flow_schedule="uniform"),
        "guidance": lambda: _draw(images, content_guidance=(2.0, 5.0), structure_guidance=(3.0, 1.0)),
        "filters": lambda: _draw(images, temperature=2.0, top_k=5, top_p=(0.9, 0.8)),
        "gumbel": lambda: _draw(images, gumbel=False),
        "bf16": lambda: _draw(images, precision="bf16"),
        "trace": lambda: _draw(images, trace=True),
    }


def test_every_request_gives_the_bits_of_the_plain_path(plain: NvgImageGenerator) -> None:
    plain.graphs.enabled = False
    expected = {name: draw() for name, draw in _changes(plain).items()}
    fake = FakeGraphs()
    plain.graphs = GraphCache(True, (plain.generator, plain.tokenizer), graphs=fake)
    for _ in range(2):
        for name, draw in _changes(plain).items():
            assert torch.equal(draw(), expected[name]), name
    captures = fake.captures
    for draw in _changes(plain).values():
        draw()
    assert fake.captures == captures  # the second and third round replay
    assert fake.replays > 2 * captures


def test_changed_weights_reach_every_precision(plain: NvgImageGenerator, graphs: FakeGraphs) -> None:
    before = {precision: _draw(plain, precision=precision) for precision in ("fp32", "bf16")}
    with torch.no_grad():
        for weight in plain.generator.content.blocks.parameters():
            weight.normal_(std=0.4)
    after = {precision: _draw(plain, precision=precision) for precision in ("fp32", "bf16")}
    plain.graphs.enabled = False
    for precision, images in after.items():
        assert not torch.equal(images, before[precision])
        assert torch.equal(images, _draw(plain, precision=precision))


def test_the_bf16_copy_shares_all_other_weights(plain: NvgImageGenerator) -> None:
    original = plain.generator
    copied = bf16_copy(original, original.half_precision_layers())
    shared, half = 0, 0
    for (name, weight), (_, other) in zip(original.named_parameters(), copied.named_parameters(), strict=True):
        assert weight.dtype is torch.float32, name
        if other.dtype is torch.bfloat16:
            assert ".blocks." in name or ".head.modulation." in name
            half += 1
        else:
            assert other is weight, name
            shared += 1
    assert half == 2 * (2 * 6 + 2)  # two networks; weights and biases of three layers per block, and of the head's modulation
    assert shared > 0


def test_bf16_is_close_to_float32(plain: NvgImageGenerator) -> None:
    exact = plain.generator
    half = bf16_copy(exact, exact.half_precision_layers())
    rng = torch.Generator().manual_seed(0)
    layout = exact.layout
    z, canvas = (torch.randn(2, layout.positions, channels, generator=rng) for channels in (layout.channels, 4))
    se, stage, labels, t = torch.ones_like(z), torch.tensor([1, 0]), torch.tensor([0, 2]), torch.tensor([0.3, 0.8])
    with torch.no_grad():
        for name in ("structure", "content"):
            inputs = (z, t, canvas, se, stage, labels) if name == "structure" else (canvas, se, stage, labels)
            ours, reference = (getattr(model, name)(*inputs) for model in (half, exact))
            assert ours.dtype is torch.float32
            # bf16 has 8 bits: 0.4 % per product, over two blocks whose weights are large.
            assert (ours - reference).norm() < 0.05 * reference.norm(), name
            assert not torch.equal(ours, reference)


def test_all_blocks_share_one_compiled_code() -> None:
    torch.manual_seed(0)
    counter = CompileCounter()
    arithmetic = torch.compile(single_stream, backend=counter, fullgraph=True, dynamic=False)
    x, rotation = torch.randn(2, 5, 64), Rotation(torch.randn(2, 1, 5, 16, 2))
    torch._dynamo.reset()
    with torch.no_grad():
        for drop_path in (0.0, 0.1, 0.2):
            block = SingleStreamBlock(64, 2, 4, drop_path).eval()
            initialise(block)
            vectors = block.modulation(torch.randn(2, 64))
            expected = block(x, vectors, rotation)
            block._arithmetic = arithmetic
            # Another GELU and order of sums, and the rotation in real arithmetic: a few roundings of numbers near 1.
            torch.testing.assert_close(block(x, vectors, rotation), expected, rtol=1e-5, atol=1e-5)
    assert counter.frame_count == 1


def test_both_forms_of_the_rotation_agree() -> None:
    rotation = Rotation(torch.view_as_real(torch.polar(torch.ones(2, 1, 5, 16), torch.randn(2, 1, 5, 16))))
    x = torch.randn(2, 3, 5, 32)
    real = torch.compile(Rotation.apply, backend="eager")(rotation, x)
    # The same products; the complex form may fuse a product with the difference.
    torch.testing.assert_close(rotation.apply(x), real, rtol=1e-6, atol=1e-6)
