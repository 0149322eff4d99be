"""Frozen DINO ViT-S/16 features for the discriminator (Caron et al., 2021; Sauer et al., 2023; VAR's recipe).

Modules are named as in the published checkpoint, so that it loads unchanged.

Shape letters: B batch, L patches, C channels (384), H and W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvgbench.weights.downloads import Pretrained

DINO = Pretrained(
    url="https://dl.fbaipublicfiles.com/dino/dino_deitsmall16_pretrain/dino_deitsmall16_pretrain.pth",
    what="the DINO discriminator",
    without="tokenizer.losses.adversarial=patch",
)
CHANNELS = 384
LEVELS = (2, 5, 8, 11)
"""Blocks whose outputs are used."""


class _Attention(nn.Module):
    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x_BLC: Tensor) -> Tensor:
        query, key, value = self.qkv(x_BLC).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, x_BLC: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x_BLC)))


class _Block(nn.Module):
    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = _Attention(channels, heads)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = _Mlp(channels)

    def forward(self, x_BLC: Tensor) -> Tensor:
        x_BLC = x_BLC + self.attn(self.norm1(x_BLC))
        return x_BLC + self.mlp(self.norm2(x_BLC))


class _PatchEmbedding(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, 16, stride=16)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        return self.proj(images_B3HW).flatten(2).transpose(1, 2)


class DinoFeatures(nn.Module):
    """Images in [-1, 1] of any size to the patch features after the blocks `LEVELS`, ``[B, 196, 384]`` each.

    Images are resized to 224 pixels, the size that the network was trained on. Frozen, but gradients pass to the images.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, CHANNELS))
        self.pos_embed = nn.Parameter(torch.zeros(1, 197, CHANNELS))
        self.patch_embed = _PatchEmbedding(CHANNELS)
        self.blocks = nn.ModuleList(_Block(CHANNELS, heads=6) for _ in range(12))
        self.norm = nn.LayerNorm(CHANNELS, eps=1e-6)
        self.mean: Tensor
        self.std: Tensor
        # ImageNet's statistics, for images in [-1, 1].
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1) * 2 - 1, persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1) * 2, persistent=False)
        self.requires_grad_(False)

    def forward(self, images_B3HW: Tensor) -> list[Tensor]:
        images_B3HW = F.interpolate(images_B3HW, size=(224, 224), mode="bilinear", antialias=True)
        x_BLC = self.patch_embed((images_B3HW - self.mean) / self.std)
        x_BLC = torch.cat((self.cls_token.expand(len(x_BLC), -1, -1), x_BLC), dim=1) + self.pos_embed
        features = []
        for index, block in enumerate(self.blocks):
            x_BLC = block(x_BLC)
            if index in LEVELS:
                features.append(x_BLC[:, 1:])
        return features


def load_dino() -> tuple[DinoFeatures, str]:
    """The frozen network with its published weights, and a line about them for the record.

    Raises:
        InputError: the weights are not available.
    """
    file = DINO.fetch()
    network = DinoFeatures()
    digest = DINO.load(network, file)
    return network.eval(), f"DINO ViT-S/16 features (SHA-256 {digest}…)"
