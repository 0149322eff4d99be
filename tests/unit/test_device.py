"""What the automatic settings mean on a device."""

from __future__ import annotations

import torch

from nvgbench.device import resolve_compile, resolved_settings

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_automatic_settings_are_recorded_as_they_are_on_the_device() -> None:
    assert resolved_settings({"precision": "auto", "compile": "auto", "top_k": 3}, CPU) == {
        "precision": "fp32",
        "compile": False,
        "top_k": 3,
    }
    assert resolved_settings({"precision": "bf16", "compile": True}, CPU) == {"precision": "bf16", "compile": True}
    assert resolved_settings({"top_k": 3}, CPU) == {"top_k": 3}


def test_only_cuda_compiles_by_itself() -> None:
    assert [resolve_compile("auto", device) for device in (CPU, CUDA)] == [False, True]
    assert [resolve_compile(setting, CUDA) for setting in (True, False)] == [True, False]
