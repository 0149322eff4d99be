"""Perturbed views of an image, and how their structure maps are aligned with those of the image itself.

Shape letters: B batch, C latent channels, h and w the latent grid, H and W pixels, M compared positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

NOISE_LEVELS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Standard deviation of the noise on the features, relative to that of the image's features."""
SHIFT_CELLS = (1, 2)
CROP_CELLS = (1, 2)

Aligned = tuple[Tensor, Tensor]
"""Labels ``[B, M]`` of the first map and of the other at corresponding positions of the image."""


@dataclass(frozen=True, kw_only=True)
class View:
    """One perturbation at one level.

    Attributes:
        perturbation: its name in the table.
        level: its strength: share of the standard deviation, pixels shifted, side of the crop; empty if there is only one.
        image: changes float images ``[B, 3, H, W]``; None if only the features are changed.
        features: changes latents ``[B, C, h, w]``, with a CPU generator for noise.
        align: aligns the maps ``[B, h, w]`` of the image itself and of the view.
    """

    perturbation: str
    level: str = ""
    image: Callable[[Tensor], Tensor] | None = None
    features: Callable[[Tensor, torch.Generator], Tensor] | None = None
    align: Callable[[Tensor, Tensor], Aligned]


def views(grid: tuple[int, int], image_size: int) -> list[View]:
    """The views of the study ``clusters``; shifts and crops too large for the grid are left out."""
    cell = image_size // grid[1]
    found = [_noise(level) for level in NOISE_LEVELS]
    found += [
        View(perturbation="bf16", features=lambda latent, _: latent.to(torch.bfloat16).to(latent.dtype), align=same_place)
    ]
    found += [View(perturbation="flip", image=lambda images: images.flip(-1), align=_align_flipped)]
    found += [_shift(cells, cell) for cells in SHIFT_CELLS if cells < grid[1]]
    found += [_crop(cells, grid, cell) for cells in CROP_CELLS if 2 * cells < min(grid)]
    return found


def same_place(base_Bhw: Tensor, view_Bhw: Tensor) -> Aligned:
    """Maps of the same frame: every position."""
    return base_Bhw.flatten(1), view_Bhw.flatten(1)


def _align_flipped(base_Bhw: Tensor, view_Bhw: Tensor) -> Aligned:
    return same_place(base_Bhw, view_Bhw.flip(-1))


def _noise(level: float) -> View:
    def add(latent_BChw: Tensor, rng: torch.Generator) -> Tensor:
        noise_BChw = torch.randn(latent_BChw.shape, generator=rng).to(latent_BChw)
        return latent_BChw + level * latent_BChw.std((1, 2, 3), keepdim=True) * noise_BChw

    return View(perturbation="noise", level=f"{level:g}", features=add, align=same_place)


def _shift(cells: int, cell: int) -> View:
    """The image shifts right by whole cells; the new edge repeats the first column and is not compared."""

    def move(images_B3HW: Tensor) -> Tensor:
        pixels = cells * cell
        return F.pad(images_B3HW, (pixels, 0, 0, 0), mode="replicate")[..., : images_B3HW.shape[-1]]

    def align(base_Bhw: Tensor, view_Bhw: Tensor) -> Aligned:
        return same_place(base_Bhw[..., :-cells], view_Bhw[..., cells:])

    return View(perturbation="shift", level=f"{cells * cell} px", image=move, align=align)


def _crop(cells: int, grid: tuple[int, int], cell: int) -> View:
    """The inner part is enlarged to full size; each of its cells is compared with the first map's cell at its centre."""

    def enlarge(images_B3HW: Tensor) -> Tensor:
        pixels = cells * cell
        inner = images_B3HW[..., pixels:-pixels, pixels:-pixels]
        return F.interpolate(inner, images_B3HW.shape[-2:], mode="bicubic", align_corners=False, antialias=True).clamp(-1, 1)

    def align(base_Bhw: Tensor, view_Bhw: Tensor) -> Aligned:
        below = [cells + ((torch.arange(n, device=base_Bhw.device) + 0.5) * (n - 2 * cells) / n).long() for n in grid]
        return same_place(base_Bhw[:, below[0]][:, :, below[1]], view_Bhw)

    return View(perturbation="crop", level=f"{(grid[1] - 2 * cells) * cell} px", image=enlarge, align=align)
