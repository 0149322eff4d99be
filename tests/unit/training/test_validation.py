"""Held-out losses and pictures: what they are, where they go, and that the training does not notice them."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from nvgbench.config.load import load_preset
from nvgbench.errors import InputError
from nvgbench.runs.log import read_log
from nvgbench.training.ema import Ema
from nvgbench.training.interrupt import Interrupted
from nvgbench.training.validation import Validation, undisturbed
from nvgbench.types import ImageBatch
from tests.helpers.toy_objective import SIDE, ToyObjective
from tests.helpers.training_jobs import log, train, weights

SHORT = "train.steps=4"
VALIDATED = (SHORT, "train.validate_every=2", "data.eval_images=4")


def toy_validation(tmp_path: Path, shown: list[Any]) -> Validation:
    batches = [ImageBatch(torch.randn(size, 3, SIDE, SIDE), torch.zeros(size, dtype=torch.int64)) for size in (4, 2)]
    return Validation(
        every=2,
        phase="tokenizer",
        batches=batches,
        picture=lambda: torch.zeros(3, 3, SIDE, SIDE, dtype=torch.uint8),
        folder=tmp_path,
        show=lambda *args: shown.append(args),
        seed=0,
        device=torch.device("cpu"),
    )


def test_the_loss_is_the_mean_over_held_out_images(tmp_path: Path) -> None:
    objective, shown = ToyObjective(noise=0), []
    validation, ema = toy_validation(tmp_path, shown), Ema(objective.model, 0.9)
    with torch.no_grad():
        objective.model.gain.mul_(2)  # after the average was taken
    found = validation.run(objective, ema, 6)

    def mse(model: torch.nn.Module) -> float:
        images = torch.cat([batch.images_B3HW.flatten(1) for batch in validation.batches])
        with torch.no_grad():
            return float((model.eval()(images) - images).square().mean())

    assert found["heldout/model/mse"] == pytest.approx(mse(objective.model), rel=1e-5)
    with ema.applied():
        assert found["heldout/averaged/model/mse"] == pytest.approx(mse(objective.model), rel=1e-5)
    assert found["heldout/averaged/model/mse"] != found["heldout/model/mse"]
    assert not [name for name in found if "critic" in name], "the first loss alone is the model's"
    assert shown == [("tokenizer", 6, tmp_path / "tokenizer-00000006.png")]
    assert shown[0][2].is_file()


def test_noise_is_the_same_every_time(tmp_path: Path) -> None:
    objective, validation = ToyObjective(), toy_validation(tmp_path, [])
    first = validation.run(objective, None, 2)
    torch.randn(5)
    assert validation.run(objective, None, 4) == first


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    objective, validation = ToyObjective(), toy_validation(tmp_path, [])
    ema = Ema(objective.model, 0.9)
    with torch.no_grad():
        objective.model.gain.add_(1)
    objective.critic.eval()
    before = {name: value.clone() for name, value in objective.model.state_dict().items()}
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    validation.run(objective, ema, 2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in objective.model.state_dict().items())
    assert objective.model.training
    assert not objective.critic.training
    with pytest.raises(ZeroDivisionError), undisturbed(objective.modules, torch.device("cpu")):
        assert not objective.model.training
        _ = 1 / 0
    assert objective.model.training


@pytest.mark.parametrize("family", ["nvg", "var"])
def test_a_training_is_the_same_with_and_without(family: str, tmp_path: Path) -> None:
    adversarial = "tokenizer.losses.adversarial='patch'"
    train(tmp_path / "plain", family, adversarial, SHORT)
    train(tmp_path / "seen", family, adversarial, *VALIDATED)
    assert weights(tmp_path / "plain") == weights(tmp_path / "seen")
    plain, seen = log(tmp_path / "plain"), log(tmp_path / "seen")
    for row in seen:
        row["losses"] = {name: value for name, value in row["losses"].items() if not name.startswith("heldout/")}
    assert plain == seen
    names = set(read_log(tmp_path / "seen" / "train.jsonl")[-1]["losses"])
    assert {"heldout/generator", "heldout/averaged/generator", "heldout/generator/token_accuracy"} <= names
    pictures = sorted(path.name for path in (tmp_path / "seen" / "pictures").iterdir())
    assert pictures == [f"{phase}-{step:08d}.png" for phase in ("generator", "tokenizer") for step in (2, 4)]
    assert Image.open(tmp_path / "seen" / "pictures" / pictures[0]).size == (8 * 18 + 2, 2 * 18 + 2)


def test_a_resumed_training_logs_the_same(tmp_path: Path) -> None:
    def stop(event: dict) -> None:
        if event.get("phase") == "generator" and event["done"] == 3:
            raise Interrupted

    train(tmp_path / "whole", "ar", *VALIDATED)
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", "ar", *VALIDATED, progress=stop)
    train(tmp_path / "cut", "ar", *VALIDATED)
    assert log(tmp_path / "cut") == log(tmp_path / "whole")


def test_intervals_must_fit() -> None:
    with pytest.raises(InputError, match=r"train\.validate_every = 30 is not a multiple of train\.log_every = 50"):
        load_preset("nvg-tiny", ["train.validate_every=30"])


class FakeWandb(types.ModuleType):
    """Notes what it is given."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.started: list[dict] = []
        self.logged: list[dict] = []
        self.finished = 0

    def init(self, **options: Any) -> FakeWandb:
        self.started.append(options)
        return self

    def define_metric(self, name: str, **options: Any) -> None:
        pass

    def log(self, row: dict) -> None:
        self.logged.append(row)

    def finish(self) -> None:
        self.finished += 1

    def Image(self, path: str) -> str:
        return path


def test_wandb_gets_what_the_log_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for _ in range(2):
        train(tmp_path / "run", "ar", *VALIDATED, "train.wandb=things")
    assert [start["project"] for start in fake.started] == ["things", "things"]
    assert fake.started[0]["id"] == fake.started[1]["id"], "a resumed training continues the same run"
    assert fake.started[0]["name"] == "run"
    assert fake.finished == 2
    last = read_log(tmp_path / "run" / "train.jsonl")[-1]
    expected = {f"generator/losses/{name}": value for name, value in last["losses"].items()} | {"generator/step": 4}
    assert expected.items() <= fake.logged[-1].items()
    shown = [row for row in fake.logged if "generator/pictures" in row]
    assert [row["generator/step"] for row in shown] == [2, 4]


def test_a_missing_package_stops_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"pip install 'nvgbench\[wandb\]', or use `train.wandb=null`"):
        train(tmp_path / "run", "ar", "train.wandb=things")
    assert not (tmp_path / "run").exists()


def test_tensorboard_gets_pictures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path / "run", "ar", *VALIDATED, "train.tensorboard=true", phases=["tokenizer"])
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Images("tokenizer/pictures")] == [2, 4]
    assert [event.step for event in events.Scalars("tokenizer/losses/heldout/tokenizer")] == [2, 4]
