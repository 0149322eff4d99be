"""Extractors from outside: an installed entry point, a module:callable, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from nvgbench.config.schema import DataConfig
from nvgbench.errors import InputError
from nvgbench.evaluation.evaluate import Evaluator
from nvgbench.evaluation.options import EvaluationOptions
from nvgbench.extractors.registry import EXTRACTORS, ExtractorRequest, check_extractor, find_extractor, open_extractor
from tests.helpers.plugins import register

PACKAGE = '''
import torch

class Means:
    """Mean colours of the quarters of an image."""

    name, fingerprint, provenance = "means", "0" * 64, {"made": "elsewhere"}

    def __init__(self, request):
        self.request = request

    def __call__(self, images):
        features = torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 2).flatten(1)
        return features, torch.empty(len(features), 0)

class Impostor(Means):
    name = "inception"

def unfinished(request):
    return object()

CONSTANT = 3
'''


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with one module, and its entry points as an installer writes them."""
    (tmp_path / "elsewhere.py").write_text(PACKAGE)
    entries = {"means": "elsewhere:Means", "impostor": "elsewhere:Impostor"}
    register(tmp_path, "elsewhere", "1.0", {"nvgbench.extractors": entries})
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_built_in_extractors_say_what_they_are_and_take() -> None:
    efficient = tuple(f"efficientnet-lite{size}" for size in range(3))
    assert EXTRACTORS.names() == ("inception", "classifier", *efficient, "dinov2", "clip", "convnext", "mae", "siglip2")
    takes = {name for name in EXTRACTORS.names() if find_extractor(name).weights}
    assert takes == {"inception", "dinov2", "clip", "convnext", "mae", "siglip2"}
    assert all(find_extractor(name).summary for name in EXTRACTORS.names())


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["means", "elsewhere:Means"])
def test_an_extractor_of_another_package_scores_samples(name: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "theirs.npz", arr_0=pixels)
    options = EvaluationOptions(extractor=name, reference=str(tmp_path / "theirs.npz"))
    record = Evaluator(tmp_path, options).files(tmp_path / "theirs.npz")
    assert record is not None
    scores = {metric.name: metric.value for metric in record.metrics}
    assert scores["FD[means]"] == pytest.approx(0, abs=1e-9)
    assert record.provenance["extractor"]["made"] == "elsewhere"
    assert find_extractor(name).summary == "Mean colours of the quarters of an image."


@pytest.mark.usefixtures("installed")
def test_the_request_reaches_the_extractor(tmp_path: Path) -> None:
    request = ExtractorRequest(weights=tmp_path / "w", data=DataConfig(source="shapes", image_size=16), folder=tmp_path)
    made: object = open_extractor("means", request)
    assert made.request is request  # type: ignore[attr-defined]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "maens",
            r"no extractor 'maens' \(did you mean 'means'\?\); known: inception, classifier, .*, impostor, means",
        ),
        ("impostor", "calls itself 'inception', which is a built-in one"),
        ("elsewhere:unfinished", "made a object without name, fingerprint, provenance"),
        ("elsewhere:CONSTANT", "is a int; expected an ExtractorEntry or a callable"),
        ("elsewhere:Absent", "cannot be imported"),
    ],
)
def test_what_is_no_extractor_is_refused_in_one_line(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        open_extractor(name, ExtractorRequest())
    assert "\n" not in str(caught.value)


def test_weights_go_with_extractors_that_take_them() -> None:
    check_extractor("dinov2", Path("x"))
    with pytest.raises(
        InputError,
        match="`extractor_weights=x` goes with inception, dinov2, clip, convnext, mae, siglip2; the extractor classifier",
    ):
        check_extractor("classifier", Path("x"))


def test_the_classifier_needs_a_data_source(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trained on a data source"):
        open_extractor("classifier", ExtractorRequest())
    path = tmp_path / "theirs.npz"
    np.savez(path, arr_0=np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8))
    with pytest.raises(InputError, match="trained on a data source"):
        Evaluator(tmp_path, EvaluationOptions(extractor="classifier", reference=str(path))).files(path)


def test_the_classifier_learns_from_the_whole_training_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever part of it a run was trained on: the runs on one data set share a classifier."""
    asked: list[tuple[str, int | None]] = []
    from nvgbench.extractors import classifier

    class Dataset:
        name, fingerprint, classes = "tiny", "f" * 64, ("a", "b")
        labels = np.arange(40) % 2

        def __len__(self) -> int:
            return 40

        def images(self, indices: np.ndarray) -> Tensor:
            rng = torch.Generator().manual_seed(0)
            return torch.randint(0, 255, (len(indices), 3, 16, 16), generator=rng, dtype=torch.uint8)

    def opened(source: str, *, split: str, limit: int | None = None, **_: object) -> Dataset:
        asked.append((split, limit))
        return Dataset()

    monkeypatch.setattr(classifier, "open_dataset", opened)
    requests = [
        ExtractorRequest(data=DataConfig(source="shapes", image_size=16, train_images=count), folder=tmp_path)
        for count in (10, 20)
    ]
    first, second = (open_extractor("classifier", request) for request in requests)
    assert first.fingerprint == second.fingerprint
    assert set(asked) == {("train", None), ("eval", None)}
    assert len(list(tmp_path.iterdir())) == 1
