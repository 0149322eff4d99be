"""Samples of the baselines equal those of the plain loops that the present samplers replace."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.golden_sampling import CASES, GOLDEN, draw, golden_model


@pytest.mark.parametrize("case", CASES)
def test_images_after_every_stage_are_those_of_the_plain_loop(case: str) -> None:
    preset, settings = CASES[case]
    trace = draw(golden_model(preset), settings).trace
    assert trace is not None
    found_SB3HW = np.stack([stage.canvas_B3HW.numpy() for stage in trace]).astype(int)
    difference = np.abs(found_SB3HW - np.load(GOLDEN)[case])
    # Equal on the CPU that drew them. Another CPU's kernels may round a pixel differently, but not a token.
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 1e-3
