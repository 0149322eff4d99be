"""Reading samples and reference once for the linter."""

from __future__ import annotations

from nvgbench.data.image_set import ImageSet
from nvgbench.evaluation.lint.checks import Finding, Subject, lint
from nvgbench.evaluation.lint.pixels import Pixels, look_at
from nvgbench.evaluation.reference import Reference
from nvgbench.progress import Report, quiet


def inspect(
    images: ImageSet,
    reference: Reference | None,
    *,
    dimension: int = 2048,
    stored_moments: bool | None = None,
    pixels: Pixels | None = None,
    report: Report = quiet,
) -> list[Finding]:
    """What is wrong with a set of samples.

    Args:
        images: the samples.
        reference: what they will be held against, where it is known.
        dimension: features of the extractor.
        stored_moments: whether scores will be computed from statistics stored with the reference; where not given, whether
            it has any.
        pixels: what was seen in the samples' pixels, where they were looked at already.
        report: opens a progress display.

    Raises:
        InputError: images that cannot be read.
    """
    if pixels is None:
        with report("looking at the samples") as update:
            pixels = look_at(images, update)
    if stored_moments is None:
        stored_moments = reference is not None and reference.moments is not None
    seen = None
    if reference is not None:
        with report("looking at the reference") as update:
            seen = look_at(reference.images, update)
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
