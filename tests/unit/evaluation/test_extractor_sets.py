"""Evaluation with a set of extractors: one reading, a record each, FDr of the set, and what is refused or missing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nvgbench.config.schema import DataConfig
from nvgbench.data import catalog
from nvgbench.data.image_set import ImageSet
from nvgbench.errors import InputError
from nvgbench.evaluation.anchors import real_images as anchor
from nvgbench.evaluation.evaluate import Evaluator
from nvgbench.evaluation.options import EvaluationOptions
from nvgbench.evaluation.ratio import real_images
from nvgbench.extractors import sets
from nvgbench.results.compare import Scored, why_not_comparable
from nvgbench.results.store import ResultStore
from tests.unit.evaluation.test_evaluate import Painter, Thumbnails, coloured, named, offline, stub_run  # noqa: F401

SMALL: dict[str, Any] = {"batch_size": 16}


class Halves(Thumbnails):
    """Another network: means of the rows."""

    fingerprint = "e" * 64

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return images.float().mean(dim=3).flatten(1)[:, ::4] / 255, torch.empty(len(images), 0)


@pytest.fixture(autouse=True)
def a_set(offline: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    def opened(name: str, request: object) -> Thumbnails:
        if name == "clip":
            raise InputError("clip needs weights")
        return Halves(name) if name == "dinov2" else Thumbnails(name, 10)

    monkeypatch.setattr(sets, "open_extractor", opened)
    monkeypatch.setattr(sets, "SETS", {"trio": ("classifier", "clip", "dinov2")})
    monkeypatch.setattr(catalog, "SHAPES", dataclasses.replace(catalog.SHAPES, train_images=120))


def write(path: Path, seed: int, n: int = 40) -> Path:
    images, labels = coloured(n, seed)
    np.savez(path, arr_0=images.permute(0, 2, 3, 1).numpy(), arr_1=labels)
    return path


def test_a_run_gets_a_record_per_extractor_and_one_of_the_set(tmp_path: Path) -> None:
    run, warned = stub_run(tmp_path), []
    records = Evaluator(tmp_path, EvaluationOptions(n=40, extractors="trio", **SMALL), warn=warned.append).records_of(run)
    assert ResultStore(run.records_path).records() == records
    first, second, ratio = records
    assert {"FD[classifier]", "IS[classifier]", "rFD[classifier]", "PSNR"} <= set(named(first.metrics))
    assert {"FD[dinov2]", "recall[dinov2]", "rFD[dinov2]", "PSNR"} <= set(named(second.metrics))
    assert named(first.metrics)["PSNR"] == named(second.metrics)["PSNR"]
    assert len({record.id for record in records}) == 3
    (score,) = ratio.metrics
    assert (score.name, score.n, score.n_reference) == ("FDr[trio]", 40, 30)
    assert score.note == "mean over classifier, dinov2; without clip"
    rows = ratio.tables["FDr[trio] by extractor"]
    assert [row["extractor"] for row in rows] == ["classifier", "dinov2"]
    for row, record in zip(rows, records, strict=False):
        assert row["FD"] == named(record.metrics)[f"FD[{row['extractor']}]"].value
        assert row["FDr"] == pytest.approx(row["FD"] / row["FD of real images"])
        assert row["low"] < row["FDr"] < row["high"]
    assert score.value == pytest.approx(np.mean([row["FDr"] for row in rows]))
    assert ratio.provenance["missing"] == {"FD[clip]": "clip needs weights"}
    assert warned == [line for line in warned if "flatter" not in line]
    assert [line for line in warned if "trio" in line] == ["extractors trio: clip not available; the records say why"]
    assert ratio.provenance["seeds"] == first.provenance["seeds"]


def test_anchors_of_fewer_images_have_no_ratio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances of 30 real images are larger than those of 40, so an untrained model would seem nearer than it is."""
    monkeypatch.setattr("nvgbench.evaluation.anchors.untrained", lambda *_: Painter())
    monkeypatch.setattr("nvgbench.evaluation.evaluate.UNTRAINED_IMAGES", 30)
    options = EvaluationOptions(n=40, extractors="classifier,dinov2", **SMALL)
    names: dict[str, list[str]] = {}
    for record in Evaluator(tmp_path, options).anchors([stub_run(tmp_path).config]):
        names.setdefault(record.subject, []).extend(metric.name for metric in record.metrics)
    ratio = "FDr[classifier+dinov2]"
    assert {subject: ratio in found for subject, found in names.items()} == {
        "real images (shapes)": True,
        "class means (shapes)": True,
        "untrained nvg-tiny": False,
    }
    assert "FD[dinov2]" in names["untrained nvg-tiny"]


