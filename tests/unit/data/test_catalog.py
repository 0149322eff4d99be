"""Sources of installed packages: one file and an entry point."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from nvgbench.cli import data
from nvgbench.data.catalog import SHAPES, SOURCES, is_source
from nvgbench.data.source import open_dataset
from nvgbench.errors import InputError
from nvgbench.evaluation.reference import open_reference

GREYS = '''
import hashlib
import numpy as np
from nvgbench.data.catalog import SourceInfo
from nvgbench.data.dataset import DataRequest, ImageDataset


class Greys(ImageDataset):
    """Image i is grey level i."""

    def read(self, index):
        return np.full((self.image_size, self.image_size, 3), index, dtype=np.uint8)


def open_greys(location: str, request: DataRequest) -> Greys:
    count = request.limit or int(location or 100)
    return Greys(
        name=f"greys ({request.split})",
        classes=["dark", "bright"],
        labels=np.arange(count) % 2,
        image_size=request.image_size,
        fingerprint=hashlib.sha256(str(count).encode()).hexdigest(),
        augment=request.augment,
    )


SOURCE = SourceInfo(form="greys[:N]", opener=open_greys, num_classes=2, needs="nothing", summary="grey images")
'''


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a package with the given entry points on the path, as an installer would."""

    def put(entry_points: str) -> None:
        (tmp_path / "grey_images.py").write_text(GREYS)
        about = tmp_path / "grey_images-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: grey-images\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[nvgbench.data]\n{entry_points}\n")
        monkeypatch.syspath_prepend(str(tmp_path))

    return put


def test_a_source_of_another_package(install: Callable[[str], None]) -> None:
    assert not is_source("greys")
    install("greys = grey_images:SOURCE")
    assert SOURCES.names()[-1] == "greys"
    assert is_source("greys:7")
    dataset = open_dataset("greys:7", image_size=16, split="train")
    assert (len(dataset), dataset.classes, dataset.name) == (7, ("dark", "bright"), "greys (train)")
    assert dataset[3].image.unique().tolist() == [3]
    assert open_reference("greys", 16).images.count == 100
    with pytest.raises(InputError, match=r"no data source 'grays' \(did you mean 'greys'"):
        open_dataset("grays", image_size=16, split="train")
    app = typer.Typer()
    data.register(app)
    listed = CliRunner().invoke(app, ["data", "list"]).output
    assert "greys[:N]" in listed
    assert "greys: grey images" in listed


@pytest.mark.parametrize(
    ("entry_point", "said"),
    [
        ("greys = no_such_module:SOURCE", r"data source 'greys' cannot be imported \(ModuleNotFoundError"),
        ("greys = grey_images:NOTHING", r"data source 'greys' cannot be imported \(AttributeError"),
    ],
)
def test_a_source_that_cannot_be_loaded(install: Callable[[str], None], entry_point: str, said: str) -> None:
    install(entry_point)
    with pytest.raises(InputError, match=said):
        SOURCES.get("greys")
    app = typer.Typer()
    data.register(app)
    listed = CliRunner().invoke(app, ["data", "list"])
    assert listed.exit_code == 0
    assert "npz:PATH" in listed.output


def test_a_built_in_source_cannot_be_replaced(install: Callable[[str], None]) -> None:
    install("shapes = grey_images:SOURCE")
    assert SOURCES.names().count("shapes") == 1
    assert SOURCES.get("shapes") is SHAPES


def test_numbers_are_those_of_the_data() -> None:
    for split, count in (("train", SHAPES.train_images), ("eval", SHAPES.eval_images)):
        dataset = open_dataset("shapes", image_size=16, split=split)
        assert len(dataset) == count
        assert len(np.unique(dataset.labels)) == SHAPES.num_classes
