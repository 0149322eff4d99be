"""Features on disk, keyed by what they were computed from, so that nothing is computed twice and nothing stale is used.

A chunk's file is named by the SHA-256 of its images (shape and bytes), its folder by the extractor's fingerprint, which covers
weights, preprocessing and our code, and by the versions of the libraries whose networks and filters are used. An interrupted
extraction resumes at the first missing chunk.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvgbench.data.image_set import Chunk
from nvgbench.errors import InputError
from nvgbench.files import StrPath, whole_file, write_text
from nvgbench.interfaces import FeatureExtractor
from nvgbench.types import Features, Share

_log = logging.getLogger(__name__)
_Found = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Features and logits of a chunk."""


class FeatureCache:
    """Extracts features, or reads them from a folder.

    Args:
        folder: where the features are stored; None to store nothing.
        batch_size: images per call of the extractor.
    """

    def __init__(self, folder: StrPath | None, *, batch_size: int = 64) -> None:
        self.folder = None if folder is None else Path(folder)
        self.batch_size = batch_size

    def extract(
        self,
        chunks: Iterable[Tensor | Chunk],
        extractor: FeatureExtractor,
        progress: Callable[[int], None] | None = None,
    ) -> Features:
        """Features of all images.

        Args:
            chunks: uint8 ``[b, 3, H, W]``, or chunks to read. Each becomes a file, which is found again only for the same
                images, so use `CHUNK` images each.
            extractor: computes the features.
            progress: called with the number of images done after each chunk.

        Raises:
            InputError: no images.
            OSError: the cache cannot be written.
        """
        return self.extract_all(chunks, [extractor], progress)[0]

    def extract_all(
        self,
        chunks: Iterable[Tensor | Chunk],
        extractors: Sequence[FeatureExtractor],
        progress: Callable[[int], None] | None = None,
    ) -> list[Features]:
        """As `extract` by several extractors; the images are read once."""
        parts: list[list[_Found]] = [[] for _ in extractors]
        keys, done = [], 0
        for given in chunks:
            chunk = _as_chunk(given)
            key, found = self._chunk(chunk, extractors)
            keys.append(key)
            for part, one in zip(parts, found, strict=True):
                part.append(one)
            done += chunk.count
            if progress is not None:
                progress(done)
        if not keys:
            raise InputError("no images to extract features from")
        fingerprint = hashlib.sha256("".join(keys).encode()).hexdigest()
        if self.folder is not None:
            for extractor in extractors:
                write_text(self._listing(extractor.name, extractor.fingerprint, fingerprint), json.dumps(keys))
        return [_joined(part, fingerprint) for part in parts]

    def stored(self, extractor: str, extractor_fingerprint: str, fingerprint: str) -> Features | None:
        """Features of a set that was extracted before, found by the fingerprints in its record.

        Args:
            extractor: name of the extractor.
            extractor_fingerprint: its fingerprint.
            fingerprint: `Features.fingerprint` of the set.

        Returns:
            None if any of its files is missing or damaged.
        """
        if self.folder is None:
            return None
        listing = self._listing(extractor, extractor_fingerprint, fingerprint)
        try:
            keys = json.loads(listing.read_text(encoding="utf-8"))
            parts = [_read(listing.parent / f"{key}.npz") for key in keys]
        except Exception:  # damaged bytes raise anything, and the features can be computed again
            return None
        return _joined(parts, fingerprint)

    def fill(
        self,
        chunks: Iterable[Chunk],
        extractors: Sequence[FeatureExtractor],
        share: Share | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[str, ...]:
        """Make sure that the features of all chunks are in the folder; several processes can share the work.

        Args:
            chunks: the same in all processes; each reads only its own, once for all extractors.
            extractors: compute the features.
            share: this process's part; everything if not given.
            progress: called with the approximate number of images done after each chunk of this process.

        Returns:
            The content key of every chunk, in order, in every process.

        Raises:
            InputError: no images, or several processes without a folder to share.
            OSError: the cache cannot be written.
        """
        share = share or Share()
        if share.count > 1 and self.folder is None:
            raise InputError("several processes share features through the folder of the cache; give one")
        keys, done = {}, 0
        for number, chunk in enumerate(chunks):
            if number % share.count == share.rank:
                keys[number], _ = self._chunk(chunk, extractors)
            done += chunk.count
            if progress is not None:
                progress(done)
        gathered = {number: key for part in share.gather(keys) for number, key in part.items()}
        if not gathered:
            raise InputError("no images to extract features from")
        return tuple(gathered[number] for number in range(len(gathered)))

    def _chunk(self, chunk: Chunk, extractors: Sequence[FeatureExtractor]) -> tuple[str, list[_Found]]:
        """The chunk's key, and its features and logits by each extractor, from the folder if they are there."""
        if chunk.key is not None:
            known = [self._cached(chunk.key, chunk.count, extractor) for extractor in extractors]
            found = [one for one in known if one is not None]
            if len(found) == len(extractors):
                return chunk.key, found
        images = chunk.read()
        key = content_key(images)
        return key, [self._cached(key, len(images), one) or self._computed(key, images, one) for one in extractors]

    def _computed(self, key: str, images: Tensor, extractor: FeatureExtractor) -> _Found:
        parts = [extractor(batch) for batch in images.split(self.batch_size)]
        features, logits = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
        path = self._path(key, extractor)
        if path is not None:
            with whole_file(path) as temporary:
                np.savez(temporary, features=features, logits=logits)
        return features, logits

    def _cached(self, key: str, count: int, extractor: FeatureExtractor) -> _Found | None:
        path = self._path(key, extractor)
        if path is None or not path.exists():
            return None
        try:
            return _read(path, count)
        except Exception as error:
            _log.warning("cached features %s cannot be read (%s) and are computed again", path, error)
            return None

    def _path(self, key: str, extractor: FeatureExtractor) -> Path | None:
        if self.folder is None:
            return None
        return self._home(extractor.name, extractor.fingerprint) / f"{key}.npz"

    def _listing(self, extractor: str, extractor_fingerprint: str, fingerprint: str) -> Path:
        """The file that lists the chunks of a whole set."""
        return self._home(extractor, extractor_fingerprint) / f"set-{fingerprint}.json"

    def _home(self, extractor: str, extractor_fingerprint: str) -> Path:
        assert self.folder is not None
        code = "/".join((extractor_fingerprint, *_library_versions()))
        return self.folder / f"{extractor}-{hashlib.sha256(code.encode()).hexdigest()[:16]}"


@functools.cache
def _library_versions() -> tuple[str, ...]:
    """Versions of the libraries that compute features."""
    found = []
    for name in ("torch-fidelity", "clean-fid", "transformers"):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return tuple(found)


def _as_chunk(given: Tensor | Chunk) -> Chunk:
    return given if isinstance(given, Chunk) else Chunk(len(given), lambda: given)


def content_key(images: Tensor) -> str:
    """SHA-256 (hex) of the shape and the bytes of a uint8 batch.

    Raises:
        InputError: not uint8.
    """
    if images.dtype != torch.uint8:
        raise InputError(f"features need uint8 images, got {images.dtype}; use nvgbench.data.images.to_uint8")
    pixels = images.contiguous().cpu().numpy()
    return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def _joined(parts: Sequence[_Found], fingerprint: str) -> Features:
    features, logits = zip(*parts, strict=True)
    return Features(np.concatenate(features), np.concatenate(logits), fingerprint)


def _read(path: Path, count: int | None = None) -> _Found:
    with np.load(path, allow_pickle=False) as archive:
        features, logits = archive["features"], archive["logits"]
    if len(features) != len(logits) or count not in (None, len(features)):
        raise ValueError(f"features of {len(features)} images, expected {count}")
    return features, logits
