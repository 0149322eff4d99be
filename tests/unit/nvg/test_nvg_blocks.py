"""The single-stream block."""

from __future__ import annotations

import pytest
import torch

from nvgbench.nvg.arithmetic import BlockWeights, single_stream
from nvgbench.nvg.blocks import SingleStreamBlock, initialise, make_blocks
from nvgbench.nvg.config import NvgModelConfig
from nvgbench.nvg.rope import Rotation, StructureRope
from nvgbench.nvg.stages import StageLayout

CONFIG = NvgModelConfig(depth=3, head_size=32, content_heads=2, drop_path=0.4)


def _inputs(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor, Rotation]:
    """Tokens, the modulation of each sample, rotation."""
    generator = torch.Generator().manual_seed(0)
    rope = StructureRope(CONFIG, StageLayout((4, 8)), canvas_condition=False)
    x, condition = torch.randn(batch, 33, 64, generator=generator), torch.randn(batch, 64, generator=generator)
    vectors = _block().modulation(condition).detach()
    return x, vectors, rope(torch.ones(batch, 32, 5))


def _block(drop_path: float = 0.0) -> SingleStreamBlock:
    torch.manual_seed(0)
    block = SingleStreamBlock(64, 2, 4, drop_path)
    initialise(block)
    return block


def test_computing_only_the_last_tokens_changes_nothing() -> None:
    block, inputs = _block(), _inputs()
    # The same products in smaller pieces: float32 rounding.
    torch.testing.assert_close(block(*inputs, last=10), block(*inputs)[:, -10:], rtol=1e-5, atol=1e-5)


def test_samples_are_independent() -> None:
    block, (x, vectors, turn) = _block(), _inputs()
    changed = x.clone()
    changed[1] += 1
    out, other = block(x, vectors, turn), block(changed, vectors, turn)
    torch.testing.assert_close(out[[0, 2]], other[[0, 2]], rtol=1e-5, atol=1e-5)
    assert (out[1] - other[1]).abs().max() > 0.1


def test_drop_path_skips_whole_samples_and_keeps_the_mean() -> None:
    block, (x, vectors, turn) = _block(0.4), _inputs(batch=200)
    x = x[:1].expand(200, -1, -1)
    vectors = vectors[:1].expand(200, -1, -1)
    block.eval()
    full = block(x, vectors, turn)[0] - x[0]
    block.train()
    torch.manual_seed(1)
    update = block(x, vectors, turn) - x
    skipped = (update == 0).flatten(1).all(1)
    # 200 draws: standard error 0.035.
    assert abs(skipped.float().mean() - 0.4) < 0.15
    kept = update[~skipped]
    torch.testing.assert_close(kept, (full / 0.6).expand_as(kept), rtol=1e-4, atol=1e-4)


def test_drop_path_rises_to_the_last_block() -> None:
    rates = [block.drop_path for block in make_blocks(CONFIG, CONFIG.content_width)]
    assert rates == [0.0, 0.2, 0.4]
    assert NvgModelConfig(depth=24).drop_path_rate == pytest.approx(0.1)


def test_bf16_autocast_stays_close() -> None:
    block, inputs = _block(), _inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = block(*inputs)
    exact = block(*inputs)
    # bf16 has 8 bits of mantissa; the residual branch passes four products.
    assert (rough.float() - exact).abs().mean() < 0.02 * exact.abs().mean()


@pytest.mark.parametrize("last", [None, 10])
def test_working_in_place_changes_rounding_only(last: int | None) -> None:
    block, (x, vectors, turn) = _block().eval(), _inputs()
    with torch.no_grad():
        block.query_scale.normal_(), block.key_scale.normal_()
    linears = (block.linear_in.weight, block.linear_in.bias, block.linear_out.weight, block.linear_out.bias)
    functional = single_stream(x, vectors, turn, BlockWeights(*linears, block.query_scale, block.key_scale), last).detach()
    before = x.clone()
    with torch.no_grad():
        # Another GELU and another order of sums: float32 has 24 bits, and results are near 1.
        torch.testing.assert_close(block(x, vectors, turn, last=last), functional, rtol=1e-5, atol=1e-5)
    assert torch.equal(x, before)
