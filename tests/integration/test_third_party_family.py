"""A family of another package, with continuous latents and no codebook: trained, sampled, scored and profiled."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nvgbench.cli.app import main
from nvgbench.results.store import ResultStore
from nvgbench.runs.folder import RunFolder
from tests.helpers import latent_flow
from tests.helpers.evaluation_jobs import Thumbnails

PRESET = """
extends = "budget:tiny"
family = "latent-flow"

[model]
width = 8
"""
SMALL = ("train.steps=2", "train.log_every=1", "data.train_images=24", "data.eval_images=20")


@pytest.fixture
def nvgbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The command line, in a process that sees the package as if it were installed."""
    site = tmp_path / "site"
    (site / "latent_flow").mkdir(parents=True)
    (site / "latent_flow" / "__init__.py").write_text(Path(latent_flow.__file__).read_text())
    (site / "latent_flow" / "latent-flow-tiny.toml").write_text(PRESET)
    metadata = site / "latent_flow-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: latent-flow\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[nvgbench.models]\nlatent-flow = latent_flow:FAMILY\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nvgbench.evaluation.scorer.open_extractor", lambda *_, **__: Thumbnails(tmp_path / "diary", 0.0))

    def run(*words: str) -> None:
        with pytest.raises(SystemExit) as done:
            main(list(words))
        assert not done.value.code

    return run


def train(run: Callable[..., None], *settings: str, name: str = "latent-flow-tiny") -> None:
    options = (word for setting in (*SMALL, *settings) for word in ("--set", setting))
    run("train", "latent-flow-tiny", "--name", name, "--device", "cpu", *options)


def test_training_is_the_same_with_and_without_the_token_cache(nvgbench: Callable[..., None]) -> None:
    logs = []
    for cached in ("true", "false"):
        train(nvgbench, f"train.cache_tokens={cached}", name=cached)
        folder = RunFolder(Path(f"runs/{cached}"))
        assert folder.is_finished("tokenizer")
        assert folder.is_finished("generator")
        rows = [json.loads(line) for line in (folder.path / "train.jsonl").read_text().splitlines()]
        assert [(row["phase"], row["step"]) for row in rows] == [("generator", 1), ("generator", 2)]
        logs.append([row["losses"] for row in rows])
        state = folder.state("generator")
        assert state is not None
        assert state.notes[0].startswith("latents scaled by ")
    assert logs[0] == logs[1]


def test_trained_sampled_scored_and_profiled(nvgbench: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    nvgbench("train", "latent-flow-tiny", "--dry-run", "--device", "cpu")
    assert "not available" in capsys.readouterr().out  # FLOPs, which this family does not count
    train(nvgbench)
    nvgbench("sample", "latent-flow-tiny", "-n", "6", "--batch-size", "4", "--grid", "grid.png", "--set", "steps=2")
    assert Path("grid.png").is_file()
    nvgbench("eval", "latent-flow-tiny", "-n", "20")
    nvgbench("profile", "latent-flow-tiny", "--repeats", "1", "--warmup", "0", "--device", "cpu")
    records = ResultStore(Path("runs/latent-flow-tiny/records.jsonl")).records()
    by_kind = {record.kind: record for record in records}
    assert set(by_kind) == {"train", "eval", "profile"}
    names = {metric.name for record in records for metric in record.metrics}
    assert {"PSNR", "SSIM", "FD[classifier]"} <= names
    assert not any("codebook" in name for name in names)


def test_an_image_does_not_depend_on_its_batch(nvgbench: Callable[..., None]) -> None:
    train(nvgbench)
    import nvgbench as nb

    run = nb.load_run("latent-flow-tiny", device="cpu")
    whole, parts = (run.sample(n=4, batch_size=size).images for size in (4, 1))
    assert torch.equal(torch.from_numpy(whole), torch.from_numpy(parts))
    assert run.tokenizer.encode(whole).shape == (4, 3, 8, 8)
    assert run.tokenizer.decode(run.tokenizer.encode(whole)).shape == whole.shape
    for name in ("grid", "stage_tokens"):
        with pytest.raises(nb.InputError, match="continuous latents"):
            getattr(run.tokenizer, name)
    with pytest.raises(nb.InputError, match="no structure maps"):
        run.structure_maps(whole)


def test_what_is_no_family_is_refused(
    nvgbench: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "site" / "latent_flow-1.0.dist-info" / "entry_points.txt").write_text(
        "[nvgbench.models]\nlatent-flow = latent_flow:LatentFlow\n"
    )
    with pytest.raises(SystemExit) as done:
        main(["train", "latent-flow-tiny"])
    assert done.value.code == 2
    assert "derive it from nvgbench.interfaces.ModelFamily" in capsys.readouterr().err


def test_models_that_need_classes_are_not_trained_or_sampled_without(
    nvgbench: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    train(nvgbench)
    without = ["train", "latent-flow-tiny", "--name", "free", "--set", "data.classes=none"]
    for words, said in (
        (without, "models of family 'latent-flow' need them"),
        (["sample", "latent-flow-tiny", "--classes", "none"], "models of this family need a class"),
    ):
        with pytest.raises(SystemExit) as done:
            main(words)
        assert done.value.code == 2
        assert said in " ".join(capsys.readouterr().err.split())
