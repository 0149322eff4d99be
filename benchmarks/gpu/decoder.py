"""The tokenizer's decoder in three arithmetics: time, and how many pixels differ from float32 by more than one level."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.bench import Bench
from nvgbench.config.load import load_preset
from nvgbench.data.images import to_uint8
from nvgbench.runs.models import seeded_tokenizer

_SHARE = 0.999
"""Of the pixels, at most one level from float32's: what sampling allows its decoder."""


def measure(bench: Bench) -> None:
    """Random latents through the decoder; sampling uses TF32 (torch's default for convolutions)."""
    config = load_preset("nvg-tiny" if bench.tiny else "nvg-d16")
    batch = 4 if bench.tiny else 16
    tokenizer: Any = seeded_tokenizer(config, 0).to(bench.device).eval()
    height, width = tokenizer.grid
    generator = torch.Generator().manual_seed(0)
    canvas_BChw = torch.randn(batch, config.tokenizer.latent_channels, height, width, generator=generator).to(bench.device)
    exact_B3HW = _decoded(tokenizer, canvas_BChw, "fp32", False)
    for arithmetic in ("fp32", "tf32", "bf16"):
        for channels_last in (False, True):
            tokenizer.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
            decode = functools.partial(_decoded, tokenizer, canvas_BChw, arithmetic, channels_last)
            change = (decode().int() - exact_B3HW.int()).abs()
            share = float((change <= 1).float().mean())
            seconds = bench.time(decode, repeats=3)
            how = {"batch": batch, "arithmetic": arithmetic, "weights": "channels-last" if channels_last else "contiguous"}
            bench.add("decoder", "rate", "images/s", tuple(batch / s for s in seconds), within_one_level=share, **how)
            if arithmetic == "tf32":
                bench.check("decoder", "pixels within one level of float32", share >= _SHARE, f"{share:.5f}", **how)


@torch.no_grad()
def _decoded(tokenizer: Any, canvas_BChw: Tensor, arithmetic: str, channels_last: bool) -> Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    with (
        torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=arithmetic == "tf32"),
        torch.autocast(canvas_BChw.device.type, torch.bfloat16, enabled=arithmetic == "bf16"),
    ):
        return to_uint8(tokenizer.decode(canvas_BChw.contiguous(memory_format=layout)).float())
