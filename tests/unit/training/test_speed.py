"""What makes training faster or smaller, and what it reports about its speed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nvgbench.config.load import config_hash, load_preset
from nvgbench.errors import InputError
from nvgbench.profiling.ceilings import measure_ceilings
from nvgbench.runs.checkpoint import CheckpointState
from nvgbench.runs.log import read_log
from nvgbench.training.acceleration import accelerate
from nvgbench.training.clock import Clock
from nvgbench.training.loop import TrainingLoop
from nvgbench.training.record import _summary
from nvgbench.training.speed import SpeedMeter
from nvgbench.training.trial import Trial, grow, largest_micro_batch
from tests.helpers.toy_objective import ToyObjective, image_batches, loop_settings

CPU = torch.device("cpu")


def weights_after_two_steps(*settings: str) -> list[torch.Tensor]:
    config = load_preset("nvg-tiny", ["data.image_size=16", "model.depth=2", "model.drop_path=0.3", *settings])
    trial = Trial(config, 3, CPU)
    torch.manual_seed(0)  # of the random images
    step = trial.steps(2)
    step()
    step()
    return [value.detach().clone() for value in trial._generator.parameters()]


def test_recomputed_activations_change_no_weight() -> None:
    """Bit for bit, drop path included."""
    plain = weights_after_two_steps()
    recomputed = weights_after_two_steps("train.activation_checkpointing=true")
    assert all(torch.equal(a, b) for a, b in zip(plain, recomputed, strict=True))


def test_whether_blocks_are_compiled_does_not_change_hashes() -> None:
    auto, never = (load_preset("nvg-tiny", [f"train.compile={value}"]) for value in ("auto", "false"))
    assert config_hash(auto) == config_hash(never)  # of records written when false was the default


def test_blocks_are_compiled_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvgbench.device.missing_for_compilation", lambda device_type: None)

    class Compilable(torch.nn.Module):
        compiled = False

        def compile_blocks(self) -> None:
            self.compiled = True

    model, config = Compilable(), load_preset("nvg-tiny").train
    assert not accelerate(model, config, CPU)
    assert not model.compiled
    notes = accelerate(model, config, torch.device("cuda"))
    assert model.compiled
    assert "compiled" in notes[0]


def test_seconds_of_compilation_are_logged_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvgbench.training.speed.compilation_seconds", lambda: 12.5)
    assert SpeedMeter(None, CPU, "fp32").row(100.0, 0.25) == {"data_share": 0.25, "compile_seconds": 12.5}
    state = CheckpointState(phase="generator", step=2, total_steps=2, final=True)
    rows = [{"phase": "generator", "losses": {}, "speed": {"compile_seconds": seconds}} for seconds in (12.5, 0.0)]
    assert _summary(state, rows)["compile_seconds"] == 12.5
    assert "compile_seconds" not in _summary(state, rows[1:])


def test_the_log_has_rates_and_the_wait_for_data(tmp_path: Path) -> None:
    settings = loop_settings(tmp_path, flops=1e6, total_steps=4, log_every=2)
    TrainingLoop(ToyObjective(), settings).run(image_batches(settings.config.batch_size))
    rows = read_log(tmp_path / "train.jsonl")
    assert len(rows) == 2
    for row in rows:
        speed = row["speed"]
        assert speed["flops_per_second"] == pytest.approx(1e6 * row["images_per_second"])
        assert speed["mfu"] == pytest.approx(speed["flops_per_second"] / measure_ceilings(CPU).products["fp32"])
        assert 0 <= speed["data_share"] <= 1


def test_work_is_shared_and_unknown_flops_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvgbench.training.speed.compilation_seconds", lambda: 0.0)  # whatever this process has compiled
    alone, pair = (SpeedMeter(2e6, CPU, "fp32", processes).row(100.0, 0.25) for processes in (1, 2))
    assert pair["mfu"] == pytest.approx(alone["mfu"] / 2)
    assert SpeedMeter(None, CPU, "fp32").row(100.0, 0.25) == {"data_share": 0.25}


def test_waiting_counts_once() -> None:
    clock = Clock()
    clock.start(0)
    with clock.waiting():
        while clock.seconds < 0.02:
            pass
    _, first = clock.rate(8)
    assert first > 0.5
    while clock.seconds < 0.04:
        pass
    assert clock.rate(16)[1] == 0


@pytest.mark.parametrize(("room", "limit", "found"), [(1, 64, 1), (5, 64, 4), (64, 64, 64), (100, 48, 32)])
def test_the_largest_micro_batch_that_fits(room: int, limit: int, found: int) -> None:
    tried: list[str] = []
    assert grow(lambda size: size <= room, limit, tried.append) == found
    assert tried


def test_no_batch_is_found_without_a_gpu_or_room() -> None:
    with pytest.raises(InputError, match="activation_checkpointing"):
        grow(lambda size: False, 8, print)
    with pytest.raises(InputError, match="there is none"):
        largest_micro_batch(load_preset("nvg-tiny"), CPU, print)
