"""Parts of both generators: single-stream blocks (attention and MLP in parallel), modulation, heads, embeddings.

Shape letters: B batch (a sample is one image at one stage), N tokens, W width, H heads, D head size.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvgbench.nvg.config import NvgModelConfig
from nvgbench.nvg.rope import Rotation

EPSILON = 1e-6
TIME_CHANNELS = 64


class Modulation(nn.Module):
    """Shift, scale (and gate) of a layer from the conditioning vector; computed per sample, not per token."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.linear = nn.Linear(width, parts * width)

    def forward(self, condition_BW: Tensor) -> tuple[Tensor, ...]:
        """``parts`` tensors ``[B, 1, W]``, in the order shift, scale, gate."""
        return self.linear(F.silu(condition_BW)).unsqueeze(1).chunk(self.parts, dim=-1)


def modulated_norm(x_BNW: Tensor, shift_B1W: Tensor, scale_B1W: Tensor) -> Tensor:
    """Layer norm without weights, then scale and shift."""
    return torch.addcmul(shift_B1W, F.layer_norm(x_BNW, x_BNW.shape[-1:], eps=EPSILON), 1 + scale_B1W)


class SingleStreamBlock(nn.Module):
    """Attention and MLP in parallel: one input projection, one gated output projection.

    Args:
        width: W, heads · head size.
        heads: H.
        mlp_ratio: hidden size of the MLP, as a multiple of W.
        drop_path: probability that a sample skips the block in training; the others are scaled up.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: int, drop_path: float) -> None:
        super().__init__()
        self.width, self.heads, self.drop_path = width, heads, drop_path
        self.modulation = Modulation(width, 3)
        # Rows in the order q, k, v (each heads x head size), MLP.
        self.linear_in = nn.Linear(width, (3 + mlp_ratio) * width)
        self.linear_out = nn.Linear((1 + mlp_ratio) * width, width)
        self.query_scale = nn.Parameter(torch.ones(width // heads))
        self.key_scale = nn.Parameter(torch.ones(width // heads))

    def forward(self, x_BNW: Tensor, condition_BW: Tensor, rotation: Rotation, last: int | None = None) -> Tensor:
        """One block.

        Args:
            x_BNW: tokens.
            condition_BW: sum of class, stage (and time) embeddings.
            rotation: rotary embedding of the N tokens.
            last: compute only the last ``last`` tokens (they attend to all N), for a last block whose other tokens are unused.

        Returns:
            ``[B, N, W]``, or ``[B, last, W]``.
        """
        shift, scale, gate = self.modulation(condition_BW)
        query, key, value, mlp = self._project(modulated_norm(x_BNW, shift, scale), last)
        if last is not None:
            x_BNW = x_BNW[:, -last:]
        attended = self._attend(query, key, value, rotation, last)
        out_BNW = self.linear_out(torch.cat((attended, F.gelu(mlp, approximate="tanh")), dim=-1))
        return x_BNW + self._drop(gate * out_BNW)

    def _project(self, x_BNW: Tensor, last: int | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        width = self.width
        if last is None:
            query, key, value, mlp = self.linear_in(x_BNW).split(
                (width, width, width, self.linear_in.out_features - 3 * width), -1
            )
            return query, key, value, mlp
        weight, bias = self.linear_in.weight, self.linear_in.bias
        key, value = F.linear(x_BNW, weight[width : 3 * width], bias[width : 3 * width]).chunk(2, dim=-1)
        kept_BNW = x_BNW[:, -last:]
        query = F.linear(kept_BNW, weight[:width], bias[:width])
        return query, key, value, F.linear(kept_BNW, weight[3 * width :], bias[3 * width :])

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, rotation: Rotation, last: int | None) -> Tensor:
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value))
        query = rotation.of_last(last).apply(_rms_norm(query, self.query_scale)).to(value.dtype)
        key = rotation.apply(_rms_norm(key, self.key_scale)).to(value.dtype)
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)

    def _drop(self, update_BNW: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0:
            return update_BNW
        keep = 1 - self.drop_path
        mask_B11 = torch.rand(len(update_BNW), 1, 1, device=update_BNW.device) < keep
        return update_BNW * (mask_B11.to(update_BNW.dtype) / keep)


def _rms_norm(x_BHND: Tensor, scale_D: Tensor) -> Tensor:
    """In float32: a half-precision mean of squares would blur the rotation's angles."""
    return F.rms_norm(x_BHND.float(), x_BHND.shape[-1:], scale_D.float(), eps=EPSILON)


class ModulatedHead(nn.Module):
    """Modulated layer norm and a linear layer: the output layer of both generators."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.modulation = Modulation(width, 2)
        self.linear = nn.Linear(width, channels)

    def forward(self, x_BNW: Tensor, condition_BW: Tensor) -> Tensor:
        shift, scale = self.modulation(condition_BW)
        return self.linear(modulated_norm(x_BNW, shift, scale))


def timestep_embedding(t_B: Tensor, channels: int = TIME_CHANNELS) -> Tensor:
    """Cosines, then sines, of 1000 t at frequencies from 1 to 1/10000; float32 ``[B, channels]``."""
    half = channels // 2
    frequency = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32, device=t_B.device) / half)
    angle = 1000.0 * t_B.float()[:, None] * frequency
    return torch.cat((angle.cos(), angle.sin()), dim=-1)


class TimeEmbedding(nn.Module):
    """Two linear layers on the sinusoidal embedding of the flow time (0 data, 1 noise)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_in = nn.Linear(TIME_CHANNELS, width)
        self.linear_out = nn.Linear(width, width)

    def forward(self, t_B: Tensor) -> Tensor:
        return self.linear_out(F.silu(self.linear_in(timestep_embedding(t_B))))


def make_blocks(config: NvgModelConfig, width: int) -> nn.ModuleList:
    """The blocks of a transformer; the drop-path rate rises linearly from 0 to the configured one."""
    rates = [config.drop_path_rate * block / max(config.depth - 1, 1) for block in range(config.depth)]
    heads = width // config.head_size
    return nn.ModuleList(SingleStreamBlock(width, heads, config.mlp_ratio, rate) for rate in rates)


def initialise(module: nn.Module) -> None:
    """The reference's initialisation: Xavier for linear layers (also the modulation), biases 0, embeddings N(0, 0.02²)."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=0.02)
