"""A run is scored on held-out images of its own data: other classes, other images and training images are refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nvgbench.config.schema import DataConfig
from nvgbench.data.image_set import from_dataset, open_images
from nvgbench.data.source import open_dataset, training_set
from nvgbench.errors import InputError
from nvgbench.evaluation.run_data import check_reference, data_of
from nvgbench.runs.folder import DatasetInfo
from tests.helpers.evaluation_jobs import noted


def write_folder(root: Path, seed: int, *classes: str, count: int = 6) -> Path:
    """Noise of 16 px, and one photograph-like gradient, in class folders."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(root / name / f"{number:03d}.png")
    return root


def run_on(source: str, **changes: Any) -> Any:
    data = DataConfig(source=source, image_size=16)
    config = SimpleNamespace(data=data)
    return SimpleNamespace(name="r", path=Path("runs/r"), config=config, dataset=noted(data), **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data", 0, "cat", "dog")


def test_equal_data_pass_wherever_they_are(folder: Path, tmp_path: Path) -> None:
    run = run_on(f"imagefolder:{folder}")
    assert data_of(run, None) == (run.config.data, [])
    moved = tmp_path / "moved"
    shutil.move(folder, moved)
    data, findings = data_of(run, f"imagefolder:{moved}")
    assert (data.source, findings) == (f"imagefolder:{moved}", [])
    with pytest.raises(InputError, match=r"shapes.*give the place of the same images, or use `reference=`"):
        data_of(run, "shapes")
    with pytest.raises(InputError, match="give the place of the same images"):
        data_of(run, "shapes", force=True)  # moved data are equal or they are not the moved data


@pytest.mark.parametrize(
    ("seed", "classes", "count", "said"),
    [
        (0, ("dog", "emu"), 6, r"trained on the classes cat, dog, but imagefolder:.* now has dog, emu"),
        (1, ("cat", "dog"), 6, "trained on other images than"),
        (0, ("cat", "dog"), 8, "trained on 10 images, but .* now has 14"),
    ],
)
def test_replaced_data_are_refused(folder: Path, seed: int, classes: tuple[str, ...], count: int, said: str) -> None:
    run = run_on(f"imagefolder:{folder}")
    shutil.rmtree(folder)
    write_folder(folder, seed, *classes, count=count)
    with pytest.raises(InputError, match=said + r".*`data=`, or score anyway with `force=True`"):
        data_of(run, None)
    _, (finding,) = data_of(run, None, force=True)
    assert (finding.check, finding.severity) == ("data", "forced")


def test_absent_training_images_are_reported(folder: Path) -> None:
    run = run_on(f"imagefolder:{folder}")
    shutil.rmtree(folder)
    _, (finding,) = data_of(run, None)
    assert finding.severity == "warning"
    assert "not available" in finding.message


def test_training_images_in_the_reference_are_refused(folder: Path, tmp_path: Path) -> None:
    run = run_on(f"imagefolder:{folder}")
    data = run.config.data
    held_out = from_dataset(open_dataset(data.source, image_size=16, split="eval"))
    assert check_reference(run, data, held_out) == []
    train = training_set(data)
    np.savez(tmp_path / "all.npz", arr_0=train.images(np.arange(len(train))).permute(0, 2, 3, 1).numpy())
    reference = open_images(tmp_path / "all.npz")
    with pytest.raises(InputError, match=r"10 of 10 training images of r .* use held-out images"):
        check_reference(run, data, reference)
    (finding,) = check_reference(run, data, reference, force=True)
    assert finding.severity == "forced"


def test_a_reference_with_classes_of_other_names_is_refused(folder: Path, tmp_path: Path) -> None:
    run = run_on(f"imagefolder:{folder}")
    other = open_images(write_folder(tmp_path / "other", 3, "emu", "cat"))
    with pytest.raises(InputError, match=r"classes that r was not trained on \(emu\)"):
        check_reference(run, run.config.data, other)


def test_nothing_is_known_about_published_weights() -> None:
    run = run_on("shapes")
    run.dataset = DatasetInfo(name="not known", classes=("class 0",), images=0, fingerprint="published weights")
    assert data_of(run, None) == (run.config.data, [])
    assert check_reference(run, run.config.data, open_images(np.zeros((2, 16, 16, 3), np.uint8))) == []
