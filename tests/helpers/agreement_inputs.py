"""What both sides of an agreement are given: two sets of images, and an Inception file with random weights.

A network with freshly drawn weights and untouched batch statistics fades out layer by layer. Here the statistics are measured
on a few images, so that features have the scale of a trained network's and scores are far from rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from nvgbench.data.source import open_dataset

SIDE = 32


def image_pair(count: int) -> tuple[Tensor, Tensor]:
    """Samples and reference, uint8 ``[N, 3, 32, 32]``: training shapes under noise of many strengths, and held-out shapes."""
    clean, reference = (
        open_dataset("shapes", image_size=SIDE, split=split, limit=count).images(np.arange(count))
        for split in ("train", "eval")
    )
    rng = torch.Generator().manual_seed(0)
    strength = 70 * torch.rand(count, 1, 1, 1, generator=rng) ** 2
    noisy = clean + strength * torch.randn(clean.shape, generator=rng)
    return noisy.round().clamp(0, 255).to(torch.uint8), reference


def write_random_inception(path: Path, images_N3HW: Tensor) -> None:
    """A state dict as torch-fidelity's and clean-fid's files hold it, batch statistics measured on ``images_N3HW``."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.manual_seed(0)
    torch.save({}, path)
    with patch.object(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None):
        network = FeatureExtractorInceptionV3("x", ["logits_unbiased"], feature_extractor_weights_path=str(path))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            # Filters that see no mean keep one direction (brightness) from swallowing the rest.
            module.weight.data -= module.weight.data.mean(dim=(1, 2, 3), keepdim=True)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        network(images_N3HW)
        network.eval()
        # Logits that tell images apart: a score of 1 would agree with anything.
        (logits,) = network(images_N3HW)
        network.fc.weight *= 2 / (logits - logits.mean(dim=0)).std()
    torch.save(network.state_dict(), path)


def write_scripted_inception(state: Path, path: Path) -> None:
    """A state dict's weights as a TorchScript file with what clean-fid calls: ``layers``, and a forward that resizes."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    network = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(state))
    layers = torch.jit.trace(_Trunk(network), torch.zeros(1, 3, 299, 299), check_trace=False)
    torch.jit.save(torch.jit.script(_Resizing(layers)), path)


class _Trunk(nn.Module):
    """Normalised images of 299 px to the pooled features."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        children = dict(network.named_children())
        self.steps = nn.Sequential(*(module for name, module in children.items() if name != "fc"))

    def forward(self, x: Tensor) -> Tensor:
        return self.steps(x)


class _Resizing(nn.Module):
    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        # TF1's bilinear resize: pixel i of the result lies at i · scale of the source.
        across = torch.arange(299, device=x.device) * (x.shape[3] / 299)
        down = torch.arange(299, device=x.device) * (x.shape[2] / 299)
        grid_y, grid_x = torch.meshgrid((2 * down + 1) / x.shape[2] - 1, (2 * across + 1) / x.shape[3] - 1, indexing="ij")
        grid = torch.stack([grid_x, grid_y], dim=2).expand(x.shape[0], -1, -1, -1)
        resized = torch.nn.functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return self.layers((resized - 128) / 128)


class Pictures(torch.utils.data.Dataset):
    """A tensor as torch-fidelity takes its inputs: one bare uint8 image an item."""

    def __init__(self, images_N3HW: Tensor) -> None:
        self.images = images_N3HW

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.images)
