"""The reference of an evaluation: held-out images of a data set, or files."""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nvgbench.config.schema import DataConfig
from nvgbench.data.archive import IMAGES
from nvgbench.data.catalog import SOURCES, is_source
from nvgbench.data.image_set import ImageSet, from_dataset, open_images
from nvgbench.data.matching import match_classes
from nvgbench.data.moments import Statistics, StoredMoments, read_statistics
from nvgbench.data.source import open_dataset
from nvgbench.errors import InputError
from nvgbench.results.scores import INCEPTION


@dataclass(frozen=True)
class Reference:
    """Reference images and the moments stored with them, or moments alone.

    Attributes:
        images: the images; a set without any if the file holds statistics alone.
        moments, spatial_moments: of Inception's pool and spatial features.
        count: number of images behind statistics without images, if the file says.
    """

    images: ImageSet
    moments: StoredMoments | None = None
    spatial_moments: StoredMoments | None = None
    count: int | None = None

    @property
    def statistics_only(self) -> bool:
        """Whether there are moments but no images."""
        return self.images.count == 0

    def used_moments(self, protocol: str, extractor: str) -> tuple[StoredMoments | None, StoredMoments | None]:
        """The stored moments of pool and spatial features that the scores use.

        Args:
            protocol: nvgbench uses the pool's, adm both, other protocols compute their own.
            extractor: name of the extractor; the stored moments are of Inception features.
        """
        if extractor != INCEPTION:
            return None, None
        return self.moments if protocol in ("nvgbench", "adm") else None, self.spatial_moments if protocol == "adm" else None

    def identity(self, images_fingerprint: str, protocol: str, extractor: str) -> dict[str, Any]:
        """The reference as recorded.

        Args:
            images_fingerprint: SHA-256 (hex) of the images; the feature cache finds their features by it.
            protocol, extractor: see `used_moments`.

        Returns:
            ``name``, ``n``, ``fingerprint`` (SHA-256 of everything that scores are computed from: the images and the stored
            moments that are used), ``images_fingerprint`` and ``stored_moments`` (whether any are used).
        """
        used = self.used_moments(protocol, extractor)
        stored = any(moments is not None for moments in used)
        return {
            "name": self.images.name,
            "fingerprint": _fingerprint(images_fingerprint, used) if stored else images_fingerprint,
            "images_fingerprint": images_fingerprint,
            "n": self.count if self.statistics_only else self.images.count,
            "stored_moments": stored,
        }


def run_reference(data: DataConfig) -> Reference:
    """The held-out images of a run's data set."""
    held_out = open_dataset(data.source, image_size=data.image_size, split="eval", limit=data.eval_images, seed=data.seed)
    return Reference(from_dataset(held_out))


def open_reference(source: str, image_size: int, *, resize: int | None = None, crop: str | None = None) -> Reference:
    """A reference by name.

    Args:
        source: a file or folder that `nvgbench.data.image_set.open_images` takes, a file of statistics
            (`nvgbench.data.moments`), or a data source such as ``cifar10`` (its held-out images).
        image_size: side of the samples, pixels; a data source is cropped to it, files must have it.
        resize, crop: how files are brought to this size, see `nvgbench.data.crop.Fit`. Moments stored with images that are
            changed by it are not used.

    Raises:
        InputError: no such reference, an unreadable file, or images of another size.
    """
    if is_source(source):
        return Reference(from_dataset(open_dataset(source, image_size=image_size, split="eval")))
    path = Path(source)
    if not path.exists():
        raise InputError(f"`reference={source!r}` is neither a file or folder nor a data source ({', '.join(SOURCES.names())})")
    found = None if path.is_dir() else read_statistics(path)
    stored = found or Statistics()
    if found is not None and not _holds_images(path):
        nothing = ImageSet(
            name=path.name, count=0, image_size=image_size, load=lambda _: torch.zeros(0, 3, image_size, image_size)
        )
        return Reference(nothing, stored.moments, stored.spatial_moments, stored.count)
    images = open_images(path, resize=resize, crop=crop)
    if images.image_size != image_size:
        raise InputError(
            f"the samples have {image_size} px, the reference {path} has {images.image_size} px; "
            "resize both with `resize=`, or one of them beforehand; mind that the filter changes the scores"
        )
    if images.fit is not None:
        return Reference(images)
    return Reference(images, stored.moments, stored.spatial_moments)


def _holds_images(path: Path) -> bool:
    """Whether a zip with statistics has images beside them, as ADM's files do."""
    with zipfile.ZipFile(path) as archive:
        return f"{IMAGES}.npy" in archive.namelist()


def match_labels(images: ImageSet, reference: Reference) -> tuple[ImageSet, Reference]:
    """The samples and their reference with labels that mean the same, see `nvgbench.data.matching.match_classes`."""
    images, reference_images = match_classes(images, reference.images)
    return images, dataclasses.replace(reference, images=reference_images)


def load_all(images: ImageSet) -> Tensor:
    """All images in memory, uint8 ``[N, 3, H, W]``."""
    return torch.cat(list(images.read(500)))


def _fingerprint(images_fingerprint: str, used: Sequence[StoredMoments | None]) -> str:
    """SHA-256 (hex) of the images' fingerprint and of each stored array: position, shape, values."""
    digest = hashlib.sha256(images_fingerprint.encode())
    for place, moments in enumerate(used):
        if moments is not None:
            for array in (moments.mean_D, moments.covariance_DD):
                digest.update(f"{place} {array.shape}".encode() + array.astype("<f8").tobytes())
    return digest.hexdigest()
