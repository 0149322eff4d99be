"""A picture of a data set: images of every class, with their masks beside them if there are any.

Shape letters: B cells of the grid, H and W pixels.
"""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nvgbench.data.dataset import ImageDataset
from nvgbench.data.images import save_grid
from nvgbench.data.selection import round_robin
from nvgbench.files import StrPath

_MASKS = ("object", "part")
_CELL_PIXELS = 96
_CELLS_PER_ROW = 12
_GOLDEN = 0.61803398875


def save_gallery(dataset: ImageDataset, path: StrPath, count: int) -> Path:
    """Write up to ``count`` images, sorted by class, as one PNG; return its path.

    Small images are enlarged by repeating pixels.

    Raises:
        InputError: an image cannot be read.
    """
    chosen = round_robin(dataset.labels)[:count]
    chosen = chosen[np.argsort(dataset.labels[chosen], kind="stable")]
    cells: list[Tensor] = []
    captions: list[str] = []
    for index in chosen.tolist():
        sample = dataset[index]
        cells.append(sample.image)
        captions.append(dataset.classes[sample.label] if dataset.classes else "")
        for name in _MASKS if sample.masks else ():
            assert sample.masks is not None
            cells.append(colour_mask(sample.masks[name]))
            captions.append(f"{name}s")
    cells_per_image = len(cells) // len(chosen)
    images_per_row = min(_CELLS_PER_ROW // cells_per_image, len(chosen))
    return save_grid(
        torch.stack(cells),
        path,
        columns=images_per_row * cells_per_image,
        captions=captions,
        scale=max(1, _CELL_PIXELS // dataset.image_size),
    )


def colour_mask(mask_HW: np.ndarray) -> Tensor:
    """Integer labels as colours, uint8 ``[3, H, W]``: 0 is dark grey, consecutive labels get distant hues."""
    count = int(mask_HW.max()) + 1
    hues = [colorsys.hsv_to_rgb((i * _GOLDEN) % 1, 0.65 if i % 2 else 0.45, 0.95) for i in range(count)]
    hues[0] = (0.16, 0.16, 0.18)
    palette = (np.array(hues) * 255).round().astype(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(palette[mask_HW].transpose(2, 0, 1)))
