"""A run that goes on with other settings, other images, or at another place; and advice that works when it is followed."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nvgbench.config.load import config_hash, parse_overrides
from nvgbench.errors import InputError
from nvgbench.results.store import read_records
from nvgbench.runs import checkpoint as ckpt
from nvgbench.runs.folder import RunFolder
from nvgbench.training.tally import DivergenceError
from tests.helpers.training_jobs import log, train, weights

CONSTANT = ("train.generator.schedule=constant", "train.generator.warmup_steps=0", "train.keep_optimizer=true")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 8 steps per phase that keeps its optimizers and several checkpoints."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(folder, "ar", *CONSTANT, "train.keep_last=3")
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def messages(call: Callable[..., None], *arguments: Any, **options: Any) -> list[str]:
    told: list = []
    call(*arguments, progress=told.append, **options)
    return [event["message"] for event in told if "message" in event]


def advised(message: str) -> dict[str, Any]:
    """The settings that a message says to continue with."""
    return parse_overrides(re.findall(r"`continue_with=(\S+?)`", message))


def test_settings_that_determine_no_weights_change_on_resume(copy: Path) -> None:
    run = RunFolder(copy)
    before = run.hash, run.replicate
    told = messages(train, copy, "ar", *CONSTANT, "train.log_every=1", "train.checkpoint_every=5", "data.workers=1")
    assert told[0] == "changed: data.workers = 1, train.checkpoint_every = 5, train.keep_last = 1, train.log_every = 1"
    assert (run.config.train.log_every, run.config.data.workers) == (1, 1)
    assert (run.hash, run.replicate) == before
    assert config_hash(run.config) != run.hash
    assert len(run.segments) == 1
    assert len(read_records(copy)) == 1


def test_a_longer_training_is_a_new_segment(copy: Path, tmp_path: Path) -> None:
    """With a constant rate and the optimizer kept it equals a training of that length from the start."""
    before = RunFolder(copy).hash
    told = messages(train, copy, "ar", *CONSTANT, "train.keep_last=3", continue_with={"train.generator.steps": 12})
    assert told[0] == "changed: train.generator.steps = 12, train.steps = not set, train.tokenizer.steps = 8"
    assert "generator: resumes at step 8" in told
    first, second = RunFolder(copy).segments
    assert first.hash == before
    assert second.steps == {"tokenizer": 8, "generator": 8}
    assert second.settings["train.generator.steps"] == 12
    old, new = read_records(copy)
    assert "segments" not in old.provenance
    assert [segment["hash"] for segment in new.provenance["segments"]] == [first.hash, second.hash]
    assert new.provenance["config_hash"] == second.hash == RunFolder(copy).load_generator().spec.provenance["config_hash"]
    assert RunFolder(copy).load_generator().spec.provenance["segments"]
    lengths = ("train.steps=null", "train.tokenizer.steps=8", "train.generator.steps=12")
    train(tmp_path / "whole", "ar", *CONSTANT, *lengths)
    final = "checkpoints/generator/step-00000012"
    assert weights(copy / final) == weights(tmp_path / "whole" / final)
    assert log(copy) == log(tmp_path / "whole")
    assert RunFolder(tmp_path / "whole").hash != second.hash
    # Neither the first command nor the second changes anything now.
    saved = weights(copy), (copy / "segments.json").read_bytes()
    for settings in ({}, {"train.generator.steps": 12}):
        train(copy, "ar", *CONSTANT, "train.keep_last=3", continue_with=settings)
    assert (weights(copy), (copy / "segments.json").read_bytes()) == saved
    assert len(read_records(copy)) == 2


def test_the_optimizer_starts_anew_if_it_was_not_kept(tmp_path: Path) -> None:
    train(tmp_path / "run", "ar", "train.steps=2")
    told = messages(train, tmp_path / "run", "ar", "train.steps=2", continue_with={"train.generator.steps": 3})
    assert any(line.startswith("warning: the optimizer of the generator started anew") for line in told)
    (_, segment) = RunFolder(tmp_path / "run").segments
    assert segment.notes == ("the optimizer of the generator started anew",)


def test_return_to_an_earlier_checkpoint(copy: Path) -> None:
    run = RunFolder(copy)
    assert ckpt.kept_steps(run.checkpoints("generator")) == [3, 6, 8]
    again = {"rewind": 7, "continue_with": {"train.generator.learning_rate": 1e-4}}
    told = messages(train, copy, "ar", *CONSTANT, "train.keep_last=3", **again)
    assert told[:2] == ["changed: train.generator.learning_rate = 0.0001", "generator: returns to step 6"]
    assert ckpt.kept_steps(run.checkpoints("generator")) == [3, 6, 8]
    assert [row["lr"] for row in log(copy) if row["phase"] == "generator"] == [1e-3, 1e-3, 1e-3, 1e-4]
    (_, segment) = run.segments
    assert (segment.rewound, segment.steps["generator"]) == (7, 6)
    before = weights(copy)
    train(copy, "ar", *CONSTANT, "train.keep_last=3", **again)  # as after an interruption: it does not return again
    assert weights(copy) == before


def test_checkpoints_are_loaded_by_step(copy: Path) -> None:
    run = RunFolder(copy)
    spec = run.load_generator(step=6).spec
    assert (spec.provenance["step"], spec.provenance["finished"]) == (6, False)
    assert spec.provenance["weights"] != run.load_generator().spec.provenance["weights"]
    with pytest.raises(InputError, match=r"no checkpoint of the generator at `step=7`; there are: 3, 6, 8"):
        run.load_generator(step=7)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"data.image_size": 32}, "data.image_size cannot change within a run"),
        ({"train.generator.stepz": 3}, r"did you mean 'train.generator.steps'\?"),
        ({"train.generator.steps": 5}, "has trained its generator for 8 steps, and there would be 5 in all"),
        ({"train.generator.learning_rate": 1e-4}, "for 8 steps, and there would be 8 in all; give it more"),
        ({"train.precision": "fp32"}, "completely trained; give it more steps"),
        ({"train.steps": 12}, "was trained on its tokenizer, which cannot change any more"),
        ({"train.generator.ema_decay": 0}, "cannot be switched on or off"),
        ({"train.generator.steps": 12, "train.generator.batch_size": 0}, "batch_size"),
    ],
)
def test_impossible_changes_are_refused_and_leave_the_run_alone(finished: Path, settings: dict[str, Any], said: str) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=said) as caught:
        train(finished, "ar", *CONSTANT, "train.keep_last=3", continue_with=settings)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_the_advice_to_a_finished_run_works(copy: Path) -> None:
    with pytest.raises(InputError) as caught:
        train(copy, "ar", *CONSTANT, "train.keep_last=3", continue_with={"train.steps": 16})
    train(copy, "ar", *CONSTANT, "train.keep_last=3", continue_with=advised(str(caught.value)))
    assert RunFolder(copy).state("generator").step == 16


def test_the_advice_about_another_configuration_works(copy: Path) -> None:
    with pytest.raises(InputError, match=r"train\.steps: 8 there, 10 now") as caught:
        train(copy, "ar", *CONSTANT, "train.keep_last=3", "train.steps=10")
    train(copy, "ar", *CONSTANT, "train.keep_last=3", continue_with=advised(str(caught.value)))
    assert RunFolder(copy).state("generator").step == 10
    for there in ("train.steps=7", "train.tokenizer.learning_rate=0.1", "data.seed=5"):  # would be refused
        with pytest.raises(InputError, match="another configuration") as caught:
            train(copy, "ar", *CONSTANT, "train.keep_last=3", there)
        assert not advised(str(caught.value))


def test_a_diverged_training_continues_with_a_lower_rate(tmp_path: Path) -> None:
    settings = ("train.steps=4", "train.checkpoint_every=1", "train.generator.learning_rate=1e38")
    with pytest.raises(DivergenceError) as caught:
        train(tmp_path / "run", "ar", *settings)
    assert advised(str(caught.value)) == {"train.generator.learning_rate": 5e37}
    with pytest.raises(DivergenceError):
        train(tmp_path / "run", "ar", *settings, continue_with=advised(str(caught.value)))
    lower = {"train.generator.learning_rate": 1e-4}
    with pytest.raises(DivergenceError):  # the first step has ruined the weights
        train(tmp_path / "run", "ar", *settings, rewind=1, continue_with=lower)
    train(tmp_path / "run", "ar", *settings, rewind=0, continue_with=lower)
    assert RunFolder(tmp_path / "run").is_finished()


def pictures(folder: Path, number: int = 7) -> Path:
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for index in range(number):
            Image.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(folder / label / f"{index}.png")
    return folder


def test_images_that_break_in_the_middle(tmp_path: Path) -> None:
    """A checkpoint is kept, and the run resumes with repaired images at once, with others on request."""
    data = pictures(tmp_path / "data")
    settings = (
        f"data.source=imagefolder:{data}", "data.augment=random-crop", "train.cache_tokens=false", "train.checkpoint_every=100",
        "data.train_images=null",
    )  # fmt: skip
    whole = {path: path.read_bytes() for path in data.rglob("*.png")}

    def breaking(event: dict) -> None:
        if event.get("done") == 3:
            for path in whole:
                path.write_bytes(b"\x89PNG broken")

    with pytest.raises(InputError, match=r"\.png"):
        train(tmp_path / "run", "ar", *settings, progress=breaking)
    assert RunFolder(tmp_path / "run").state("tokenizer").step == 3
    for path, content in whole.items():
        path.write_bytes(content)
    train(tmp_path / "run", "ar", *settings, phases=("tokenizer",))
    train(tmp_path / "reference", "ar", *settings, phases=("tokenizer",))
    assert weights(tmp_path / "run") == weights(tmp_path / "reference")
    next(iter(whole)).unlink()
    with pytest.raises(InputError, match=r"started with other images .* by `accept_data=True`"):
        train(tmp_path / "run", "ar", *settings)
    train(tmp_path / "run", "ar", *settings, accept_data=True)
    info = RunFolder(tmp_path / "run").dataset
    (before,) = info.accepted
    assert before["images"] == info.images + 1
    assert before["steps"] == {"tokenizer": 8}
    assert read_records(tmp_path / "run")[-1].provenance["dataset"]["accepted"] == [before]
    (data / "emu").mkdir()
    shutil.copy(list(whole)[-1], data / "emu" / "0.png")
    shutil.copy(list(whole)[-1], data / "emu" / "1.png")
    with pytest.raises(InputError, match=r"other classes \(cat, dog; now cat, dog, emu\)"):
        train(tmp_path / "run", "ar", *settings, accept_data=True)


def test_images_that_have_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path / "here" / "data")
    monkeypatch.chdir(tmp_path / "here")
    config = ("train.steps=1", "data.train_images=null")
    train(Path("runs/run"), "ar", *config, "data.source=imagefolder:data")
    run = RunFolder(tmp_path / "here" / "runs" / "run")
    assert run.config.data.source == f"imagefolder:{tmp_path / 'here' / 'data'}"
    before = run.hash
    # Run and images together: found without a word.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").rename(tmp_path / "there")
    run = RunFolder(tmp_path / "there" / "runs" / "run")
    assert run.config.data.source == f"imagefolder:{tmp_path / 'there' / 'data'}"
    train(run.path, "ar", *config, "data.source=imagefolder:data")
    # The images alone: at the new place they are recognised, whatever the path.
    (tmp_path / "there" / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"have moved, give their new place by `data=`"):
        train(run.path, "ar", *config, "data.source=imagefolder:data")
    train(run.path, "ar", *config, f"data.source=imagefolder:{tmp_path / 'elsewhere'}")
    assert run.stored_config.data.source == f"imagefolder:{tmp_path / 'elsewhere'}"
    assert run.hash == before


@pytest.mark.parametrize(
    ("settings", "options", "said"),
    [
        (("train.tensorboard=true",), {}, "needs the package tensorboard"),
        (("tokenizer.codebook_size=16",), {"tokenizer": "finished"}, "does not fit: codebook_size differ"),
        ((), {"phases": ("generator",)}, "has no finished tokenizer"),
        ((), {"continue_with": {"train.steps": 9}}, "there is no run .* to continue"),
        ((), {"rewind": 3}, "there is no run .* to continue"),
        (("data.source=imagefolder:/not/there",), {}, "/not/there"),
    ],
)
def test_a_failed_start_leaves_nothing(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...], options: dict, said: str
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    if "tokenizer" in options:
        options = {"tokenizer": finished}
    with pytest.raises(InputError, match=said):
        train(tmp_path / "runs" / "run", "ar", *settings, **options)
    assert not list(tmp_path.iterdir())


def test_a_damaged_average_beside_whole_weights(copy: Path) -> None:
    run = RunFolder(copy)
    plain = run.load_generator(weights="plain").spec.provenance["weights"]
    for phase in ("generator", "tokenizer"):
        file = run.checkpoint(phase) / ckpt.EMA
        file.write_bytes(file.read_bytes()[:-10])
        with pytest.raises(InputError, match=r"ema\.safetensors is damaged .*plain weights are intact: .*`weights='plain'`"):
            run.load_generator()
        assert run.load_generator(weights="plain").spec.provenance["weights"] == plain
    kept = ckpt.read_state(run.checkpoint("tokenizer")).files[ckpt.WEIGHTS]
    assert run.load_generator(weights="plain").spec.provenance["tokenizer_weights"] == kept


def test_readers_try_again_if_a_checkpoint_is_replaced(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(copy)
    load, replaced = ckpt.load_tensors, []

    def replacing(checkpoint: Path, *arguments: Any) -> Any:
        if checkpoint.name == "step-00000008" and checkpoint.parent.name == "generator" and not replaced:
            replaced.append(checkpoint)
            checkpoint.rename(checkpoint.with_name("step-00000009"))
        return load(checkpoint, *arguments)

    monkeypatch.setattr("nvgbench.runs.models.load_tensors", replacing)
    assert run.load_generator().spec.name == "run"
    assert replaced


@pytest.mark.parametrize("phase", ["generator", "tokenizer"])
def test_the_advice_about_a_damaged_checkpoint_works(copy: Path, phase: str) -> None:
    """The run resumes from an older one, and ends as it was."""
    before = weights(copy)
    damaged = RunFolder(copy).checkpoint(phase)
    (damaged / ckpt.STATE).write_text("{")
    with pytest.raises(InputError, match="is damaged") as caught:
        train(copy, "ar", *CONSTANT, "train.keep_last=3")
    advice = re.search(r"remove the folder (\S+), and the training resumes from step-00000006$", str(caught.value))
    assert advice is not None
    shutil.rmtree(advice[1])
    train(copy, "ar", *CONSTANT, "train.keep_last=3")
    assert weights(copy) == before


@pytest.mark.parametrize("name", ["dataset.json", "group.json"])
def test_the_advice_about_a_damaged_file_works(copy: Path, name: str) -> None:
    train(copy, "ar", *CONSTANT, "train.keep_last=3", group="several")
    before = (copy / name).read_bytes()
    (copy / name).write_text("{")
    with pytest.raises(InputError, match=rf"{name} is damaged .*remove it"):
        _ = RunFolder(copy).replicate, RunFolder(copy).dataset
    (copy / name).unlink()
    train(copy, "ar", *CONSTANT, "train.keep_last=3", group="several")
    assert (copy / name).read_bytes() == before


def test_the_advice_about_a_checkpoint_that_is_not_there_works(copy: Path) -> None:
    with pytest.raises(InputError, match=r"no checkpoint of the generator that early; there are: 3, 6, 8"):
        train(copy, "ar", *CONSTANT, "train.keep_last=3", rewind=2)
    train(copy, "ar", *CONSTANT, "train.keep_last=3", rewind=3)
    assert RunFolder(copy).segments[-1].steps["generator"] == 3


def test_the_advice_about_cached_tokens_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvgbench.interfaces.Objective.needs_images", True)
    with pytest.raises(InputError, match="the cache holds only tokens") as caught:
        train(tmp_path / "run", "ar", "train.steps=1")
    assert advised(str(caught.value)) == {"train.cache_tokens": False}
    train(tmp_path / "run", "ar", "train.steps=1", continue_with=advised(str(caught.value)))
    assert RunFolder(tmp_path / "run").is_finished()


def test_the_advice_after_a_failed_start_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"or use `train\.tensorboard=false`"):
        train(tmp_path / "run", "ar", "train.steps=1", "train.tensorboard=true")
    with pytest.raises(InputError, match="train it first"):
        train(tmp_path / "run", "ar", "train.steps=1", phases=("generator",))
    train(tmp_path / "run", "ar", "train.steps=1", "train.tensorboard=false", phases=("tokenizer",))
    train(tmp_path / "run", "ar", "train.steps=1", phases=("generator",))
    assert RunFolder(tmp_path / "run").is_finished()
