"""VAR against golden numbers of the published code: same weights in, same tokens, images, losses and gradients out.

Floats agree within 5e-5 of the largest reference value. The float32 noise of the published code itself is about 2e-5; an
erf-GELU in place of the tanh form differs by 1e-4 and must be seen.
"""

from __future__ import annotations

import importlib.resources
import json
import zlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.var.checkpoint import DERIVED, tokenizer_names, transformer_from_published, transformer_name
from baselines.var.config import ScaleConfig, VarModelConfig, VarSamplingConfig
from baselines.var.objective import token_cross_entropy
from baselines.var.quantizer import ScaleQuantizer, phi_index
from baselines.var.sampler import VarSamples, sample
from baselines.var.transformer import VarTransformer
from nvgbench.autoencoder.tokenizer import ConvTokenizer
from nvgbench.config.schema import TokenizerConfig
from nvgbench.parity.var_filler import filled_state
from nvgbench.sampling.filters import top_k_filter, top_p_filter
from nvgbench.types import TokenSequence

TOLERANCE = 5e-5
SMOOTH_TOLERANCE = 1e-4
FIXTURES = importlib.resources.files("nvgbench.parity") / "fixtures"
FACTS = json.loads((FIXTURES / "var_public.json").read_text())
LAYOUTS = json.loads((FIXTURES / "var_state_dict_layouts.json").read_text())["models"]
RECIPE = json.loads((FIXTURES / "var_train_recipe_numbers.json").read_text())
SCALES = tuple(FACTS["config"]["patch_nums"])
GRID = (SCALES[-1], SCALES[-1])
CODES, CHANNELS, CLASSES = FACTS["config"]["V"], FACTS["config"]["Cvae"], FACTS["config"]["num_classes"]
TOKENS = tuple(side * side for side in SCALES)


@cache
def golden() -> dict[str, np.ndarray]:
    with (FIXTURES / "var_public.npz").open("rb") as handle:
        archive = np.load(handle)
        return {name: archive[name] for name in archive.files}


def array(name: str) -> Tensor:
    values = torch.from_numpy(golden()[name])
    return values.long() if values.dtype == torch.int32 else values


def assert_close(actual: Tensor, name: str, tolerance: float = TOLERANCE) -> None:
    expected = array(name)
    assert actual.shape == expected.shape
    assert float((actual.detach() - expected).abs().max() / expected.abs().max()) < tolerance


