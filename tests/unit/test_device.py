"""What the automatic settings mean on a device."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch

from nvgbench import device
from nvgbench.device import missing_for_compilation, resolve_compile, resolved_settings
from nvgbench.errors import InputError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def forgetful() -> Iterator[None]:
    """What was found out about this machine, and warned of, is forgotten before and after."""
    kept = missing_for_compilation, device._warn_uncompiled
    for one in kept:
        one.cache_clear()
    yield
    for one in kept:
        one.cache_clear()


def test_automatic_settings_are_recorded_as_they_are_on_the_device() -> None:
    assert resolved_settings({"precision": "auto", "compile": "auto", "top_k": 3}, CPU) == {
        "precision": "fp32",
        "compile": False,
        "top_k": 3,
    }
    assert resolved_settings({"precision": "bf16", "compile": True}, CPU) == {"precision": "bf16", "compile": True}
    assert resolved_settings({"top_k": 3}, CPU) == {"top_k": 3}


def test_only_cuda_compiles_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "missing_for_compilation", lambda device_type: None)
    assert [resolve_compile("auto", device) for device in (CPU, CUDA)] == [False, True]
    assert [resolve_compile(setting, CUDA) for setting in (True, False)] == [True, False]


def test_without_a_compiler_auto_warns_once_and_a_request_fails(
    monkeypatch: pytest.MonkeyPatch, forgetful: None, recwarn: pytest.WarningsRecorder
) -> None:
    for variable in ("CC", "CXX"):
        monkeypatch.setenv(variable, "no-such-compiler")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())  # Triton is installed
    warnings.simplefilter("always")
    assert [resolve_compile("auto", where) for where in (CUDA, CUDA, CPU)] == [False, False, False]
    assert [str(one.message).partition(";")[0] for one in recwarn] == [
        "blocks are not compiled, as torch.compile needs a C compiler (CC=no-such-compiler is not found)"
    ]
    assert [resolve_compile(False, where) for where in (CUDA, CPU)] == [False, False]
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler \(CXX=no-such-compiler .*`compile=False`"):
        resolve_compile(True, CPU)
    assert len(recwarn) == 1


def test_cuda_needs_triton(monkeypatch: pytest.MonkeyPatch, forgetful: None) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert missing_for_compilation("cuda") == "Triton, which is not installed"
    with pytest.raises(InputError, match="needs Triton"):
        resolve_compile(True, CUDA)
