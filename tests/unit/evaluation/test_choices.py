"""What is chosen within a protocol (metrics, splits, subsets, resizing) is recorded, and compared only with equals."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nvgbench.errors import InputError
from nvgbench.evaluation import evaluate, scorer
from nvgbench.evaluation.evaluate import Evaluator
from nvgbench.evaluation.options import EvaluationOptions
from nvgbench.evaluation.reference import Reference
from nvgbench.evaluation.scores import ScoreSettings, evaluate_samples
from nvgbench.extractors.cache import FeatureCache
from nvgbench.metrics.inception_score import fidelity_order, score_in_order
from nvgbench.metrics.kernel import kernel_distance
from nvgbench.results.compare import Scored, why_not_comparable
from nvgbench.results.schema import RunRecord
from tests.unit.evaluation.test_evaluate import Thumbnails, image_set, stub_run

pytestmark = pytest.mark.usefixtures("offline")
CACHE = FeatureCache(None)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer, "open_extractor", lambda name, *_, **__: Thumbnails(name, 10))
    monkeypatch.setattr("nvgbench.evaluation.reconstructions.load_lpips", lambda device: (None, "LPIPS: not here"))
    monkeypatch.setattr(evaluate, "config_hash", lambda config: "0123456789abcdef")
    monkeypatch.setattr(evaluate, "changed_settings", lambda config: {})


def write_images(path: Path, count: int, height: int = 16, width: int = 16, key: str = "arr_0") -> Path:
    pixels = np.random.default_rng(count).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    np.savez(path, **{key: pixels})
    return path


def scored(path: Path, root: Path, **options: Any) -> RunRecord:
    reference = write_images(root / "reference.npz", 25)
    defaults = {"extractor": "inception", "reference": str(reference)}
    record = Evaluator(root, EvaluationOptions(**(defaults | options))).files(path)
    assert record is not None
    return record


def test_one_metric_needs_its_own_number_of_images_alone(tmp_path: Path) -> None:
    path = write_images(tmp_path / "few.npz", 4)
    with pytest.raises(InputError, match=r"few.npz: 4 images are too few; use at least 6"):
        scored(path, tmp_path)
    record = scored(path, tmp_path, metrics=("FID",))
    assert [metric.name for metric in record.metrics] == ["FID"]
    both = scored(path, tmp_path, metrics=("FID", "KID"))
    assert [metric.name for metric in both.metrics] == ["FID", "KID"]
    assert both.metrics[0] == record.metrics[0]
    run = Evaluator(tmp_path, EvaluationOptions(n=4, extractor="classifier", metrics=("FID",))).run(stub_run(tmp_path))
    assert run is not None
    assert [metric.name for metric in run.metrics] == ["FD[classifier]"], "reconstructions are not computed either"
    with pytest.raises(InputError, match="FIDD"):
        EvaluationOptions(metrics=("FIDD",))
    with pytest.raises(InputError, match="`n=4` is too few"):
        EvaluationOptions(n=4, extractor="inception", protocol="adm", metrics=("FID",))


def test_one_score_of_a_metric_that_computes_several() -> None:
    settings = ScoreSettings(metrics=("recall",))
    scores = evaluate_samples(image_set(20, 1), Reference(image_set(20, 2)), Thumbnails(), settings, cache=CACHE)
    assert list(scores) == ["recall[classifier]"]


def test_too_few_images_are_refused_before_an_extractor_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*_: Any, **__: Any) -> Any:
        pytest.fail("opened the extractor")

    monkeypatch.setattr(scorer, "open_extractor", train)
    few = write_images(tmp_path / "few.npz", 4)
    with pytest.raises(InputError, match="too few"):
        scored(few, tmp_path, extractor="classifier")
    run = stub_run(tmp_path)
    with pytest.raises(InputError, match=r"reference few.npz: 4 images are too few"):
        Evaluator(tmp_path, EvaluationOptions(extractor="classifier", reference=str(few))).run(run)


def test_splits_and_subsets_are_those_asked_for() -> None:
    x, y = (Thumbnails()(next(image_set(60, seed).read(60))) for seed in (1, 2))

    def scores(**choices: Any) -> dict[str, float]:
        settings = ScoreSettings(**choices)
        found = evaluate_samples(image_set(60, 1), Reference(image_set(60, 2)), Thumbnails(), settings, cache=CACHE)
        return {name: float(value) for name, value in found.items()}

    chosen = scores(kid_subsets=7, kid_subset_size=20, is_splits=3)
    assert chosen["KD[classifier]"] == kernel_distance(x[0].numpy(), y[0].numpy(), subsets=7, subset_size=20).mean
    logits_NK = x[1].numpy()[fidelity_order(60)]
    assert chosen["IS[classifier]"] == score_in_order(logits_NK, splits=3).value
    assert chosen["FD[classifier]"] == scores()["FD[classifier]"]


@pytest.mark.parametrize(
    ("choice", "value", "concerned"),
    [("kid_subsets", 7, {"KID"}), ("kid_subset_size", 20, {"KID"}), ("is_splits", 3, {"IS"})],
)
def test_choices_are_recorded_and_other_choices_not_compared(
    tmp_path: Path, choice: str, value: int, concerned: set[str]
) -> None:
    path = write_images(tmp_path / "x.npz", 30)
    usual, other = scored(path, tmp_path), scored(path, tmp_path, **{choice: value})
    assert "choices" not in usual.provenance["protocol"]
    assert other.provenance["protocol"]["choices"] == {choice: value}
    assert (
        scored(path, tmp_path, **{choice: getattr(ScoreSettings, choice)}).provenance["protocol"]
        == usual.provenance["protocol"]
    )
    for old, new in zip(usual.metrics, other.metrics, strict=True):
        reason = why_not_comparable(Scored(old, usual), Scored(new, other))
        assert bool(reason) == (old.name in concerned), old.name
        assert reason is None or reason == f"{choice.replace('_', ' ')} differs: the default and {value}"
        assert why_not_comparable(Scored(new, other), Scored(new, other)) is None
    with pytest.raises(InputError, match=f"`{choice}={value}` goes with `protocol='nvgbench'`"):
        EvaluationOptions(protocol="adm", **{choice: value})
    with pytest.raises(InputError, match="expected at least 1, 2 and 1"):
        EvaluationOptions(**{choice: 0})


def test_rectangles_are_scored_with_a_stated_resize(tmp_path: Path) -> None:
    path = write_images(tmp_path / "wide.npz", 30, 20, 28, key="pictures")
    with pytest.raises(InputError, match=r"28x20 .* `resize=` and `crop='center'`"):
        scored(path, tmp_path, key="pictures")
    square = scored(path, tmp_path, key="pictures", resize=16)
    cropped = scored(path, tmp_path, key="pictures", resize=16, crop="center")
    assert square.provenance["protocol"]["choices"] == {"fit": "to 16x16 px (bicubic)"}
    assert square.provenance["samples"]["fit"] == "to 16x16 px (bicubic)"
    for old, new in zip(square.metrics, cropped.metrics, strict=True):
        assert "fit differs" in (why_not_comparable(Scored(old, square), Scored(new, cropped)) or "")
    reference = write_images(tmp_path / "tall.npz", 25, 40, 24)
    both = scored(path, tmp_path, key="pictures", resize=16, reference=str(reference))
    assert both.provenance["reference"]["n"] == 25


def test_the_number_of_choices_is_that_of_the_settings() -> None:
    names = {field.name for field in dataclasses.fields(ScoreSettings)}
    assert set(ScoreSettings(is_splits=2, kid_subsets=3, kid_subset_size=4).choices) <= names