def weights(shapes: Mapping[str, list[int]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(values) for name, values in filled_state(shapes).items()}


def tokenizer(quantizer_keys: str | None = None, **settings: Any) -> ConvTokenizer:
    config = ScaleConfig(**{"scales": SCALES, **settings})
    sizes = TokenizerConfig(
        base_channels=FACTS["config"]["ch"],
        channel_multipliers=(1, 1, 2, 2, 4),
        encoder_blocks=2,
        decoder_blocks=3,
        attention=True,
        quant_convs=True,
        latent_channels=CHANNELS,
        codebook_size=CODES,
    )
    module = ConvTokenizer(sizes, GRID, ScaleQuantizer(config, CODES, CHANNELS, GRID))
    shapes = FACTS["vae_state_dict"]
    if quantizer_keys:
        shapes = {key: shape for key, shape in shapes.items() if not key.startswith("quantize.")} | FACTS[quantizer_keys]
    state = tokenizer_names(config).from_published(weights(shapes), module.state_dict())
    module.load_state_dict(state)
    return module.eval()


def transformer(keys: str = "var_state_dict", scaled: Mapping[str, float] | None = None, **settings: Any) -> VarTransformer:
    config = VarModelConfig(depth=FACTS["config"]["depth"], **settings)
    module = VarTransformer(config, scales=SCALES, channels=CHANNELS, codebook_size=CODES, num_classes=CLASSES)
    published = {name: values * (scaled or {}).get(name, 1.0) for name, values in weights(FACTS[keys]).items()}
    module.load_state_dict(transformer_from_published(published, module.state_dict()))
    return module.eval()


@cache
def plain_tokenizer() -> ConvTokenizer:
    return tokenizer()


@cache
def plain_transformer() -> VarTransformer:
    return transformer()


def scale_quantizer(module: ConvTokenizer) -> ScaleQuantizer:
    assert isinstance(module.quantizer, ScaleQuantizer)
    return module.quantizer


def split(tokens_BL: Tensor, lengths: tuple[int, ...] = TOKENS) -> TokenSequence:
    return TokenSequence(tokens_BL.split(lengths, dim=1))


class GlobalChance:
    """Draws as the published code does: multinomial, then exponential, from one generator."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def tokens(self, logits_BnV: Tensor) -> Tensor:
        probabilities = logits_BnV.softmax(dim=-1).flatten(0, 1)
        drawn = torch.multinomial(probabilities, 1, replacement=True, generator=self.generator)
        return drawn.view(logits_BnV.shape[:2])

    def gumbel(self, logits_BnV: Tensor) -> Tensor:
        return -torch.empty_like(logits_BnV).exponential_(generator=self.generator).log()


def drawn(module: VarTransformer, **settings: Any) -> VarSamples:
    config = VarSamplingConfig(**{"guidance": 1.5, "top_k": 1, "top_p": 1.0, **settings})
    return sample(module, scale_quantizer(plain_tokenizer()), array("label_B"), config, GlobalChance(0))


def logits_of(module: VarTransformer, labels_B: Tensor) -> Tensor:
    with torch.no_grad():
        return module(labels_B, array("x_BLCv"))


@pytest.mark.parametrize("part", ["var", "vae"])
def test_filler_makes_the_reference_weights(part: str) -> None:
    made = filled_state(FACTS[f"{part}_state_dict"])
    assert {name: zlib.crc32(values.tobytes()) for name, values in made.items()} == FACTS[f"weight_crc32_{part}"]


@pytest.mark.parametrize("model", [name for name in LAYOUTS if name.startswith("var")])
def test_transformer_layout(model: str) -> None:
    layout = LAYOUTS[model]
    config = layout["config"]
    with torch.device("meta"):
        module = VarTransformer(
            VarModelConfig(depth=config["depth"], shared_modulation=config["shared_aln"]),
            scales=tuple(config["patch_nums"]),
            channels=32,
            codebook_size=4096,
            num_classes=config["num_classes"],
        )
    assert sum(parameter.numel() for parameter in module.parameters()) == layout["n_params"]
    learned = {key for key in layout["state_dict"] if key.split(".")[-1] not in DERIVED}
    assert {transformer_name(key) for key in module.state_dict()} == learned
    np.testing.assert_allclose([block.drop_path for block in module.blocks], config["drop_path_per_block"], rtol=1e-6)


def test_tokenizer_layout() -> None:
    layout = LAYOUTS["vae_ch160v4096z32"]
    sizes = TokenizerConfig(base_channels=160, channel_multipliers=(1, 1, 2, 2, 4), attention=True, quant_convs=True)
    with torch.device("meta"):
        module = ConvTokenizer(sizes, (16, 16), ScaleQuantizer(ScaleConfig(), 4096, 32, (16, 16)))
    assert sum(parameter.numel() for parameter in module.parameters()) == layout["n_params"]
    published = tokenizer_names(ScaleConfig()).to_published(module.state_dict())
    learned = {key: shape for key, shape in layout["state_dict"].items() if key.split(".")[-1] not in DERIVED}
    assert {key: list(tensor.shape) for key, tensor in published.items()} == learned


def test_phi_of_every_scale() -> None:
    assert [phi_index(stage, len(SCALES), 4) for stage in range(len(SCALES))] == FACTS["phi_index_per_scale"]
    assert [phi_index(stage, 10, 4) for stage in range(10)] == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]


def test_encoding_and_decoding() -> None:
    module = plain_tokenizer()
    with torch.no_grad():
        assert_close(module.encoder(array("img")), "enc_out")
        latent = module.latent(array("img"))
        assert_close(latent, "f")
        tokens = module.encode(array("img"))
        assert torch.equal(torch.cat(tokens.indices, dim=1), array("idx_BL"))
        assert_close(module.canvases(tokens).transpose(0, 1), "fhats")
        assert_close(module.decode(tokens), "rec_img")


def test_teacher_inputs() -> None:
    assert_close(scale_quantizer(plain_tokenizer()).teacher_inputs(split(array("idx_BL"))), "x_BLCv")


def test_activations_and_logits() -> None:
    module, seen = plain_transformer(), {}
    hooks = [
        module.blocks[0].register_forward_pre_hook(lambda _, args: seen.update(act_embed=args[0])),
        module.blocks[0].register_forward_hook(lambda *args: seen.update(act_block0=args[2])),
        module.blocks[1].register_forward_hook(lambda *args: seen.update(act_block1=args[2])),
        module.head.register_forward_pre_hook(lambda _, args: seen.update(act_head_nm=args[0])),
    ]
    logits = logits_of(module, array("label_B"))
    for hook in hooks:
        hook.remove()
    for name, activation in seen.items():
        assert_close(activation[:, array("rows")], name)
    assert_close(logits[:, array("rows")], "logits_rows")
    assert torch.equal(logits.argmax(dim=-1), array("logits_argmax"))
    assert_close(logits.logsumexp(dim=-1), "logits_lse")
    assert_close(logits.mean(dim=-1), "logits_mean")
    assert_close(logits.gather(2, array("idx_BL").unsqueeze(2)).squeeze(2), "logits_at_target")
    unconditional = logits_of(module, torch.full_like(array("label_B"), CLASSES))
    assert_close(unconditional[:, :8], "uncond_logits_rows")


def test_norm_epsilon_shows_at_low_variance() -> None:
    module = transformer(scaled=dict.fromkeys(FACTS["lowvar_probe"]["tensors_times_0.01"], 0.01))
    logits = logits_of(module, array("label_B"))
    assert_close(logits[:, : array("lowvar_logits_rows").shape[1]], "lowvar_logits_rows")


def test_loss_and_gradients() -> None:
    module = transformer()
    targets = array("idx_BL")
    logits = module(array("label_B"), array("x_BLCv"))
    entropy = token_cross_entropy(logits, targets)
    assert_close(entropy, "ce_BL")
    assert float(entropy.detach().mean()) == pytest.approx(FACTS["loss"], rel=TOLERANCE)
    smoothed = F.cross_entropy(logits.transpose(1, 2), targets, label_smoothing=0.1)
    assert float(smoothed.detach()) == pytest.approx(FACTS["loss_label_smooth_0.1"], rel=TOLERANCE)
    entropy.mean().backward()
    gradients = {transformer_name(name): value.grad for name, value in module.named_parameters()}
    assert gradients.keys() == FACTS["grad_l2"].keys()
    for name, norm in FACTS["grad_l2"].items():
        assert float(gradients[name].norm()) == pytest.approx(norm, rel=TOLERANCE), name
    total = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    assert float(total) == pytest.approx(FACTS["grad_total_l2"], rel=TOLERANCE)
    for name in (name for name in golden() if name.startswith("grad/")):
        assert_close(gradients[name.removeprefix("grad/")].reshape(array(name).shape), name)


@pytest.mark.parametrize(("prefix", "guidance"), [("ar", 1.5), ("ar_cfg4", 4.0), ("ar_cfg0", 0.0)])
def test_argmax_sampling(prefix: str, guidance: float) -> None:
    samples = drawn(plain_transformer(), guidance=guidance)
    assert torch.equal(torch.cat(samples.tokens.indices, dim=1), array(f"{prefix}_tokens"))
    assert_close(samples.canvases[-1], f"{prefix}_fhat")
    if f"{prefix}_img" in golden():
        with torch.no_grad():
            assert_close(plain_tokenizer().decode(samples.canvases[-1]).add(1).mul(0.5), f"{prefix}_img")
    if f"{prefix}_next_maps" in golden():
        quantizer = scale_quantizer(plain_tokenizer())
        maps = [quantizer.shrink(samples.canvases[stage], stage + 1) for stage in range(len(SCALES) - 1)]
        assert_close(torch.cat(maps, dim=1).transpose(1, 2), f"{prefix}_next_maps")


def test_guided_logits_equal_uncached_ones() -> None:
    """The logits behind cached sampling, recomputed without a cache from the sampled tokens."""
    tokens = split(array("ar_tokens"))
    inputs = scale_quantizer(plain_tokenizer()).teacher_inputs(tokens)
    module = plain_transformer()
    with torch.no_grad():
        conditional = module(array("label_B"), inputs)
        unconditional = module(torch.full_like(array("label_B"), CLASSES), inputs)
    strength = 1.5 * module.stage_L[None, :, None] / (len(SCALES) - 1)
    assert_close((1 + strength) * conditional - strength * unconditional, "ar_logits_cfg_rows")


@pytest.mark.parametrize(
    ("name", "settings", "tolerance"),
    [
        ("rng0", {"top_k": 20, "top_p": 0.96}, TOLERANCE),
        ("rng0_smooth", {"top_k": 20, "top_p": 0.96, "more_smooth": True}, SMOOTH_TOLERANCE),
        ("smooth_top1", {"top_k": 1, "more_smooth": True}, TOLERANCE),
    ],
)
def test_random_sampling(name: str, settings: dict[str, Any], tolerance: float) -> None:
    """With the published code's own order of draws; the first two need the CPU generator stream of torch."""
    samples = drawn(plain_transformer(), **settings)
    assert torch.equal(torch.cat(samples.tokens.indices, dim=1), array(f"{name}_tokens"))
    assert_close(samples.canvases[-1], f"{name}_fhat", tolerance)


@pytest.mark.parametrize("case", range(len(FACTS["filter_cases"])))
def test_filters(case: int) -> None:
    top_k, top_p = FACTS["filter_cases"][case]
    kept = top_k_filter(array("filter_in"), top_k)
    if top_p > 0:
        # The published code takes 0 for "off"; it is 1 here, where it drops nothing either.
        kept = top_p_filter(kept, top_p)
    assert_close(kept.softmax(dim=-1), f"filter_probs_{case}")


@pytest.mark.parametrize(
    ("prefix", "settings"),
    [
        ("saln", {"shared_modulation": True}),
        ("noanorm", {"qk_norm": False}),
        ("saln_noanorm", {"shared_modulation": True, "qk_norm": False}),
    ],
)
def test_transformer_variants(prefix: str, settings: dict[str, Any]) -> None:
    module = transformer(f"{prefix}_state_dict", **settings)
    assert_close(logits_of(module, array("label_B")), f"{prefix}_logits")
    samples = drawn(module)
    assert torch.equal(torch.cat(samples.tokens.indices, dim=1), array(f"{prefix}_ar_tokens"))
    assert_close(samples.canvases[-1], f"{prefix}_ar_fhat")


@pytest.mark.parametrize(
    ("prefix", "settings"),
    [
        ("znorm", {"distance": "cosine"}),
        ("phi_shared1", {"phi_convs": 1}),
        ("phi_nonshared0", {"phi_convs": 0}),
        ("phi_shared2", {"phi_convs": 2}),
    ],
)
def test_quantizer_variants(prefix: str, settings: dict[str, Any]) -> None:
    quantizer = scale_quantizer(tokenizer(f"{prefix}_quant_keys", **settings))
    with torch.no_grad():
        tokens = quantizer.tokenize(array("f"))
        assert torch.equal(torch.cat(tokens.indices, dim=1), array(f"{prefix}_idx_BL"))
        assert_close(quantizer.canvases(tokens)[:, -1], f"{prefix}_fhat")


def test_other_scales_on_the_same_weights() -> None:
    quantizer = ScaleQuantizer(ScaleConfig(scales=(1, 4)), CODES, CHANNELS, GRID)
    quantizer.load_state_dict(scale_quantizer(plain_tokenizer()).state_dict())
    with torch.no_grad():
        tokens = quantizer.tokenize(array("f"))
        assert torch.equal(torch.cat(tokens.indices, dim=1), array("sched_1_4_idx"))
        assert_close(quantizer.canvases(tokens)[:, -1], "sched_1_4_fhat")


def test_tokenizer_training_step() -> None:
    module = tokenizer()
    quantizer = scale_quantizer(module)
    latent = module.latent(array("img")).detach().requires_grad_()
    output = quantizer(latent)
    assert_close(output.latent_BChw, "vqtrain_fhat")
    assert float(output.codebook_loss.detach()) == pytest.approx(FACTS["vqtrain_loss"], rel=TOLERANCE)
    output.codebook_loss.backward()
    assert_close(latent.grad, "vqtrain_loss_grad_f")
    assert_close(quantizer.codebook.weight.grad, "vqtrain_loss_grad_emb")
    norms = [float(parameter.grad.norm()) for conv in quantizer.phi for parameter in conv.parameters()]
    np.testing.assert_allclose(norms, FACTS["vqtrain_loss_grad_phi_l2"], rtol=TOLERANCE)


def test_tokenizer_training_gradients() -> None:
    module = tokenizer()
    output = module(array("img"))
    assert_close(output.reconstruction_B3HW, "vqtrain_rec")
    loss = F.mse_loss(output.reconstruction_B3HW, array("img")) + output.quantized.codebook_loss
    assert float(loss.detach()) == pytest.approx(FACTS["vqtrain_mse_plus_vq"], rel=TOLERANCE)
    loss.backward()
    names = tokenizer_names(scale_quantizer(module).config)
    norms = {names.name(name): float(value.grad.norm()) for name, value in module.named_parameters()}
    assert norms.keys() == FACTS["vqtrain_grad_l2"].keys()
    for name, norm in FACTS["vqtrain_grad_l2"].items():
        # A bias before a group norm of one channel a group has no gradient but rounding.
        assert norms[name] == pytest.approx(norm, rel=1e-4, abs=1e-5), name


def test_initialisation() -> None:
    """Statistics of a model of depth 4 and width 256 (RECIPE); the tolerance covers the noise of the smallest tensors."""
    torch.manual_seed(0)
    sizes = {"scales": (1, 2, 3, 4, 5, 6, 8, 10, 13, 16), "channels": 32, "codebook_size": 4096, "num_classes": 1000}
    module = VarTransformer(VarModelConfig(depth=4, gate_init=1e-5), **sizes)
    expected = RECIPE["init_mean_std_depth4_width256 (init_std auto = sqrt(1/(3C)); trunc_normal bounds are +-2 absolute)"]
    state = {transformer_name(key): value for key, value in module.state_dict().items()}
    for name, (mean, std) in expected.items():
        if name in state:
            assert float(state[name].mean()) == pytest.approx(mean, abs=0.005), name
            assert float(state[name].std(correction=0)) == pytest.approx(std, rel=0.1, abs=1e-6), name
    rows = state["blocks.1.ada_lin.1.weight"].split([512, 1024])
    for block, std in zip(rows, RECIPE["init_ada_lin_rows_std"].values(), strict=True):
        assert float(block.std()) == pytest.approx(std, rel=0.02)
    shared = VarTransformer(VarModelConfig(depth=4, gate_init=1e-5, shared_modulation=True), **sizes)
    state = {transformer_name(key): value for key, value in shared.state_dict().items()}
    for name, (mean, std) in RECIPE["init_saln_depth4"].items():
        assert float(state[name].mean()) == pytest.approx(mean, abs=0.005), name
        assert float(state[name].std()) == pytest.approx(std, rel=0.1, abs=1e-6), name
