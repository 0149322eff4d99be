"""What a score can be computed from: features, images, files, folders, data sets, runs and their samples."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from nvgbench.api.runs import Run, Samples, load_run
from nvgbench.config.schema import DataConfig
from nvgbench.data.catalog import is_source
from nvgbench.data.image_set import ImageSet, in_memory, open_images
from nvgbench.errors import InputError
from nvgbench.evaluation.reference import Reference, open_reference, run_reference
from nvgbench.evaluation.run_data import data_of
from nvgbench.evaluation.subjects import subject_name
from nvgbench.files import StrPath
from nvgbench.runs.find import is_run
from nvgbench.types import Features

Scorable: TypeAlias = "NDArray[Any] | torch.Tensor | StrPath | Run | Samples | ImageSet"
"""Features (float ``[N, D]``), images (uint8 ``[N, H, W, 3]`` or a tensor ``[N, 3, H, W]``), an npz, a folder, a run."""


@dataclass(frozen=True, kw_only=True)
class Generated:
    """Generated images, and what is known about their origin.

    Attributes:
        images: the images.
        family: of the model, or ``external``.
        data: the data that the model was trained on, if known.
        num_classes: of the model, if known.
        provenance: for the record: seeds, settings, model.
    """

    images: ImageSet
    family: str = "external"
    data: DataConfig | None = None
    num_classes: int | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


def features_of(given: Any, logits: Any = None) -> Features | None:
    """``given`` as features if it is a float array ``[N, D]``; None for anything else."""
    if not isinstance(given, np.ndarray | torch.Tensor) or given.ndim != 2:
        return None
    features_ND = np.asarray(given.detach().cpu() if isinstance(given, torch.Tensor) else given)
    if features_ND.dtype.kind != "f":
        raise InputError(f"a matrix of {features_ND.dtype}; expected float features [N, D], or uint8 images [N, H, W, 3]")
    logits_NK = np.zeros((len(features_ND), 0), np.float32) if logits is None else np.asarray(logits, dtype=np.float32)
    if logits_NK.ndim != 2 or len(logits_NK) != len(features_ND):
        raise InputError(f"`logits=` of shape {logits_NK.shape} for {len(features_ND)} images; expected [N, K]")
    fingerprint = hashlib.sha256(f"{features_ND.shape} {features_ND.dtype}".encode() + features_ND.tobytes()).hexdigest()
    return Features(features_ND, logits_NK, fingerprint)


def generated_images(
    given: Scorable, *, n: int, seed: int, labels: Any, runs: StrPath, own_data: bool = False, force: bool = False
) -> Generated:
    """Generated images from whatever names them; a run is sampled.

    Args:
        given: see `Scorable`.
        n, seed: of the samples of a run.
        labels: int classes ``[N]`` of images in memory.
        runs: the folder of runs.
        own_data: whether a run will be compared with its own data, which must then be those that it was trained on.
        force: warn of other data instead of refusing them.
    """
    if isinstance(given, str | os.PathLike) and is_run(given, runs):
        given = load_run(given, runs=runs)
    if isinstance(given, Run):
        if own_data:
            for finding in data_of(given.folder, None, force=force)[1]:
                warnings.warn(str(finding), stacklevel=3)
        given = given.sample(n=n, seed=seed)
    if isinstance(given, Samples):
        return Generated(
            images=in_memory(given.spec.name, torch.from_numpy(given.images).permute(0, 3, 1, 2), given.labels),
            family=given.spec.family,
            data=given.data,
            num_classes=given.spec.num_classes,
            provenance=given.provenance,
        )
    if isinstance(given, ImageSet):
        return Generated(images=given)
    if labels is not None:
        if not isinstance(given, np.ndarray | torch.Tensor):
            raise InputError("`labels=` is for images in memory; an npz has its own in arr_1")
        tensor = given if isinstance(given, torch.Tensor) else torch.from_numpy(given).permute(0, 3, 1, 2)
        return Generated(images=in_memory("images", tensor, np.asarray(labels)))
    named = None if isinstance(given, np.ndarray | torch.Tensor) else subject_name(given)
    return Generated(images=open_images(given, name=named))


def reference_images(given: Scorable | None, generated: Generated, *, runs: StrPath) -> tuple[Reference, DataConfig | None]:
    """What generated images are compared with, and the data source behind it, if any.

    Without a reference, the held-out images of the data that the model was trained on.
    """
    side = generated.images.image_size
    if given is None:
        if generated.data is None:
            raise InputError("only runs and their samples have a reference of their own; give one with `reference=`")
        return run_reference(generated.data), generated.data
    if isinstance(given, Run):
        return run_reference(given.config.data), given.config.data
    if isinstance(given, str | os.PathLike):
        text = os.fspath(given)
        if is_source(text):
            return open_reference(text, side), DataConfig(source=text, image_size=side)
        if is_run(given, runs):
            return reference_images(load_run(given, runs=runs), generated, runs=runs)
        return open_reference(text, side), generated.data
    if isinstance(given, Samples):
        given = given.images
    return Reference(given if isinstance(given, ImageSet) else open_images(given, name="reference")), generated.data
