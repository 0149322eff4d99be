"""The plain vector quantizer."""

from __future__ import annotations

import pytest
import torch
from nvgbench_baselines.ar.config import FlatConfig
from nvgbench_baselines.ar.quantizer import FlatQuantizer

GRID = (2, 4)


def quantizer(unit_sphere: bool = False) -> FlatQuantizer:
    torch.manual_seed(0)
    module = FlatQuantizer(FlatConfig(unit_sphere=unit_sphere), 12, 4, GRID, commitment=0.5, entropy=True)
    torch.nn.init.normal_(module.codebook.weight)
    return module


def latents() -> torch.Tensor:
    return torch.randn(3, 4, *GRID, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("unit_sphere", [False, True])
def test_every_position_takes_its_nearest_code(unit_sphere: bool) -> None:
    module = quantizer(unit_sphere)
    tokens = module.tokenize(latents())
    vectors, codes = latents().flatten(2).transpose(1, 2), module.codebook.weight
    if unit_sphere:
        vectors, codes = (values / values.norm(dim=-1, keepdim=True) for values in (vectors, codes))
    assert torch.equal(tokens.indices[0], torch.cdist(vectors, codes).argmin(dim=-1))
    canvas = module.canvases(tokens)
    assert canvas.shape == (3, 1, 4, *GRID)
    torch.testing.assert_close(canvas[:, 0].flatten(2).transpose(1, 2), codes[tokens.indices[0]])
    torch.testing.assert_close(module(latents()).latent_BChw, canvas[:, 0])


@pytest.mark.parametrize("unit_sphere", [False, True])
def test_soft_choice_has_the_hard_value_and_trains_every_code(unit_sphere: bool) -> None:
    module = quantizer(unit_sphere)
    hard, soft = module(latents()), module(latents(), soft=True)
    torch.testing.assert_close(soft.latent_BChw, hard.latent_BChw)
    torch.testing.assert_close(soft.codebook_loss, hard.codebook_loss)
    soft.codebook_loss.backward()
    assert bool((module.codebook.weight.grad.abs().sum(1) > 0).all())


def test_commitment_acts_on_the_encoder_alone() -> None:
    module, latent = quantizer(), latents().requires_grad_()
    output = module(latent)
    output.codebook_loss.backward()
    codes = module.canvases(output.tokens)[:, 0].detach()
    torch.testing.assert_close(latent.grad, 0.5 * 2 * (latent.detach() - codes) / latent.numel())
    assert float(output.codebook_loss.detach()) == pytest.approx(1.5 * float((latent.detach() - codes).square().mean()))


def test_gradients_pass_straight_through() -> None:
    latent = latents().requires_grad_()
    weights = torch.randn_like(latent)
    (quantizer()(latent).latent_BChw * weights).sum().backward()
    torch.testing.assert_close(latent.grad, weights)
