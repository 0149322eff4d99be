"""Section D, teacher-forced: outputs, loss terms and gradients of both transformers.

Shape letters: B batch, S stages, T structure stages, L positions, C latent channels, K structure channels, V codebook size;
X: canvas, index and label in one array.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nvgbench.nvg.checkpoint import to_published_key
from nvgbench.nvg.generator import GeneratorOutput, NvgGenerator
from nvgbench.nvg.objective import StageLosses, canvases_of, stage_losses
from nvgbench.nvg.stages import StageLayout
from nvgbench.nvg.structure_flow.flow import StructureFlow
from nvgbench.nvg.structure_flow.objective import FlowInputs
from nvgbench.nvg.verification import models
from nvgbench.nvg.verification.autoencoding import check_packed, packed
from nvgbench.parity.ledger import SINGLE_CHOICES, Ledger
from nvgbench.types import TokenSequence

_OUTPUTS = (
    "x0_hat", "structure_x0", "structure_target", "content_logits", "content_logsumexp", "content_argmax", "loss", "loss_terms",
)  # fmt: skip


def check(ledger: Ledger) -> None:
    """Everything in section D except for samples."""
    if not any(name.count(".") == 1 for name in ledger.named("D.")):
        return
    ledger.inputs("D.class", "D.latent", "D.epsilon", "D.u")
    packed_BSLX, final_BLC = _check_input(ledger)
    if ledger.has(*(f"D.{name}" for name in _OUTPUTS)) or "grad_norms" in ledger.fixture.facts:
        module = models.generator(ledger)
        structure_BL = packed_BSLX[:, -1, :, -1].long()
        ledger.equal("E.struct_feat_all", module.stage_embeddings(structure_BL), "from the last stage's labels")
        forced = _forced(ledger, module, packed_BSLX, final_BLC)
        _check_outputs(ledger, forced)
        _check_losses(ledger, forced.losses, module.layout)
        _check_gradients(ledger, module)


@dataclass(frozen=True)
class _Forced:
    output: GeneratorOutput
    flow: FlowInputs
    losses: StageLosses


def stored_input(ledger: Ledger) -> Tensor:
    """Canvas, index and label of every stage, float ``[B, S, L, X]``; recomputed if not stored."""
    if ledger.has("D.nvg_input_output"):
        return ledger.given("D.nvg_input_output")
    module = models.generator_quantizer(ledger)
    with torch.no_grad():
        tokens = module.tokenize(ledger.given("D.latent"))
        before_BSLC = canvases_of(module, tokens)[0]
        return torch.cat((before_BSLC, packed(tokens).to(before_BSLC)), dim=-1)


def tokens_of(packed_BSLX: Tensor, layout: StageLayout) -> TokenSequence:
    """Indices by cluster, from index and label of each position."""
    indices = []
    for stage, clusters in enumerate(layout.tokens):
        index_BL, structure_BL = packed_BSLX[:, stage, :, -2:].long().unbind(-1)
        indices.append(index_BL.new_zeros(len(index_BL), clusters).scatter_(1, structure_BL, index_BL))
    return TokenSequence(tuple(indices), packed_BSLX[:, -1, :, -1].long())


def _check_input(ledger: Ledger) -> tuple[Tensor, Tensor]:
    """Check the tokens of ``D.latent`` and their canvases; returns the packed input of all stages and the final canvas."""
    module, layout = models.generator_quantizer(ledger), models.layout_of(ledger.fixture)
    packed_BSLX = stored_input(ledger)
    if ledger.has("D.latent"):
        tokens = module.tokenize(ledger.given("D.latent"))
        check_packed(ledger, "D.nvg_input_output", tokens, canvases_of(module, tokens)[0])
    before_BSLC, final_BLC = canvases_of(module, tokens_of(packed_BSLX, layout))
    if ledger.has("D.nvg_input_output"):
        stored = ledger.fixture.array("D.nvg_input_output")[..., :-2]
        ledger.close("D.nvg_input_output", before_BSLC, "canvases of the stored tokens", stored=stored)
    ledger.close("D.final_target", final_BLC)
    return packed_BSLX, _final_target(ledger, packed_BSLX)


def _final_target(ledger: Ledger, packed_BSLX: Tensor) -> Tensor:
    """The stored final canvas, or that of the stored tokens."""
    if ledger.has("D.final_target"):
        return ledger.given("D.final_target")
    tokens = tokens_of(packed_BSLX, models.layout_of(ledger.fixture))
    return canvases_of(models.generator_quantizer(ledger), tokens)[1]


def _forced(ledger: Ledger, module: NvgGenerator, packed_BSLX: Tensor, final_BLC: Tensor) -> _Forced:
    """Outputs, flow inputs and losses for the stored canvases, indices, noise and times."""
    structure_BL = packed_BSLX[:, -1, :, -1].long()
    t_BT = ledger.given("D.u").flatten(1).sigmoid()
    assert isinstance(module.flow, StructureFlow)
    flow = module.flow.mix(structure_BL, ledger.given("D.epsilon")[:, 0], t_BT)
    output = module(
        packed_BSLX[..., :-2],
        structure_BL,
        lambda conditions, structure: flow.evaluate(conditions.bind(structure)),
        ledger.given("D.class"),
    )
    tokens = tokens_of(packed_BSLX, module.layout)
    structure_T = module.flow.velocity_losses(output.structure, flow)
    return _Forced(output, flow, stage_losses(output, structure_T, tokens, final_BLC))


def _check_outputs(ledger: Ledger, forced: _Forced) -> None:
    output, flow = forced.output, forced.flow
    assert output.final_BSLC is not None
    assert output.logits_BNV is not None
    ledger.close("D.x0_hat", output.final_BSLC)
    ledger.close("D.structure_x0", flow.noise_BTLK - output.structure)
    ledger.equal("D.structure_target", flow.data_BLK)
    if ledger.has("D.content_logits"):
        columns = ledger.fixture.array("D.content_logits").shape[-1]
        ledger.close("D.content_logits", kept_columns(output.logits_BNV, columns))
    ledger.close("D.content_logsumexp", output.logits_BNV.logsumexp(-1))
    ledger.equal("D.content_argmax", output.logits_BNV.argmax(-1), rounded=SINGLE_CHOICES)


def kept_columns(logits_BNV: Tensor, columns: int) -> Tensor:
    """Every (V / columns)-th logit, if the fixture does not keep all."""
    return logits_BNV[..., :: math.ceil(logits_BNV.shape[-1] / max(columns, 1))]


def _check_losses(ledger: Ledger, losses: StageLosses, layout: StageLayout) -> None:
    total = losses.total()
    ledger.close("D.loss", total)
    structure_S = losses.structure_T.new_full((layout.stages,), torch.nan)
    structure_S[: layout.structure_stages] = losses.structure_T
    terms_S4 = torch.stack((losses.canvas_S, losses.tokens_S, losses.accuracy_S, structure_S), dim=1).detach()
    follows = ["D.content_argmax"]
    ledger.close("D.loss_terms", terms_S4, scale="column", follows=follows)
    stored = ledger.fixture.facts.get("loss_terms")
    if stored is not None:
        named = {"loss": float(total.detach()), "compressed_acc": float(losses.accuracy_S.mean())}
        for stage, clusters in enumerate(layout.tokens):
            named[f"final_loss_{clusters}"], named[f"compressed_loss_{clusters}"], named[f"compressed_acc_{clusters}"] = (
                float(value) for value in terms_S4[stage, :3]
            )
        for stage in range(layout.structure_stages):
            named[f"structure_loss_{layout.tokens[stage + 1]}"] = float(terms_S4[stage, 3])
        _check_named_terms(ledger, named, stored)


def _check_named_terms(ledger: Ledger, named: dict[str, float], stored: dict[str, float]) -> None:
    """Losses relative to their own size, accuracies absolutely, as most of them are zero."""
    accuracies = [key for key in stored if "_acc" in key]
    ours, theirs = (np.array([values.get(key, np.nan) for key in accuracies]) for values in (named, stored))
    ledger.close("loss_terms", ours, "accuracies", stored=theirs, follows=["D.content_argmax"])
    rest = {key: value for key, value in named.items() if "_acc" not in key}
    ledger.numbers("loss_terms", rest, {key: value for key, value in stored.items() if "_acc" not in key})


def _check_gradients(ledger: Ledger, module: NvgGenerator) -> None:
    facts = ledger.fixture.facts
    if "params" in facts["config"]["D"]:
        ledger.equal("D.params", np.array(models.learned(module)), stored=facts["config"]["D"]["params"])
    if "grad_norms" not in facts:
        return
    ledger.gradients(lambda own: {"grad_norms": {key: value for key, value in _gradients(own).items() if value is not None}})
    if "params_without_grad" in facts:
        listed = sorted(facts["params_without_grad"])
        without = sorted(name for name, gradient in _gradients(ledger).items() if gradient is None)
        places = [listed.index(name) if name in listed else -1 for name in without]
        ledger.equal("params_without_grad", np.array(places, dtype=np.int64), stored=np.arange(len(listed)))


def _gradients(ledger: Ledger) -> dict[str, Tensor | None]:
    """Gradients of the total loss by published name; None for parameters without."""
    module, packed_BSLX = models.generator(ledger), stored_input(ledger)
    _forced(ledger, module, packed_BSLX, _final_target(ledger, packed_BSLX)).losses.total().backward()
    return {str(to_published_key(name)): value.grad for name, value in module.named_parameters()}
