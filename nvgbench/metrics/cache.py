"""Features on disk, keyed by what they were computed from, so that nothing is computed twice and nothing stale is used.

A chunk's file name is the SHA-256 of its images (shape and bytes); its folder is the extractor's fingerprint, which covers
weights, preprocessing and code. An extraction that was cut short goes on at the first chunk that is missing.
"""

from __future__ import annotations

import hashlib
import logging
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.files import whole_file
from nvgbench.protocols import FeatureExtractor

CHUNK = 500
"""Images a file; what is lost when an extraction is interrupted is at most so many."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Features:
    """What an extractor made of N images: ``features_ND``, ``logits_NK`` (float32) and the SHA-256 of the images."""

    features_ND: NDArray[np.float32]
    logits_NK: NDArray[np.float32]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.features_ND)


class FeatureCache:
    """Extracts through a folder of chunks; ``folder=None`` keeps nothing."""

    def __init__(self, folder: Path | None, *, batch_size: int = 64) -> None:
        self.folder = folder
        self.batch_size = batch_size

    def extract(
        self,
        chunks: Iterable[Tensor],
        extractor: FeatureExtractor,
        progress: Callable[[int], None] | None = None,
    ) -> Features:
        """Features of all images.

        Args:
            chunks: uint8 ``[b, 3, H, W]``; one file each, so use `CHUNK` images for the files to be found again.
            extractor: what computes them.
            progress: called with the number of images done after each chunk.

        Raises:
            InputError: no images.
            OSError: the cache cannot be written to.
        """
        features, logits, digest, done = [], [], hashlib.sha256(), 0
        for images in chunks:
            key = content_key(images)
            digest.update(key.encode())
            found = self._chunk(images, key, extractor)
            features.append(found[0])
            logits.append(found[1])
            done += len(images)
            if progress is not None:
                progress(done)
        if not features:
            raise InputError("no images to extract features from")
        return Features(np.concatenate(features), np.concatenate(logits), digest.hexdigest())

    def _chunk(self, images: Tensor, key: str, extractor: FeatureExtractor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        path = None if self.folder is None else self.folder / f"{extractor.name}-{extractor.fingerprint[:16]}" / f"{key}.npz"
        if path is not None and path.exists():
            try:
                return _read(path, len(images))
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                _log.warning("cached features %s cannot be read (%s); they are computed again", path, error)
        parts = [extractor(batch) for batch in images.split(self.batch_size)]
        features, logits = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
        if path is not None:
            with whole_file(path) as temporary:
                np.savez(temporary, features=features, logits=logits)
        return features, logits


def content_key(images: Tensor) -> str:
    """SHA-256 (hex) of the shape and the bytes of a uint8 batch.

    Raises:
        InputError: not uint8.
    """
    if images.dtype != torch.uint8:
        raise InputError(f"features are taken of uint8 images, got {images.dtype}; use nvgbench.data.images.to_uint8")
    pixels = images.contiguous().cpu().numpy()
    return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def _read(path: Path, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    with np.load(path, allow_pickle=False) as archive:
        features, logits = archive["features"], archive["logits"]
    if len(features) != count or len(logits) != count:
        raise ValueError(f"holds {len(features)} images, expected {count}")
    return features, logits
