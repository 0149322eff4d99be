"""Changes of images that are known to move scores, each with the mistake that it undoes, repeats or imitates.

Shape letters: B images, H and W pixels.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nvgbench.data.image_set import ImageSet
from nvgbench.evaluation.lint.pixels import Pixels

Change = Callable[[Tensor], Tensor]
"""uint8 images ``[B, 3, H, W]`` to others of the same shape."""

Side = Literal["samples", "reference"]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One side's images changed; the other side stays.

    Attributes:
        name: what is done.
        cause: the mistake it speaks for.
        side: whose images are changed. What cannot be undone in the samples, such as compression, is done to the reference
            as well: if the samples suffered from it, both sides are alike again.
        change: the change of pixels.
        speaks: whether a better score is evidence for the mistake. It is not for changes that only show how much a mistake
            would move the score.
    """

    name: str
    cause: str
    side: Side
    change: Change = lambda images: images
    speaks: bool = True


def variants(samples: Pixels, reference: Pixels | None) -> tuple[Variant, ...]:
    """The changes that are tried, the cheapest mistakes first.

    Args:
        samples, reference: statistics of both sets' pixels, for the range of values; None if there are no reference images.
    """
    found = [
        Variant(name="red and blue swapped", cause="channel order", side="samples", change=swap_channels),
        Variant(name="half a level brighter", cause="rounding", side="samples", change=lambda x: shift_half(x, 1)),
        Variant(name="half a level darker", cause="rounding", side="samples", change=lambda x: shift_half(x, -1)),
        Variant(name="16..235 stretched to 0..255", cause="range", side="samples", change=lambda x: linear(x, 16, 235, 0, 255)),
        Variant(name="0..255 squeezed to 16..235", cause="range", side="samples", change=lambda x: linear(x, 0, 255, 16, 235)),
        Variant(name="halved and enlarged, bilinear", cause="resize", side="samples", change=halve),
        Variant(name="sharpened", cause="resize", side="samples", change=sharpen),
        Variant(name="JPEG 75", cause="JPEG", side="samples", change=lambda x: jpeg(x, 75), speaks=False),
        Variant(name="JPEG 95", cause="JPEG", side="samples", change=lambda x: jpeg(x, 95), speaks=False),
    ]
    if reference is None:
        return tuple(found)
    ends = samples.spread, reference.spread
    if ends[0][0] < ends[0][1] and ends[0] != ends[1]:
        found.append(
            Variant(
                name="range of values stretched to the reference's",
                cause="range",
                side="samples",
                change=lambda x: linear(x, *ends[0], *ends[1]),
            )
        )
    found += [
        Variant(name="halved and enlarged, bilinear", cause="resize", side="reference", change=halve),
        Variant(name="halved and enlarged, nearest", cause="resize", side="reference", change=lambda x: halve(x, "nearest")),
        Variant(name="halved without antialiasing", cause="resize", side="reference", change=lambda x: halve(x, sharp=True)),
        Variant(name="reduced to 3/4 and enlarged, bicubic", cause="resize", side="reference", change=soften),
        Variant(name="sharpened", cause="resize", side="reference", change=sharpen),
        Variant(name="JPEG 75", cause="JPEG", side="reference", change=lambda x: jpeg(x, 75)),
        Variant(name="JPEG 95", cause="JPEG", side="reference", change=lambda x: jpeg(x, 95)),
    ]
    return tuple(found)


def changed(images: ImageSet, change: Change) -> ImageSet:
    """A set with the pixels of all images changed."""

    def stream(size: int) -> Iterator[Tensor]:
        return map(change, images.read(size))

    return dataclasses.replace(images, load=lambda indices: change(images.load(indices)), stream=stream, keys={})


def some_of(images: ImageSet, most: int) -> ImageSet:
    """At most ``most`` of the images, evenly spread over the set."""
    if images.count <= most:
        return images
    chosen = spread(images.count, most)

    def load(indices: Sequence[int]) -> Tensor:
        return images.load(chosen[np.asarray(indices)].tolist())

    labels_N = None if images.labels_N is None else images.labels_N[chosen]
    return dataclasses.replace(images, count=most, load=load, stream=None, labels_N=labels_N, keys={})


def spread(count: int, most: int) -> NDArray[np.int64]:
    """At most ``most`` of ``count`` indices, ascending and evenly spread."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def swap_channels(images_B3HW: Tensor) -> Tensor:
    """RGB to BGR and back."""
    return images_B3HW.flip(1)


def shift_half(images_B3HW: Tensor, sign: Literal[-1, 1]) -> Tensor:
    """Half a level up or down on average: a fixed random half of the pixels moves by a whole level, as uint8 has no halves.

    Undoes truncation where rounding was meant (up), or ``127.5 x + 128`` followed by rounding (down).
    """
    moved = torch.rand(images_B3HW.shape[1:], generator=torch.Generator().manual_seed(0)) < 0.5
    return (images_B3HW.short() + sign * moved).clamp(0, 255).to(torch.uint8)


def linear(images_B3HW: Tensor, low: float, high: float, new_low: float, new_high: float) -> Tensor:
    """Values mapped linearly so that ``low`` and ``high`` become ``new_low`` and ``new_high``."""
    return _uint8((images_B3HW.float() - low) * ((new_high - new_low) / (high - low)) + new_low)


def jpeg(images_B3HW: Tensor, quality: int) -> Tensor:
    """Compressed and decompressed by Pillow with its default chroma subsampling."""
    found = []
    for pixels_HW3 in images_B3HW.permute(0, 2, 3, 1).cpu().numpy():
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels_HW3)).save(file, format="JPEG", quality=quality)
        found.append(np.asarray(Image.open(file)))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).contiguous()


def halve(images_B3HW: Tensor, mode: str = "bilinear", *, sharp: bool = False) -> Tensor:
    """Reduced to half the side, ``sharp``: without antialiasing, and enlarged again."""
    return _through(images_B3HW, images_B3HW.shape[-1] // 2, mode, antialias=not sharp)


def soften(images_B3HW: Tensor) -> Tensor:
    """Reduced to three quarters of the side and enlarged again, bicubic with antialiasing."""
    return _through(images_B3HW, 3 * images_B3HW.shape[-1] // 4, "bicubic", antialias=True)


def sharpen(images_B3HW: Tensor) -> Tensor:
    """The opposite of `soften` to first order: what that takes away is added once more."""
    images = images_B3HW.float()
    return _uint8(2 * images - soften(images_B3HW).float())


def _through(images_B3HW: Tensor, side: int, mode: str, *, antialias: bool) -> Tensor:
    full = images_B3HW.shape[-2:]
    more = {} if mode == "nearest" else {"antialias": antialias}
    small = F.interpolate(images_B3HW.float(), size=(max(side, 1),) * 2, mode=mode, **more)
    return _uint8(F.interpolate(small, size=full, mode=mode))


def _uint8(images: Tensor) -> Tensor:
    return images.round().clamp(0, 255).to(torch.uint8)
