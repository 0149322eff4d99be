"""The multi-scale tokenizer: encoding, indices, canvases, decoding, variants of the quantizer, a training step.

Shape letters: B batch, L tokens of all scales, n tokens of one scale, C latent channels, h and w the latent grid, N vectors.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nvgbench.autoencoder.quantization import squared_distances
from nvgbench.autoencoder.tokenizer import TokenizerOutput
from nvgbench.parity.ledger import CHAINED_CHOICES, Ledger
from nvgbench.parity.rounding import Gradients
from nvgbench.types import TokenSequence
from nvgbench_baselines.var.checkpoint import tokenizer_names
from nvgbench_baselines.var.config import ScaleConfig
from nvgbench_baselines.var.quantizer import ScaleQuantizer, phi_index
from nvgbench_baselines.var.verification.models import Models, quantizer_of

_TRAINED = ("vqtrain_loss", "vqtrain_loss_grad_phi_l2", "vqtrain_mse_plus_vq", "vqtrain_grad_l2")


def check(ledger: Ledger, models: Models) -> None:
    """Everything that needs only the tokenizer."""
    ledger.inputs("img")
    models.check_weights()
    _check_phi(ledger, models)
    with torch.no_grad():
        _check_autoencoder(ledger, models)
        _check_indices(ledger, models)
        _check_variants(ledger, models)
    if ledger.named("vqtrain_") or any(name in ledger.fixture.facts for name in _TRAINED):
        _check_quantizer_step(ledger, models)
        _check_training_step(ledger, models)


def _check_phi(ledger: Ledger, models: Models) -> None:
    stored = ledger.fixture.facts.get("phi_index_per_scale")
    if stored is not None:
        convs = len(models.quantizer.phi)
        chosen = [phi_index(stage, len(models.scales), convs) for stage in range(len(models.scales))]
        ledger.equal("phi_index_per_scale", np.array(chosen), stored=stored)


def _check_autoencoder(ledger: Ledger, models: Models) -> None:
    module = models.tokenizer
    if ledger.has("enc_out"):
        ledger.close("enc_out", module.encoder(ledger.given("img")))
    if ledger.has("f"):
        ledger.close("f", module.latent(ledger.given("img")))
    if ledger.has("idx_BL"):
        ledger.equal("idx_BL", _joined(module.encode(ledger.given("img"))))
    if ledger.has("fhats", "rec_img", "x_BLCv", "embed_to_fhat_progressive"):
        tokens = models.split(models.between("idx_BL"))
        ledger.close("fhats", module.canvases(tokens).transpose(0, 1))
        ledger.close("rec_img", module.decode(tokens))
        ledger.close("x_BLCv", models.quantizer.teacher_inputs(tokens))
        ledger.close("embed_to_fhat_progressive", _growing_canvas(models.quantizer, tokens))
    _check_two_ways(ledger)


def _check_two_ways(ledger: Ledger) -> None:
    """The difference of the original's two ways from tokens to an image, relative to the size of the image.

    It is rounding, which cannot be recomputed but must be within the tolerance.
    """
    name = "rec_from_tokens_vs_rec_maxdiff"
    if name in ledger.fixture.facts and ledger.has("rec_img"):
        apart, size = float(ledger.fixture.facts[name]), float(np.abs(ledger.fixture.array("rec_img")).max())
        stored = [apart if apart >= 0 else math.nan, size]  # a difference is not negative
        ledger.close(name, np.array([0.0, size]), "from 0 to the limit", stored=stored)


def _joined(tokens: TokenSequence) -> Tensor:
    return torch.cat(tokens.indices, dim=1)


def _growing_canvas(quantizer: ScaleQuantizer, tokens: TokenSequence) -> Tensor:
    """The experimental variant with the canvas at each scale's own size, enlarged from scale to scale."""
    side = quantizer.scales[0]
    canvas_BCss = quantizer.codebook_VC.new_zeros(len(tokens), quantizer.codebook_VC.shape[1], side, side)
    strength = quantizer.config.phi_strength
    with torch.autocast(canvas_BCss.device.type, enabled=False):
        for stage, (side, indices_Bn) in enumerate(zip(quantizer.scales, tokens.indices, strict=True)):
            canvas_BCss = F.interpolate(canvas_BCss, size=(side, side), mode="bicubic")
            map_BCss = quantizer.codebook(indices_Bn).transpose(1, 2).unflatten(2, (side, side))
            refined_BCss = quantizer.phi[quantizer.phi_of_stage[stage]](map_BCss)
            canvas_BCss = canvas_BCss + (1 - strength) * map_BCss + strength * refined_BCss
    return canvas_BCss


def _check_indices(ledger: Ledger, models: Models) -> None:
    """The margin of the chosen code over the second nearest."""
    if not ledger.has("idx_margin_BL"):
        return
    quantizer, latent_BChw, tokens = models.quantizer, models.between("f"), models.split(models.between("idx_BL"))
    after_BSChw = quantizer.canvases(tokens)
    gaps = []
    for stage, indices_Bn in enumerate(tokens.indices):
        rest_BChw = latent_BChw - after_BSChw[:, stage - 1] if stage else latent_BChw
        vectors_NC = quantizer.shrink(rest_BChw, stage).flatten(0, 1)
        with torch.autocast(rest_BChw.device.type, enabled=False):
            best_N2 = squared_distances(vectors_NC, quantizer.codebook_VC).topk(2, largest=False).values
        gaps.append((best_N2[:, 1] - best_N2[:, 0]).view_as(indices_Bn))
    margin_BL = torch.cat(gaps, dim=1)
    ledger.close("idx_margin_BL", margin_BL)
    _check_margin(ledger, "idx_margin_min", margin_BL, float(np.abs(ledger.fixture.array("idx_margin_BL")).max()))


