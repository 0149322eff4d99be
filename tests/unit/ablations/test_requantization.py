"""Quantization over other clusters and stages, against the quantizer itself and a transcription in numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from nvgbench.ablations.clusters import Clusters
from nvgbench.ablations.numbering import numbering
from nvgbench.ablations.requantization import canvases, quantization_error, requantize, schedules
from nvgbench.ablations.subject import Subject
from nvgbench.autoencoder.tokenizer import ConvTokenizer
from nvgbench.data.source import open_dataset
from nvgbench.errors import InputError

IMAGES = 6


class Means:
    """Mean colours as features."""

    name, fingerprint, provenance = "means", "means", {}

    def __call__(self, images_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.nn.functional.avg_pool2d(images_B3HW.float(), 8).flatten(1)
        return features, features


@pytest.fixture(scope="module")
def tokenizer(small: Callable) -> ConvTokenizer:
    return small("nvg").tokenizer.eval()


@pytest.fixture(scope="module")
def subject(tokenizer: ConvTokenizer) -> Subject:
    return Subject(name="small", encode=tokenizer.latent, grid=tokenizer.grid, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def tables(subject: Subject) -> dict:
    dataset = open_dataset("shapes", image_size=16, split="eval", limit=IMAGES)
    return requantize(subject, dataset, Means(), seed=0, slow_images=2)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def latent_BChw() -> Tensor:
    return torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_the_methods_own_maps_give_the_quantizers_own_canvases(tokenizer: ConvTokenizer, latent_BChw: Tensor) -> None:
    quantizer = tokenizer.quantizer
    structure_BSL = quantizer.structure(latent_BChw)  # type: ignore[operator]
    maps = {tokens: structure_BSL[:, stage] for stage, tokens in enumerate(tokenizer.stage_tokens)}
    found = torch.stack([canvas for _, canvas in canvases(quantizer, latent_BChw, maps)], dim=1)
    # The same codes; their sums are rounded in another order.
    torch.testing.assert_close(found, tokenizer.canvases(quantizer.tokenize(latent_BChw)), rtol=1e-5, atol=1e-6)  # type: ignore[operator]


@torch.no_grad()
def test_unequal_clusters_and_left_out_stages_against_a_transcription(tokenizer: ConvTokenizer, latent_BChw: Tensor) -> None:
    quantizer = tokenizer.quantizer
    unequal_L = torch.tensor([0] * 5 + [2] * 10 + [3])  # cluster 1 is empty
    maps = {1: torch.zeros(3, 16, dtype=torch.int64), 4: unequal_L.expand(3, -1)}
    *_, (tokens, found) = canvases(quantizer, latent_BChw, maps)
    assert tokens == 4
    codes_VC = quantizer.codebook_VC.numpy()  # type: ignore[union-attr, operator]
    target_LC, canvas_LC = latent_BChw[1].flatten(1).T.numpy(), np.zeros((16, 4), np.float32)
    for stage, labels_L in ((0, np.zeros(16, int)), (2, unequal_L.numpy())):
        assigned_LC = np.zeros_like(canvas_LC)
        for label in np.unique(labels_L):
            mean_C = (target_LC - canvas_LC)[labels_L == label].mean(0)
            assigned_LC[labels_L == label] = codes_VC[((codes_VC - mean_C) ** 2).sum(1).argmin()]
        refined = quantizer.refiners[stage](torch.from_numpy(assigned_LC.T.reshape(1, 4, 4, 4)))  # type: ignore[index, union-attr, operator]
        canvas_LC += refined[0].flatten(1).T.numpy()
    np.testing.assert_allclose(found[1].flatten(1).T.numpy(), canvas_LC, rtol=1e-5, atol=1e-6)


def test_the_error_is_a_share_of_the_sum_of_squares(latent_BChw: Tensor) -> None:
    means = latent_BChw.mean((2, 3), keepdim=True).expand_as(latent_BChw)
    np.testing.assert_allclose(quantization_error(means, latent_BChw), 1, rtol=1e-6)
    assert (quantization_error(latent_BChw, latent_BChw) == 0).all()
    assert np.isnan(quantization_error(means, torch.ones_like(latent_BChw))).all()


def test_schedules_of_nine_five_and_three_stages() -> None:
    nine = schedules(tuple(2**stage for stage in range(9)))
    assert nine == {
        "all": (1, 2, 4, 8, 16, 32, 64, 128, 256),
        "groups of 4": (1, 4, 16, 64, 256),
        "groups of 16": (1, 16, 256),
        "growing groups": (1, 2, 4, 16, 256),
        "shrinking groups": (1, 16, 64, 128, 256),
    }
    assert set(schedules((1, 2, 4, 8, 16))) == {"all", "groups of 4", "growing groups", "shrinking groups"}
    assert set(schedules((1, 4, 16))) == {"all"}


def test_every_clustering_and_schedule_is_reconstructed(tables: dict) -> None:
    rows = {(row["clustering"], row["stages"]): row for row in tables["reconstruction"]}
    names = {"greedy", "quadtree", "random", "k-means", "Ward", "SLIC", "matching"}
    assert {clustering for clustering, stages in rows if stages == "all"} == names
    assert {stages for clustering, stages in rows if clustering == "greedy"} == set(schedules((1, 2, 4, 8, 16)))
    own = rows["greedy", "all"]
    assert (own["tokens"], own["difference_mean"], own["n"]) == (31, 0.0, IMAGES)
    assert rows["greedy", "groups of 4"]["tokens"] == 21
    assert own["rFD[means]"] > 0
    assert (rows["Ward", "all"]["n"], rows["Ward", "all"]["rFD[means]"]) == (2, None)
    last = [row for row in tables["quantization_error"] if (row["clustering"], row["tokens"]) == ("greedy", 16)]
    assert last[0]["error_mean"] == own["error_mean"]


def test_the_finding_compares_fewer_stages_with_all_of_them(tables: dict) -> None:
    rows = [{"run": "small"} | row for row in tables["reconstruction"]]
    found = Clusters().conclude({"cluster_stability": [], "reconstruction": rows})
    assert found.findings == []  # a run without agreements has no page
    stable = {"perturbation": "noise", "level": "0.01", "clustering": "greedy", "tokens": 2, "ari_mean": 1.0, "ari_low": None}
    found = Clusters().conclude(
        {"cluster_stability": [stable | {"ari_high": None, "n": 2, "run": "small"}], "reconstruction": rows}
    )
    texts = [one.text for one in found.findings if one.metric == "quantization error"]
    assert len(texts) == 5
    assert any("in groups of 4 (21 tokens)" in text for text in texts)
    assert any("random clusters" in text for text in texts)


def test_numbers_of_clusters_are_kept_without_changes_and_lost_by_random_orders(subject: Subject) -> None:
    dataset = open_dataset("shapes", image_size=16, split="eval", limit=IMAGES)
    rows = [row for row in numbering(subject, dataset, seed=0) if row["level"] == "0.0001"]
    share = {
        name: np.mean([row["same_mean"] for row in rows if row["order"] == name]) for name in ("matched", "raster", "random")
    }
    assert share["random"] < 0.5 < min(share["matched"], share["raster"])


def test_an_encoder_alone_cannot_be_requantized() -> None:
    dataset = open_dataset("shapes", image_size=16, split="eval", limit=2)
    with pytest.raises(InputError, match="no quantizer"):
        requantize(Subject(name="bare", encode=lambda images: images, grid=(4, 4)), dataset, seed=0)
