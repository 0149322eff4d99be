"""Floating-point operations of a piece of work, counted by PyTorch (2 x multiply-accumulates)."""

from __future__ import annotations

from collections.abc import Callable

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nvgbench.types import Measurement


def count_flops(workload: Callable[[], object]) -> int:
    """FLOPs of matrix products and convolutions in one call of ``workload``; everything else counts nothing.

    Attention runs in its plain form while counting: not every fused kernel is known to the counter, and an unknown one
    would silently count zero. Masked positions are counted as if they were computed.
    """
    with sdpa_kernel([SDPBackend.MATH]), FlopCounterMode(display=False) as counter:
        workload()
    return int(counter.get_total_flops())


def flops_measurement(workload: Callable[[], object], images: int) -> Measurement:
    """Counted FLOPs an image of a workload that makes ``images`` images a call."""
    counted = count_flops(workload)
    if counted == 0:
        note = "not available: the counter saw no matrix product or convolution"
        return Measurement(name="flops", unit="FLOP/image", samples=(), note=note)
    return Measurement(
        name="flops",
        unit="FLOP/image",
        samples=(counted / images,),
        conditions={"counts": "matrix products and convolutions, 2 x multiply-accumulates"},
    )
