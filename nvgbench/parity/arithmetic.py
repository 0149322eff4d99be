"""Device and precision in which golden numbers are recomputed, and the tolerances that follow.

* ``float32``: like the originals. TF32 is off on CUDA.
* ``float64``: whatever the code casts to float32 is float64 instead, weights included.
* ``bf16``, ``fp16``: float32 weights, with matrix products and convolutions under autocast, as in training. Quantizers,
  clusterings and splits stay in float32, as always.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nvgbench.errors import InputError, did_you_mean
from nvgbench.parity.dtypes import Dtype

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Limits of |ours - reference| / max |reference|. Measured on a CPU with the shipped fixtures: 0.096 and 0.012.
_HALF_TOLERANCE = {"bf16": 0.15, "fp16": 0.02}
# Kernels of other devices sum in another order: four times the CPU's tolerance (reasoned, not measured).
_DEVICE_FACTOR = 4.0

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Arithmetic:
    """A device and a precision.

    Attributes:
        device: of all tensors.
        dtype: see the module's docstring.

    Raises:
        InputError: an unknown precision.
    """

    device: torch.device
    dtype: Dtype = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in get_args(Dtype):
            known = get_args(Dtype)
            raise InputError(f"`dtype={self.dtype!r}` is unknown{did_you_mean(self.dtype, known)}; use {', '.join(known)}")

    @property
    def low(self) -> bool:
        """Whether rounding may change the result of an argmax or a split."""
        return self.dtype in _HALF

    def tolerance(self, cpu_float32: float) -> float:
        """The tolerance here, from the family's for float32 on a CPU.

        float64 has the same: the remaining difference is the original's own rounding.
        """
        if self.low:
            return _HALF_TOLERANCE[self.dtype]
        return cpu_float32 * (1.0 if self.device.type == "cpu" else _DEVICE_FACTOR)

    def tensor(self, array: np.ndarray) -> Tensor:
        """An array as a tensor on the device: integers as int64, floats in the precision of the weights."""
        if np.issubdtype(array.dtype, np.floating):
            return torch.from_numpy(array.astype(np.float64 if self.dtype == "float64" else np.float32)).to(self.device)
        return torch.from_numpy(array.astype(np.int64)).to(self.device)

    def place(self, module: Module) -> Module:
        """The module on the device, in the precision of the weights and in evaluation mode."""
        return module.to(self.device, torch.float64 if self.dtype == "float64" else torch.float32).eval()

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Apply the precision within the block."""
        before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.get_default_dtype()
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        try:
            with contextlib.ExitStack() as stack:
                if self.low:
                    stack.enter_context(torch.autocast(self.device.type, dtype=_HALF[self.dtype]))
                if self.dtype == "float64":
                    torch.set_default_dtype(torch.float64)
                    stack.enter_context(_Lifted())
                yield
        finally:
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before[:2]
            torch.set_default_dtype(before[2])


class _Lifted(TorchFunctionMode):
    """Replaces float32 by float64 in every call, so that code with explicit casts to float32 runs in double precision."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.Tensor.float:
            return args[0].double()
        lifted = [torch.float64 if value is torch.float32 else value for value in args]
        options = {key: torch.float64 if value is torch.float32 else value for key, value in (kwargs or {}).items()}
        return func(*lifted, **options)
