"""The perceptual loss over EfficientNet's stages."""

from __future__ import annotations

import pytest
import torch

from nvgbench.autoencoder.objective import TokenizerObjective
from nvgbench.autoencoder.perceptual import load_perceptual
from nvgbench.nvg.tokenizer import build_tokenizer
from nvgbench.types import ImageBatch
from tests.unit.autoencoder.test_tokenizer_objective import make_config


def smooth(seed: int) -> torch.Tensor:
    coarse = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic").clamp(-1, 1)


def test_distance_grows_with_the_damage_and_reaches_the_reconstruction_alone() -> None:
    distance, note = load_perceptual("efficientnet-lite0")
    assert distance is not None
    assert note.startswith("perceptual loss: stages of efficientnet-lite0 (SHA-256 57934424")
    real, noise = smooth(0), torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert distance(real, real).tolist() == pytest.approx([0, 0], abs=1e-6)
    found = torch.stack([distance(real + strength * noise, real) for strength in (0.02, 0.1, 0.5)])
    assert bool((found.diff(dim=0) > 0).all())
    assert 0 < float(found.min()) < float(found.max()) < 4
    fake = (real + 0.1 * noise).requires_grad_()
    target = real.clone().requires_grad_()
    distance(fake, target).sum().backward()
    assert fake.grad is not None
    assert fake.grad.abs().sum() > 0
    assert target.grad is None
    assert all(parameter.grad is None for parameter in distance.parameters())


def test_it_is_a_term_of_the_tokenizers_loss() -> None:
    torch.manual_seed(0)
    config = make_config(perceptual="efficientnet-lite0", perceptual_weight=0.5)
    objective = TokenizerObjective(config, build_tokenizer(config), total_steps=10)
    assert set(objective.modules) == {"tokenizer"}
    assert "stages of efficientnet-lite0" in objective.notes[0]
    batch = ImageBatch(smooth(2)[:, :, ::2, ::2], torch.zeros(2, dtype=torch.int64))
    ((name, total, logged),) = objective.losses(batch, torch.Generator(), 5)
    assert name == "tokenizer"
    parts = logged["l1"] + logged["codebook"] + 0.5 * logged["perceptual"]
    torch.testing.assert_close(total.detach(), torch.as_tensor(parts))
