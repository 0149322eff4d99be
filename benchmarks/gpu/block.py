"""NVG's block by itself: ways to compute its output layer and to compile it, for work on the samplers and on training."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.ceilings import matmul_peak
from nvgbench.config.load import load_preset
from nvgbench.nvg import arithmetic
from nvgbench.nvg.arithmetic import BlockWeights, modulated_norm, single_stream
from nvgbench.nvg.rope import Rotation
from nvgbench.runs.models import untrained_generator

_MODES = ("default", "max-autotune-no-cudagraphs")


@torch.no_grad()
def measure(bench: Bench) -> None:
    """Latency and share of the product's peak in a flow step: both branches of one image, and of 64."""
    preset, dtype = ("nvg-tiny", torch.float32) if bench.tiny else ("nvg-d16", torch.bfloat16)
    peak = matmul_peak(bench, dtype)
    generator: Any = untrained_generator(load_preset(preset), 1000, seed=0, device=bench.device)
    structure = generator.generator.structure
    block = structure.blocks[0]
    linears = (block.linear_in.weight, block.linear_in.bias, block.linear_out.weight, block.linear_out.bias)
    weights = BlockWeights(*(value.to(dtype) for value in linears), block.query_scale, block.key_scale)
    width = weights.out_weight.shape[0]
    for rows in (2,) if bench.tiny else (2, 128):
        se_BLK = torch.ones(rows, structure.layout.positions, structure.layout.channels, device=bench.device)
        rotation: Rotation = structure.rope(se_BLK)
        tokens = 1 + 2 * structure.layout.positions
        x_BNW = torch.randn(rows, tokens, width, device=bench.device).to(dtype)
        vectors_B3W = torch.randn(rows, 3, width, device=bench.device).to(dtype)
        expected = single_stream(x_BNW, vectors_B3W, rotation, weights).float()
        for name, function in {"one product": single_stream, "two products": _two_products}.items():
            for mode in ("eager",) if bench.tiny else ("eager", *_MODES):
                call = functools.partial(_made(function, mode), x_BNW, vectors_B3W, rotation, weights)
                apart = float((call().float() - expected).abs().max() / expected.abs().max())
                seconds = bench.time(call)
                how = {"rows": rows, "output": name, "compile": mode, "relative_difference": apart}
                bench.add("block", "latency", "s", seconds, **how)
                shares = tuple(_flops(weights, rows, tokens) / s / peak for s in seconds)
                bench.add("block", "MFU", "of the product's peak", shares, higher_is_better=True, **how)


def _made(function: Callable[..., Tensor], mode: str) -> Callable[..., Tensor]:
    return function if mode == "eager" else torch.compile(function, fullgraph=True, dynamic=False, mode=mode)


def _two_products(x_BNW: Tensor, vectors_B3W: Tensor, rotation: Rotation, weights: BlockWeights) -> Tensor:
    """`single_stream` without the concatenation of attention and MLP: each has a product of its own with the output layer."""
    shift_B1W, scale_B1W, gate_B1W = vectors_B3W.split(1, dim=1)
    normed_BNW = modulated_norm(x_BNW, shift_B1W, scale_B1W).to(weights.in_weight.dtype)
    query, key, value, mlp = arithmetic._project(normed_BNW, weights, None)
    attended_BNW = arithmetic._attend(query, key, value, rotation, weights, None)
    width = x_BNW.shape[-1]
    first = F.linear(attended_BNW, weights.out_weight[:, :width], weights.out_bias)
    return x_BNW + gate_B1W * (first + F.linear(F.gelu(mlp, approximate="tanh"), weights.out_weight[:, width:]))


def _flops(weights: BlockWeights, rows: int, tokens: int) -> int:
    """Of the linear layers and of attention, 2 x multiply-accumulates."""
    width = weights.out_weight.shape[0]
    return 2 * rows * tokens * (weights.in_weight.numel() + weights.out_weight.numel() + 2 * tokens * width)
