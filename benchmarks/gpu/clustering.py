"""Clustering: labels equal to those of tensor operations on the CPU for all kinds of inputs, and images per second.

Shape letters: B batch, L positions, C channels.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from benchmarks.gpu.bench import Bench
from nvgbench.nvg.clustering import backends, batched, build_structure
from nvgbench.nvg.clustering.lattice import integer_points
from tests.helpers.clustering_inputs import clustering_inputs

# Images per second that must be reached on an H100 by batch size.
GOALS = {1: 1_000.0, 64: 30_000.0, 1024: 100_000.0}


def measure(bench: Bench) -> None:
    """Equality first, then speed."""
    fast = backends.fast_implementation(bench.device.type)
    _compare(bench)
    name = fast.__name__.rpartition(".")[2] if fast and not backends.failures() else "tensor operations"
    for batch in (1, 4) if bench.tiny else GOALS:
        latent_BLC = latents(batch, bench)
        seconds = bench.time(functools.partial(build_structure, latent_BLC))
        rates = tuple(batch / s for s in seconds)
        bench.add("clustering", "rate", "images/s", rates, goal=GOALS.get(batch), batch=batch, by=name, input="random")
    if not bench.tiny:
        smooth_BLC = clustering_inputs(64, 256, 32)["smooth"].to(bench.device)
        seconds = bench.time(functools.partial(build_structure, smooth_BLC))
        bench.add("clustering", "rate", "images/s", tuple(64 / s for s in seconds), batch=64, by=name, input="smooth")


def latents(batch: int, bench: Bench) -> Tensor:
    return torch.randn(batch, 256, 32, generator=torch.Generator().manual_seed(0)).to(bench.device)


def _compare(bench: Bench) -> None:
    """Labels of every kind of input and order of ties, against tensor operations on the CPU."""
    for length, batch in ((16, 3), (64, 3)) if bench.tiny else ((2, 4), (64, 16), (256, 16), (1024, 2)):
        for kind, latent_BLC in clustering_inputs(batch, length, 32).items():
            for tie_break in ("xor", "index"):
                if length == 1024 and tie_break == "index":
                    continue  # hundreds of rounds on the CPU
                expected_BL = batched.finest_maps(integer_points(latent_BLC), tie_break)
                found_BSL = build_structure(latent_BLC.to(bench.device), tie_break=tie_break)
                differing = int((found_BSL[:, -1].cpu() != expected_BL).any(1).sum())
                remark = f"{differing} of {batch} images differ" if differing else ""
                bench.check("clustering", f"labels of {kind} latents", not differing, remark, positions=length, ties=tie_break)
    failed = ", ".join(backends.failures())
    bench.check("clustering", "compiled implementation in use", not failed, failed)
