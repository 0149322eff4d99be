"""How well a training uses the machine: share of the matrix product's rate, waiting for data, memory by part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from nvgbench.device import compilation_seconds
from nvgbench.profiling.ceilings import measure_ceilings
from nvgbench.training.ema import Ema
from nvgbench.training.optimizer import ModuleOptimizer
from nvgbench.training.parallel_state import local
from nvgbench.training.precision import Precision, resolve_precision


class SpeedMeter:
    """Turns the rate of a training into shares of what the device can do.

    Args:
        flops: forward and backward of one image, FLOPs (2 x multiply-accumulates); None if unknown.
        device: where the training runs; its matrix product is measured when the first line is logged.
        precision: of the training.
        processes: number of devices that share the work.
    """

    def __init__(self, flops: float | None, device: torch.device, precision: Precision, processes: int = 1) -> None:
        self._flops, self._device, self._processes = flops, device, processes
        self._product = resolve_precision(precision, device)

    def row(self, images_per_second: float, waiting: float) -> dict[str, float]:
        """Numbers for the training log.

        Args:
            images_per_second: of all processes.
            waiting: share of the time in which this process waited for its batch.

        Returns:
            ``data_share``; with known FLOPs ``flops_per_second`` (of one device) and ``mfu``, the share of the rate of a large
            matrix product in the training's precision, measured on this device; on CUDA ``peak_memory`` (bytes);
            ``compile_seconds`` so far in this process, if anything was compiled.
        """
        row = {"data_share": waiting}
        if self._flops is not None:
            rate = self._flops * images_per_second / self._processes
            products = measure_ceilings(self._device).products
            row |= {"flops_per_second": rate, "mfu": rate / products.get(self._product, products["fp32"])}
        if self._device.type == "cuda":
            row["peak_memory"] = float(torch.cuda.max_memory_allocated(self._device))
        if seconds := compilation_seconds():
            row["compile_seconds"] = seconds
        return row


def memory_by_part(
    modules: Mapping[str, nn.Module], optimizers: Mapping[str, ModuleOptimizer], ema: Ema | None
) -> dict[str, float]:
    """Bytes of weights and buffers, gradients, optimizer states and averages on this device, after the first step."""
    trained = [value for optimizer in optimizers.values() for value in optimizer.parameters]
    states = chain.from_iterable(optimizer.state_tensors() for optimizer in optimizers.values())
    return {
        "weights": _bytes(chain.from_iterable((*module.parameters(), *module.buffers()) for module in modules.values())),
        "gradients": _bytes(trained),
        "optimizer": _bytes(states),
        "average": 0.0 if ema is None else _bytes(ema.averages),
    }


def _bytes(tensors: Iterable[Any]) -> float:
    return float(sum(local(tensor).numel() * tensor.element_size() for tensor in tensors if isinstance(tensor, Tensor)))
