"""The training loop on a toy model: arithmetic, logs, resuming, stopping."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path

import pytest
import torch

from nvgbench.errors import InputError
from nvgbench.runs import checkpoint as ckpt
from nvgbench.runs.log import read_log
from nvgbench.training.interrupt import Interrupted, StopSignal
from nvgbench.training.loop import TrainingLoop
from nvgbench.training.schedule import learning_rate
from nvgbench.training.tally import DivergenceError
from tests.helpers.toy_objective import ToyObjective, image_batches, loop_settings, phase_config


def final_bytes(folder: Path) -> dict[str, bytes]:
    found = ckpt.latest_checkpoint(folder / "checkpoints" / "tokenizer")
    assert found is not None
    assert ckpt.read_state(found).final
    return {path.name: path.read_bytes() for path in found.glob("*.safetensors")}


def rows(folder: Path) -> list[dict]:
    """The log without what depends on the clock."""
    return [
        {k: v for k, v in row.items() if k not in ("seconds", "images_per_second", "speed")}
        for row in read_log(folder / "train.jsonl")
    ]


def train(folder: Path, **changes) -> None:
    objective = changes.pop("objective", None) or ToyObjective()
    settings = loop_settings(folder, **changes)
    TrainingLoop(objective, settings).run(image_batches(settings.config.batch_size))


def test_one_module_steps_like_plain_adamw(tmp_path: Path) -> None:
    """Without noise the loop's arithmetic is AdamW with clipping, decay on matrices only, and a running average."""
    config = phase_config(weight_decay=0.3, clip_norm=0.5, ema_decay=0.9)
    loop = TrainingLoop(ToyObjective(noise=0), loop_settings(tmp_path, config=config))
    plain = ToyObjective(noise=0)
    model, critic = plain.model.eval(), plain.critic
    makers = []
    for module in (model, critic):
        matrices = [p for p in module.parameters() if p.ndim >= 2]
        vectors = [p for p in module.parameters() if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0}]
        makers.append(torch.optim.AdamW(groups, betas=(0.9, 0.95)))
    average = {name: value.detach().clone() for name, value in model.named_parameters()}
    source = image_batches(4)(0)
    for step in range(5):
        batch = next(source)
        loop.train_step(batch)
        x_BN = batch.images_B3HW.flatten(1)
        losses = (
            lambda x=x_BN: (model(x) - x).square().mean() - 0.1 * critic(model(x)).mean(),
            lambda x=x_BN, y=model(x_BN).detach(): critic(y).mean() - critic(x).mean(),
        )
        for module, optimizer, loss in zip((model, critic), makers, losses, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, step, 10)
            parameters = list(module.parameters())
            for value, gradient in zip(parameters, torch.autograd.grad(loss(), parameters), strict=True):
                value.grad = gradient
            torch.nn.utils.clip_grad_norm_(parameters, 0.5)
            optimizer.step()
        decay = min(0.9, (1 + step) / (10 + step))
        for name, value in model.named_parameters():
            average[name] = decay * average[name] + (1 - decay) * value.detach()
    for mine, theirs in ((loop.objective.model, model), (loop.objective.critic, critic)):
        for name, value in theirs.named_parameters():
            # fused against plain kernels; Adam divides by the gradient's size, so a small gradient's rounding shows
            torch.testing.assert_close(mine.get_parameter(name), value, rtol=1e-5, atol=1e-5)
    for name, value in average.items():
        torch.testing.assert_close(loop._ema.state_dict()[name], value, rtol=1e-5, atol=1e-5)


def test_gradients_reach_the_named_module_only(tmp_path: Path) -> None:
    loop = TrainingLoop(ToyObjective(), loop_settings(tmp_path))
    critic = {name: value.clone() for name, value in loop.objective.critic.state_dict().items()}
    source = loop.objective.losses(next(image_batches(4)(0)), torch.Generator(), 0)
    loop._accumulate([source], {})
    assert all(value.grad is None for value in loop.objective.critic.parameters())
    assert all(value.grad is not None for value in loop.objective.model.parameters())
    assert all(torch.equal(value, critic[name]) for name, value in loop.objective.critic.state_dict().items())


def test_micro_batches_add_up_to_the_batch(tmp_path: Path) -> None:
    """Means of equal parts: the same update up to the order of summation."""
    train(tmp_path / "whole", objective=ToyObjective(noise=0))
    train(tmp_path / "parts", objective=ToyObjective(noise=0), config=phase_config(micro_batch_size=1))
    whole, parts = (
        ckpt.load_tensors(ckpt.latest_checkpoint(tmp_path / name / "checkpoints" / "tokenizer"), "weights.safetensors")
        for name in ("whole", "parts")
    )
    for name in ("linear.weight", "gain"):
        torch.testing.assert_close(whole[name], parts[name], rtol=1e-4, atol=1e-5)
    for one, other in zip(rows(tmp_path / "whole"), rows(tmp_path / "parts"), strict=True):
        assert one["losses"] == pytest.approx(other["losses"], rel=1e-4)


