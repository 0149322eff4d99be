"""Rules by the id of their protocol."""

from __future__ import annotations

import torch

from nvgbench.evaluation.rules.adm import AdmRules
from nvgbench.evaluation.rules.base import Rules
from nvgbench.evaluation.rules.clean_fid import CleanFidRules
from nvgbench.evaluation.rules.torch_fidelity import TorchFidelityRules
from nvgbench.results.protocols import named_protocol


def open_rules(id: str, device: torch.device | str = "cpu") -> Rules | None:
    """The rules of a protocol; None for nvgbench's own, which `nvgbench.evaluation.scores` follows.

    Args:
        id: a key of `nvgbench.results.protocols.PROTOCOLS`.
        device: where distances are computed.

    Raises:
        InputError: no such protocol.
    """
    identity = named_protocol(id)
    if identity.id == "adm":
        return AdmRules(device)
    if identity.id == "torch-fidelity":
        return TorchFidelityRules()
    return CleanFidRules(identity.id) if identity.library == "clean-fid" else None
