"""Read samples and reference once, for the linter."""

from __future__ import annotations

from nvgbench.data.image_set import ImageSet
from nvgbench.evaluation.lint.checks import Finding, Subject, lint
from nvgbench.evaluation.lint.pixels import set_statistics
from nvgbench.evaluation.reference import Reference
from nvgbench.progress import Report, quiet


def inspect(
    images: ImageSet,
    reference: Reference | None,
    *,
    dimension: int = 2048,
    stored_moments: bool | None = None,
    report: Report = quiet,
) -> list[Finding]:
    """What is wrong with a set of samples.

    Args:
        images: the samples.
        reference: what they will be compared with, if known.
        dimension: number of features of the extractor.
        stored_moments: whether scores will be computed from statistics stored with the reference; if None, whether it has any.
        report: opens a progress display.

    Raises:
        InputError: images that cannot be read.
    """
    with report("reading the samples") as update:
        pixels = set_statistics(images, update)
    if stored_moments is None:
        stored_moments = reference is not None and reference.moments is not None
    seen = None
    if reference is not None:
        with report("reading the reference") as update:
            seen = set_statistics(reference.images, update)
    return lint(
        Subject(
            images=images,
            pixels=pixels,
            reference=None if reference is None else reference.images,
            reference_pixels=seen,
            stored_moments=stored_moments,
            dimension=dimension,
        )
    )