def test_real_images_as_samples_score_one(tmp_path: Path) -> None:
    """Within the interval, as samples and real images are different images of one source."""
    options = EvaluationOptions(extractors="classifier,dinov2", reference=str(write(tmp_path / "b.npz", 2, 60)),
                                real=str(write(tmp_path / "c.npz", 3, 50)), **SMALL)  # fmt: skip
    *_, ratio = Evaluator(tmp_path, options).records_of_files(write(tmp_path / "a.npz", 1))
    (score,) = ratio.metrics
    assert score.name == "FDr[classifier+dinov2]"
    assert score.interval is not None
    assert score.interval.low < 1 < score.interval.high
    other = dataclasses.replace(options, real=str(write(tmp_path / "d.npz", 4)))
    *_, again = Evaluator(tmp_path, other).records_of_files(tmp_path / "a.npz")
    assert "reference differs" in (why_not_comparable(Scored(score, ratio), Scored(again.metrics[0], again)) or "")


def test_images_are_read_once_for_all_extractors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    chunks = ImageSet.chunks

    def counted(self: ImageSet, *args: Any, **options: Any) -> Any:
        for chunk in chunks(self, *args, **options):
            yield dataclasses.replace(chunk, read=lambda chunk=chunk: read.append(self.name) or chunk.read())

    monkeypatch.setattr(ImageSet, "chunks", counted)
    options = EvaluationOptions(extractors="classifier,dinov2", reference=str(write(tmp_path / "b.npz", 2)),
                                real=str(write(tmp_path / "c.npz", 3)), **SMALL)  # fmt: skip
    Evaluator(tmp_path, options).files(write(tmp_path / "a.npz", 1), "named")
    assert sorted(read) == ["a.npz", "b.npz", "c.npz"]


def test_without_other_real_images_fdr_is_left_out(tmp_path: Path) -> None:
    warned: list[str] = []
    path = write(tmp_path / "a.npz", 1)
    options = EvaluationOptions(extractors="classifier,dinov2", reference=str(write(tmp_path / "b.npz", 2)), **SMALL)
    records = Evaluator(tmp_path, options, warn=warned.append).records_of_files(path)
    assert len(records) == 2
    assert any("FDr is left out" in line and "`real=`" in line for line in warned)
    few = dataclasses.replace(options, real=str(write(tmp_path / "few.npz", 3, 20)))
    with pytest.raises(InputError, match="20 real images for 40 samples"):
        Evaluator(tmp_path, few).files(path)
    same = dataclasses.replace(options, real=options.reference)
    with pytest.raises(InputError, match="real images are those of the reference"):
        Evaluator(tmp_path, same).files(path)


def test_real_images_of_a_source_are_not_those_of_the_anchor() -> None:
    from nvgbench.data.source import open_dataset

    data = DataConfig(source="shapes", image_size=16)
    found = real_images(data, 40, source=None, seed=3, resize=None, crop=None)
    train = open_dataset("shapes", image_size=16, split="train")
    images = {image.numpy().tobytes() for image in found.first(40)}
    assert len(images) == found.count == 40
    assert not images & {image.numpy().tobytes() for image in anchor(train, 40, 3).first(40)}
    assert all(torch.equal(found.load([i])[0], found.first(40)[i]) for i in (0, 7, 39))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"extractors": "classifier,classifier"}, "different names separated by commas"),
        ({"extractors": ""}, "different names separated by commas"),
        ({"extractors": "trio", "protocol": "adm"}, "goes with `protocol='nvgbench'`"),
        ({"extractors": "trio", "extractor_weights": Path("x")}, "goes with `protocol='nvgbench'`|takes none"),
        ({"extractors": "clasifier"}, "did you mean 'classifier'"),
        ({"real": "x.npz"}, "serves FDr"),
    ],
)
def test_bad_choices_are_refused_at_once(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        EvaluationOptions(**options)
    assert "\n" not in str(caught.value)
