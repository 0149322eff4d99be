"""The study of alignment on exact masks, with an encoder that sees mean colours, and on a folder like BSDS500."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.io import savemat
from torch import Tensor

from nvgbench.ablations import alignment
from nvgbench.ablations.alignment import Alignment, all_maps, best_stages
from nvgbench.ablations.annotations import annotated_images
from nvgbench.ablations.study import Context, StudiedRun, Tables
from nvgbench.ablations.subject import Subject
from nvgbench.config.schema import DataConfig
from nvgbench.errors import InputError

SIZE, GRID, IMAGES = 32, (8, 8), 12


def encode(images_B3HW: Tensor) -> Tensor:
    return F.avg_pool2d(images_B3HW, SIZE // GRID[0])


def run(source: str = "shapes") -> Any:
    return SimpleNamespace(name="run", config=SimpleNamespace(data=DataConfig(source=source, image_size=SIZE)))


def context(**changes: Any) -> Context:
    return Context(root=Path(), device=torch.device("cpu"), images=IMAGES, samples=2, **changes)


@pytest.fixture(scope="module")
def tables() -> Tables:
    patch = pytest.MonkeyPatch()
    patch.setattr(alignment, "open_subject", lambda folder, device: Subject(name="run", encode=encode, grid=GRID))
    found = Alignment().measure(StudiedRun("run", 0, run()), context())
    patch.undo()
    return {name: [{"variant": "run", "seed": 0, "run": "run"} | row for row in rows] for name, rows in found.items()}


def values(tables: Tables, measure: str, level: str = "object", tokens: int = 8) -> dict[str, float]:
    rows = [row for row in tables["alignment"] if (row["level"], row["tokens"]) == (level, tokens)]
    return {row["clustering"]: row[f"{measure}_mean"] for row in rows}


def test_the_leading_measures_tell_the_oracle_from_features_and_features_from_chance(tables: Tables) -> None:
    for level in ("semantic", "object", "part"):
        covering = {
            row["clustering"]: row["ois"]
            for row in tables["alignment_best"]
            if (row["level"], row["measure"]) == (level, "covering")
        }
        # Both are balanced, which fits masks of two regions badly: the oracle is built greedily and no strict bound there.
        assert covering["oracle"] > covering["greedy"] - (0.02 if level == "semantic" else 0)
        assert min(covering["oracle"], covering["greedy"]) > covering["random"] + 0.02
    recall, bits = values(tables, "boundary recall"), values(tables, "VoI")
    assert recall["SLIC of pixels"] > recall["quadtree"]
    assert bits["oracle"] < bits["greedy"] < bits["random"]  # lower is better


def test_every_stage_clustering_and_level_has_a_row(tables: Tables) -> None:
    names = {"greedy", "greedy, connected", "quadtree", "random", "k-means", "SLIC", "SLIC of pixels", "oracle"}
    places = {(row["clustering"], row["level"], row["tokens"]) for row in tables["alignment"]}
    assert places == {(name, level, n) for name in names for level in ("semantic", "object", "part") for n in (2, 4, 8, 16, 32)}
    exact = values(tables, "segments")
    assert {exact[name] for name in ("greedy", "quadtree", "random", "k-means", "oracle")} == {8}
    assert exact["greedy, connected"] > 8


def test_the_finding_compares_with_a_fixed_grid(tables: Tables) -> None:
    found = Alignment().conclude(tables)
    assert {one.verdict for one in found.findings} <= {"better", "worse", "inconclusive"}
    assert [one.metric for one in found.findings] == ["covering"] * 3
    assert all("against a quadtree" in one.text for one in found.findings)


def test_equal_maps_show_no_difference() -> None:
    scores = {(name, "object", 4, "covering"): np.array([0.5, 0.25]) for name in ("greedy", "quadtree")}
    scores |= {(name, "object", 4, measure): np.ones(2) for name in ("greedy", "quadtree") for measure in ("PRI", "VoI")}
    (row,) = [
        row | {"run": "a"} for row in best_stages(scores) if (row["clustering"], row["measure"]) == ("greedy", "covering")
    ]
    assert (row["gain_mean"], row["gain_low"]) == (0.0, None)
    (finding,) = Alignment().conclude({"alignment": [], "alignment_best": [row]}).findings
    assert finding.verdict == "no difference"


def test_the_best_stage_of_each_image_and_of_all() -> None:
    scores = {
        ("greedy", "x", 2, "covering"): np.array([0.2, 0.8]),
        ("greedy", "x", 4, "covering"): np.array([0.6, 0.1]),
        ("quadtree", "x", 2, "covering"): np.array([0.1, 0.3]),
    }
    scores |= {(name, "x", 2, "VoI"): np.array([2.0, 4.0]) for name in ("greedy", "quadtree")}
    scores |= {("greedy", "x", 4, "VoI"): np.array([3.0, 1.0])}
    found = {(row["clustering"], row["measure"]): row for row in best_stages(scores)}
    assert (found["greedy", "covering"]["ods"], found["greedy", "covering"]["ois"]) == pytest.approx((0.5, 0.7))
    assert found["greedy", "covering"]["gain_mean"] == pytest.approx(0.5)
    assert (found["greedy", "VoI"]["ods"], found["greedy", "VoI"]["ois"]) == pytest.approx((2.0, 1.5))


def bsds(root: Path) -> Path:
    """Two images, 48 pixels wide and 32 high; the annotation of both people is a step in the middle."""
    for folder in ("images/val", "groundTruth/val"):
        (root / folder).mkdir(parents=True)
    for name in ("1", "2"):
        step = np.ones((32, 48), np.uint16)
        step[:, 24:] = 2
        Image.fromarray((step[..., None] * np.uint8([90, 40, 20])).astype(np.uint8)).save(root / f"images/val/{name}.jpg")
        cells = np.empty((1, 2), object)
        for person in range(2):
            cells[0, person] = {"Segmentation": step + person}
        savemat(root / f"groundTruth/val/{name}.mat", {"groundTruth": cells})
    return root


def test_a_folder_like_bsds500_is_read(tmp_path: Path) -> None:
    count, images = annotated_images(run(), context(data=f"bsds:{bsds(tmp_path)}"))
    found = list(images)
    assert count == len(found) == 2
    (level,) = found[0].levels
    assert (level, len(found[0].levels[level])) == ("people", 2)
    labels = found[0].levels[level][0]
    assert labels.shape == found[0].image_HW3.shape[:2] == (SIZE, SIZE)
    np.testing.assert_array_equal(labels[:, :16], 1)  # the middle of the central square
    np.testing.assert_array_equal(labels[:, 16:], 2)
    maps = all_maps(Subject(name="run", encode=encode, grid=GRID), found, torch.Generator().manual_seed(0))
    for name in ("greedy", "oracle people"):
        halves = maps[name][2][0]
        assert len(np.unique(halves[:, :16])) == len(np.unique(halves[:, 16:])) == 1


def test_a_folder_like_ade20k_is_read(tmp_path: Path) -> None:
    step = np.zeros((32, 48), np.uint8)
    step[:, 24:] = 150
    for folder in ("images/training", "annotations/training", "annotations-2/training"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("1", "2", "unannotated"):
        Image.fromarray(np.stack([step] * 3, axis=-1)).save(tmp_path / f"images/training/{name}.jpg")
    for name in ("1", "2"):
        Image.fromarray(step).save(tmp_path / f"annotations/training/{name}.png")
    # The second annotator has marked one image, with labels in the colours of a picture that differ in green alone.
    colours = np.zeros((32, 48, 3), np.uint8)
    colours[16:, :, 1] = 1
    Image.fromarray(colours).save(tmp_path / "annotations-2/training/1.png")
    count, images = annotated_images(run(), context(data=f"ade20k:{tmp_path}"))
    first, second = images
    assert (count, len(first.levels["people"]), len(second.levels["people"])) == (2, 2, 1)
    across, down = first.levels["people"]
    np.testing.assert_array_equal(across, np.repeat([[0, 150]], SIZE, 0).repeat(SIZE // 2, 1))
    np.testing.assert_array_equal(np.unique(down[: SIZE // 2]), [0])
    np.testing.assert_array_equal(np.unique(down[SIZE // 2 :]), [256])


def test_annotations_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected ADE20K's layout"):
        annotated_images(run(), context(data=f"ade20k:{tmp_path}"))
    for folder in ("images/training", "annotations/training"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (48, 32)).save(tmp_path / "images/training/1.jpg")
    source = context(data=f"ade20k:{tmp_path}")
    Image.new("L", (32, 48)).save(tmp_path / "annotations/training/1.png")
    with pytest.raises(InputError, match="32 x 48 pixels, its annotation 48 x 32"):
        list(annotated_images(run(), source)[1])
    (tmp_path / "annotations/training/1.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"1\.png is no picture"):
        list(annotated_images(run(), source)[1])


def test_images_without_annotations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected BSDS500's layout"):
        annotated_images(run(), context(data=f"bsds:{tmp_path}"))
    np.savez(tmp_path / "x.npz", arr_0=np.zeros((4, SIZE, SIZE, 3), np.uint8))
    with pytest.raises(InputError, match="has no segmentations"):
        annotated_images(run(), context(data=f"npz:{tmp_path}/x.npz"))
    root = bsds(tmp_path / "bad")
    (root / "groundTruth/val/1.mat").write_bytes(b"no matlab")
    _, images = annotated_images(run(), context(data=f"bsds:{root}"))
    with pytest.raises(InputError, match=r"1\.mat is no ground truth"):
        list(images)
