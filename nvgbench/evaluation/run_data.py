"""Whether the images that a run is scored on are held-out images of the data that it was trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nvgbench.config.schema import DataConfig
from nvgbench.data.dataset import ImageDataset
from nvgbench.data.image_set import ImageSet, from_dataset
from nvgbench.data.source import training_set
from nvgbench.errors import InputError
from nvgbench.evaluation.lint.checks import Finding
from nvgbench.evaluation.lint.pixels import chunk_statistics
from nvgbench.runs.folder import DatasetInfo, RunFolder

MOST_PROBES = 2048
"""Training images, evenly spread, that are looked for in a reference."""
TOLERATED = 0.01
"""Share of them that may be in it: sets such as CIFAR-10 hold a few pictures twice."""


def data_of(run: RunFolder, moved: str | None, *, force: bool = False) -> tuple[DataConfig, list[Finding]]:
    """The data of a run, once they are known to be those that it was trained on.

    Args:
        run: the run; of published weights nothing is known about the images, and nothing is checked.
        moved: the data source where they are now; None if they are where the run's configuration says.
        force: report other images instead of refusing them. Data that are said to have moved must be equal in any case.

    Returns:
        The configuration of the data, and findings for the record.

    Raises:
        InputError: other classes, other images, or none at all at the given place.
    """
    data, info = run.config.data, run.dataset
    if moved is not None:
        data = replace(data, source=moved)
    if not info.images:
        return data, []
    try:
        train = training_set(data)
        fingerprint = train.fingerprint
    except (InputError, OSError) as error:
        if moved is not None:
            raise
        return data, [Finding("data", "warning", f"the training images of {run.name} are not available ({error}): it is not "
                              "known whether these held-out images belong to them")]  # fmt: skip
    if fingerprint == info.fingerprint:
        return data, []
    message = f"{run.path} was trained on {_difference(info, train)}"
    if moved is not None:
        raise InputError(f"`data={moved!r}`: {message}; give the place of the same images, or use `reference=`")
    if not force:
        raise InputError(f"{message}; restore the images, give their new place with `data=`, or score anyway with `force=True`")
    return data, [Finding("data", "forced", message)]


def check_reference(run: RunFolder, data: DataConfig, reference: ImageSet, *, force: bool = False) -> list[Finding]:
    """Refuse a reference with classes of other names than the run's, or with images that the run was trained on.

    Args:
        run: the run; of published weights nothing is known about the images, and nothing is checked.
        data: its data.
        reference: what was chosen in place of the held-out images.
        force: report it only.

    Raises:
        InputError: says what was found.
    """
    info = run.dataset
    if not info.images or not reference.count:
        return []
    found = []
    if info.classes and (others := sorted(set(reference.classes) - set(info.classes))):
        text = f"the reference {reference.name} has classes that {run.name} was not trained on ({_listed(tuple(others))})"
        found.append(("classes", f"{text}: scores would compare different things"))
    try:
        probes, hits = _training_images_in(training_set(data), reference)
    except (InputError, OSError):
        probes, hits = 0, 0
    if hits > TOLERATED * probes:
        text = f"{hits} of {probes} training images of {run.name} that were looked for are in the reference {reference.name}"
        found.append(("data", f"{text}: FID would reward a model that repeats them"))
    if found and not force:
        raise InputError(f"{found[0][1]}; use held-out images, or score anyway with `force=True`")
    return [Finding(check, "forced", message) for check, message in found]


def _training_images_in(train: ImageDataset, reference: ImageSet) -> tuple[int, int]:
    """The number of training images that were looked for, and of those that are in the reference."""
    if train.image_size != reference.image_size:
        return 0, 0
    indices = np.unique(np.linspace(0, len(train) - 1, min(len(train), MOST_PROBES)).round().astype(np.int64))
    probes = _hashes(from_dataset(train, indices))
    return len(probes), int(np.isin(probes, _hashes(reference)).sum())


def _hashes(images: ImageSet) -> np.ndarray:
    return np.concatenate([chunk_statistics(chunk, step=images.count + 1, first=1).hashes_N for chunk in images.read(250)])


def _difference(info: DatasetInfo, train: ImageDataset) -> str:
    if info.classes != train.classes:
        return f"the classes {_listed(info.classes)}, but {train.name} now has {_listed(train.classes)}"
    if info.images != len(train):
        return f"{info.images} images, but {train.name} now has {len(train)}"
    return f"other images than {train.name} now has"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" … ({len(names)})" if len(names) > 5 else "")
