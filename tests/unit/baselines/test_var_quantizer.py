"""The multi-scale quantizer."""

from __future__ import annotations

import pytest
import torch
from nvgbench_baselines.var.config import ScaleConfig
from nvgbench_baselines.var.quantizer import ScaleQuantizer

from nvgbench.errors import InputError

GRID = (4, 4)


def quantizer(**settings: object) -> ScaleQuantizer:
    torch.manual_seed(0)
    module = ScaleQuantizer(ScaleConfig(scales=(1, 2, 4), **settings), 24, 4, GRID, entropy=True)
    torch.nn.init.normal_(module.codebook.weight)
    return module


def latents(seed: int = 1) -> torch.Tensor:
    return torch.randn(3, 4, *GRID, generator=torch.Generator().manual_seed(seed))


def test_default_scales() -> None:
    assert ScaleConfig().sides((16, 16)) == (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
    assert ScaleConfig().sides((8, 8)) == (1, 2, 3, 4, 6, 8)


@pytest.mark.parametrize(
    ("scales", "grid"),
    [(None, (5, 5)), ((1, 2), (4, 4)), ((2, 1, 4), (4, 4)), ((1, 1, 4), (4, 4)), ((1, 4), (4, 8)), ((), (4, 4))],
)
def test_scales_that_do_not_fit_are_refused(scales: tuple[int, ...] | None, grid: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.quantizer\.scales"):
        ScaleConfig(scales=scales).sides(grid)


def test_training_and_tokenizing_choose_the_same_codes() -> None:
    module = quantizer()
    output = module(latents())
    tokens = module.tokenize(latents())
    assert [tuple(index.shape) for index in tokens.indices] == [(3, 1), (3, 4), (3, 16)]
    assert all(torch.equal(a, b) for a, b in zip(tokens.indices, output.tokens.indices, strict=True))
    # The same sums in another order.
    torch.testing.assert_close(module.canvases(tokens)[:, -1], output.latent_BChw, rtol=1e-5, atol=1e-5)


def test_last_scale_takes_the_code_nearest_to_what_is_left() -> None:
    module = quantizer()
    tokens = module.tokenize(latents())
    rest = latents() - module.canvases(tokens)[:, -2]
    distances = torch.cdist(rest.flatten(2).transpose(1, 2), module.codebook_VC)
    assert torch.equal(distances.argmin(dim=-1), tokens.indices[-1])


def test_cosine_distance_ignores_length() -> None:
    module = quantizer(distance="cosine")
    vectors = torch.randn(50, 4, generator=torch.Generator().manual_seed(2))
    assert torch.equal(module._choose(vectors, soft=False)[0], module._choose(7 * vectors, soft=False)[0])
    with torch.no_grad():
        module.codebook.weight[0] *= 100
    assert 0 < int((module._choose(vectors, soft=False)[0] == 0).sum()) < 50


@pytest.mark.parametrize("distance", ["l2", "cosine"])
def test_soft_choice_has_the_hard_value_and_trains_every_code(distance: str) -> None:
    module = quantizer(distance=distance)
    hard, soft = module(latents()), module(latents(), soft=True)
    torch.testing.assert_close(soft.latent_BChw, hard.latent_BChw, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(soft.codebook_loss, hard.codebook_loss, rtol=1e-5, atol=1e-5)
    used = torch.cat(hard.tokens.indices, dim=1).unique()
    hard.codebook_loss.backward()
    assert set(module.codebook.weight.grad.abs().sum(1).nonzero().flatten().tolist()) <= set(used.tolist())
    module.zero_grad()
    soft.codebook_loss.backward()
    assert bool((module.codebook.weight.grad.abs().sum(1) > 0).all())


def test_gradients_pass_straight_through() -> None:
    latent = latents().requires_grad_()
    weights = torch.randn_like(latent)
    (quantizer()(latent).latent_BChw * weights).sum().backward()
    torch.testing.assert_close(latent.grad, weights)


def test_teacher_inputs_are_the_canvas_at_the_next_scale() -> None:
    module = quantizer()
    tokens = module.tokenize(latents())
    inputs = module.teacher_inputs(tokens)
    assert inputs.shape == (3, 4 + 16, 4)
    canvases = module.canvases(tokens)
    mean = canvases[:, 0].unflatten(2, (2, 2)).unflatten(4, (2, 2)).mean(dim=(3, 5))
    torch.testing.assert_close(inputs[:, :4], mean.flatten(2).transpose(1, 2))
    torch.testing.assert_close(inputs[:, 4:], canvases[:, 1].flatten(2).transpose(1, 2))


def test_autocast_changes_nothing() -> None:
    module = quantizer()
    plain = module(latents())
    with torch.autocast("cpu", torch.bfloat16):
        cast = module(latents())
    assert cast.latent_BChw.dtype == torch.float32
    assert torch.equal(plain.latent_BChw, cast.latent_BChw)
    assert torch.equal(plain.entropy_loss, cast.entropy_loss)
