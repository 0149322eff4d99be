"""Batches of the size that fits: smaller ones are padded to a captured size, ones too large for the memory are split."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from nvgbench.types import SampleResult, StageTrace


class FittingBatches:
    """Draws a request in batches that fit the GPU's memory; a size that did not fit is not tried again.

    Args:
        release: frees what can be freed before a smaller batch is tried, e.g. captured graphs.

    Attributes:
        largest: number of images that may be drawn at once; None until a batch did not fit.
    """

    def __init__(self, release: Callable[[], object]) -> None:
        self._release = release
        self.largest: int | None = None

    def draw(self, count: int, draw: Callable[[Tensor], SampleResult], pad_to: int | None = None) -> SampleResult:
        """Images 0 … ``count`` - 1 of a request.

        Args:
            count: at least 1.
            draw: draws the images of these rows, int64; rows may repeat.
            pad_to: draw at least this many at once, by repeating the last row, where graphs of this size exist already.

        Raises:
            torch.cuda.OutOfMemoryError: not even one image fits.
        """
        while True:
            wanted = max(count, pad_to or 1)
            size = min(wanted, self.largest or wanted)
            starts = range(0, max(count, 1), size)
            try:
                return _joined([_padded(draw, start, min(start + size, count), size, pad_to) for start in starts])
            except torch.cuda.OutOfMemoryError:
                if size == 1:
                    raise
                self.largest = size // 2
            # Outside of the handler, whose traceback keeps the tensors of the failed attempt alive.
            self._release()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            warnings.warn(f"{size} images at once do not fit the GPU's memory; drawing {self.largest} at a time", stacklevel=2)


def _padded(draw: Callable[[Tensor], SampleResult], start: int, stop: int, size: int, pad_to: int | None) -> SampleResult:
    rows = torch.arange(start, stop)
    if pad_to is not None and start < stop < start + size:
        rows = torch.cat((rows, rows[-1:].expand(size - len(rows))))
    return _first(draw(rows), stop - start)


def _first(result: SampleResult, count: int) -> SampleResult:
    if len(result.images_B3HW) == count:
        return result
    return _map([result], lambda tensors: tensors[0][:count])


def _joined(results: list[SampleResult]) -> SampleResult:
    return results[0] if len(results) == 1 else _map(results, torch.cat)


def _map(results: list[SampleResult], combine: Callable[[list[Tensor]], Tensor]) -> SampleResult:
    trace = None
    if results[0].trace is not None:
        stages = zip(*(result.trace or () for result in results), strict=True)
        trace = tuple(_stage(list(stage), combine) for stage in stages)
    return SampleResult(combine([result.images_B3HW for result in results]), trace)


def _stage(parts: list[StageTrace], combine: Callable[[list[Tensor]], Tensor]) -> StageTrace:
    maps = [part.structure_BHW for part in parts if part.structure_BHW is not None]
    return StageTrace(parts[0].tokens, combine([part.canvas_B3HW for part in parts]), combine(maps) if maps else None)
