"""Where and in what precision numbers are recomputed, and how near to the original's they can be expected to come.

* ``float32``: as the originals were run. TF32 is switched off on CUDA.
* ``float64``: everything that the code asks to be float32 is made float64, weights included.
* ``bf16``, ``fp16``: float32 weights with matrix products and convolutions under autocast, as the package trains and
  samples in half precision. Quantizers, clusterings and splits stay in float32, as they always do.
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
# Limits of |ours - reference| / max |reference|; measured on a CPU with the shipped fixtures: 0.096 and 0.012.
_HALF_TOLERANCE = {"bf16": 0.15, "fp16": 0.02}
# Kernels of other devices add in another order: four times the CPU's allowance (reasoned, not measured).
_DEVICE_FACTOR = 4.0

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Arithmetic:
    """A device and a precision.

    Attributes:
        device: where tensors are.
        dtype: see the module's docstring.

    Raises:
        InputError: an unknown precision.
    """

    device: torch.device
    dtype: Dtype = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in get_args(Dtype):
            known = get_args(Dtype)
            raise InputError(f"--dtype {self.dtype!r} is unknown; use {', '.join(known)}{did_you_mean(self.dtype, known)}")

    @property
    def low(self) -> bool:
        """Whether rounding may change what an argmax or a split gives."""
        return self.dtype in _HALF

    def tolerance(self, cpu_float32: float) -> float:
        """The limit here, where ``cpu_float32`` is the family's for float32 on a CPU.

        float64 keeps that limit: what it differs from is the original's own rounding.
        """
        if self.low:
            return _HALF_TOLERANCE[self.dtype]
        return cpu_float32 * (1.0 if self.device.type == "cpu" else _DEVICE_FACTOR)

    def tensor(self, array: np.ndarray) -> Tensor:
        """An array as a tensor here: integers as int64, floats in the precision of the weights."""
        if np.issubdtype(array.dtype, np.floating):
            return torch.from_numpy(array.astype(np.float64 if self.dtype == "float64" else np.float32)).to(self.device)
        return torch.from_numpy(array.astype(np.int64)).to(self.device)

    def place(self, module: Module) -> Module:
        """The module here, in evaluation mode."""
        return module.to(self.device, torch.float64 if self.dtype == "float64" else torch.float32).eval()

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Compute so inside the block."""
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
    """Turns every request for float32 into one for float64, so that code which asks for float32 by name runs in double."""

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
