"""Both published autoencoders fit tensor by tensor, with an invertible mapping of names."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from nvgbench.autoencoder.checkpoint import PublishedNames
from nvgbench.autoencoder.tokenizer import ConvTokenizer
from nvgbench.config.schema import TokenizerConfig
from nvgbench.errors import InputError
from nvgbench.nvg.config import GranularityConfig
from nvgbench.nvg.quantizer import GranularityQuantizer
from nvgbench.nvg.tokenizer import PUBLISHED_NAMES
from tests.helpers.stand_ins import FIXTURES

VAR_HALVES = PublishedNames(wrapped=False, quantizer=(), ignored=r"^quantize\.")


def published_shapes(family: str) -> dict[str, torch.Size]:
    layouts = json.loads((FIXTURES[family] / f"{family}_state_dict_layouts.json").read_text())
    table = layouts["autoencoder"]["keys"] if family == "nvg" else layouts["models"]["vae_ch160v4096z32"]["state_dict"]
    return {key: torch.Size(shape) for key, shape in table.items()}


def nvg_tokenizer(config: TokenizerConfig) -> ConvTokenizer:
    quantizer = GranularityQuantizer(GranularityConfig(), config.codebook_size, config.latent_channels, (16, 16))
    return ConvTokenizer(config, (16, 16), quantizer)


def test_nvg_weights_fit_tensor_for_tensor() -> None:
    with torch.device("meta"):
        tokenizer = nvg_tokenizer(TokenizerConfig())
    shapes = published_shapes("nvg")
    shapes.pop("total_visited_codes")
    assert {PUBLISHED_NAMES.name(key): value.shape for key, value in tokenizer.state_dict().items()} == shapes


def test_var_weights_fit_tensor_for_tensor() -> None:
    config = TokenizerConfig(base_channels=160, channel_multipliers=(1, 1, 2, 2, 4), attention=True, quant_convs=True)
    with torch.device("meta"):
        tokenizer = ConvTokenizer(config, (16, 16), nn.Identity())
    shapes = {key: shape for key, shape in published_shapes("var").items() if not key.startswith("quantize.")}
    assert {VAR_HALVES.name(key): value.shape for key, value in tokenizer.state_dict().items()} == shapes


def tiny() -> ConvTokenizer:
    return nvg_tokenizer(TokenizerConfig(base_channels=8, channel_multipliers=(1, 2), latent_channels=4, codebook_size=16))


def published_state(tokenizer: ConvTokenizer) -> dict[str, Tensor]:
    return PUBLISHED_NAMES.to_published(tokenizer.state_dict())


def test_round_trip() -> None:
    source, target = tiny(), tiny()
    published = published_state(source)
    published |= {"total_visited_codes": torch.zeros(9, 16), "loss.discriminator.weight": torch.zeros(3)}
    target.load_state_dict(PUBLISHED_NAMES.from_published(published, target.state_dict()))
    for key, tensor in source.state_dict().items():
        assert torch.equal(tensor, target.state_dict()[key]), key


def test_a_checkpoint_that_does_not_fit_is_refused_by_name() -> None:
    tokenizer = tiny()
    published = published_state(tokenizer)
    key = "decoder.up.1.upsample.conv.conv.bias"
    tensor = published.pop(key)
    with pytest.raises(InputError, match=r"missing: decoder\.up\.1\.upsample\.conv\.conv\.bias"):
        PUBLISHED_NAMES.from_published(published, tokenizer.state_dict())
    with pytest.raises(InputError, match=r"conv\.bias \[17\] instead of \[16\]"):
        PUBLISHED_NAMES.from_published(published | {key: torch.zeros(17)}, tokenizer.state_dict())
    with pytest.raises(InputError, match=r"unexpected: encoder\.mid\.attn_1\.qkv\.weight"):
        PUBLISHED_NAMES.from_published(
            published | {key: tensor, "encoder.mid.attn_1.qkv.weight": torch.zeros(1)}, tokenizer.state_dict()
        )
