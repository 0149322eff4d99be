"""Interfaces of both families: look-up, presets, cost cards, shared helpers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from nvgbench_baselines.cache import LayerCache
from nvgbench_baselines.conditioning import drop_labels
from nvgbench_baselines.cost import decoder_flops

from nvgbench.autoencoder.tokenizer import ConvTokenizer
from nvgbench.config.load import load_preset
from nvgbench.interfaces import Tokenizer
from nvgbench.profiling.flops import count_flops
from nvgbench.registry import get_family
from nvgbench.types import SampleRequest, TokenBatch

SIZES = {  # millions of generator parameters; 1,000 classes at 256 px, else 10
    "var-d12": 133.19,
    "var-d16": 310.28,
    "var-d20": 600.92,
    "var-d24": 1033.40,
    "var-d30": 2010.02,
    "ar-b": 110.89,
    "ar-l": 342.91,
    "ar-xl": 774.70,
}
COMPARED = ("tiny", "cifar10")


def test_importing_the_families_imports_no_torch() -> None:
    code = "import sys, nvgbench_baselines.var, nvgbench_baselines.ar; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("name", SIZES)
def test_presets_at_256_px(name: str) -> None:
    config = load_preset(name)
    assert config.data.image_size == 256
    assert config.grid == (16, 16)
    assert config.train.cpu_batch_size == 2
    card = get_family(config.family).cost(config, 1000)
    assert card.parameters["transformer"] / 1e6 == pytest.approx(SIZES[name], abs=0.01)


@pytest.mark.parametrize("size", COMPARED)
def test_compared_presets_differ_in_the_generator_only(size: str) -> None:
    configs = [load_preset(f"{family}-{size}") for family in ("nvg", "var", "ar")]
    for one in configs[1:]:
        assert one.data == configs[0].data
        for part in ("base_channels", "channel_multipliers", "encoder_blocks", "decoder_blocks", "attention", "quant_convs"):
            assert getattr(one.tokenizer, part) == getattr(configs[0].tokenizer, part)
        assert one.tokenizer.latent_channels == configs[0].tokenizer.latent_channels
        assert one.tokenizer.codebook_size == configs[0].tokenizer.codebook_size
        assert one.tokenizer.losses == configs[0].tokenizer.losses
        assert one.train.tokenizer == configs[0].train.tokenizer
        for part in ("steps", "epochs", "batch_size"):
            assert getattr(one.train.generator, part) == getattr(configs[0].train.generator, part)
        assert one.train.cache_tokens
    cards = [get_family(config.family).cost(config, 10).parameters for config in configs]
    sizes = [sum(count for part, count in card.items() if part != "tokenizer") for card in cards]
    assert max(sizes) < 1.25 * min(sizes)


@pytest.mark.parametrize(
    ("family", "sections"),
    [
        ("var", {}),
        ("var", {"sampling": {"guidance": 0.0, "more_smooth": True}}),
        ("var", {"model": {"shared_modulation": True, "mlp_ratio": 2}}),
        ("var", {"sampling": {"kv_cache": False}}),
        ("ar", {}),
        ("ar", {"sampling": {"guidance": 1.0}}),
    ],
)
def test_cost_card_equals_what_is_counted(small: Callable, family: str, sections: dict[str, Any]) -> None:
    model = small(family, **sections)
    card = model.family.cost(model.config, 5)
    request = SampleRequest(labels_B=torch.tensor([1]), seeds_B=torch.tensor([1]))
    assert sum(card.sampling_flops.values()) == count_flops(lambda: model.images().generate(request))
    assert card.parameters["transformer"] == sum(weight.numel() for weight in model.generator.parameters())
    assert card.parameters["tokenizer"] == sum(weight.numel() for weight in model.tokenizer.parameters())
    objective = model.family.objective(model.config, model.tokenizer, model.generator)
    batch = TokenBatch(model.tokens(1), torch.tensor([1]))

    def train_step() -> None:
        ((_, loss, _),) = objective.losses(batch, torch.Generator(), 0)
        loss.backward()

    teacher = count_flops(lambda: model.tokenizer.quantizer.teacher_inputs(batch.tokens)) if family == "var" else 0
    # The first layer's inputs need no gradient: the count is a little below three forward passes.
    assert count_flops(train_step) - teacher == pytest.approx(card.training_flops, rel=0.02)


def test_decoder_cost_with_attention_and_convolutions(small: Callable) -> None:
    model = small("ar", tokenizer={"attention": True, "quant_convs": True, "decoder_blocks": 2})
    counted = count_flops(lambda: model.tokenizer.decode(torch.zeros(1, 4, 4, 4)))
    assert decoder_flops(model.config) == counted


@pytest.mark.parametrize("family", ["var", "ar"])
def test_tokenizers_encode_and_decode(small: Callable, family: str) -> None:
    tokenizer = small(family).tokenizer
    assert isinstance(tokenizer, ConvTokenizer)
    assert isinstance(tokenizer, Tokenizer)
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    tokens = tokenizer.encode(images)
    assert tuple(index.shape[1] for index in tokens.indices) == tokenizer.stage_tokens
    with torch.no_grad():
        assert tokenizer.decode(tokens).shape == images.shape
        torch.testing.assert_close(tokenizer.decode(tokens), tokenizer(images).reconstruction_B3HW.clamp(-1, 1))


def test_dropped_labels() -> None:
    labels = torch.arange(5).repeat(2000)
    dropped = drop_labels(labels, 0.1, 5, torch.Generator().manual_seed(0))
    assert torch.equal(dropped[dropped != 5], labels[dropped != 5])
    # Standard deviation of the share: 0.003.
    assert float((dropped == 5).float().mean()) == pytest.approx(0.1, abs=0.015)
    assert torch.equal(drop_labels(labels, 0.0, 5, torch.Generator()), labels)


def test_cache_returns_all_tokens_so_far_and_refuses_too_many() -> None:
    cache = LayerCache(3)
    parts = [torch.randn(2, 1, length, 4) for length in (1, 2)]
    cache.extend(parts[0], -parts[0])
    keys, values = cache.extend(parts[1], -parts[1])
    assert torch.equal(keys, torch.cat(parts, dim=2))
    assert torch.equal(values, -keys)
    with pytest.raises(AssertionError):
        cache.extend(parts[0], parts[0])
