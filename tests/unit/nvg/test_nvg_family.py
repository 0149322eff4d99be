"""The family's interface: presets, sampling by seed, cost card."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nvgbench.config.load import load_preset
from nvgbench.config.schema import RunConfig
from nvgbench.errors import InputError
from nvgbench.nvg import FAMILY
from nvgbench.nvg.image_generator import NvgImageGenerator
from nvgbench.nvg.structure_control import structure_from_image
from nvgbench.registry import preset_files
from nvgbench.runs.models import untrained_generator
from nvgbench.types import ImageBatch, ModelSpec, SampleRequest, TokenBatch

SMALL = (
    "model.depth=2",
    "model.head_size=24",
    "model.content_heads=1",
    "model.structure_heads=1",
    "tokenizer.base_channels=32",
    "tokenizer.channel_multipliers=[1,1,1]",
    "sampling.flow_steps=2",
)


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return load_preset("nvg-tiny", SMALL)


@pytest.fixture(scope="module")
def generator(config: RunConfig) -> NvgImageGenerator:
    torch.manual_seed(0)
    tokenizer = FAMILY.build_tokenizer(config).eval()
    torch.nn.init.normal_(tokenizer.quantizer.codebook.weight)
    model = FAMILY.build_generator(config, tokenizer, 10).eval()
    spec = ModelSpec(name="small", family="nvg", image_size=32, num_classes=10)
    return FAMILY.image_generator(config, tokenizer, model, spec)


def request(seeds: list[int], **options: object) -> SampleRequest:
    return SampleRequest(labels_B=torch.arange(len(seeds)) % 10, seeds_B=torch.tensor(seeds), **options)  # type: ignore[arg-type]


def test_importing_the_family_imports_no_torch() -> None:
    code = "import sys, nvgbench.nvg; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", [name for name in preset_files() if name.startswith("nvg-")])
def test_presets_build(name: str) -> None:
    config = load_preset(name)
    classes = 1000 if config.data.source == "imagenet" else 10
    card = FAMILY.cost(config, classes)
    assert set(card.parameters) == {"tokenizer", "content", "structure"}
    total = card.parameters["content"] + card.parameters["structure"]
    named = {"nvg-d16": 320e6, "nvg-d20": 622e6, "nvg-d24": 1.071e9, "nvg-cifar10": 10e6}
    if name in named:
        assert total == pytest.approx(named[name], rel=0.06)


def test_samples_repeat_by_seed_and_not_by_batch(generator: NvgImageGenerator) -> None:
    whole = generator.generate(request([3, 4, 5])).images_B3HW
    assert whole.dtype == torch.uint8
    assert whole.shape == (3, 3, 32, 32)
    alone = generator.generate(SampleRequest(labels_B=torch.tensor([1]), seeds_B=torch.tensor([4]))).images_B3HW
    # Convolutions of another batch size may round differently: one grey level.
    assert (alone[0].int() - whole[1].int()).abs().max() <= 1
    other = generator.generate(request([3, 99, 5])).images_B3HW
    assert not torch.equal(other[1], whole[1])


def test_a_trace_ends_with_the_image(generator: NvgImageGenerator) -> None:
    result = generator.generate(request([1, 2], trace=True))
    assert result.trace is not None
    assert [stage.tokens for stage in result.trace] == [1, 2, 4, 8, 16, 32, 64]
    assert torch.equal(result.trace[-1].canvas_B3HW, result.images_B3HW)
    last = result.trace[-1].structure_BHW
    assert last is not None
    assert last.shape == (2, 8, 8)
    assert torch.equal(last.flatten(1).sort(1).values, torch.arange(64).expand(2, -1))


def test_structure_from_another_image_is_kept(generator: NvgImageGenerator) -> None:
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    layout = generator.generator.layout
    structure = structure_from_image(generator.tokenizer, image, layout)
    result = generator.generate(request([1, 2, 3], trace=True), structure=structure)
    assert result.trace is not None
    for stage in result.trace:
        depth = stage.tokens.bit_length() - 1
        assert stage.structure_BHW is not None
        expected = layout.coarser(structure.structure_BL, 6, depth).view(1, 8, 8).expand(3, -1, -1)
        assert torch.equal(stage.structure_BHW, expected)


@pytest.mark.parametrize(
    ("labels", "seeds", "options", "words"),
    [
        ([11], [0], {}, "not a class"),
        ([0, 1], [0], {}, "one seed per label"),
        ([0.5], [0], {}, "one seed per label"),
        ([0], [0], {"settings": {"guidence": 1.0}}, "guidence"),
        ([0], [0], {"settings": {"flow_steps": 0}}, "flow_steps"),
    ],
)
def test_bad_requests_are_refused(
    generator: NvgImageGenerator, labels: list[float], seeds: list[int], options: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        generator.generate(
            SampleRequest(labels_B=torch.tensor(labels), seeds_B=torch.tensor(seeds), **options)  # type: ignore[arg-type]
        )


def _counted(work: object) -> int:
    with sdpa_kernel([SDPBackend.MATH]), FlopCounterMode(display=False) as counter:
        work()  # type: ignore[operator]
    return int(counter.get_total_flops())


def test_sampling_flops_are_those_counted(generator: NvgImageGenerator, config: RunConfig) -> None:
    card = FAMILY.cost(config, 10)
    assert _counted(lambda: generator.generate(request([1]))) == sum(card.sampling_flops.values())


def test_training_flops_are_three_forward_passes(generator: NvgImageGenerator, config: RunConfig) -> None:
    tokenizer, model = generator.tokenizer, generator.generator
    images = ImageBatch(torch.zeros(1, 3, 32, 32), torch.zeros(1, dtype=torch.int64))
    tokens = TokenBatch(tokenizer.encode(images.images_B3HW), images.labels_B)
    objective = FAMILY.objective(config, tokenizer, model)
    with torch.no_grad():  # with gradients, attention is a kernel that the counter does not know
        forward = _counted(lambda: list(objective.losses(tokens, torch.Generator().manual_seed(0), 0)))
    refiners = FAMILY.cost(config, 10).sampling_flops["quantizer"]
    assert 3 * (forward - refiners) == FAMILY.cost(config, 10).training_flops


def test_prepare_measures_the_canvases(generator: NvgImageGenerator) -> None:
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    tokens = generator.tokenizer.encode(images)
    FAMILY.prepare(generator.generator, generator.tokenizer, tokens)
    factors = generator.generator.content.scale_factors
    final = generator.tokenizer.canvas(tokens, -1)
    assert float(factors[-1] * final.detach().std(correction=0)) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("start", ["random", "codebook"])
def test_the_token_logits_start_as_configured(start: str, config: RunConfig) -> None:
    model = dataclasses.replace(config.model, token_head_start=start)
    generator = untrained_generator(dataclasses.replace(config, model=model), 10, seed=0)
    assert isinstance(generator, NvgImageGenerator)
    tokenizer, content = generator.tokenizer, generator.generator.content
    before = content.token_head.weight.clone()
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    tokens = tokenizer.encode(images)
    FAMILY.prepare(generator.generator, tokenizer, tokens)
    if start == "random":
        assert torch.equal(content.token_head.weight, before)
        return
    codes = tokenizer.quantizer.codebook_VC.numpy()
    used = codes[np.concatenate([index.numpy().ravel() for index in tokens.indices])]
    variance = ((used - used.mean(axis=0)) ** 2).sum(axis=1).mean()
    means = codes[[3, 1]] + 0.1 * codes[[0, 5]]
    distances = ((means[:, None] - codes) ** 2).sum(axis=2)
    logits = content.token_logits(torch.from_numpy(means)[None])[0].numpy()
    common = logits + distances / (2 * variance)  # the same for all codes
    # Differences of float32 products.
    np.testing.assert_allclose(common - common.mean(axis=1, keepdims=True), 0, atol=1e-4 * np.abs(logits).max())
