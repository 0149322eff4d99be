"""Bringing the classes of two sets of images to the same numbers, by their names."""

from __future__ import annotations

import dataclasses

import numpy as np

from nvgbench.data.image_set import ImageSet
from nvgbench.data.remarks import Remark


def match_classes(images: ImageSet, reference: ImageSet) -> tuple[ImageSet, ImageSet]:
    """The same sets with labels that mean the same, as far as names of folders have given them.

    Labels of folders are numbered anew: by the names of the other set's classes, or, if it has numbers alone, by the numbers
    that the folders are called. Where that is not possible they are dropped with a remark. Labels of files and data sets stay.
    """
    return _numbered_like(images, reference), _numbered_like(reference, images)


def _numbered_like(images: ImageSet, other: ImageSet) -> ImageSet:
    if not images.labels_of_folders or other.labels_N is None or images.classes == other.classes:
        return images
    assert images.labels_N is not None
    if set(images.classes) <= set(other.classes):
        number = np.array([other.classes.index(name) for name in images.classes])
        return dataclasses.replace(images, labels_N=number[images.labels_N], classes=other.classes, labels_of_folders=False)
    if other.labels_of_folders and set(other.classes) <= set(images.classes):
        return images  # the other set takes these numbers
    if not other.classes and all(name.isdecimal() for name in images.classes):
        number = np.array([int(name) for name in images.classes])
        return dataclasses.replace(images, labels_N=number[images.labels_N], classes=(), labels_of_folders=False)
    text = (
        f"the folders of {images.name} ({', '.join(images.classes[:3])}{' …' if len(images.classes) > 3 else ''}) are not "
        f"classes of {other.name}; its images are taken without labels"
    )
    remarks = (*images.opening_remarks, Remark("labels", text))
    return dataclasses.replace(images, labels_N=None, classes=(), labels_of_folders=False, opening_remarks=remarks)
