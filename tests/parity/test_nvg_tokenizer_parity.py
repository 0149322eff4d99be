"""The tokenizer against golden numbers made with the authors' code (fixtures B: quantizer, C: autoencoder).

Integers are equal exactly. Floats agree within 1e-4 of the largest reference value, the noise floor of float32 convolutions
in another order. The authors break ties of the clustering by index; these latents have none.
"""

from __future__ import annotations

import json
from importlib.resources import files

import numpy as np
import pytest
import torch

from nvgbench.autoencoder.tokenizer import ConvTokenizer
from nvgbench.config.schema import TokenizerConfig
from nvgbench.nvg.config import GranularityConfig
from nvgbench.nvg.quantizer import GranularityQuantizer
from nvgbench.nvg.structure import finest_to_stages
from nvgbench.nvg.tokenizer import PUBLISHED_NAMES
from nvgbench.parity.filler import fill_nvg
from nvgbench.types import TokenSequence

FIXTURES = files("nvgbench.parity") / "fixtures"
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with (FIXTURES / "nvg_public.npz").open("rb") as handle, np.load(handle) as arrays:
        return {name: arrays[name] for name in arrays.files if name.startswith(("B.", "C."))}


def close(given: torch.Tensor | float, reference: np.ndarray) -> None:
    given = given.detach().double().numpy() if isinstance(given, torch.Tensor) else np.asarray(given)
    assert given.shape == reference.shape
    assert np.abs(given - reference).max() <= TOLERANCE * np.abs(reference).max()


def fill(module: torch.nn.Module, prefix: str = "") -> None:
    own = module.state_dict(prefix=prefix)
    published = {PUBLISHED_NAMES.name(key): tensor for key, tensor in own.items()}
    filled = {key: torch.from_numpy(fill_nvg(key, tensor.shape)) for key, tensor in published.items()}
    loaded = PUBLISHED_NAMES.from_published(filled, own)
    module.load_state_dict({key.removeprefix(prefix): tensor for key, tensor in loaded.items()})


def make_quantizer(name: str) -> GranularityQuantizer:
    config = json.loads((FIXTURES / "nvg_public.json").read_text())["config"][f"B.{name}."]
    side = int(config["v_patch_nums"][-1] ** 0.5)
    quantizer = GranularityQuantizer(
        GranularityConfig(phi_strength=config["quant_resi"]),
        config["n_e"],
        config["e_dim"],
        (side, side),
        commitment=config["beta"],
    )
    fill(quantizer, "quantizer.")
    return quantizer


def joined(tokens: TokenSequence) -> np.ndarray:
    return torch.cat(tokens.indices, dim=1).numpy()


def assert_tokens(tokens: TokenSequence, packed_BSL2: np.ndarray) -> None:
    """Compare with the reference's layout: at each position the index and the cluster label."""
    assert tokens.labels_BL is not None
    labels_BSL = finest_to_stages(tokens.labels_BL, tokens.stages)
    np.testing.assert_array_equal(labels_BSL.numpy(), packed_BSL2[..., 1])
    for stage, indices_Bn in enumerate(tokens.indices):
        np.testing.assert_array_equal(indices_Bn.gather(1, labels_BSL[:, stage]).numpy(), packed_BSL2[:, stage, :, 0])


@pytest.mark.parametrize("name", ["k8", "k4"])
def test_hard_quantization(golden: dict[str, np.ndarray], name: str) -> None:
    quantizer = make_quantizer(name)
    latent = torch.from_numpy(golden[f"B.{name}.z"]).requires_grad_()
    output = quantizer(latent)
    np.testing.assert_array_equal(joined(output.tokens), golden[f"B.{name}.indices"])
    close(output.latent_BChw, golden[f"B.{name}.f_hat"])
    close(output.codebook_loss, golden[f"B.{name}.vq_loss"])

    output.codebook_loss.backward()
    close(latent.grad, golden[f"B.{name}.grad_z"])
    close(quantizer.refiners[0].conv.weight.grad, golden[f"B.{name}.grad_phi0_weight"])
    close(quantizer.codebook.weight.grad.norm(), golden[f"B.{name}.grad_emb_norm"])
    if f"B.{name}.grad_emb" in golden:
        close(quantizer.codebook.weight.grad, golden[f"B.{name}.grad_emb"])


