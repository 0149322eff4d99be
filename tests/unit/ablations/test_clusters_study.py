"""The study of structure maps, with encoders whose behaviour is known instead of trained tokenizers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nvgbench.ablations.clusterings import FAST, Maps, slic, slow_clusterings
from nvgbench.ablations.clusters import compare_tokenizers, explained_variance, study_clusters
from nvgbench.ablations.subject import Subject
from nvgbench.ablations.views import View, views
from nvgbench.data.dataset import ImageDataset
from nvgbench.data.source import open_dataset
from nvgbench.errors import InputError
from nvgbench.nvg.clustering import build_structure

GRID, SIZE, IMAGES = (8, 8), 32, 40


def pooled_encoder(seed: int = 0) -> Subject:
    """Mean colour of each cell, lifted to 8 channels: mirrors and whole-cell shifts commute with it."""
    lift_83 = torch.randn(8, 3, generator=torch.Generator().manual_seed(seed))

    def encode(images_B3HW: Tensor) -> Tensor:
        return torch.einsum("dc,bchw->bdhw", lift_83, F.avg_pool2d(images_B3HW, SIZE // GRID[0]))

    return Subject(name=f"pooled-{seed}", encode=encode, grid=GRID)


class Noise(ImageDataset):
    """Images without equal cells, so that no distances are tied."""

    def __init__(self, count: int = IMAGES) -> None:
        rng = np.random.default_rng(0)
        self.pixels = rng.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
        labels = np.zeros(count, dtype=np.int64)
        super().__init__(name="noise", classes=("noise",), labels=labels, image_size=SIZE, fingerprint="noise")

    def read(self, index: int) -> np.ndarray:
        return self.pixels[index]


def run(subject: Subject, dataset: ImageDataset | None = None, images: int = IMAGES, seed: int = 0, slow: int = 1) -> dict:
    return study_clusters(subject, dataset or Noise(images), seed=seed, slow_images=slow)


def run_pairs(subjects: Sequence[Subject], images: int = 8) -> dict:
    return {"cluster_stability": compare_tokenizers(subjects, Noise(images), seed=0)}


def scores(tables: dict, perturbation: str, clustering: str, level: str | None = None, key: str = "ari_mean") -> list[float]:
    return [
        row[key]
        for row in tables["cluster_stability"]
        if (row["perturbation"], row["clustering"]) == (perturbation, clustering) and level in (None, row["level"])
    ]


@pytest.fixture(scope="module")
def tables() -> dict:
    return run(pooled_encoder(), slow=2)


def test_every_view_has_a_row_for_every_clustering_and_inner_stage(tables: dict) -> None:
    fast = [row for row in tables["cluster_stability"] if row["clustering"] in FAST]
    settings = {(row["perturbation"], row["level"]) for row in fast}
    assert len(settings) == len(views(GRID, SIZE)) + 2  # chance, and ties of the greedy maps
    assert len(fast) == ((len(settings) - 1) * len(FAST) + 1) * 5
    assert {row["tokens"] for row in fast} == {2, 4, 8, 16, 32}
    assert {row["n"] for row in fast} == {IMAGES}
    slow = {row["clustering"]: row["n"] for row in tables["cluster_stability"] if row["clustering"] not in FAST}
    assert set(slow.values()) == {2}
    assert set(slow) == set(slow_clusterings(pooled_encoder()))
    banded = [row for row in tables["cluster_stability"] if row["ari_low"] is not None]  # none where all images agree
    assert len(banded) > len(tables["cluster_stability"]) / 2
    assert all(row["ari_low"] <= row["ari_mean"] <= row["ari_high"] for row in banded)
    assert "seed" not in {row["perturbation"] for row in tables["cluster_stability"]}


def test_greedy_maps_follow_a_mirrored_image_exactly(tables: dict) -> None:
    assert scores(tables, "flip", "greedy") == [1.0] * 5


def test_noise_lowers_the_agreement_of_greedy_maps_only(tables: dict) -> None:
    weak, strong = scores(tables, "noise", "greedy", "0.0001"), scores(tables, "noise", "greedy", "0.1")
    assert all(a > b + 0.1 for a, b in zip(weak, strong, strict=True))
    assert set(scores(tables, "noise", "quadtree")) == {1.0}


def test_random_splits_and_other_images_agree_by_chance_only(tables: dict) -> None:
    # 40 images: the mean's standard error is below 0.01 at every stage.
    assert max(map(abs, scores(tables, "noise", "random"))) < 0.05
    assert max(map(abs, scores(tables, "chance", "random"))) < 0.05
    assert max(map(abs, scores(tables, "chance", "greedy"))) < 0.05
    assert set(scores(tables, "chance", "quadtree")) == {1.0}
    assert scores(tables, "chance", "random", key="nmi_mean")[-1] > 0.7


def test_tie_rules_change_no_map_without_ties(tables: dict) -> None:
    assert scores(tables, "ties", "greedy") == [1.0] * 5


def test_seeds_are_compared_pair_by_pair() -> None:
    twin = dataclasses.replace(pooled_encoder(0), name="twin")
    tables = run_pairs([pooled_encoder(0), twin, pooled_encoder(1)])
    assert set(scores(tables, "seed", "greedy", "pooled-0 / twin")) == {1.0}
    assert scores(tables, "seed", "greedy", "twin / pooled-1") == scores(tables, "seed", "greedy", "pooled-0 / pooled-1")
    assert max(scores(tables, "seed", "greedy", "pooled-0 / pooled-1")) < 1
    assert max(map(abs, scores(tables, "seed", "random"))) < 0.2


def test_the_seed_decides_all_draws() -> None:
    first, again, other = (run(pooled_encoder(), images=4, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_greedy_explains_most_and_random_least_of_smooth_images() -> None:
    tables = run(pooled_encoder(), open_dataset("shapes", image_size=SIZE, split="eval", limit=16))
    share = {name: [row["explained_mean"] for row in tables["cluster_quality"] if row["clustering"] == name] for name in FAST}
    assert all(a > b > c for a, b, c in zip(share["greedy"], share["quadtree"], share["random"], strict=True))
    assert all(shares == sorted(shares) for shares in share.values())


def test_explained_variance_against_its_definition() -> None:
    latent_BChw = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    points_BLC = latent_BChw.flatten(2).transpose(1, 2)
    structure_BSL = build_structure(points_BLC)
    maps: Maps = {2**stage: structure_BSL[:, stage] for stage in range(5)}
    shares = explained_variance(latent_BChw, maps)
    np.testing.assert_allclose(shares[1], 0, atol=1e-12)
    np.testing.assert_allclose(shares[16], 1, rtol=1e-12)
    points, labels = points_BLC[1].double().numpy(), structure_BSL[1, 2].numpy()
    within = sum(((points[labels == k] - points[labels == k].mean(0)) ** 2).sum() for k in range(4))
    total = ((points - points.mean(0)) ** 2).sum()
    np.testing.assert_allclose(shares[4][1], 1 - within / total, rtol=1e-9)
    unequal_BL = torch.tensor([[0] * 15 + [1]])
    alone = explained_variance(latent_BChw[:1], {2: unequal_BL})[2]
    points = points_BLC[0].double().numpy()
    within = ((points[:15] - points[:15].mean(0)) ** 2).sum()
    np.testing.assert_allclose(alone[0], 1 - within / ((points - points.mean(0)) ** 2).sum(), rtol=1e-9)
    assert np.isnan(explained_variance(torch.zeros(1, 4, 4, 4), {2: unequal_BL})[2]).all()


def by_name(perturbation: str) -> list[View]:
    return [view for view in views(GRID, SIZE) if view.perturbation == perturbation]


def test_shifted_maps_are_laid_over_the_common_region() -> None:
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    base_Bhw = F.avg_pool2d(images, 4)[:, 0]
    for view, cells in zip(by_name("shift"), (1, 2), strict=True):
        assert view.image is not None
        first, other = view.align(base_Bhw, F.avg_pool2d(view.image(images), 4)[:, 0])
        assert first.shape == (2, 8 * (8 - cells))
        torch.testing.assert_close(first, other)


def test_cropped_maps_are_compared_under_the_cells_centres() -> None:
    ramp = torch.linspace(-1, 1, SIZE)
    for image in (ramp.expand(1, 3, SIZE, SIZE), ramp[:, None].expand(1, 3, SIZE, SIZE)):
        base_Bhw = F.avg_pool2d(image, 4)[:, 0]
        for view in by_name("crop"):
            assert view.image is not None
            first, other = view.align(base_Bhw, F.avg_pool2d(view.image(image), 4)[:, 0])
            # The nearest cell is at most half a cell away, which the ramp climbs by 1 / 8.
            assert (first - other).abs().max() < 1 / 8 + 0.01


def test_slic_follows_the_features_whatever_their_scale() -> None:
    image = torch.zeros(8, 8)
    image[:, 3:] = 1  # an edge that no grid of seeds has
    image[0, 7] = 4  # one value far off, which makes all others small next to the range
    noise = 0.01 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    maps = [slic(pooled_encoder(), scale * (image + noise), torch.Generator())[4] for scale in (1.0, 1000.0)]
    assert torch.equal(*maps)
    left, right = (set(part.flatten().tolist()) for part in (maps[0].view(8, 8)[:, :3], maps[0].view(8, 8)[:, 3:]))
    assert left
    assert not left & right


def test_small_grids_lose_the_views_they_have_no_room_for() -> None:
    assert {view.perturbation for view in views((2, 2), 8)} == {"noise", "bf16", "flip", "shift"}


def test_refuses_what_cannot_be_studied() -> None:
    with pytest.raises(InputError, match="use 2 or more"):
        run(pooled_encoder(), images=1)
    odd = Subject(name="odd", encode=lambda images: images, grid=(6, 6))
    with pytest.raises(InputError, match="odd has no hierarchy"):
        run(odd)
    larger = Subject(name="larger", encode=lambda images: images, grid=(16, 16))
    with pytest.raises(InputError, match="same grid"):
        run_pairs([pooled_encoder(), larger])
    with pytest.raises(InputError, match="same name"):
        run_pairs([pooled_encoder(), pooled_encoder()])
    with pytest.raises(InputError, match="trivial"):
        run(Subject(name="flat", encode=lambda images: images, grid=(2, 2), group_size=4))
