"""The transformer with teacher forcing: activations, logits, losses, gradients, variants, logit filters.

Shape letters: B batch, L tokens of all scales, V codebook size.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nvgbench.parity.ledger import SINGLE_CHOICES, Ledger
from nvgbench.parity.rounding import Gradients
from nvgbench.sampling.filters import top_k_filter, top_p_filter
from nvgbench_baselines.var.checkpoint import transformer_name
from nvgbench_baselines.var.objective import token_cross_entropy
from nvgbench_baselines.var.transformer import VarTransformer
from nvgbench_baselines.var.verification.models import Models

_LOGITS = (
    "logits_rows", "logits_argmax", "logits_lse", "logits_mean", "logits_at_target", "uncond_logits_rows", "lowvar_logits_rows",
    "ce_BL",
)  # fmt: skip


def check(ledger: Ledger, models: Models) -> None:
    """Everything that needs no sampling."""
    ledger.inputs("label_B", "filter_in")
    models.check_rows()
    if "labels" in ledger.fixture.facts and ledger.has("label_B"):
        ledger.equal("label_B", ledger.given("label_B"), "listed labels", stored=ledger.fixture.facts["labels"])
    stored = [name for prefix in variants(ledger) for name in ledger.named(f"{prefix}_logits")]
    if ledger.has(*_LOGITS, *stored) or ledger.named("act_"):
        with torch.no_grad():
            _check_logits(ledger, models)
    if ledger.has("ce_BL") or ledger.named("grad/") or "grad_l2" in ledger.fixture.facts:
        _check_losses(ledger, models)
        ledger.gradients(_gradients)
    _check_filters(ledger)


def variants(ledger: Ledger) -> list[str]:
    """Prefixes of the transformer's variants, each with its own list of shapes."""
    plain = ("var_state_dict", "vae_state_dict")
    found = [key for key in ledger.fixture.facts if key.endswith("_state_dict") and key not in plain]
    return sorted(key.removesuffix("_state_dict") for key in found)


def forced_logits(models: Models, module: VarTransformer, labels_B: Tensor) -> Tensor:
    """Logits of all tokens, float32 or better."""
    return module(labels_B, models.between("x_BLCv")).float()


def _check_logits(ledger: Ledger, models: Models) -> None:
    module, labels_B = models.transformer, models.labels_B
    logits_BLV, seen = _with_activations(models, module, labels_B)
    for name, values in seen.items():
        if ledger.has(name):
            ledger.close(name, models.kept(name, values))
    summaries = {
        "logits_rows": logits_BLV,
        "logits_lse": logits_BLV.logsumexp(dim=-1),
        "logits_mean": logits_BLV.mean(dim=-1),
    }
    if ledger.has("logits_at_target"):
        summaries["logits_at_target"] = logits_BLV.gather(2, models.between("idx_BL").unsqueeze(2)).squeeze(2)
    if ledger.has("uncond_logits_rows"):
        summaries["uncond_logits_rows"] = forced_logits(models, module, torch.full_like(labels_B, models.classes))
    if ledger.has("lowvar_logits_rows"):
        # Low variance exposes the epsilon of the LayerNorm.
        probe = ledger.fixture.settings["lowvar_logits_rows"]
        scaled = dict.fromkeys(probe["tensors"], probe["factor"])
        summaries["lowvar_logits_rows"] = forced_logits(models, models.make_transformer(scaled=scaled), labels_B)
    for prefix in variants(ledger):
        if ledger.has(f"{prefix}_logits"):
            variant = models.make_transformer(f"{prefix}_state_dict")
            summaries[f"{prefix}_logits"] = forced_logits(models, variant, labels_B)
    for name, values in summaries.items():
        if ledger.has(name):
            ledger.close(name, models.kept(name, values))
    if ledger.has("logits_argmax"):
        ledger.equal("logits_argmax", models.kept("logits_argmax", logits_BLV.argmax(dim=-1)), rounded=SINGLE_CHOICES)


def _with_activations(models: Models, module: VarTransformer, labels_B: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, input of the first block, output of each block, input of the output layer."""
    seen: dict[str, Tensor] = {}
    hooks = [
        module.blocks[0].register_forward_pre_hook(lambda _, args: seen.update(act_embed=args[0])),
        module.head.register_forward_pre_hook(lambda _, args: seen.update(act_head_nm=args[0])),
        *(
            block.register_forward_hook(lambda _, args, output, name=f"act_block{index}": seen.update({name: output}))
            for index, block in enumerate(module.blocks)
        ),
    ]
    try:
        return forced_logits(models, module, labels_B), seen
    finally:
        for hook in hooks:
            hook.remove()


def _check_losses(ledger: Ledger, models: Models) -> None:
    """Cross-entropy of every token and its mean."""
    targets_BL = models.between("idx_BL")
    with torch.no_grad():
        logits_BLV = forced_logits(models, models.transformer, models.labels_B)
    entropy_BL = token_cross_entropy(logits_BLV, targets_BL)
    ledger.close("ce_BL", entropy_BL)
    ledger.number("loss", entropy_BL.mean())
    for name, settings in ledger.fixture.settings.items():
        if "smoothing" in settings:
            ledger.number(name, token_cross_entropy(logits_BLV, targets_BL, settings["smoothing"]).mean())


def _gradients(ledger: Ledger) -> Gradients:
    """Gradients of the mean cross-entropy: those that the archive holds, and the norms of all."""
    models = Models(ledger)
    module = models.make_transformer()
    token_cross_entropy(forced_logits(models, module, models.labels_B), models.between("idx_BL")).mean().backward()
    gradients = {transformer_name(name): value.grad for name, value in module.named_parameters() if value.grad is not None}
    found: dict[str, Tensor | dict[str, Tensor]] = {
        "grad_l2": gradients,
        "grad_total_l2": {"grad_total_l2": torch.cat([gradient.flatten() for gradient in gradients.values()])},
    }
    for name in ledger.named("grad/"):
        gradient, stored = gradients.get(name.removeprefix("grad/")), ledger.fixture.array(name)
        if gradient is not None:
            found[name] = gradient.reshape(stored.shape) if gradient.numel() == stored.size else gradient
    return found


def _check_filters(ledger: Ledger) -> None:
    """Probabilities after top-k and top-p."""
    for case, (top_k, top_p) in enumerate(ledger.fixture.facts.get("filter_cases", [])):
        name = f"filter_probs_{case}"
        if not ledger.has(name):
            continue
        kept = top_k_filter(ledger.given("filter_in"), top_k)
        if top_p > 0:
            # 0 means no limit in the published code, as 1 does here.
            kept = top_p_filter(kept, top_p)
        ledger.close(name, F.softmax(kept, dim=-1))


def smallest_gap(logits_BLV: Tensor) -> float:
    """The smallest gap between the largest and the second largest logit of a token."""
    best = logits_BLV.topk(2, dim=-1).values
    return float((best[..., 0] - best[..., 1]).min())


def check_gap(ledger: Ledger, name: str, logits_BLV: Tensor) -> None:
    """Compare a smallest gap of the JSON file, relative to the size of the logits."""
    if name in ledger.fixture.facts:
        size = float(logits_BLV.abs().max())
        ledger.close(name, np.array([smallest_gap(logits_BLV), size]), stored=[ledger.fixture.facts[name], size])
