"""Filters and schedules against the golden numbers of the reference implementation."""

from __future__ import annotations

import importlib.resources

import numpy as np
import pytest
import torch

from nvgbench.sampling.filters import top_k_filter, top_p_filter
from nvgbench.sampling.schedules import top_p_schedule


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with importlib.resources.files("nvgbench.parity").joinpath("fixtures/nvg_public.npz").open("rb") as handle:
        archive = np.load(handle)
        return {name: archive[name] for name in archive.files if name.startswith(("E.filter", "E.top_p"))}


@pytest.mark.parametrize(
    ("name", "k", "p"),
    [("E.filter_top_p_0.7_keep", 0, 0.7), ("E.filter_top_k_5_keep", 5, 1.0), ("E.filter_k9_p0.6_keep", 9, 0.6)],
)
def test_kept_entries(golden: dict[str, np.ndarray], name: str, k: int, p: float) -> None:
    logits = torch.from_numpy(golden["E.filter_logits"])
    kept = torch.isfinite(top_p_filter(top_k_filter(logits, k), p))
    assert np.array_equal(kept.numpy(), golden[name].astype(bool))


def test_top_p_schedule(golden: dict[str, np.ndarray]) -> None:
    # Both sides are double precision; the order of operations may differ by a few roundings.
    np.testing.assert_allclose(top_p_schedule(1.0, 0.5, 9), golden["E.top_p_1_0.5_9"], rtol=0, atol=1e-12)
