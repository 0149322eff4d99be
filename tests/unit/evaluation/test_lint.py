"""The linter: silent about sets in order, and every planted defect is found under its name."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nvgbench.config.load import load_preset
from nvgbench.data.image_set import ImageSet, in_memory
from nvgbench.data.source import open_dataset
from nvgbench.evaluation.lint.checks import Subject, as_rows, check_predicted_order, check_training_networks, lint
from nvgbench.evaluation.lint.pixels import MOST, chunk_statistics, join, set_statistics, stride

KINDS = ("pink", "soft", "noise", "shapes", "blocky", "enlarged")


def pictures(kind: str, n: int, side: int, seed: int) -> torch.Tensor:
    """Images as models and cameras make them: rounded, clamped, with structure at all scales or at one."""
    rng = torch.Generator().manual_seed(seed)
    if kind == "shapes":
        return open_dataset("shapes", image_size=side, split="eval", limit=n, seed=seed).images(np.arange(n))
    if kind == "noise":
        return torch.randint(0, 256, (n, 3, side, side), generator=rng, dtype=torch.uint8)
    if kind in ("blocky", "enlarged"):
        small = torch.rand(n, 3, side // 4, side // 4, generator=rng)
        mode = "nearest" if kind == "blocky" else "bicubic"
        images = torch.nn.functional.interpolate(small, size=side, mode=mode) * 255
    else:
        frequency = (torch.fft.fftfreq(side)[:, None] ** 2 + torch.fft.fftfreq(side) ** 2).sqrt().clamp(min=1 / side)
        spectrum = torch.fft.fft2(torch.randn(n, 3, side, side, generator=rng)) / frequency ** (1 if kind == "pink" else 2)
        images = torch.fft.ifft2(spectrum).real
        images = images / images.std() * 60 + 128
    return images.clamp(0, 255).round().to(torch.uint8)


def findings(images: ImageSet, reference: ImageSet | None = None, **more) -> dict[str, str]:
    seen = None if reference is None else set_statistics(reference)
    subject = Subject(
        images=images, pixels=set_statistics(images), reference=reference, reference_pixels=seen, **({"dimension": 8} | more)
    )
    rows = as_rows(lint(subject))
    assert all(row["severity"] == "warning" and "\n" not in row["message"] for row in rows)
    return {row["check"]: row["message"] for row in rows}


def labels(kind: str, n: int, classes: int, seed: int) -> np.ndarray | None:
    if kind == "none":
        return None
    return np.arange(n) % classes if kind == "in turn" else np.random.default_rng(seed).integers(classes, size=n)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    side=st.sampled_from([16, 24, 32, 48]),
    n=st.integers(12, 60),
    seed=st.integers(0, 2**20),
    order=st.sampled_from(["none", "in turn", "random"]),
    classes=st.integers(1, 100),
    with_reference=st.booleans(),
)
def test_sets_in_order_are_met_with_silence(
    kind: str, side: int, n: int, seed: int, order: str, classes: int, with_reference: bool
) -> None:
    images = in_memory("x", pictures(kind, n, side, seed), labels(order, n, classes, seed))
    reference = None
    if with_reference:
        reference = in_memory("y", pictures(kind, 40, side, seed + 2**21), labels(order, 40, classes, seed + 1))
    assert findings(images, reference) == {}


@settings(max_examples=100, deadline=None)
@given(n=st.integers(12, 6000), classes=st.integers(1, 1000), seed=st.integers(0, 2**30), labelled=st.booleans())
def test_random_labels_are_met_with_silence(n: int, classes: int, seed: int, labelled: bool) -> None:
    """Label draws alone: their order and balance against even shares, or against another draw from the same uneven shares."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(classes, 2.0)) if labelled else np.full(classes, 1 / classes)
    drawn, other = (rng.choice(classes, size=count, p=shares) for count in (n, 3000))
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    pixels = chunk_statistics(grey)
    images = ImageSet(name="x", count=n, image_size=16, load=lambda _: grey, labels_N=drawn)
    reference = ImageSet(name="y", count=3000, image_size=16, load=lambda _: grey, labels_N=other) if labelled else None
    assert lint(Subject(images=images, pixels=pixels, reference=reference, dimension=8)) == []


def jpeg(images: torch.Tensor, quality: int) -> torch.Tensor:
    found = []
    for image in images.permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(image).save(file, format="JPEG", quality=quality)
        found.append(np.asarray(Image.open(file)))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).contiguous()


def copied(images: torch.Tensor) -> torch.Tensor:
    images = images.clone()
    images[7] = images[3]
    return images


def blank(images: torch.Tensor) -> torch.Tensor:
    images = images.clone()
    images[5] = 128
    return images


