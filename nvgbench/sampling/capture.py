"""Functions of tensors as CUDA graphs: captured once, then replayed without the cost of launching each kernel.

A sampler splits its work into functions of tensors and calls them through a `GraphCache`. On the CPU the cache calls them; on
CUDA it captures each once per shape and setting. Nothing else in a sampler knows of graphs.

A captured function must not synchronise with the host, draw random numbers or read tensors that are replaced between calls.
Whatever varies between calls is a tensor argument; whatever is fixed inside (stage, guidance scale, settings) is in the key.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Outputs = tuple[Tensor, ...]
Function = Callable[..., Outputs]

_WARM_UPS = 2
"""Calls before a capture: libraries create handles and workspaces, and compiled code is compiled."""


class Graphs(Protocol):
    """How functions are captured. `CudaGraphs` is the real one; tests use a recording one."""

    def capture(self, function: Function, inputs: Outputs) -> tuple[Callable[[], None], Outputs]:
        """Capture ``function`` on these input buffers; what replays it, and its output buffers."""
        ...


class CudaGraphs:
    """CUDA graphs in one shared memory pool, since the graphs of a cache never run at the same time."""

    def __init__(self) -> None:
        self._shared: tuple[torch.cuda.Stream, Any] | None = None

    def capture(self, function: Function, inputs: Outputs) -> tuple[Callable[[], None], Outputs]:
        with torch.cuda.device(inputs[0].device):
            if self._shared is None:
                self._shared = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
            side, pool = self._shared
            side.wait_stream(torch.cuda.current_stream())
            # As `torch.cuda.graph` does it, but without collecting garbage and emptying the memory cache each time.
            with torch.cuda.stream(side):
                for _ in range(_WARM_UPS):
                    function(*inputs)
                torch.cuda.synchronize()
                graph = torch.cuda.CUDAGraph()
                graph.capture_begin(pool=pool, capture_error_mode="thread_local")
                try:
                    outputs = function(*inputs)
                except BaseException:
                    with contextlib.suppress(RuntimeError):  # the error to report is the function's
                        graph.capture_end()
                    raise
                graph.capture_end()
            torch.cuda.current_stream().wait_stream(side)
        return graph.replay, outputs


@dataclass
class _Captured:
    """A graph with its input and output buffers, and what each input buffer was last filled from."""

    inputs: Outputs
    replay: Callable[[], None]
    outputs: Outputs
    filled_from: list[tuple[weakref.ref[Tensor], int] | None] = field(default_factory=list)

    def __call__(self, inputs: Outputs) -> Outputs:
        for place, (buffer, given) in enumerate(zip(self.inputs, inputs, strict=True)):
            source = self.filled_from[place]
            version = tensor_version(given)
            # Inputs that stay the same over many calls, such as the canvas during the steps of a flow, are copied once.
            if source is None or source[0]() is not given or source[1] != version:
                buffer.copy_(given)
                self.filled_from[place] = None if version is None else (weakref.ref(given), version)
        self.replay()
        return tuple(output.clone() for output in self.outputs)


class Calls(Protocol):
    """What samplers need: see `GraphCache.call`."""

    def call(self, name: str, function: Function, *inputs: Tensor, key: Hashable = ()) -> Outputs: ...


class GraphCache:
    """Calls functions of tensors; where enabled, each is captured once and replayed afterwards.

    Args:
        enabled: False calls every function as it is. Inputs on the CPU are never captured, except with ``graphs``.
        modules: whose weights the functions read. After a change of their weights nothing captured earlier is replayed.
        capacity: number of graphs kept; the least recently used one is dropped for a new one.
        graphs: how to capture; CUDA graphs by default.

    Attributes:
        preparation_s: seconds spent on warm-ups and captures, compilation included.
        captures: number of captures so far.
    """

    def __init__(
        self, enabled: bool, modules: Iterable[nn.Module] = (), *, capacity: int = 128, graphs: Graphs | None = None
    ) -> None:
        self.enabled, self.capacity = enabled, capacity
        self.preparation_s, self.captures = 0.0, 0
        self._modules, self._given_graphs = tuple(modules), graphs
        self._graphs: Graphs = graphs or CudaGraphs()
        self._kept: OrderedDict[Hashable, _Captured] = OrderedDict()
        self._weights: Hashable = None

    def check_weights(self) -> bool:
        """Drop all graphs if a weight was replaced or changed, and return whether one was.

        To be called once per sample, not once per stage: it reads the addresses of all weights.
        """
        weights = weights_version(self._modules)
        changed = weights != self._weights
        if changed:
            self.clear()
            self._weights = weights
        return changed

    def scoped(self, scope: Hashable) -> Calls:
        """The same cache with ``scope`` in every key: for several variants of a model."""
        return _Scoped(self, scope)

    def clear(self) -> None:
        """Drop all graphs and their memory."""
        self._kept.clear()
        if self._given_graphs is None:
            self._graphs = CudaGraphs()

    def call(self, name: str, function: Function, *inputs: Tensor, key: Hashable = ()) -> Outputs:
        """``function(*inputs)``, by a graph where enabled.

        Args:
            name: of the function; with ``key`` it says what the function computes, whatever object it is.
            function: see the top of this file.
            inputs: tensors on one device, at least one.
            key: everything else that the result depends on.

        Returns:
            New tensors, which later calls leave alone.
        """
        if not self.enabled or not inputs or (self._given_graphs is None and not inputs[0].is_cuda):
            return function(*inputs)
        if self._weights is None:
            self.check_weights()
        entire = (name, key, tuple(_signature(tensor) for tensor in inputs), _arithmetic(inputs[0].device.type))
        captured = self._kept.get(entire)
        if captured is None:
            captured = self._capture(function, inputs)
            self._kept[entire] = captured
        self._kept.move_to_end(entire)
        return captured(inputs)

    def _capture(self, function: Function, inputs: Outputs) -> _Captured:
        start = time.perf_counter()
        while len(self._kept) >= self.capacity:
            self._kept.popitem(last=False)
        try:
            captured = self._captured(function, inputs)
        except torch.cuda.OutOfMemoryError:
            if not self._kept:
                raise
            self.clear()
            torch.cuda.empty_cache()
            captured = self._captured(function, inputs)
        self.captures += 1
        self.preparation_s += time.perf_counter() - start
        return captured

    def _captured(self, function: Function, inputs: Outputs) -> _Captured:
        buffers = tuple(tensor.clone(memory_format=torch.contiguous_format) for tensor in inputs)
        with torch.no_grad():
            replay, outputs = self._graphs.capture(function, buffers)
        return _Captured(buffers, replay, outputs, [None] * len(buffers))


@dataclass(frozen=True)
class _Scoped:
    cache: GraphCache
    scope: Hashable

    def call(self, name: str, function: Function, *inputs: Tensor, key: Hashable = ()) -> Outputs:
        return self.cache.call(name, function, *inputs, key=(self.scope, key))


def weights_version(modules: Iterable[nn.Module]) -> Hashable:
    """Changes whenever a parameter or buffer is replaced, moved, or written to in place.

    It runs before every sample, so it walks the modules itself: `nn.Module.parameters` takes several times as long.
    """
    found: list[Hashable] = []
    pending: list[nn.Module | None] = list(modules)
    while pending:
        module = pending.pop()
        if module is None:
            continue
        pending.extend(module._modules.values())
        for tensors in (module._parameters, module._buffers):
            found.extend((id(t), t.data_ptr(), tensor_version(t)) for t in tensors.values() if t is not None)
    return tuple(found)


def tensor_version(tensor: Tensor) -> int | None:
    """Number of writes in place; None for tensors of inference mode, which do not count them."""
    return None if tensor.is_inference() else tensor._version


def _signature(tensor: Tensor) -> Hashable:
    return tuple(tensor.shape), tensor.dtype, tensor.device


def _arithmetic(device_type: str) -> Hashable:
    """The global settings that change which kernels a function runs."""
    autocast = torch.is_autocast_enabled(device_type)
    return (
        torch.get_autocast_dtype(device_type) if autocast else None,
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
    )
