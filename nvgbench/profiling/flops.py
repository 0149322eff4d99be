"""Floating-point operations of a workload, counted by PyTorch (2 x multiply-accumulates)."""

from __future__ import annotations

from collections.abc import Callable

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nvgbench.types import Measurement


def count_flops(workload: Callable[[], object]) -> int:
    """FLOPs of matrix products and convolutions in one call of ``workload``; everything else counts as zero.

    Attention runs unfused while counting, as the counter does not know every fused kernel and silently counts an unknown one as
    zero. Masked positions are counted as if they were computed.
    """
    with sdpa_kernel([SDPBackend.MATH]), FlopCounterMode(display=False) as counter:
        workload()
    return int(counter.get_total_flops())


def flops_measurement(workload: Callable[[], object], images: int) -> Measurement:
    """Counted FLOPs per image of a workload that generates ``images`` images per call."""
    counted = count_flops(workload)
    if counted == 0:
        note = "not available: no matrix product or convolution was counted"
        return Measurement(name="flops", unit="FLOP/image", samples=(), note=note)
    return Measurement(
        name="flops",
        unit="FLOP/image",
        samples=(counted / images,),
        conditions={"counts": "matrix products and convolutions, 2 x multiply-accumulates"},
    )