def truncated(images: torch.Tensor) -> torch.Tensor:
    """A model whose outputs end at 1, as after tanh: floor(x) where round(x) was meant."""
    rng = torch.Generator().manual_seed(1)
    return (torch.rand(images.shape, generator=rng) * 254.999).floor().to(torch.uint8)


DEFECTS: dict[str, tuple[str, Callable[[torch.Tensor], torch.Tensor], str]] = {
    "JPEG 95": ("jpeg", lambda images: jpeg(images, 95), "FID and KID would be higher"),
    "JPEG 75": ("jpeg", lambda images: jpeg(images, 75), "FID and KID would be higher"),
    "JPEG 50": ("jpeg", lambda images: jpeg(images, 50), "FID and KID would be higher"),
    "cast of [0, 1]": ("range", lambda images: (images.float() / 255).round().to(torch.uint8), "black images"),
    "half the range": ("range", lambda images: images // 2, "FID, KID and sFID would be higher"),
    "upper half": ("range", lambda images: images // 2 + 128, "bright"),
    "duplicates": ("duplicates", copied, "intervals too narrow"),
    "one colour": ("one colour", blank, "precision lower"),
    "truncation": ("rounding", truncated, "FID slightly higher"),
}


@pytest.mark.parametrize("kind", ["pink", "soft", "shapes"])
@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_defects_are_found(defect: str, kind: str, seed: int) -> None:
    check, plant, effect = DEFECTS[defect]
    found = findings(in_memory("x", plant(pictures(kind, 40, 48, seed))))
    assert effect in found[check]
    assert set(found) - {check} <= {"range"}  # e.g. images without contrast may also be copies of another


@pytest.mark.parametrize(
    ("top", "found"),
    [
        ((200, 210, 190, 205, 0), True),
        ((100, 150, 220, 400, 0), True),  # towards white backgrounds, as far as truncation lets them
        ((400, 300, 200, 110, 0), False),  # dark images, whose highest value may be 254 by chance
        ((100, 150, 220, 400, 1), False),
        ((90, 150, 220, 400, 0), False),
    ],
)
def test_truncation_is_told_by_the_counts_below_255(top: tuple[int, ...], found: bool) -> None:
    images = in_memory("x", pictures("noise", 40, 16, 0))
    histogram = np.full(256, 1000)
    histogram[251:] = top
    seen = dataclasses.replace(set_statistics(images), histogram_256=histogram)
    assert ("rounding" in [one.check for one in lint(Subject(images=images, pixels=seen, dimension=8))]) == found


def test_order_and_its_effect_on_the_inception_score() -> None:
    images = pictures("noise", 100, 16, 0)
    ordered = findings(in_memory("x", images, np.repeat(np.arange(10), 10)))["order"]
    assert "IS in the order given would be at most about 1 in 10 splits, against 10 shuffled" in ordered
    in_runs = np.repeat(np.random.default_rng(0).permutation(20) % 5, 5)  # each batch of one class, classes in any order
    assert "order" in findings(in_memory("x", images, in_runs))
    logits = np.eye(10, dtype=np.float32)[np.repeat(np.arange(10), 100)]
    assert [finding.check for finding in check_predicted_order(logits)] == ["order"]
    assert check_predicted_order(logits[np.random.default_rng(0).permutation(1000)]) == []


def test_balance_against_even_shares_and_against_the_reference() -> None:
    images = in_memory("x", pictures("noise", 100, 16, 0), np.random.default_rng(0).choice(4, 100, p=[0.7, 0.1, 0.1, 0.1]))
    assert "recall and coverage lower" in findings(images)["balance"]
    like = in_memory("y", pictures("noise", 100, 16, 1), np.random.default_rng(1).choice(4, 100, p=[0.7, 0.1, 0.1, 0.1]))
    assert findings(images, like) == {}
    single = in_memory("x", pictures("noise", 500, 16, 0), np.zeros(500, dtype=np.int64))
    ten = in_memory("y", pictures("noise", 100, 16, 1), np.arange(100) % 10)
    assert "9 absent" in findings(single, ten)["balance"]
    assert findings(single) == {}
    even = in_memory("y", pictures("noise", 100, 16, 1), np.arange(100) % 5)
    assert "1 absent" in findings(images, even)["balance"]


def test_numbers_and_the_reference() -> None:
    images = in_memory("x", pictures("noise", 40, 16, 0))
    assert "40 images are fewer than the 2048 features" in findings(images, dimension=2048)["number"]
    assert "published values use 50000: FID and sFID would be higher" in findings(images, stored_moments=True)["number"]
    again = in_memory("y", torch.cat([pictures("noise", 40, 16, 5), pictures("noise", 40, 16, 0)[:3]]))
    assert "3 of 40 images are also in the reference: FID and KID would be lower" in findings(images, again)["copies"]
    narrow = in_memory("x", (pictures("noise", 40, 16, 0) // 3 + 85))
    assert "lower contrast" in findings(narrow, again)["range"]
    loud = in_memory("x", ((pictures("noise", 40, 16, 0).float() - 128) * 2 + 128).clamp(0, 255).to(torch.uint8))
    assert "clipped" in findings(loud, again)["range"]
    dark = in_memory("x", pictures("noise", 40, 16, 0) // 3)
    assert findings(dark, in_memory("y", pictures("noise", 40, 16, 9) // 3)) == {}  # a reference of dark images


def test_jpeg_files_are_named(tmp_path: Path) -> None:
    from nvgbench.data.image_set import open_images

    for number, image in enumerate(pictures("pink", 12, 32, 0).permute(0, 2, 3, 1).numpy()):
        Image.fromarray(image).save(tmp_path / f"{number}.jpg")
    assert "12 of 12 files are in a lossy format" in findings(open_images(tmp_path))["jpeg"]


def test_chunks_together_equal_the_whole() -> None:
    images = pictures("pink", 53, 24, 0)
    whole, step = chunk_statistics(images, 3), 3
    parts = join(
        [chunk_statistics(part, step, start) for start, part in ((0, images[:10]), (10, images[10:31]), (31, images[31:]))]
    )
    for name in ("hashes_N", "histogram_256", "zeros_MG"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    assert len(whole.zeros_MG) == 18
    none_closely = chunk_statistics(images[1:2], step, 1)
    assert none_closely.zeros_MG.shape == (0, whole.zeros_MG.shape[1])
    assert none_closely.histogram_256.sum() == 0
    assert all((count - 1) // stride(count) < MOST for count in (1, MOST, MOST + 1, 50_000))


def test_labels_up_to_two_billion_take_no_memory() -> None:
    """Counting them in one array would take 16 GB."""
    few = np.array([0, 7, 10**6, 2**31 - 1], dtype=np.int64)
    images = in_memory("x", pictures("noise", 100, 16, 0), few[np.random.default_rng(0).permutation(100) % 4])
    assert findings(images) == {}
    assert findings(images, in_memory("y", pictures("noise", 100, 16, 1), few[np.arange(100) % 4])) == {}
    unlike = in_memory("y", pictures("noise", 100, 16, 1), few[np.arange(100) % 2])
    assert "balance" in findings(images, unlike)
    sorted_set = in_memory("x", pictures("noise", 100, 16, 0), np.sort(few[np.arange(100) % 4]))
    assert "of neighbours share their class" in findings(sorted_set)["order"]


def test_lossy_files_and_single_colours_are_seen_on_both_sides(tmp_path: Path) -> None:
    from PIL import Image

    from nvgbench.data.image_set import open_images

    images = pictures("noise", 12, 16, 0).permute(0, 2, 3, 1).numpy()
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png", format="JPEG")  # told by content, not by name
    samples = in_memory("x", pictures("noise", 12, 16, 1))
    assert "12 of 12 files of the reference are in a lossy format" in findings(samples, open_images(tmp_path))["jpeg"]
    black = in_memory("y", pictures("noise", 12, 16, 2) * torch.tensor([0] + [1] * 11, dtype=torch.uint8)[:, None, None, None])
    assert "1 of 12 images of the reference are of a single colour" in findings(samples, black)["one colour"]


@pytest.mark.parametrize(
    ("settings", "extractor", "key"),
    [
        (["tokenizer.losses.perceptual=efficientnet-lite0"], "efficientnet-lite0", "tokenizer.losses.perceptual"),
        (["tokenizer.losses.perceptual=efficientnet-lite0"], "efficientnet-lite1", "tokenizer.losses.perceptual"),
        (["tokenizer.losses.perceptual=efficientnet-lite0"], "classifier", ""),
        (["tokenizer.losses.perceptual=efficientnet-lite0", "tokenizer.losses.perceptual_weight=0"], "efficientnet-lite0", ""),
        (["model.alignment=auto"], "dinov2", "model.alignment"),
        (["model.alignment=efficientnet-lite0"], "dinov2", ""),
        ([], "efficientnet-lite0", ""),
    ],
)
def test_an_extractor_of_the_training_losses_is_flagged(settings: list[str], extractor: str, key: str) -> None:
    found = check_training_networks(load_preset("nvg-tiny", settings), extractor)
    assert [finding.check for finding in found] == ["extractor"] * bool(key)
    assert all(f"`{key}=" in finding.message and "flatter" in finding.message for finding in found)