def test_micro_batch_must_divide(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="micro_batch_size = 3 does not divide the 4 images"):
        TrainingLoop(ToyObjective(), loop_settings(tmp_path, config=phase_config(micro_batch_size=3)))


class StopAfter(StopSignal):
    """Received as soon as it was asked so often."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    @property
    def received(self) -> bool:
        self.left -= 1
        return self.left <= 0

    @received.setter
    def received(self, value: bool) -> None: ...


@pytest.mark.parametrize("stops", [[1], [4], [3, 2, 2], [1] * 9, [10]])
def test_interrupted_training_ends_like_an_unbroken_one(tmp_path: Path, stops: list[int]) -> None:
    train(tmp_path / "whole")
    for steps in stops:
        with pytest.raises(Interrupted):
            train(tmp_path / "broken", stop=StopAfter(steps))
    if not ckpt.read_state(ckpt.latest_checkpoint(tmp_path / "broken" / "checkpoints" / "tokenizer")).final:
        train(tmp_path / "broken")
    assert final_bytes(tmp_path / "whole") == final_bytes(tmp_path / "broken")
    assert rows(tmp_path / "whole") == rows(tmp_path / "broken")


def test_crash_between_checkpoints_repeats_the_lost_steps(tmp_path: Path) -> None:
    train(tmp_path / "whole")

    def dying(event: dict) -> None:
        if event["done"] == 7:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        train(tmp_path / "broken", progress=dying)
    assert [row["step"] for row in rows(tmp_path / "broken")] == [3, 6]
    train(tmp_path / "broken")
    assert final_bytes(tmp_path / "whole") == final_bytes(tmp_path / "broken")
    assert rows(tmp_path / "whole") == rows(tmp_path / "broken")


def test_log_holds_means_over_its_interval(tmp_path: Path) -> None:
    train(tmp_path / "each", log_every=1)
    train(tmp_path / "third", log_every=3)
    each, third = rows(tmp_path / "each"), rows(tmp_path / "third")
    assert [row["step"] for row in third] == [3, 6, 9, 10]
    assert set(third[0]["losses"]) == {"model", "model/mse", "model/fooled", "critic"}
    assert set(third[0]["grad_norm"]) == {"model", "critic"}
    for name in ("model", "critic"):
        assert third[1]["losses"][name] == pytest.approx(sum(row["losses"][name] for row in each[3:6]) / 3)
    assert each[9]["lr"] == pytest.approx(learning_rate(phase_config(), 9, 10))


@pytest.mark.parametrize(("explode_at", "kept"), [(2, None), (6, 4)])
def test_a_loss_that_is_not_finite_stops_before_the_next_checkpoint(tmp_path: Path, explode_at: int, kept: int | None) -> None:
    with pytest.raises(DivergenceError, match=rf"step {explode_at + 1}: model/fooled is -?(inf|nan)"):
        train(tmp_path, objective=ToyObjective(explode_at=explode_at))
    found = ckpt.latest_checkpoint(tmp_path / "checkpoints" / "tokenizer")
    assert (None if found is None else ckpt.read_state(found).step) == kept
    if found is not None:
        assert all(torch.isfinite(value).all() for value in ckpt.load_tensors(found, ckpt.WEIGHTS).values())


def test_late_fetching_still_names_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an accelerator, where numbers are fetched some steps late."""
    loop = TrainingLoop(ToyObjective(explode_at=1), loop_settings(tmp_path))
    source = image_batches(4)(0)
    for _ in range(4):
        loop.train_step(next(source))
    with pytest.raises(DivergenceError, match="step 2: model/fooled"):
        loop._tally.settle()


