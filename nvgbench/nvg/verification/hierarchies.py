"""Section A: clusterings with their child order. Shape letters: B batch, S stages, L positions, C channels, n clusters."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from nvgbench.nvg.clustering import build_structure, joining_order
from nvgbench.nvg.sequential import sequential_order, structure_of_order
from nvgbench.parity.ledger import Ledger

FLAT = "flat image regions: float32 cancellation of the original decides the pairs; nested and balanced as required"
_REPLAYED = "with the original's float32 distances"
# Rounding of a squared distance in the Gram form, as a share of the squared lengths that cancel in it.
_CANCELLATION = 1e-5


def check(ledger: Ledger) -> None:
    """All clusterings: ``A.NAME.points`` in, ``labels`` and ``raw`` out.

    Exact distances must give the stored result up to float32 rounding. In flat image regions the pairs may differ; elsewhere
    only their order may, and float32 distances must then give the stored order.
    """
    for name in sorted({array.rpartition(".")[0] for array in ledger.named("A.")}):
        points_BLC = ledger.given(f"{name}.points")
        ledger.inputs(f"{name}.points")
        structure_BSL = build_structure(points_BLC, tie_break="index").cpu().numpy()
        raw_BSL = joining_order(points_BLC, tie_break="index").cpu().numpy()
        flat = ledger.fixture.settings.get(name, {}).get("flat", False)
        if ledger.has(f"{name}.labels"):
            stored_BSL = ledger.fixture.array(f"{name}.labels").astype(np.int64)
            excuse = FLAT if flat and is_hierarchy(stored_BSL) else ""
            if not ledger.equal(f"{name}.labels", structure_BSL, excuse=excuse) and excuse:
                _replay(ledger, f"{name}.labels", excuse)
            structure_BSL = stored_BSL if flat else structure_BSL
        if ledger.has(f"{name}.raw"):
            _check_order(ledger, f"{name}.raw", raw_BSL, structure_BSL, flat)


def _check_order(ledger: Ledger, name: str, raw_BSL: np.ndarray, structure_BSL: np.ndarray, flat: bool) -> None:
    """The order in which pairs were joined; pairs whose distances are equal up to float32 rounding may be swapped."""
    stored_BSL = ledger.fixture.array(name).astype(np.int64)
    if np.array_equal(stored_BSL, raw_BSL):
        ledger.equal(name, raw_BSL)
        return
    points_BLC = ledger.fixture.array(name.removesuffix("raw") + "points").astype(np.float64)
    same_clusters = stored_BSL.shape == structure_BSL.shape and all(
        len(np.unique(np.stack([stored_L, structure_L]), axis=1).T) == len(np.unique(structure_L))
        for stored_L, structure_L in zip(_rows(stored_BSL), _rows(structure_BSL), strict=True)
    )
    if not same_clusters or not _joined_in_order(points_BLC, stored_BSL):
        ledger.equal(name, raw_BSL)
        return
    if flat:
        ledger.equal(name, raw_BSL, excuse=FLAT)
    _replay(ledger, name, FLAT if flat else "")


def _replay(ledger: Ledger, name: str, excuse: str) -> None:
    """Recompute with the original's rounding."""
    order_BSL = float32_order(ledger.fixture.array(f"{name.rpartition('.')[0]}.points"))
    ours_BSL = order_BSL if name.endswith(".raw") else structure_of_order(order_BSL)
    ledger.equal(name, ours_BSL, _REPLAYED, excuse=excuse)


def float32_order(points_BLC: np.ndarray) -> Tensor:
    """The order of joining ``[B, S, L]`` by float32 distances, with which the golden structure maps were made.

    It may differ from that of exact arithmetic for pairs whose distances are equal up to rounding. Always on a CPU, because the
    rounding is that of its matrix product.
    """
    with torch.autocast("cpu", enabled=False):
        # Cast by numpy: float64 arithmetic replaces torch's casts to float32.
        return torch.stack([sequential_order(torch.from_numpy(points_LC)) for points_LC in points_BLC.astype(np.float32)])


def _rows(structure_BSL: np.ndarray) -> np.ndarray:
    return structure_BSL.reshape(-1, structure_BSL.shape[-1])


def is_hierarchy(structure_BSL: np.ndarray) -> bool:
    """Whether the structure maps of every image are nested and balanced, down to single positions."""
    finest_BL = structure_BSL[:, -1]
    permutation = np.array_equal(np.sort(finest_BL, axis=1), np.broadcast_to(np.arange(finest_BL.shape[1]), finest_BL.shape))
    return permutation and np.array_equal(structure_BSL[:, :-1], structure_BSL[:, 1:] // 2)


def _joined_in_order(points_BLC: np.ndarray, raw_BSL: np.ndarray) -> bool:
    """Whether clusters were joined in pairs, closer pairs first, up to float32 rounding."""
    length = points_BLC.shape[1]
    if not np.array_equal(raw_BSL[:, -1], np.broadcast_to(np.arange(length), raw_BSL[:, -1].shape)):
        return False
    for points_LC, raw_SL in zip(points_BLC, raw_BSL, strict=True):
        for parent_L, child_L in itertools.pairwise(raw_SL):
            count = int(child_L.max()) + 1
            children_2m = np.unique(np.stack([parent_L, child_L]), axis=1)
            if children_2m.shape[1] != count or not np.array_equal(children_2m[0], np.arange(count) // 2):
                return False
            means_nC = np.zeros((count, points_LC.shape[1]))
            np.add.at(means_nC, child_L, points_LC)
            first_mC, second_mC = means_nC[children_2m[1]].reshape(-1, 2, points_LC.shape[1]).swapaxes(0, 1) * count / length
            distance_m = np.square(first_mC - second_mC).sum(1)
            noise_m = _CANCELLATION * (np.square(first_mC) + np.square(second_mC)).sum(1)
            if (distance_m[:-1] > distance_m[1:] + noise_m[:-1] + noise_m[1:]).any():
                return False
    return True
