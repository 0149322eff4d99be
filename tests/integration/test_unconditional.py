"""Models without classes: trained on a flat folder or with `data.classes = "none"`, sampled without guidance, scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nvgbench.cli.app import main
from nvgbench.errors import InputError
from nvgbench.results.store import ResultStore
from nvgbench.runs.folder import RunFolder
from nvgbench.sampling.classes import select_classes
from nvgbench.types import SampleRequest
from tests.helpers.training_jobs import small_config, train

FAMILIES = ("nvg", "var", "ar")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of each family a model with classes and one without."""
    root = tmp_path_factory.mktemp("runs")
    for family in FAMILIES:
        train(root / family, family, "train.steps=2", "data.eval_images=24")
        train(root / f"{family}-free", family, "train.steps=2", "data.eval_images=24", 'data.classes="none"')
    return root


def requested(label: int, count: int = 3, **settings: object) -> SampleRequest:
    return SampleRequest(labels_B=torch.full((count,), label), seeds_B=torch.arange(count), settings=settings)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_without_classes_is_trained_and_sampled(family: str, runs: Path) -> None:
    run = RunFolder(runs / f"{family}-free")
    assert run.dataset.classes == ()
    generator = run.load_generator()
    assert generator.spec.num_classes == 0
    guided = {"nvg": {"content_guidance": [7.0, 7.0]}}.get(family, {"guidance": 7.0})
    plain, strong = (generator.generate(requested(0, **options)).images_B3HW for options in ({}, guided))
    assert torch.equal(plain, strong), "guidance is off"
    with pytest.raises(InputError, match="label 1 is not a class"):
        generator.generate(requested(1))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_with_classes_is_sampled_without(family: str, runs: Path) -> None:
    generator = RunFolder(runs / family).load_generator()
    images = generator.generate(requested(10)).images_B3HW
    assert images.shape == (3, 3, 16, 16)
    with pytest.raises(InputError, match="or 10 for none"):
        generator.generate(requested(11))


def test_none_is_a_class_of_every_model() -> None:
    assert select_classes(["none"], ["cat", "dog"]) == (2,)
    assert select_classes(["none", "cat"], ["cat", "none"]) == (1, 0), "unless a class is called that"
    assert select_classes(None, ()) == select_classes(["none"], ()) == (0,)
    with pytest.raises(InputError, match="trained without classes"):
        select_classes(["3"], ())


def test_samples_without_classes_have_no_labels(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, more in (("ar", ["--classes", "none"]), ("ar-free", [])):
        out = tmp_path / f"{name}.npz"
        with pytest.raises(SystemExit) as done:
            main(["sample", name, "-n", "9", "--runs", str(runs), "--device", "cpu", "--out", str(out), *more])
        assert done.value.code == 0
        with np.load(out) as archive:
            assert "arr_1" not in archive.files
            assert archive["arr_0"].shape == (9, 16, 16, 3)
    assert "classes: 10 (no class)" in capsys.readouterr().out
    with pytest.raises(SystemExit) as done:
        main(["sample", "ar-free", "-n", "3", "--runs", str(runs), "--device", "cpu", "--out", str(tmp_path / "folder")])
    assert done.value.code == 0
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["000000.png", "000001.png", "000002.png"]


class Classifier:
    """In place of the trained one: 2 x 2 thumbnails, and logits of brightness."""

    name, fingerprint = "classifier", "c" * 64
    provenance: dict = {}  # noqa: RUF012 - as an extractor has it

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        small = torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 2)
        return small.flatten(1), small.mean(dim=(1, 2, 3))[:, None] * torch.linspace(-1, 1, 10)


def test_every_score_but_the_accuracy_is_there(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nvgbench.evaluation.scorer.open_extractor", lambda name, request: Classifier())
    with pytest.raises(SystemExit) as done:
        main(["eval", "var-free", "var", "-n", "24", "--runs", str(runs), "--device", "cpu"])
    assert done.value.code == 0
    assert "var-free was trained without classes: conditional accuracy is left out" in " ".join(capsys.readouterr().err.split())
    (free,), (full,) = (
        [record for record in ResultStore(RunFolder(runs / name).records_path).records() if record.kind == "eval"]
        for name in ("var-free", "var")
    )
    names, expected = ({value.name for value in record.metrics} for record in (free, full))
    assert expected - names == {"accuracy[classifier]"}


def test_a_flat_folder_trains_a_model_without_classes(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (20, 20, 24, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(tmp_path / "flat" / f"{number:02}.png")
    said: list[str] = []
    source = f"data.source='imagefolder:{tmp_path / 'flat'}'"
    train(tmp_path / "run", "ar", source, "train.steps=2", progress=lambda event: said.append(str(event.get("message"))))
    run = RunFolder(tmp_path / "run")
    assert run.dataset.classes == ()
    assert run.dataset.images == 18
    assert any("its images are taken without classes" in text for text in said)
    assert small_config("ar", source).data.classes == "all"
