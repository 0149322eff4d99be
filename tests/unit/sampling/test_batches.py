"""Requests are split where they do not fit, and padded to the captured size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nvgbench.sampling.batches import FittingBatches
from nvgbench.types import SampleResult, StageTrace


class Drawn:
    """Draws "images" that hold their row; more than ``fits`` rows at once do not fit."""

    def __init__(self, fits: int = 100) -> None:
        self.fits, self.sizes, self.released = fits, [], 0

    def __call__(self, rows: Tensor) -> SampleResult:
        self.sizes.append(len(rows))
        if len(rows) > self.fits:
            raise torch.cuda.OutOfMemoryError("too many")
        images = rows.view(-1, 1, 1, 1)
        return SampleResult(images, (StageTrace(1, images, images[:, 0]), StageTrace(2, images, None)))

    def release(self) -> None:
        self.released += 1


def _rows(result: SampleResult) -> list[int]:
    assert result.trace is not None
    assert torch.equal(result.trace[0].canvas_B3HW, result.images_B3HW)
    assert result.trace[0].structure_BHW is not None
    assert len(result.trace[0].structure_BHW) == len(result.images_B3HW)
    assert result.trace[1].structure_BHW is None
    return result.images_B3HW.flatten().tolist()


def test_a_batch_that_fits_is_drawn_at_once() -> None:
    drawn = Drawn()
    assert _rows(FittingBatches(drawn.release).draw(5, drawn)) == [0, 1, 2, 3, 4]
    assert (drawn.sizes, drawn.released) == ([5], 0)


def test_a_smaller_batch_is_padded_to_the_captured_size() -> None:
    drawn = Drawn()
    assert _rows(FittingBatches(drawn.release).draw(3, drawn, pad_to=8)) == [0, 1, 2]
    assert drawn.sizes == [8]


@pytest.mark.parametrize("pad_to", [None, 7])
def test_a_batch_too_large_is_halved_once_for_all_later_ones(pad_to: int | None) -> None:
    drawn = Drawn(fits=3)
    batches = FittingBatches(drawn.release)
    with pytest.warns(UserWarning, match="7 images at once do not fit the GPU's memory; drawing 3 at a time"):
        assert _rows(batches.draw(7, drawn, pad_to)) == list(range(7))
    last = 1 if pad_to is None else 3
    assert (drawn.sizes, drawn.released) == ([7, 3, 3, last], 1)
    assert _rows(batches.draw(4, drawn, pad_to)) == list(range(4))
    assert drawn.sizes[4:] == [3, last]


def test_one_image_that_does_not_fit_is_an_error() -> None:
    drawn = Drawn(fits=0)
    with pytest.warns(UserWarning, match="1 at a time"), pytest.raises(torch.cuda.OutOfMemoryError):
        FittingBatches(drawn.release).draw(2, drawn)
