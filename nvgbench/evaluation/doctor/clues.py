"""What the images, labels and statistics themselves show, whatever the score is.

Shape letters: N samples, M reference images, B a chunk, K classes, H and W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvgbench.data.image_set import ImageSet
from nvgbench.data.moments import StoredMoments
from nvgbench.evaluation.lint.checks import Finding, Subject, check_predicted_order, lint
from nvgbench.evaluation.reference import Reference
from nvgbench.types import Features

EXAMINED = 500
"""Images per side whose frequencies are compared, evenly spread."""
_CAUSES = {
    "balance": "other reference",
    "copies": "copies of the reference",
    "number": "number of images",
    "jpeg": "JPEG",
}
"""Check of the linter -> cause, where they have different names."""
_SURE = 6.0
"""Standard errors that count as certain."""
_FEWEST_VALUES = 30
"""Values that must be missing: if they were drawn at random, none would occur with probability exp(-30)."""
_LEAST_SHARE = 0.15
"""Share of images that would have to change their predicted class before the reference is doubted."""


@dataclass(frozen=True)
class Clue:
    """Something that speaks for a cause.

    Attributes:
        cause: the mistake.
        strength: from 0 (nothing) to 1 (seen directly).
        text: one line.
    """

    cause: str
    strength: float
    text: str


def find_clues(subject: Subject, generated: Features, real: Features | None, reference: Reference) -> list[Clue]:
    """All clues.

    Args:
        subject: both sets and the statistics of their pixels, as the linter takes them.
        generated, real: features of both sets; their logits tell the predicted classes. None without reference images.
        reference: for the statistics stored with it.
    """
    found = [_of_finding(finding) for finding in lint(subject)]
    if subject.images.labels_N is None and generated.logits_NK.shape[1]:
        found += [_of_finding(finding) for finding in check_predicted_order(generated.logits_NK)]
    if real is not None:
        found += _other_classes(generated.logits_NK, real.logits_NK)
    if subject.reference is not None and subject.reference.count:
        found += _numbers(subject.images.count, subject.reference.count)
        found += _frequencies(subject.images, subject.reference)
    if subject.reference_pixels is not None:
        found += _top(subject.pixels.histogram_256, subject.reference_pixels.histogram_256)
    for moments in (reference.moments, reference.spatial_moments):
        if moments is not None:
            found += _rounded(moments)
    return found


def _of_finding(finding: Finding) -> Clue:
    cause = _CAUSES.get(finding.check, finding.check)
    # Few images are a fact of most sets, and uneven classes a property of many data sets.
    return Clue(cause, 0.5 if finding.check in ("number", "balance") else 1.0, finding.message)


def _numbers(n: int, m: int) -> Iterator[Clue]:
    """Another number of samples than of reference images: one of them was cut, or the number expected is of the larger one."""
    if not 0.9 < n / m < 1.1:
        text = f"{n} samples against {m} reference images: FID falls with the number of samples"
        yield Clue("number of images", 0.5, text)


def _top(samples_256: NDArray[np.int64], reference_256: NDArray[np.int64]) -> Iterator[Clue]:
    """No value of 255 where the reference's relation of 255 to 254 lets one expect some: truncated instead of rounded."""
    if reference_256[254] < _FEWEST_VALUES or samples_256[255]:
        return
    missing = float(samples_256[254]) * float(reference_256[255]) / float(reference_256[254])
    if missing > _FEWEST_VALUES:
        text = f"no value is 255 where about {missing:.0f} would be in the reference: truncated to uint8 instead of rounded"
        yield Clue("rounding", 1.0, text)


def _other_classes(logits_NK: NDArray[np.float32], logits_MK: NDArray[np.float32]) -> Iterator[Clue]:
    """Other predicted classes on both sides."""
    classes = logits_NK.shape[1]
    if classes < 2 or logits_MK.shape[1] != classes:
        return
    shares = [np.bincount(logits.argmax(axis=1), minlength=classes) / len(logits) for logits in (logits_NK, logits_MK)]
    moved = float(np.abs(shares[0] - shares[1]).sum() / 2)
    # The expectation for two draws from equal shares, by the mean absolute deviation of a normal variable.
    variance_K = (shares[0] + shares[1]) / 2 * (1 / len(logits_NK) + 1 / len(logits_MK))
    by_chance = float(np.sqrt(variance_K * 2 / math.pi).sum() / 2)
    if moved - by_chance > _LEAST_SHARE:
        yield Clue(
            "other reference",
            min(1.0, (moved - by_chance) / 0.5),
            f"the reference shows other things: {moved:.0%} of the samples would have to change their predicted class "
            f"({by_chance:.0%} by chance)",
        )


def _frequencies(images: ImageSet, reference: ImageSet) -> Iterator[Clue]:
    """More or less fine detail than in the reference."""
    ours, theirs = (_fine_share(part) for part in (images, reference))
    if min(len(ours), len(theirs)) < 8:
        return
    difference = float(ours.mean() - theirs.mean())
    error = math.sqrt(ours.var(ddof=1) / len(ours) + theirs.var(ddof=1) / len(theirs))
    if abs(difference) < max(math.log(1.3), _SURE * error):
        return
    ratio = math.exp(difference)
    if ratio < 1:
        what = f"{ratio:.2g} times the reference's share of fine detail, as after enlarging, smoothing or compressing"
    else:
        what = f"{ratio:.2g} times the reference's share of fine detail, as after reducing without antialiasing or sharpening"
    yield Clue("resize", min(1.0, abs(difference) / math.log(3)), f"the samples have {what}")


def _fine_share(images: ImageSet) -> NDArray[np.float64]:
    """Log of the share of the energy in the upper half of the frequencies, per examined image with any texture."""
    step = max(1, -(-images.count // EXAMINED))
    indices = list(range(0, images.count, step))
    share = torch.cat([_share(images.load(indices[low : low + 100])) for low in range(0, len(indices), 100)])
    return np.log(share[share > 0].double().numpy())


def _share(images_B3HW: Tensor) -> Tensor:
    grey_BHW = images_B3HW.float().mean(dim=1)
    height, width = grey_BHW.shape[1:]
    window_HW = torch.outer(torch.hann_window(height), torch.hann_window(width))
    energy_BHW = torch.fft.fft2((grey_BHW - grey_BHW.mean(dim=(1, 2), keepdim=True)) * window_HW).abs().square()
    fine_HW = torch.maximum(torch.fft.fftfreq(height).abs()[:, None], torch.fft.fftfreq(width).abs()) > 0.25
    return (energy_BHW * fine_HW).sum(dim=(1, 2)) / energy_BHW.sum(dim=(1, 2)).clamp(min=1e-9)


def _rounded(moments: StoredMoments) -> Iterator[Clue]:
    """Statistics stored in half precision."""
    for values in (moments.mean_D, moments.covariance_DD):
        with np.errstate(over="ignore"):
            if values.any() and np.array_equal(values, values.astype(np.float16)):
                yield Clue("precision of moments", 1.0, "the statistics stored with the reference are rounded to float16")
                return
