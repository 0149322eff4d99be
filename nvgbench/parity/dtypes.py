"""Names of the precisions of `nvgbench.parity.arithmetic`. No torch, so that the command line can list them."""

from __future__ import annotations

from typing import Literal

Dtype = Literal["float32", "float64", "bf16", "fp16"]
