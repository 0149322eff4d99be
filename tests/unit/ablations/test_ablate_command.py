"""``nvgbench ablate`` on runs trained for two steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from nvgbench.ablations.runner import StudyRequest, plan_study, run_study
from nvgbench.cli.studies import short
from nvgbench.config.load import load_preset
from nvgbench.errors import InputError
from nvgbench.results.records import Records
from nvgbench.results.store import ResultStore
from nvgbench.results.study import study_page
from nvgbench.runs.folder import RunFolder
from nvgbench.training.run import train_run
from tests.helpers.pooled_features import Pooled

SMALL = (
    "train.tokenizer.steps=2",
    "train.tokenizer.batch_size=2",
    "data.train_images=4",
    "tokenizer.base_channels=32",
    "tokenizer.codebook_size=16",
    "tokenizer.channel_multipliers=[1, 1, 1, 1]",
)


def train(root: Path, name: str, *overrides: str) -> RunFolder:
    config = load_preset("nvg-tiny", [*SMALL, *overrides])
    folder = root / name
    return train_run(config, folder, device=torch.device("cpu"), progress=lambda event: None, phases=("tokenizer",))


@pytest.fixture(autouse=True)
def quick_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """rFD needs an extractor; the default one would be trained first."""
    monkeypatch.setattr("nvgbench.ablations.scoring.open_extractor", lambda *_: Pooled())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    train(root, "one")
    return root


def test_list_names_every_table_of_the_study(app: typer.Typer) -> None:
    shown = CliRunner().invoke(app, ["ablate", "list"])
    assert shown.exit_code == 0
    assert "cluster_stability" in shown.stdout


def test_one_run_is_studied_without_seeds(app: typer.Typer, root: Path, tmp_path: Path) -> None:
    shown = CliRunner().invoke(
        app, ["ablate", "clusters", "one", "--runs", str(root), "--images", "3", "--out", str(tmp_path)], catch_exceptions=False
    )
    assert shown.exit_code == 0
    assert "greedy maps agree with themselves" in shown.stdout
    (record,) = Records.read(tmp_path).select(kind="ablation", subject="one")
    rows = record.tables["cluster_stability"]
    assert {row["perturbation"] for row in rows} == {"noise", "bf16", "flip", "shift", "crop", "ties", "chance"}
    assert {row["tokens"] for row in rows} == {2, 4, 8}
    assert record.provenance["images"] == 3
    page = study_page(record)
    assert page is not None
    shown_tables = ("cluster_stability", "cluster_quality", "reconstruction", "quantization_error", "cluster_numbering")
    assert (page.name, page.tables) == ("clusters", shown_tables)
    assert all(row["rFD[pooled]"] is None or row["n"] == 3 for row in record.tables["reconstruction"])


def test_retrained_tokenizers_are_compared(app: typer.Typer, root: Path) -> None:
    command = ["ablate", "clusters", "one", "--runs", str(root), "-n", "2", "--retrain", "1"]
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    record = ResultStore(root).records()[-1]
    levels = {row["level"] for row in record.tables["cluster_stability"] if row["perturbation"] == "seed"}
    assert levels == {"one / one-seed1"}
    assert [run["seed"] for run in record.tables["runs"]] == [0, 1]


def test_bad_runs_end_with_one_line(app: typer.Typer, root: Path, tmp_path: Path) -> None:
    def study(*runs: RunFolder) -> None:
        request = StudyRequest(study="clusters", root=root, device=torch.device("cpu"), targets=runs, images=2)
        run_study(plan_study(request))

    one = RunFolder(root / "one")
    with pytest.raises(InputError, match="name at least one run"):
        study()
    with pytest.raises(InputError, match="same tokenizer"):
        study(one, one)
    empty = RunFolder.create(tmp_path / "empty", one.config)
    with pytest.raises(InputError, match="no trained tokenizer"):
        study(empty)
    with pytest.raises(InputError, match="same image size"):
        study(one, train(tmp_path, "large", "data.image_size=64"))
    with pytest.raises(InputError, match=r"no run 'onee'.*did you mean"):
        CliRunner().invoke(app, ["ablate", "clusters", "onee", "--runs", str(root)], catch_exceptions=False)


def test_a_grid_that_is_no_power_of_two_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be grouped"):
        train(tmp_path, "odd", "data.image_size=24")


def test_scores_are_shown_short() -> None:
    assert [short(score) for score in (None, 1.0, 0.996, 0.5, 0.0, -0.001, -0.25)] == [
        "-", "1", "1", ".50", ".00", ".00", "-.25",
    ]  # fmt: skip
