"""The convolutional tokenizer around a quantizer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nvgbench.autoencoder.encoder import group_norm
from nvgbench.autoencoder.tokenizer import ConvTokenizer
from nvgbench.config.schema import TokenizerConfig
from nvgbench.errors import InputError
from nvgbench.interfaces import Tokenizer
from nvgbench.nvg.config import GranularityConfig
from nvgbench.nvg.quantizer import GranularityQuantizer


def make_tokenizer(**settings: object) -> ConvTokenizer:
    defaults = {"base_channels": 24, "channel_multipliers": (1, 2), "latent_channels": 4, "codebook_size": 16}
    config = TokenizerConfig(**(defaults | settings))
    quantizer = GranularityQuantizer(GranularityConfig(), config.codebook_size, config.latent_channels, (8, 8))
    return ConvTokenizer(config, (8, 8), quantizer)


@pytest.mark.parametrize(
    ("channels", "wanted", "groups"), [(128, 32, 32), (24, 32, 24), (40, 32, 20), (7, 32, 7), (24, 8, 8), (36, 8, 6)]
)
def test_norm_groups_divide_the_channels(channels: int, wanted: int, groups: int) -> None:
    assert group_norm(channels, wanted).num_groups == groups


def test_the_number_of_norm_groups_is_a_setting() -> None:
    norms = [module for module in make_tokenizer(norm_groups=8, attention=True).modules() if isinstance(module, nn.GroupNorm)]
    assert {norm.num_groups for norm in norms} == {8}


def test_the_codebook_can_start_at_a_given_scale() -> None:
    torch.manual_seed(0)
    assert make_tokenizer().quantizer.codebook_VC.abs().max().item() <= 1 / 16
    weight = make_tokenizer(codebook_std=0.3, codebook_size=512).quantizer.codebook_VC
    assert weight.std().item() == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize("variant", [False, True])
def test_images_to_tokens_and_back(variant: bool) -> None:
    tokenizer = make_tokenizer(attention=variant, quant_convs=variant)
    assert isinstance(tokenizer, Tokenizer)
    assert (tokenizer.codebook_size, tokenizer.stage_tokens) == (16, (1, 2, 4, 8, 16, 32, 64))
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    tokens = tokenizer.encode(images)
    assert [tuple(index.shape) for index in tokens.indices] == [(3, count) for count in tokenizer.stage_tokens]
    canvases = tokenizer.canvases(tokens)
    assert canvases.shape == (3, 7, 4, 8, 8)
    assert torch.equal(tokenizer.canvas(tokens, 2), canvases[:, 2])
    decoded = tokenizer.decode(tokens)
    assert decoded.shape == images.shape
    assert torch.equal(decoded, tokenizer.decode(canvases[:, -1]))
    torch.testing.assert_close(tokenizer(images).reconstruction_B3HW.clamp(-1, 1), decoded, rtol=1e-4, atol=1e-5)


def test_decoded_images_are_clamped_but_training_sees_the_whole_range() -> None:
    tokenizer = make_tokenizer()
    with torch.no_grad():
        tokenizer.decoder.head.bias.fill_(5.0)
    images = torch.zeros(1, 3, 16, 16)
    assert tokenizer.decode(tokenizer.encode(images)).max().item() == 1.0
    assert tokenizer(images).reconstruction_B3HW.max().item() > 1.0


def test_gradients_pass_the_quantizer() -> None:
    tokenizer = make_tokenizer()
    tokenizer(torch.rand(2, 3, 16, 16)).reconstruction_B3HW.square().mean().backward()
    assert tokenizer.encoder.stem.weight.grad.abs().max().item() > 0


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(1, 3, 32, 32\); expected \[B, 3, 16, 16\]"):
        make_tokenizer().encode(torch.zeros(1, 3, 32, 32))
