"""Frozen parameters: which ones the patterns select, and that training leaves them alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from nvgbench.config.identity import hashed_part
from nvgbench.config.load import config_hash, load_preset, to_dict
from nvgbench.errors import InputError
from nvgbench.runs import checkpoint as ckpt
from nvgbench.runs.folder import RunFolder
from nvgbench.training.frozen import freeze
from nvgbench.training.loop import TrainingLoop
from tests.helpers.toy_objective import ToyObjective, image_batches, loop_settings, phase_config
from tests.helpers.training_jobs import small_config, train


def network() -> nn.Module:
    return nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)]), "head": nn.Linear(2, 1)})


def test_patterns_select_parameters_by_name() -> None:
    module = network()
    freeze(module, ["blocks.0.*", "head.bias"], "train.generator.frozen")
    trained = {name for name, value in module.named_parameters() if value.requires_grad}
    assert trained == {"blocks.1.weight", "blocks.1.bias", "head.weight"}


def test_a_model_without_parameters_is_left_alone() -> None:
    freeze(nn.Identity(), [], "train.tokenizer.frozen")


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["block.*"], "`train.generator.frozen`: 'block.*' matches no parameter (did you mean 'blocks.*'?)"),
        (["head.weigth"], "did you mean 'head.weight'?"),
        (["xyz"], "its parts are blocks.*, head.*"),
        (["*"], "freezes every parameter"),
    ],
)
def test_patterns_that_cannot_be_meant_are_refused(patterns: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        freeze(network(), patterns, "train.generator.frozen")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_frozen_parameters_have_no_optimizer_state_and_stay_bit_equal(tmp_path: Path) -> None:
    objective = ToyObjective()
    before = {name: value.clone() for name, value in objective.model.state_dict().items()}
    settings = loop_settings(tmp_path, config=phase_config(frozen=("linear.*",), weight_decay=0.5), checkpoint_every=5)
    with pytest.MonkeyPatch.context() as patch:
        saved = []
        patch.setattr(
            ckpt, "save_checkpoint", lambda root, state, tensors, optimizers, keep, shards: saved.append((tensors, optimizers))
        )
        TrainingLoop(objective, settings).run(image_batches(4))
    tensors, optimizers = saved[0]
    assert len(optimizers["model"]["state"]) == 1, "the gain alone is trained"
    for name in ("linear.weight", "linear.bias"):
        for file in (ckpt.WEIGHTS, ckpt.EMA):
            assert torch.equal(tensors[file][name], before[name])
    assert not torch.equal(tensors[ckpt.WEIGHTS]["gain"], before["gain"])


def test_a_wrong_pattern_stops_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="content"):
        train(tmp_path / "run", "nvg", 'train.generator.frozen=["contents.*"]')
    assert not (tmp_path / "run").exists()


def test_the_patterns_are_kept_and_runs_without_them_keep_their_hash(tmp_path: Path) -> None:
    pattern = 'train.generator.frozen=["content.blocks.*"]'
    train(tmp_path / "run", "nvg", pattern, "train.steps=2")
    run = RunFolder(tmp_path / "run")
    assert run.config.train.generator.frozen == ("content.blocks.*",)
    assert run.config == small_config("nvg", pattern, "train.steps=2")
    assert run.hash != config_hash(small_config("nvg", "train.steps=2"))
    hashed = hashed_part(to_dict(load_preset("nvg-tiny")))
    assert "frozen" not in hashed["train"]["generator"], "the hash is that of before the setting"
