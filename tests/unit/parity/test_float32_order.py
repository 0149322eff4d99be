"""The order of joining by float32 distances, with the loop of Algorithm 1."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nvgbench.nvg.clustering import build_structure, joining_order
from nvgbench.nvg.sequential import structure_of_order
from nvgbench.nvg.verification import FIXTURES
from nvgbench.nvg.verification.hierarchies import float32_order
from nvgbench.parity.arithmetic import Arithmetic
from nvgbench.parity.dtypes import Dtype

GOLDEN = np.load(FIXTURES / "nvg_public.npz")
NAMES = sorted(name.removesuffix(".points") for name in GOLDEN.files if name.endswith(".points"))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bf16"])
@pytest.mark.parametrize("name", NAMES)
def test_it_gives_every_golden_order_and_labels(name: str, dtype: Dtype) -> None:
    """Also in flat image regions, where exact distances decide differently, and whatever precision surrounds it."""
    with Arithmetic(torch.device("cpu"), dtype).active():
        order_BSL = float32_order(GOLDEN[f"{name}.points"])
    assert np.array_equal(order_BSL, GOLDEN[f"{name}.raw"])
    assert np.array_equal(structure_of_order(order_BSL), GOLDEN[f"{name}.labels"])


@pytest.mark.parametrize("shape", [(3, 4, 1), (2, 16, 5), (1, 32, 2)])
def test_it_agrees_with_exact_distances_that_are_far_apart(shape: tuple[int, int, int]) -> None:
    points_BLC = torch.from_numpy(np.random.default_rng(2).standard_normal(shape).astype(np.float32))
    order_BSL = float32_order(points_BLC.numpy())
    assert torch.equal(order_BSL, joining_order(points_BLC))
    assert torch.equal(structure_of_order(order_BSL), build_structure(points_BLC))