@pytest.mark.parametrize("name", ["k8", "k4"])
def test_soft_quantization(golden: dict[str, np.ndarray], name: str) -> None:
    quantizer = make_quantizer(name)
    latent = torch.from_numpy(golden[f"B.{name}.z"]).requires_grad_()
    output = quantizer(latent, soft=True)
    np.testing.assert_array_equal(joined(output.tokens), golden[f"B.{name}.smooth.indices"])
    close(output.latent_BChw, golden[f"B.{name}.smooth.f_hat"])
    close(output.codebook_loss, golden[f"B.{name}.smooth.vq_loss"])

    probe = torch.linspace(-1, 1, latent.numel()).reshape(latent.shape)
    (output.codebook_loss + (output.latent_BChw * probe).mean()).backward()
    close(latent.grad, golden[f"B.{name}.smooth.grad_z"])
    close(quantizer.codebook.weight.grad.norm(), golden[f"B.{name}.smooth.grad_emb_norm"])
    if f"B.{name}.smooth.grad_emb" in golden:
        close(quantizer.codebook.weight.grad, golden[f"B.{name}.smooth.grad_emb"])


@pytest.mark.parametrize("name", ["k8", "k4"])
@torch.no_grad()
def test_tokens_and_canvases(golden: dict[str, np.ndarray], name: str) -> None:
    quantizer = make_quantizer(name)
    tokens = quantizer.tokenize(torch.from_numpy(golden[f"B.{name}.z"]))
    packed = golden[f"B.{name}.nvg_input_output"]
    assert_tokens(tokens, packed[..., -2:].astype(np.int64))
    close(quantizer.canvases_before(tokens), packed[..., :-2])
    close(quantizer.canvases(tokens)[:, -1], golden[f"B.{name}.fhat_from_indices"])
    close(quantizer.canvases(tokens)[:, -1].flatten(2).transpose(1, 2), golden[f"B.{name}.final"])


@pytest.mark.parametrize("name", ["k8", "k4"])
@torch.no_grad()
def test_loss_of_every_stage(golden: dict[str, np.ndarray], name: str) -> None:
    quantizer = make_quantizer(name)
    latent = torch.from_numpy(golden[f"B.{name}.z"])
    canvases = quantizer.canvases(quantizer.tokenize(latent))
    losses = 1.25 * (canvases - latent[:, None]).square().mean((0, 2, 3, 4))
    close(losses, golden[f"B.{name}.vq_losses"])


@pytest.fixture(scope="module")
def autoencoder() -> ConvTokenizer:
    config = json.loads((FIXTURES / "nvg_public.json").read_text())["config"]["C.base32_64px."]
    settings = TokenizerConfig(
        base_channels=config["base_ch"],
        channel_multipliers=tuple(config["ch_mult"]),
        encoder_blocks=config["num_res_blocks"],
        latent_channels=config["embed_dim"],
        codebook_size=config["n_embed"],
    )
    quantizer = GranularityQuantizer(GranularityConfig(), config["n_embed"], config["embed_dim"], (4, 4))
    tokenizer = ConvTokenizer(settings, (4, 4), quantizer).eval()
    fill(tokenizer)
    assert sum(parameter.numel() for parameter in tokenizer.parameters()) == config["params"]
    return tokenizer


@torch.no_grad()
def test_autoencoder(golden: dict[str, np.ndarray], autoencoder: ConvTokenizer) -> None:
    prefix = "C.base32_64px."
    image = torch.from_numpy(golden[prefix + "image"])
    latent = autoencoder.latent(image)
    close(latent, golden[prefix + "latent"])
    close(autoencoder.decoder(latent), golden[prefix + "decoded_of_latent"])

    tokens = autoencoder.encode(image)
    assert_tokens(tokens, golden[prefix + "nvg_index_label"])
    canvas = autoencoder.canvas(tokens, -1)
    close(canvas.flatten(2).transpose(1, 2), golden[prefix + "final"])
    decoded = golden[prefix + "decoded_pre_clamp"]
    close(autoencoder.decoder(canvas), decoded)
    close(autoencoder(image).reconstruction_B3HW, decoded)
    close(autoencoder.decode(tokens), decoded.clip(-1, 1))
    close(autoencoder.decode(canvas), decoded.clip(-1, 1))
