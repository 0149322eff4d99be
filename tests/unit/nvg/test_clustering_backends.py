"""The compiled implementations of the hierarchy give the labels of the tensor operations, on latents of every kind."""

from __future__ import annotations

import os
import subprocess
import sys
import types
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nvgbench.nvg.clustering import TieBreak, backends, batched, build_structure
from nvgbench.nvg.clustering.lattice import integer_points
from tests.helpers.clustering_inputs import clustering_inputs

INTERPRETED = """
import torch
from nvgbench.nvg.clustering import batched, kernel
from nvgbench.nvg.clustering.lattice import integer_points
from tests.helpers.clustering_inputs import clustering_inputs

KINDS = {2: ("random", "zero"), 16: tuple(clustering_inputs(1, 16, 5)), 64: ("random",)}
for length, kinds in KINDS.items():
    for kind in kinds:
        for tie_break in ("xor", "index"):
            points_BLC = integer_points(clustering_inputs(2 if length < 64 else 1, length, 5)[kind])
            found_BL, expected_BL = (way.finest_maps(points_BLC, tie_break) for way in (kernel, batched))
            assert torch.equal(found_BL, expected_BL), (length, kind, tie_break)
print("equal")
"""


# Compiles as for an H100, with a driver that only names it.
COMPILED = """
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from nvgbench.nvg.clustering import kernel

class H100:
    def get_current_device(self): return 0
    def get_current_stream(self, device): return 0
    def get_current_target(self): return GPUTarget("cuda", 90, 32)
    def get_active_torch_device(self): return torch.device("cpu")
    def map_python_to_cpp_type(self, name): return name

driver.set_active(H100())
for length in (2, 256):
    sizes = (length**2, length**2 // 4, 3 * length, length)
    kernel._build.warmup(
        *(torch.empty(size, dtype=torch.int64) for size in sizes), bits=length.bit_length() - 1,
        LENGTH=length, ROWS=min(length, 4096 // length), XOR=True, num_warps=8, num_stages=1, grid=(1,),
    )
print("compiled")
"""


@pytest.mark.parametrize("tie_break", ["xor", "index"])
@pytest.mark.parametrize("length", [2, 4, 64, 256])
def test_numba_gives_the_same_labels(length: int, tie_break: TieBreak) -> None:
    compiled = pytest.importorskip("nvgbench.nvg.clustering.compiled", exc_type=ImportError)
    for kind, latent_BLC in clustering_inputs(3, length, 5).items():
        points_BLC = integer_points(latent_BLC)
        assert torch.equal(compiled.finest_maps(points_BLC, tie_break), batched.finest_maps(points_BLC, tie_break)), kind


def test_numba_shares_images_among_threads() -> None:
    compiled = pytest.importorskip("nvgbench.nvg.clustering.compiled", exc_type=ImportError)
    points_BLC = integer_points(torch.randn(5, 64, 4, generator=torch.Generator().manual_seed(0)))
    alone_BL = compiled.finest_maps(points_BLC, "xor")
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(compiled.finest_maps(points_BLC, "xor"), alone_BL)
    finally:
        torch.set_num_threads(threads)


def test_numba_works_where_no_cache_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = pytest.importorskip("nvgbench.nvg.clustering.compiled", exc_type=ImportError)
    made: list[dict] = []

    def njit(**options: bool) -> object:
        made.append(options)
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(compiled.numba, "njit", njit)
    assert compiled._compile(len) is len
    assert made == [{"nogil": True, "cache": True}, {"nogil": True}]


def python(code: str, **variables: str) -> str:
    """What a fresh process prints: Triton's mode has to be chosen before it is imported."""
    root = Path(__file__).parents[3]
    path = os.pathsep.join([str(root), str(root / "baselines"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, **variables, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_the_kernel_gives_the_same_labels_in_tritons_interpreter() -> None:
    pytest.importorskip("triton", minversion="3.8", reason="older interpreters need NumPy below 2.4")
    assert python(INTERPRETED, TRITON_INTERPRET="1") == "equal"


def test_the_kernel_compiles_for_small_and_usual_grids(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    assert python(COMPILED, TRITON_CACHE_DIR=str(tmp_path)) == "compiled"


def test_a_compiler_that_fails_is_reported_once_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fail(points_BLC: Tensor, tie_break: str) -> Tensor:
        calls.append(tie_break)
        raise OSError("no such\ncompiler")

    broken = types.SimpleNamespace(__name__="broken", MAX_POSITIONS=64, finest_maps=fail)
    monkeypatch.setattr(backends, "_failures", {})
    monkeypatch.setattr(backends, "fast_implementation", lambda device_type: broken)
    latent_BLC = torch.randn(2, 16, 3, generator=torch.Generator().manual_seed(0))
    expected_BL = batched.finest_maps(integer_points(latent_BLC), "xor")
    with pytest.warns(UserWarning, match=r"^broken failed for 16 positions \(OSError: no such compiler\); using tensor"):
        assert torch.equal(build_structure(latent_BLC)[:, -1], expected_BL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(build_structure(latent_BLC)[:, -1], expected_BL)
    assert calls == ["xor"]
    assert backends.failures() == ("broken failed for 16 positions (OSError: no such compiler)",)


def test_longer_images_than_an_implementation_takes_use_tensor_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    small = types.SimpleNamespace(__name__="small", MAX_POSITIONS=8, finest_maps=None)
    monkeypatch.setattr(backends, "fast_implementation", lambda device_type: small)
    latent_BLC = torch.randn(2, 16, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(build_structure(latent_BLC)[:, -1], batched.finest_maps(integer_points(latent_BLC), "xor"))


def test_without_compilers_there_is_no_compiled_implementation(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("numba", "triton"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("compiled", "kernel"):
        monkeypatch.delitem(sys.modules, f"nvgbench.nvg.clustering.{name}", raising=False)
    assert [backends.fast_implementation.__wrapped__(device) for device in ("cpu", "cuda", "mps")] == [None] * 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("tie_break", ["xor", "index"])
@pytest.mark.parametrize("length", [2, 16, 256])
def test_cuda_gives_the_same_labels(length: int, tie_break: TieBreak) -> None:
    for kind, latent_BLC in clustering_inputs(8, length, 32).items():
        expected_BL = batched.finest_maps(integer_points(latent_BLC), tie_break)
        assert torch.equal(build_structure(latent_BLC.cuda(), tie_break=tie_break)[:, -1].cpu(), expected_BL), kind
    assert backends.failures() == ()
