"""The trained tokenizers that come with the package: whole, fitting their presets, good at reconstruction, found by name."""

from __future__ import annotations

import json
from importlib.resources import as_file
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from nvgbench.cli.app import build_app
from nvgbench.config.load import load_preset
from nvgbench.data.source import training_set
from nvgbench.errors import InputError
from nvgbench.evaluation.reference import run_reference
from nvgbench.files import file_sha256
from nvgbench.registry import tokenizer_folders
from nvgbench.runs import checkpoint as ckpt
from nvgbench.runs.folder import RunFolder
from nvgbench.training.plan import tokenizer_differences
from nvgbench.training.run import train_run
from nvgbench.weights.source import source_run
from tests.helpers.training_jobs import silent

NAMES = ("ar-tiny-tokenizer", "nvg-tiny-tokenizer", "var-tiny-tokenizer")


def test_one_comes_with_every_tiny_preset() -> None:
    assert tuple(tokenizer_folders()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_tokenizer_of_its_preset(name: str) -> None:
    config = load_preset(name.removesuffix("-tokenizer"))
    with as_file(tokenizer_folders()[name]) as folder:
        run = RunFolder(folder)
        assert run.is_finished("tokenizer")
        assert tokenizer_differences(config, run.config) == []
        trained_on = training_set(config.data)
        assert run.dataset.fingerprint == trained_on.fingerprint, "other images than the preset's"
        tokenizer = run.load_tokenizer(torch.device("cpu"))
        # No more than using it needs: no optimizer, no second copy of the weights.
        assert [path.name for path in folder.rglob("*.safetensors")] == [ckpt.WEIGHTS]
    images_B3HW = run_reference(config.data).images.first(64).float() / 127.5 - 1
    with torch.no_grad():
        error = (tokenizer.decode(tokenizer.encode(images_B3HW)) - images_B3HW).square().mean()
    # They reach 23.5 to 24.5 dB on these images, random weights 9 dB.
    assert 10 * torch.log10(4 / error) > 23


def test_training_with_one_starts_with_the_generator(tmp_path: Path) -> None:
    config = load_preset("nvg-tiny", ["data.train_images=32", "train.generator.steps=1", "train.cache_tokens=false"])
    with source_run("nvg-tiny-tokenizer", tmp_path, config) as folder:
        assert folder is not None
        used = folder
        train_run(config, tmp_path / "run", device=torch.device("cpu"), progress=silent, tokenizer=folder)
    run = RunFolder(tmp_path / "run")
    [record] = [json.loads(line) for line in run.records_path.read_text().splitlines()]
    assert record["provenance"]["tokenizer_from"]["run"] == "nvg-tiny-tokenizer"
    weights = ckpt.latest_checkpoint(used / "checkpoints" / "tokenizer")
    assert weights is not None
    assert record["tables"]["training"][0]["images"] == 12_000 * 16
    assert record["provenance"]["tokenizer_from"]["weights"] == file_sha256(weights / ckpt.WEIGHTS)


def test_a_run_of_that_name_comes_first(tmp_path: Path) -> None:
    config = load_preset("nvg-tiny")
    RunFolder.create(tmp_path / "nvg-tiny-tokenizer", config)
    with source_run("nvg-tiny-tokenizer", tmp_path, config) as folder:
        assert folder == tmp_path / "nvg-tiny-tokenizer"


def test_a_misspelt_name_is_one_line(tmp_path: Path) -> None:
    misspelt = source_run("nvg-tiny-tokeniser", tmp_path, load_preset("nvg-tiny"))
    with (
        pytest.raises(InputError, match=r"no run 'nvg-tiny-tokeniser' in .*\(did you mean 'nvg-tiny-tokenizer'\?\)$"),
        misspelt,
    ):
        pass


def test_the_list_of_presets_names_them() -> None:
    said = CliRunner().invoke(build_app(), ["presets"]).output
    assert all(name in said for name in NAMES)
