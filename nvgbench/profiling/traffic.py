"""The fewest bytes that the matrix products and convolutions of a workload move."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_COUNTED = ("mm", "addmm", "bmm", "baddbmm", "convolution", "_linear_pointwise", "scaled_dot_product")


def count_traffic(workload: Callable[[], object]) -> int:
    """Bytes of one call of ``workload``: each input of such an operation read once, each output written once.

    What lies between them (norms, activations, sampling) can be fused into them and counts as zero.
    """
    with _Traffic() as counter:
        workload()
    return counter.bytes


class _Traffic(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if name in _COUNTED or _COUNTED[-1] in name:
            self.bytes += _bytes(tree_leaves((args, kwargs))) + _bytes(tree_leaves(result)[:1])
        return result


def _bytes(values: Iterable[Any]) -> int:
    return sum(value.numel() * value.element_size() for value in values if isinstance(value, torch.Tensor))
