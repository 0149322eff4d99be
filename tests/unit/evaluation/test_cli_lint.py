"""``nvgbench lint`` from the outside, and what an evaluation says, records and refuses because of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from nvgbench.cli.app import build_app
from nvgbench.data.image_set import in_memory
from nvgbench.errors import InputError
from nvgbench.evaluation.lint.checks import check_classes_fit, check_extractor_fit

PIXELS = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(build_app(), ["lint", *arguments])


def test_exit_codes(tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", arr_0=PIXELS, arr_1=np.arange(60) % 3)
    np.savez(tmp_path / "bad.npz", arr_0=PIXELS, arr_1=np.sort(np.arange(60) % 3))
    good, bad = str(tmp_path / "good.npz"), str(tmp_path / "bad.npz")
    clean = call(good, "--features", "12", "--strict")
    assert clean.exit_code == 0
    assert "good.npz: 60 images of 16 px, 0 warnings" in clean.stdout
    told = call(bad, "--features", "12")
    assert told.exit_code == 0
    assert "warning: order: 97% of neighbours share their class" in told.stdout
    assert "IS in the order given would" in told.stdout
    assert call(bad, "--features", "12", "--strict").exit_code == 1
    assert call(good, "--strict").exit_code == 1  # 60 images, 2048 features
    against = call(good, "--features", "12", "--reference", bad)
    assert "60 of 60 images are also in the reference" in against.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.npz"], "absent.npz does not exist"),
        (["{float}"], "float32 [60, 16, 16, 3]; expected uint8 images [N, H, W, 3]; scale to 0 to 255, clamp"),
        (["{cut}"], "write or copy it again"),
        (["{good}", "--reference", "shapse"], "neither a file or folder nor a data source"),
        (["{good}", "--reference", "{big}"], "samples have 16 px, the reference"),
        (["{classes}", "--reference", "shapes"], "a sample is of class 10, the reference shapes (eval) has 10"),
    ],
)
def test_bad_input(tmp_path: Path, arguments: list[str], message: str) -> None:
    names = ("good", "float", "big", "cut", "classes")
    files = {name: tmp_path / f"{name}.npz" for name in names}
    np.savez(files["good"], arr_0=PIXELS)
    np.savez(files["float"], arr_0=PIXELS.astype(np.float32))
    np.savez(files["big"], arr_0=PIXELS.repeat(2, axis=1).repeat(2, axis=2))
    np.savez(files["classes"], arr_0=PIXELS, arr_1=np.arange(60) % 11)
    files["cut"].write_bytes(files["good"].read_bytes()[:1000])
    error = call(*(argument.format(**files) for argument in arguments)).exception
    assert isinstance(error, InputError), error
    assert message in str(error)
    assert "\n" not in str(error)


def test_other_classes_are_refused_or_marked() -> None:
    import dataclasses

    images = in_memory("x", torch.from_numpy(PIXELS).permute(0, 3, 1, 2), np.arange(60) % 3)
    reference = dataclasses.replace(images, name="y", classes=("a", "b", "c"))
    assert check_classes_fit(images, reference) == check_classes_fit(images, reference, 3) == []
    assert check_classes_fit(images, images, 7) == []  # a reference without names says nothing about its classes
    with pytest.raises(InputError, match=r"the model has 7 classes, the reference y has 3.*anyway with `force=True`"):
        check_classes_fit(images, reference, 7)
    (finding,) = check_classes_fit(images, reference, 7, force=True)
    assert (finding.check, finding.severity) == ("classes", "forced")


def test_extractors_that_nobody_else_has() -> None:
    class Extractor:
        name = "inception"
        fingerprint = ""

        def __init__(self) -> None:
            self.provenance = {"weights_published": False}

        def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            raise AssertionError

    extractor = Extractor()
    assert "not the published ones" in check_extractor_fit(extractor, True)[0].message
    extractor.provenance = {"weights_published": True}
    assert check_extractor_fit(extractor, True) == []
    extractor.name = "classifier"
    assert "FD[classifier] is computed from the images" in check_extractor_fit(extractor, True)[0].message
