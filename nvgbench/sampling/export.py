"""Samples where the user wants them: a copy of the npz, a folder of PNGs, pictures."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from nvgbench.config.load import parse_value
from nvgbench.data.archive import NpzImages
from nvgbench.data.decode import read_image
from nvgbench.data.files import is_image_name
from nvgbench.data.images import save_grid
from nvgbench.errors import InputError
from nvgbench.files import StrPath, whole_file
from nvgbench.interfaces import ImageGenerator
from nvgbench.sampling.job import image_seed, job_labels
from nvgbench.sampling.pictures import trace_strip
from nvgbench.types import SampleRequest

_PIECE = 64
"""Images held in memory at once."""


def parse_settings(overrides: Iterable[str]) -> dict[str, Any]:
    """``["top_k=5", "sampling.flow_steps=4"]`` to settings by name; the prefix ``sampling.`` is optional.

    Raises:
        InputError: an override without '='.
    """
    settings = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise InputError(f"setting {override!r} is not key=value, e.g. top_k=5")
        settings[key.strip().removeprefix("sampling.")] = parse_value(text.strip())
    return settings


def check_place(out: StrPath) -> None:
    """Refuse, before anything is drawn, a name that looks like a file of another type than .npz.

    An existing folder may have any name, and a new one may end in a version (``guidance-1.5``).

    Raises:
        InputError: ``out`` has such a suffix.
    """
    out = Path(out)
    if out.suffix != ".npz" and out.suffix[1:2].isalpha() and not out.is_dir():
        name = out.name.partition(".")[0]
        raise InputError(
            f"`out={out}`: samples are written to one .npz file or as PNGs into a folder, not as {out.suffix}; "
            f"give {name}.npz or a folder, e.g. {name}"
        )


def place(npz: StrPath, out: StrPath) -> Path:
    """Copy the npz to ``out``, or unpack it into PNG files unless ``out`` ends in ``.npz``.

    Raises:
        InputError: ``out`` is a folder with other images, which would be mixed with the samples.
        OSError: it cannot be written to.
    """
    out = Path(out)
    if out.suffix == ".npz":
        with whole_file(out) as temporary:
            shutil.copyfile(npz, temporary)
        return out
    file = NpzImages(npz)
    labels = file.labels()
    classes = [""] * file.count if labels is None else [f"_class{label:04d}" for label in labels]
    names = [f"{index:06d}{name}.png" for index, name in enumerate(classes)]
    _refuse_other_images(out, frozenset(names))
    index = 0
    for images in file.stream(_PIECE):
        for image in images:
            path = out / names[index]
            if not path.exists():
                with whole_file(path) as temporary:
                    Image.fromarray(image).save(temporary, format="PNG")
            elif not np.array_equal(read_image(path), image):
                raise InputError(f"{path} belongs to another job; write to another folder, or remove this one")
            index += 1
    return out


def _refuse_other_images(folder: Path, names: frozenset[str]) -> None:
    """A folder is scored as a whole, so images from elsewhere must not be mixed with the samples."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if is_image_name(path.name) and path.name not in names:
            raise InputError(f"{folder} holds other images ({path.name}); write to another folder, or remove them")


def write_grid(npz: StrPath, path: StrPath, classes: int, rows: int = 8) -> Path:
    """A picture of the first samples: one column per class (at most 20), ``rows`` rows."""
    file = NpzImages(npz)
    columns = min(classes, 20)
    chosen = [row * classes + column for row in range(rows) for column in range(columns)]
    images = file.load([index for index in chosen if index < file.count])
    return save_grid(torch.from_numpy(images).permute(0, 3, 1, 2), path, columns=columns)


def write_trace(
    generator: ImageGenerator, path: StrPath, classes: Sequence[int], seed: int, settings: Mapping[str, Any], images: int = 4
) -> Path:
    """Draw the first ``images`` samples of a job again with their stages, and write them as a picture."""
    request = SampleRequest(
        labels_B=torch.from_numpy(job_labels(0, images, classes)),
        seeds_B=torch.tensor([image_seed(seed, index) for index in range(images)]),
        settings=settings,
        trace=True,
    )
    return trace_strip(generator.generate(request), Path(path), images=images)
