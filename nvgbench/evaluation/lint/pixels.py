"""Statistics of the pixels of a set, gathered chunk by chunk.

Shape letters: N images, M images examined closely, G grids, B a chunk, H and W pixels, n blocks, P pixels of a
block, F frequencies.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvgbench.data.image_set import ImageSet

BLOCK = 8
"""Side of JPEG's blocks, pixels."""
GRIDS = ((0, 0), (4, 4), (0, 4), (4, 0), (3, 5), (6, 2))
"""Offsets (top, left) of the grids of blocks: JPEG's own, and others to compare it with."""
MOST = 1000
"""At most this many images are examined closely, evenly spread; all are checked for duplicates."""
_CHUNK = 250
_ZERO, _SMALL, _BUSY = 1.0, 3.0, 400.0
"""Magnitudes of coefficients of the cosine transform, in levels, and the energy above which a block has texture."""


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """Statistics of a set.

    Attributes:
        hashes_N: uint64, equal for equal images.
        one_colour: number of images of a single colour.
        histogram_256: int64, count of each value in the M images examined closely.
        zeros_MG: float32, for each of these and each of `GRIDS`, the share of coefficients below 1 among those below 3 in the
            cosine transforms of the textured blocks; NaN if there are none. Quantization empties the range between zero and
            the first multiple, in the grid that was used and in no other (after Fan and de Queiroz 2003, who use the same
            gaps in the histograms of coefficients).
    """

    hashes_N: NDArray[np.uint64]
    one_colour: int
    histogram_256: NDArray[np.int64]
    zeros_MG: NDArray[np.float32]

    @property
    def spread(self) -> tuple[int, int]:
        """The values below and above which 0.1 % of all values lie."""
        cumulated = np.cumsum(self.histogram_256) / self.histogram_256.sum()
        return int(np.searchsorted(cumulated, 0.001)), int(np.searchsorted(cumulated, 0.999))


def set_statistics(images: ImageSet, progress: Callable[[int, int], None] | None = None) -> Pixels:
    """Read a set once, in order, and gather its statistics."""
    parts, done = [], 0
    for chunk in images.read(_CHUNK):
        parts.append(chunk_statistics(chunk, stride(images.count), done))
        done += len(chunk)
        if progress is not None:
            progress(done, images.count)
    return join(parts)


def stride(count: int) -> int:
    """The step with which at most `MOST` of ``count`` images are examined closely."""
    return max(1, -(-count // MOST))


def chunk_statistics(images_B3HW: Tensor, step: int = 1, first: int = 0) -> Pixels:
    """The statistics of a chunk.

    Args:
        images_B3HW: uint8.
        step: images whose index is divisible by it are examined closely.
        first: index of the chunk's first image.
    """
    hashes, one_colour, zeros = [], 0, []
    histogram_256 = np.zeros(256, dtype=np.int64)
    for number, image_3HW in enumerate(images_B3HW.cpu().contiguous(), start=first):
        pixels_3HW = image_3HW.numpy()
        hashes.append(hashlib.blake2b(pixels_3HW.data, digest_size=8).digest())
        one_colour += bool((pixels_3HW == pixels_3HW[:, :1, :1]).all())
        if number % step == 0:
            histogram_256 += np.bincount(pixels_3HW.ravel(), minlength=256)
            zeros.append(_zeros(image_3HW))
    return Pixels(
        hashes_N=np.frombuffer(b"".join(hashes), dtype=np.uint64),
        one_colour=one_colour,
        histogram_256=histogram_256,
        zeros_MG=torch.stack(zeros).numpy() if zeros else np.zeros((0, len(GRIDS)), dtype=np.float32),
    )


def join(parts: Sequence[Pixels]) -> Pixels:
    """The statistics of several chunks, joined in order."""
    return Pixels(
        hashes_N=np.concatenate([part.hashes_N for part in parts]),
        one_colour=sum(part.one_colour for part in parts),
        histogram_256=np.sum([part.histogram_256 for part in parts], axis=0),
        zeros_MG=np.concatenate([part.zeros_MG for part in parts]),
    )


def _zeros(image_3HW: Tensor) -> Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)  # JPEG's luma (ITU-R BT.601)
    luma_HW = (image_3HW.float() * weights).sum(dim=0)
    return torch.stack([_small_share(luma_HW[top:, left:]) for top, left in GRIDS])


def _small_share(luma_HW: Tensor) -> Tensor:
    """Share of the coefficients below `_SMALL` that are below `_ZERO`, in the textured blocks; NaN without any."""
    if min(luma_HW.shape) < BLOCK:
        return torch.tensor(torch.nan)
    blocks_nP = luma_HW.unfold(0, BLOCK, BLOCK).unfold(1, BLOCK, BLOCK).reshape(-1, BLOCK * BLOCK)
    size_nF = (blocks_nP @ _cosines()).abs()
    size_nF = size_nF[size_nF.square().sum(dim=1) > _BUSY]
    return (size_nF < _ZERO).sum() / (size_nF < _SMALL).sum()


@functools.cache
def _cosines() -> Tensor:
    """The orthonormal cosine transform of 8 x 8 pixels without the mean, float32 ``[64, 63]``: one product for all blocks."""
    place = torch.arange(BLOCK, dtype=torch.float64)
    matrix_88 = torch.cos(torch.pi * (place + 0.5) * place[:, None] / BLOCK) * (2 / BLOCK) ** 0.5
    matrix_88[0] /= 2**0.5
    return torch.kron(matrix_88, matrix_88).T[:, 1:].float()
