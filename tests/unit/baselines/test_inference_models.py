"""The transformer that a sampler runs, by precision and compilation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from nvgbench_baselines.inference import InferenceModels

from nvgbench.config.identity import hashed_part
from nvgbench.config.load import load_preset, to_dict
from nvgbench.config.schema import ExecutionConfig
from nvgbench.types import SampleRequest
from tests.helpers.golden_sampling import golden_model

CPU = torch.device("cpu")
BF16 = ExecutionConfig(precision="bf16")
FAMILIES = ["var", "ar"]


@pytest.mark.parametrize("family", FAMILIES)
def test_only_linear_layers_are_copied_in_bf16(small: Callable, family: str) -> None:
    original = small(family).generator
    models = InferenceModels(original)
    assert models.get(ExecutionConfig(), CPU) is original, "auto is float32 on the CPU"
    copied = models.get(BF16, CPU)
    assert models.get(BF16, CPU) is copied
    half = {id(weight) for layer in copied.half_precision_layers() for weight in layer.parameters()}
    assert half
    for (name, weight), own in zip(copied.named_parameters(), original.parameters(), strict=True):
        if id(weight) in half:
            assert weight.dtype == torch.bfloat16, name
            torch.testing.assert_close(weight.float(), own, rtol=2**-8, atol=0)
        else:
            assert weight is own, name


@pytest.mark.parametrize("family", FAMILIES)
def test_changed_weights_are_copied_again(small: Callable, family: str) -> None:
    original = small(family).generator
    models = InferenceModels(original)
    before = models.get(BF16, CPU)
    with torch.no_grad():
        original.head.weight.add_(1.0)
    after = models.get(BF16, CPU)
    assert after is not before
    assert torch.equal(after.head.weight, original.head.weight.bfloat16())


@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_logits_are_those_of_float32_up_to_rounding(family: str) -> None:
    generator = golden_model(f"{family}-tiny")
    labels_B = torch.arange(3)
    length = sum(generator.tokenizer.stage_tokens)
    seen = torch.randn(3, length - 1, 32, generator=torch.Generator().manual_seed(0))
    if family == "ar":
        seen = torch.randint(0, 64, (3, length), generator=torch.Generator().manual_seed(0))
    else:
        seen = seen[..., : generator.tokenizer.latent_channels]
    exact, rounded = (
        InferenceModels(generator.transformer).get(ExecutionConfig(precision=precision), CPU)(labels_B, seen)
        for precision in ("fp32", "bf16")
    )
    assert rounded.dtype == torch.bfloat16
    # Weights and products of 8 bits: a few per cent after all blocks.
    assert (rounded.float() - exact).norm() / exact.norm() < 0.05


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_in_bf16_differ_and_are_whole(family: str) -> None:
    generator = golden_model(f"{family}-tiny")
    plain, half = (
        generator.generate(
            SampleRequest(labels_B=torch.arange(8), seeds_B=torch.arange(8), settings={"precision": precision})
        ).images_B3HW
        for precision in ("auto", "bf16")
    )
    assert half.shape == plain.shape
    assert float(half.float().std()) == pytest.approx(float(plain.float().std()), rel=0.1)
    assert not torch.equal(half, plain)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_compiled_samples_are_those_of_the_eager_model(family: str) -> None:
    """Slow: the C++ compiler takes a minute or two."""
    generator = golden_model(f"{family}-tiny")
    plain, compiled = (
        generator.generate(
            SampleRequest(labels_B=torch.arange(4), seeds_B=torch.arange(4), settings={"compile": on})
        ).images_B3HW.int()
        for on in (False, True)
    )
    # Fused sums round differently: a token near a tie may flip, and with it its image, but not most of them.
    assert ((compiled - plain).abs().amax(dim=(1, 2, 3)) <= 1).float().mean() >= 0.75


@pytest.mark.parametrize("family", FAMILIES)
def test_how_samples_are_computed_enters_the_hash_only_where_it_is_set(family: str) -> None:
    tree = to_dict(load_preset(f"{family}-tiny"))
    hashed = hashed_part(tree)
    assert not {"precision", "compile", "kv_cache"} & set(hashed["sampling"])
    tree["sampling"]["precision"] = "bf16"
    assert hashed_part(tree)["sampling"]["precision"] == "bf16"
