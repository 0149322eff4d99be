"""Sections B (quantizer) and C (autoencoder).

Shape letters: B batch, S stages, L positions, C latent channels, h and w the latent grid, n clusters of a stage; 2: index and
label, X: canvas, index and label, as the reference packs them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nvgbench.nvg.objective import canvases_of
from nvgbench.nvg.quantizer import GranularityQuantizer
from nvgbench.nvg.structure import finest_to_stages
from nvgbench.nvg.verification import models
from nvgbench.parity.ledger import Ledger
from nvgbench.parity.rounding import Gradients, norm
from nvgbench.types import TokenSequence


def check(ledger: Ledger) -> None:
    """Every quantizer and autoencoder of the configuration."""
    for prefix in ledger.fixture.fact("config"):
        if prefix.startswith("B.") and ledger.named(prefix):
            _check_quantizer(ledger, prefix)
        if prefix.startswith("C.") and ledger.named(prefix):
            _check_autoencoder(ledger, prefix)


def _check_quantizer(ledger: Ledger, prefix: str) -> None:
    ledger.inputs(f"{prefix}z")
    module = _quantizer(ledger, prefix)
    _check_training(ledger, prefix, module, soft=False)
    _check_training(ledger, prefix, module, soft=True)
    latent_BChw = ledger.given(f"{prefix}z")
    with torch.no_grad():
        tokens = module.tokenize(latent_BChw)
        canvases_BSChw = module.canvases(tokens)
        loss_S = (1 + module.commitment) * (canvases_BSChw - latent_BChw[:, None]).square().mean((0, 2, 3, 4))
        ledger.close(f"{prefix}vq_losses", loss_S)
        check_packed(ledger, f"{prefix}nvg_input_output", tokens, canvases_of(module, tokens)[0])
        ledger.close(f"{prefix}final", canvases_BSChw[:, -1].flatten(2).transpose(1, 2))
        ledger.close(f"{prefix}fhat_from_indices", canvases_BSChw[:, -1])


def _quantizer(ledger: Ledger, prefix: str) -> GranularityQuantizer:
    grid = ledger.fixture.array(f"{prefix}z").shape[2:]
    return models.quantizer(ledger, ledger.fixture.fact("config", prefix), (grid[0], grid[1]))


def _check_training(ledger: Ledger, prefix: str, module: GranularityQuantizer, soft: bool) -> None:
    """Values and gradients of a training step, with or without index back-propagation (``soft``)."""
    under = f"{prefix}smooth." if soft else prefix
    with torch.no_grad():
        output = module(ledger.given(f"{prefix}z"), soft=soft)
    ledger.equal(f"{under}indices", torch.cat(output.tokens.indices, dim=1))
    ledger.close(f"{under}f_hat", output.latent_BChw)
    ledger.close(f"{under}vq_loss", output.codebook_loss)
    ledger.gradients(lambda own: _gradients(own, prefix, soft))


def _gradients(ledger: Ledger, prefix: str, soft: bool) -> Gradients:
    latent_BChw = ledger.given(f"{prefix}z").requires_grad_()
    module = _quantizer(ledger, prefix)
    output = module(latent_BChw, soft=soft)
    loss = output.codebook_loss
    if soft:
        # The reference's probe, which sends a gradient through the straight-through estimator.
        probe = torch.linspace(-1, 1, latent_BChw.numel(), device=latent_BChw.device).view_as(latent_BChw)
        loss = loss + (output.latent_BChw * probe).mean()
    loss.backward()
    assert latent_BChw.grad is not None
    assert module.codebook.weight.grad is not None
    under = f"{prefix}smooth." if soft else prefix
    found = {
        f"{under}grad_z": latent_BChw.grad,
        f"{under}grad_emb_norm": norm(module.codebook.weight.grad),
        f"{under}grad_emb": module.codebook.weight.grad,
    }
    for stage, refiner in enumerate(module.refiners):
        for kind, parameter in refiner.conv.named_parameters():  # type: ignore[union-attr]
            if ledger.has(f"{under}grad_phi{stage}_{kind}"):
                assert parameter.grad is not None
                found[f"{under}grad_phi{stage}_{kind}"] = parameter.grad
    return found


def _check_autoencoder(ledger: Ledger, prefix: str) -> None:
    config = ledger.fixture.fact("config", prefix)
    ledger.inputs(f"{prefix}image")
    image_B3HW = ledger.given(f"{prefix}image")
    module = models.autoencoder(ledger, config, image_B3HW.shape[-1])
    if "params" in config:
        ledger.equal(f"{prefix}params", np.array(models.learned(module)), stored=config["params"])
    with torch.no_grad():
        latent_BChw = module.latent(image_B3HW)
        ledger.close(f"{prefix}latent", latent_BChw)
        ledger.close(f"{prefix}decoded_of_latent", module.decoder(latent_BChw))
        tokens = module.encode(image_B3HW)
        canvas_BChw = module.canvas(tokens, -1)
        if ledger.has(f"{prefix}nvg_index_label"):
            ledger.equal(f"{prefix}nvg_index_label", packed(tokens))
        ledger.close(f"{prefix}final", canvas_BChw.flatten(2).transpose(1, 2))
        decoded = f"{prefix}decoded_pre_clamp"
        if not ledger.has(decoded):
            return
        ledger.close(decoded, module.decoder(canvas_BChw))
        clamped_B3HW = ledger.fixture.array(decoded).clip(-1, 1)
        ledger.close(decoded, module.decode(tokens), "clamped, from tokens", stored=clamped_B3HW)
        ledger.close(decoded, module.decode(canvas_BChw), "clamped, from the canvas", stored=clamped_B3HW)
        if not ledger.arithmetic.low:
            # The training pass quantizes latents in the precision of training.
            ledger.close(decoded, module(image_B3HW).reconstruction_B3HW, "training pass")


def packed(tokens: TokenSequence) -> Tensor:
    """Index and label of each position, ``[B, S, L, 2]``, as the reference stores them."""
    assert tokens.structure_BL is not None
    structure_BSL = finest_to_stages(tokens.structure_BL, tokens.stages)
    index_BSL = torch.stack(
        [index_Bn.gather(1, structure_BSL[:, stage]) for stage, index_Bn in enumerate(tokens.indices)], dim=1
    )
    return torch.stack((index_BSL, structure_BSL), dim=-1)


def check_packed(ledger: Ledger, name: str, tokens: TokenSequence, before_BSLC: Tensor) -> None:
    """The generator's input: canvas before each stage, index and label of each position."""
    if ledger.has(name):
        stored_BSLX = ledger.fixture.array(name)
        ledger.equal(name, packed(tokens), "index and label", stored=stored_BSLX[..., -2:])
        ledger.close(name, before_BSLC, "canvas", stored=stored_BSLX[..., :-2])