def _check_margin(ledger: Ledger, name: str, margins: Tensor, size: float) -> None:
    """Compare a smallest margin, relative to the size of the distances."""
    if name in ledger.fixture.facts:
        ledger.close(name, np.array([float(margins.min()), size]), stored=[ledger.fixture.facts[name], size])


def _check_variants(ledger: Ledger, models: Models) -> None:
    """Variants of sharing phi, of the distance and of the scales; all quantize the stored ``f``."""
    for keys in sorted(key for key in ledger.fixture.facts if key.endswith("_quant_keys")):
        prefix = keys.removesuffix("_quant_keys")
        if ledger.has(f"{prefix}_idx_BL", f"{prefix}_fhat"):
            quantizer = quantizer_of(models.make_tokenizer(keys, **ledger.fixture.settings.get(prefix, {})))
            _check_quantized(ledger, models, quantizer, (f"{prefix}_idx_BL", f"{prefix}_fhat"))
    for prefix in sorted(name for name in ledger.fixture.settings if name.startswith("sched_") and ledger.named(f"{name}_")):
        base = models.quantizer
        scales = tuple(ledger.fixture.settings[prefix]["scales"])
        convs = base.config.phi_convs or len(base.phi)
        config = ScaleConfig(scales=scales, phi_convs=convs, phi_strength=base.config.phi_strength)
        quantizer = ScaleQuantizer(config, models.codes, models.channels, models.grid)
        quantizer.load_state_dict(base.state_dict())
        _check_quantized(ledger, models, ledger.arithmetic.place(quantizer), (f"{prefix}_idx", f"{prefix}_fhat"))


def _check_quantized(ledger: Ledger, models: Models, quantizer: ScaleQuantizer, names: tuple[str, str]) -> None:
    tokens = quantizer.tokenize(models.between("f"))
    ledger.equal(names[0], _joined(tokens))
    ledger.close(names[1], quantizer.canvases(tokens)[:, -1])


def _check_quantizer_step(ledger: Ledger, models: Models) -> None:
    """Quantization loss and its gradients up to the latent."""
    with torch.no_grad():
        output = models.quantizer(models.tokenizer.latent(ledger.given("img")))
    follows = _chosen_in_training(ledger, output.tokens, "of the quantizer's step")
    ledger.close("vqtrain_fhat", output.latent_BChw, follows=follows)
    ledger.number("vqtrain_loss", output.codebook_loss, follows)
    ledger.gradients(_quantizer_gradients, follows)


def _quantizer_gradients(ledger: Ledger) -> Gradients:
    module = Models(ledger).make_tokenizer()
    quantizer = quantizer_of(module)
    latent_BChw = module.latent(ledger.given("img")).detach().requires_grad_()
    quantizer(latent_BChw).codebook_loss.backward()
    assert latent_BChw.grad is not None
    assert quantizer.codebook.weight.grad is not None
    gradients = [parameter.grad for conv in quantizer.phi for parameter in conv.parameters()]
    return {
        "vqtrain_loss_grad_f": latent_BChw.grad,
        "vqtrain_loss_grad_emb": quantizer.codebook.weight.grad,
        "vqtrain_loss_grad_phi_l2": {str(place): gradient for place, gradient in enumerate(gradients) if gradient is not None},
    }


def _chosen_in_training(ledger: Ledger, tokens: TokenSequence, part: str) -> tuple[str, ...]:
    """Compare the codes of a training step with the stored ones, and return them as what its numbers follow.

    Unlike `ConvTokenizer.encode`, training may quantize latents in half precision, which can change codes near ties.
    """
    ledger.equal("idx_BL", _joined(tokens), part, rounded=CHAINED_CHOICES)
    return ("idx_BL",)


def _check_training_step(ledger: Ledger, models: Models) -> None:
    """Reconstruction and quantization loss together, through encoder and decoder."""
    with torch.no_grad():
        output = models.tokenizer(ledger.given("img"))
    follows = _chosen_in_training(ledger, output.quantized.tokens, "of the training step")
    ledger.close("vqtrain_rec", output.reconstruction_B3HW, follows=follows)
    ledger.number("vqtrain_mse_plus_vq", _training_loss(ledger, output), follows)
    if "vqtrain_grad_l2" in ledger.fixture.facts:
        ledger.gradients(_training_gradients, follows)


def _training_loss(ledger: Ledger, output: TokenizerOutput) -> Tensor:
    return F.mse_loss(output.reconstruction_B3HW.float(), ledger.given("img")) + output.quantized.codebook_loss


def _training_gradients(ledger: Ledger) -> Gradients:
    module = Models(ledger).make_tokenizer()
    _training_loss(ledger, module(ledger.given("img"))).backward()
    names = tokenizer_names(quantizer_of(module).config)
    gradients = {names.name(name): parameter.grad for name, parameter in module.named_parameters()}
    return {"vqtrain_grad_l2": {name: gradient for name, gradient in gradients.items() if gradient is not None}}
