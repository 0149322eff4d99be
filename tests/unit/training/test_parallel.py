"""A training of several processes equals that of one with the same global batch."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from nvgbench.errors import InputError
from nvgbench.runs import checkpoint as ckpt
from nvgbench.training.distributed import Processes, join_processes
from nvgbench.training.loop import TrainingLoop
from nvgbench.training.parallel_state import new_folder, save_weights
from nvgbench.types import ImageBatch
from tests.helpers.process_group import run_together
from tests.helpers.toy_objective import Denoiser, ToyObjective, image_batches, loop_settings, phase_config

MODES = ("ddp", "fsdp")


class PartlyUsed(Denoiser):
    """A weight that odd steps do not use, and one that no step uses."""

    def __init__(self) -> None:
        super().__init__()
        self.sometimes = nn.Parameter(torch.ones(2, 2))
        self.never = nn.Parameter(torch.ones(2))
        self.step = 0

    def forward(self, x_BN: torch.Tensor) -> torch.Tensor:
        y_BN = super().forward(x_BN)
        return y_BN * self.sometimes.square().mean() if self.step % 2 == 0 else y_BN


class Exact(ToyObjective):
    """No random numbers; the loss of the model depends on the critic too."""

    def __init__(self) -> None:
        super().__init__(noise=0.0)
        self.model = PartlyUsed()
        self.modules = {"model": self.model, "critic": self.critic}

    def losses(self, batch: ImageBatch, rng: torch.Generator, step: int) -> Iterator:
        self.model.step = step
        yield from super().losses(batch, rng, step)


def _train(folder: Path, mode: str, steps: int, micro_batch: int | None) -> None:
    with join_processes(torch.device("cpu")) as (processes, device):
        config = phase_config(batch_size=16, micro_batch_size=micro_batch, clip_norm=0.5, schedule="constant", warmup_steps=0)
        settings = loop_settings(folder, config=config, total_steps=steps, keep_optimizer=True)
        settings = dataclasses.replace(settings, processes=processes, device=device, parallel=mode)
        objective = Exact()
        if not processes.is_first:  # the first process's weights count
            nn.init.zeros_(objective.model.linear.weight)
        TrainingLoop(objective, settings).run(image_batches(16, processes.rank, processes.world_size))


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    found = ckpt.latest_checkpoint(folder / "checkpoints" / "tokenizer")
    files = (ckpt.WEIGHTS, ckpt.EMA, "critic.safetensors")
    return {f"{file}/{name}": value for file in files for name, value in ckpt.load_tensors(found, file).items()}


def _assert_close(one: Path, other: Path) -> None:
    expected = _weights(one)
    for name, value in _weights(other).items():
        if name.endswith("/seen"):  # counts micro-batches
            continue
        # Float32 sums in another order: about 1e-7 in a gradient, through steps of Adam of 1e-2 that normalise it.
        torch.testing.assert_close(value, expected[name], rtol=0, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("count", "micro_batch"), [(2, None), (2, 4), (4, 2)])
def test_a_training_of_several_processes_equals_that_of_one(tmp_path: Path, mode: str, count: int, micro_batch: int) -> None:
    run_together(1, _train, tmp_path / "one", mode, 5, None)
    run_together(count, _train, tmp_path / "many", mode, 5, micro_batch)
    _assert_close(tmp_path / "one", tmp_path / "many")
    assert torch.equal(_weights(tmp_path / "many")["weights.safetensors/never"], torch.ones(2))  # neither moved nor decayed


def test_a_training_resumes_with_another_number_of_processes_and_in_the_other_mode(tmp_path: Path) -> None:
    run_together(1, _train, tmp_path / "one", "ddp", 5, None)
    chain = [(2, "fsdp"), (4, "fsdp"), (1, "fsdp"), (2, "ddp")]
    for steps, (count, mode) in enumerate(chain, start=2):
        run_together(count, _train, tmp_path / "many", mode, steps, None)
        found = ckpt.latest_checkpoint(tmp_path / "many" / "checkpoints" / "tokenizer")
        sharded = any(path.suffix == ".distcp" for path in found.rglob("*"))
        assert (ckpt.read_state(found).step, sharded) == (steps, mode == "fsdp" and count > 1)
    _assert_close(tmp_path / "one", tmp_path / "many")


class KilledError(Exception):
    """A process ends at once."""


def _train_until(folder: Path, mode: str, killed_after: int) -> None:
    """Of three steps, with a checkpoint after each."""

    def progress(event: dict) -> None:
        # The checkpoint of a step is written after its progress is told.
        if event.get("done") == killed_after + 1:
            raise KilledError

    with join_processes(torch.device("cpu")) as (processes, device), contextlib.suppress(KilledError):
        config = phase_config(batch_size=16, clip_norm=0.5, schedule="constant", warmup_steps=0)
        settings = loop_settings(folder, config=config, total_steps=3, checkpoint_every=1, progress=progress)
        settings = dataclasses.replace(settings, processes=processes, device=device, parallel=mode)
        TrainingLoop(Exact(), settings).run(image_batches(16, processes.rank, processes.world_size))


def test_sharded_weights_are_read_by_any_number_of_processes(tmp_path: Path) -> None:
    run_together(1, _train_until, tmp_path / "one", "ddp", 3)
    many = tmp_path / "many"
    for steps, (count, mode) in enumerate([(2, "fsdp"), (4, "fsdp"), (2, "ddp")], start=1):
        run_together(count, _train_until, many, mode, steps)
        found = ckpt.latest_checkpoint(many / "checkpoints" / "tokenizer")
        state = ckpt.read_state(found)
        assert (state.step, state.final) == (steps, steps == 3)
        folders = sorted(path.name for path in found.iterdir() if path.is_dir())
        assert folders == ([] if state.final else ["critic-shards", "ema-shards", "optimizer", "weights-shards"])
        if not state.final:  # used before the training is finished
            whole = ckpt.load_tensors(found, ckpt.model_file(found))
            expected = Exact().model.state_dict()
            assert {name: value.shape for name, value in whole.items()} == {name: v.shape for name, v in expected.items()}
            assert torch.isfinite(whole["linear.weight"]).all()
            assert len(state.shards(ckpt.EMA)) == count
            assert len({state.digest(ckpt.EMA), state.digest(ckpt.WEIGHTS), *state.files.values()}) == len(state.files) + 2
    _assert_close(tmp_path / "one", many)


def test_damaged_shards_of_weights_are_reported_in_one_line(tmp_path: Path) -> None:
    root, weights = tmp_path / "checkpoints" / "tokenizer", Exact().model.state_dict()
    shards = new_folder(ckpt.new_shards(root, 1), Processes())
    save_weights(shards / ckpt.shards_folder(ckpt.WEIGHTS), weights, Processes())
    state = ckpt.CheckpointState(phase="tokenizer", step=1, total_steps=3, final=False)
    found = ckpt.save_checkpoint(root, state, {}, shards=shards)
    for name, value in ckpt.load_tensors(found, ckpt.WEIGHTS).items():
        assert torch.equal(value, weights[name])
    (shard,) = (found / "weights-shards").iterdir()
    content = shard.read_bytes()
    shard.write_bytes(content[:-10])
    with pytest.raises(InputError, match=r"step-00000001/weights-shards/\S+ is damaged \(its SHA-256 differs.*remove the"):
        ckpt.load_tensors(found, ckpt.WEIGHTS)
    shard.unlink()
    with pytest.raises(InputError, match="the file is missing"):
        ckpt.check_shards(found)


def test_damaged_shards_are_reported_in_one_line(tmp_path: Path) -> None:
    run_together(2, _train, tmp_path, "fsdp", 2, None)
    (shard, *_) = sorted(tmp_path.rglob("*.distcp"))
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"step-00000002/optimizer/__0_0.distcp is damaged \(its SHA-256 differs.*remove the"):
        TrainingLoop(Exact(), loop_settings(tmp_path, total_steps=3))


def test_micro_batches_that_yield_different_losses_are_refused(tmp_path: Path) -> None:
    class Uneven(ToyObjective):
        def losses(self, batch: ImageBatch, rng: torch.Generator, step: int) -> Iterator:
            yield from list(super().losses(batch, rng, step))[: 2 if batch.images_B3HW[0, 0, 0, 0] == first else 1]

    settings = loop_settings(tmp_path, config=phase_config(batch_size=4, micro_batch_size=2))
    first = next(image_batches(4)(0)).images_B3HW[0, 0, 0, 0]
    with pytest.raises(RuntimeError, match="critic: 1 of 2 micro-batches yielded no loss"):
        TrainingLoop(Uneven(), settings).run(image_batches(4))
