"""Labels of both baselines: dropping and checking. B batch."""

from __future__ import annotations

import torch
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.types import SampleRequest


def drop_labels(labels_B: Tensor, rate: float, no_class: int, rng: torch.Generator) -> Tensor:
    """Replace each label by ``no_class`` with probability ``rate``, for classifier-free guidance."""
    dropped_B = torch.rand(len(labels_B), generator=rng, device=rng.device) < rate
    return labels_B.masked_fill(dropped_B.to(labels_B.device), no_class)


def checked_labels(request: SampleRequest, num_classes: int, device: torch.device) -> Tensor:
    """The labels of a request on ``device``; ``num_classes`` means "no class".

    Raises:
        InputError: no labels, labels that are not classes, or a different number of seeds.
    """
    labels_B = torch.as_tensor(request.labels_B)
    seeds_B = torch.as_tensor(request.seeds_B)
    if labels_B.ndim != 1 or len(labels_B) == 0 or labels_B.is_floating_point():
        raise InputError(f"labels are an integer tensor [B] with B >= 1, got {labels_B.dtype} of shape {list(labels_B.shape)}")
    if seeds_B.shape != labels_B.shape:
        raise InputError(f"{len(labels_B)} labels but seeds of shape {list(seeds_B.shape)}; give one seed per label")
    wrong = labels_B[(labels_B < 0) | (labels_B > num_classes)]
    if len(wrong):
        raise InputError(
            f"label {int(wrong[0])} is not a class of this model; give labels from 0 to {num_classes - 1}, "
            f"or {num_classes} for none"
        )
    return labels_B.to(device=device, dtype=torch.int64)