def test_only_the_last_checkpoint_is_kept_and_final_drops_the_optimizer(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints" / "tokenizer"
    seen: list[list[str]] = []
    train(tmp_path, progress=lambda event: seen.append([path.name for path in root.glob("*")]))
    assert seen == [[]] * 5 + [["step-00000004"]] * 4 + [["step-00000008"]] * 2  # progress comes before the checkpoint
    assert [path.name for path in root.iterdir()] == ["step-00000010"]
    assert not (root / "step-00000010" / "optimizer.pt").exists()
    state = ckpt.read_state(root / "step-00000010")
    assert (state.images, state.notes, state.final) == (40, ("a note",), True)
    assert state.parameters["critic"] == 49


def test_seeds_matter(tmp_path: Path) -> None:
    train(tmp_path / "a")
    train(tmp_path / "b", seed=4)
    assert final_bytes(tmp_path / "a") != final_bytes(tmp_path / "b")


def test_no_average_where_it_is_switched_off(tmp_path: Path) -> None:
    train(tmp_path, config=phase_config(ema_decay=0))
    found = ckpt.latest_checkpoint(tmp_path / "checkpoints" / "tokenizer")
    assert not (found / ckpt.EMA).exists()
    assert ckpt.model_file(found, ema=True) == ckpt.WEIGHTS


def test_bf16_changes_the_losses_a_little_and_keeps_float32_weights(tmp_path: Path) -> None:
    train(tmp_path / "fp32")
    objective = ToyObjective()
    train(tmp_path / "bf16", objective=objective, precision="bf16")
    assert {value.dtype for value in objective.model.parameters()} == {torch.float32}
    one, other = rows(tmp_path / "fp32")[-1]["losses"]["model/mse"], rows(tmp_path / "bf16")[-1]["losses"]["model/mse"]
    assert one != other
    assert math.isclose(one, other, rel_tol=0.05)  # bf16 has 8 bits: about 0.4 % an operation


def test_progress_is_called_once_a_step(tmp_path: Path) -> None:
    events: list = []
    train(tmp_path, progress=events.append)
    assert [event["done"] for event in events] == list(range(11))
    assert [event["done"] for event in events if "losses" in event] == [3, 6, 9, 10]


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        loop_settings(tmp_path).seed = 1  # type: ignore[misc]


def kept(folder: Path) -> list[int]:
    return ckpt.kept_steps(folder / "checkpoints" / "tokenizer")


def failing_batches(at: int, error: Exception):
    """Batches that end with an error at a step."""

    def batches(start: int):
        for step, batch in zip(itertools.count(start), image_batches(4)(start), strict=False):
            if step == at:
                raise error
            yield batch

    return batches


@pytest.mark.parametrize("error", [InputError("cat.png is damaged"), OSError(5, "disk"), MemoryError(), RuntimeError("worker")])
def test_a_batch_that_cannot_be_read_leaves_a_checkpoint(tmp_path: Path, error: Exception) -> None:
    train(tmp_path / "whole")
    with pytest.raises(type(error)):
        TrainingLoop(ToyObjective(), loop_settings(tmp_path / "broken")).run(failing_batches(6, error))
    assert kept(tmp_path / "broken") == [6]
    train(tmp_path / "broken")
    assert final_bytes(tmp_path / "whole") == final_bytes(tmp_path / "broken")
    assert rows(tmp_path / "whole") == rows(tmp_path / "broken")


def test_a_batch_that_cannot_be_read_while_stopping_is_an_interruption(tmp_path: Path) -> None:
    stop = StopSignal()
    settings = loop_settings(tmp_path, stop=stop)

    def batches(start: int):
        yield from itertools.islice(image_batches(4)(start), 2)
        stop.received = True
        raise RuntimeError("the worker is gone")

    with pytest.raises(Interrupted):
        TrainingLoop(ToyObjective(), settings).run(batches)
    assert kept(tmp_path) == [2]


def test_several_checkpoints_and_the_best_are_kept(tmp_path: Path) -> None:
    train(tmp_path / "last", checkpoint_every=2, log_every=2, keep=ckpt.Keep(last=3))
    assert kept(tmp_path / "last") == [6, 8, 10]
    train(tmp_path / "best", checkpoint_every=2, log_every=2, keep=ckpt.Keep(best="model"))
    losses = {row["step"]: row["losses"]["model"] for row in rows(tmp_path / "best")}
    best = min(losses, key=lambda step: losses[step])
    assert kept(tmp_path / "best") == sorted({best, 10})
    assert final_bytes(tmp_path / "best") == final_bytes(tmp_path / "last")


def test_the_best_of_an_early_minimum_stays(tmp_path: Path) -> None:
    """A loss that rises from the second checkpoint on."""
    root = tmp_path / "tokenizer"
    for step, value in ((2, 0.5), (4, 0.2), (6, 0.3), (8, float("nan"))):
        state = ckpt.CheckpointState(phase="tokenizer", step=step, total_steps=9, final=False, metrics={"a": value})
        ckpt.save_checkpoint(root, state, {ckpt.WEIGHTS: {"w": torch.zeros(1)}}, keep=ckpt.Keep(best="a"))
    assert ckpt.kept_steps(root) == [4, 8]


def test_a_best_that_is_not_logged_is_reported_once(tmp_path: Path) -> None:
    told: list = []
    train(tmp_path, keep=ckpt.Keep(best="modle"), progress=told.append)
    (message,) = [event["message"] for event in told if "message" in event]
    assert "train.keep_best = 'modle' is not logged; logged are" in message
    assert "model/mse" in message


def test_a_longer_training_with_the_optimizer_kept_equals_one_of_that_length(tmp_path: Path) -> None:
    config = phase_config(schedule="constant", warmup_steps=0)
    train(tmp_path / "whole", config=config, total_steps=10)
    train(tmp_path / "more", config=config, total_steps=6, keep_optimizer=True)
    ckpt.reopen(ckpt.latest_checkpoint(tmp_path / "more" / "checkpoints" / "tokenizer"), 10)
    train(tmp_path / "more", config=config, total_steps=10)
    assert final_bytes(tmp_path / "whole") == final_bytes(tmp_path / "more")
    assert ckpt.read_state(ckpt.latest_checkpoint(tmp_path / "more" / "checkpoints" / "tokenizer")).images == 40
