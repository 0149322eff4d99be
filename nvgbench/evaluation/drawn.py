"""A set of samples that is drawn when its images are needed and not kept: straight from a generator into the features.

What is kept of every chunk is the key of its images, under which the cache has their features, and what the linter wants to
know of their pixels. A job that was cut short goes on at the first chunk without a note.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nvgbench.data.image_set import CHUNK, ImageSet
from nvgbench.errors import InputError
from nvgbench.evaluation.lint.pixels import Pixels, every, join, look
from nvgbench.extractors.cache import content_key
from nvgbench.files import whole_file
from nvgbench.interfaces import ImageGenerator
from nvgbench.sampling.job import check_classes, draw, job_key, job_labels


class DrawnSet:
    """The first ``n`` images of a job (see `nvgbench.sampling.job`), as often as wanted.

    Args:
        generator: what to sample from.
        n: number of images.
        folder: where jobs live; the notes are kept in this job's own folder in it.
        batch_size: images a call of the generator.
        seed: job seed.
        settings: overrides of the model's sampling settings.

    Raises:
        InputError: n < 1.
    """

    def __init__(
        self, generator: ImageGenerator, n: int, folder: Path, *, batch_size: int, seed: int, settings: Mapping[str, Any]
    ) -> None:
        if n < 1:
            raise InputError(f"asked for {n} images; ask for at least 1")
        self._generator, self._n, self._batch_size = generator, n, batch_size
        self._seed, self._settings = seed, settings
        self._classes = check_classes(None, generator.spec)
        self._folder = folder / job_key(generator.spec, seed, settings, self._classes) / "drawn"

    def images(self) -> ImageSet:
        """The set, with the keys of the chunks that were drawn before."""
        notes = {number: self._note(number) for number in range(-(-self._n // CHUNK))}
        return ImageSet(
            name=self._generator.spec.name,
            count=self._n,
            image_size=self._generator.spec.image_size,
            load=self._load,
            labels_N=job_labels(0, self._n, self._classes),
            keys={number: note[0] for number, note in notes.items() if note is not None},
        )

    def pixels(self) -> Pixels:
        """What was seen in the pixels, once all chunks are drawn, by whichever process."""
        notes = [self._note(number) for number in range(-(-self._n // CHUNK))]
        assert all(note is not None for note in notes)
        return join([note[1] for note in notes if note is not None])

    def _load(self, indices: Sequence[int]) -> Tensor:
        images = torch.cat(
            [
                draw(
                    self._generator, indices[start : start + self._batch_size],
                    seed=self._seed, settings=self._settings, classes=self._classes,
                )
                for start in range(0, len(indices), self._batch_size)
            ]
        )  # fmt: skip
        if list(indices) == list(self._range(indices[0] // CHUNK)):
            self._write_note(indices[0] // CHUNK, images)
        return images

    def _range(self, number: int) -> range:
        return range(number * CHUNK, min((number + 1) * CHUNK, self._n))

    def _path(self, number: int) -> Path:
        part = self._range(number)
        return self._folder / f"{part.start:09d}-{part.stop:09d}.npz"

    def _write_note(self, number: int, images: Tensor) -> None:
        seen = look(images, every(self._n), number * CHUNK)
        with whole_file(self._path(number)) as temporary:
            np.savez(
                temporary,
                key=content_key(images),
                hashes=seen.hashes_N,
                one_colour=seen.one_colour,
                histogram=seen.histogram_256,
                zeros=seen.zeros_MG,
            )

    def _note(self, number: int) -> tuple[str, Pixels] | None:
        """Key and pixels of a chunk; None where it was not drawn yet or its note cannot be read."""
        try:
            with np.load(self._path(number), allow_pickle=False) as archive:
                seen = Pixels(
                    hashes_N=archive["hashes"],
                    one_colour=int(archive["one_colour"]),
                    histogram_256=archive["histogram"],
                    zeros_MG=archive["zeros"],
                )
                return str(archive["key"]), seen
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None
