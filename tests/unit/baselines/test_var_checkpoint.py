"""Published VAR weights that do not fit are refused in one line."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from nvgbench_baselines.var.checkpoint import transformer_from_published, transformer_to_published
from torch import Tensor

from nvgbench.errors import InputError


def published(small: Callable) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    own = small("var").generator.state_dict()
    return transformer_to_published(own), own


def test_derived_tensors_and_axes_of_length_one_are_ignored(small: Callable) -> None:
    theirs, own = published(small)
    assert theirs["pos_1LC"].shape == (1, 21, 16)
    assert theirs["blocks.0.attn.scale_mul_1H11"].shape == (1, 2, 1, 1)
    theirs["lvl_1L"] = torch.zeros(1, 21)
    theirs["blocks.0.attn.zero_k_bias"] = torch.zeros(16)
    loaded = transformer_from_published(theirs, own)
    assert all(torch.equal(loaded[key], own[key]) for key in own)


def test_other_models_are_refused(small: Callable) -> None:
    theirs, own = published(small)
    with pytest.raises(InputError, match=r"missing: head\.bias;"):
        transformer_from_published({key: value for key, value in theirs.items() if key != "head.bias"}, own)
    with pytest.raises(InputError, match=r"unexpected: blocks\.2\.ffn\.fc1\.bias"):
        transformer_from_published({**theirs, "blocks.2.ffn.fc1.bias": torch.zeros(3)}, own)
    with pytest.raises(InputError, match=r"of another shape: head\.weight \[16, 24\] instead of \[24, 16\]"):
        transformer_from_published({**theirs, "head.weight": theirs["head.weight"].T}, own)
