"""Checkpoints: complete or absent, and refused when damaged."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

import pytest
import torch

from nvgbench.errors import InputError
from nvgbench.runs import checkpoint as ckpt
from nvgbench.runs.checkpoint import CheckpointState, save_checkpoint


def state(step: int, **changes) -> CheckpointState:
    return CheckpointState(
        **({"phase": "generator", "step": step, "total_steps": 9, "final": False, "notes": ("x",)} | changes)
    )


def save(root: Path, step: int = 3) -> Path:
    shared = torch.arange(6.0).view(2, 3)
    tensors = {ckpt.WEIGHTS: {"a": shared, "tied": shared, "strided": shared.t(), "empty": torch.zeros(0)}}
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
    return save_checkpoint(root, state(step), tensors, {"model": optimizer.state_dict()})


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    found = save(tmp_path)
    assert found == tmp_path / "step-00000003" == ckpt.latest_checkpoint(tmp_path)
    back = ckpt.read_state(found)
    assert (back.step, back.notes, set(back.files)) == (3, ("x",), {ckpt.WEIGHTS, ckpt.OPTIMIZER})
    tensors = ckpt.load_tensors(found, ckpt.WEIGHTS)
    assert torch.equal(tensors["strided"], torch.arange(6.0).view(2, 3).t())
    assert torch.equal(tensors["tied"], tensors["a"])
    assert ckpt.load_optimizers(found)["model"]["param_groups"][0]["lr"] == 1e-3


def test_a_new_checkpoint_replaces_the_old_one_and_cleans_up(tmp_path: Path) -> None:
    save(tmp_path, 3)
    (tmp_path / ".step-00000002.old").mkdir()  # a process killed while it removed a checkpoint
    (tmp_path / ".step-00000004.new").mkdir()  # … or while it wrote one
    save(tmp_path, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004"]


def test_older_checkpoints_left_by_a_killed_process_are_removed(tmp_path: Path) -> None:
    for step in (3, 6):
        save(tmp_path / f"{step}", step).rename(tmp_path / f"step-{step:08d}")
    ckpt.clean(tmp_path)
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-00000006"]


def test_half_written_folders_are_not_checkpoints(tmp_path: Path) -> None:
    (tmp_path / ".step-00000004.new").mkdir()
    assert ckpt.latest_checkpoint(tmp_path) is None
    assert ckpt.latest_checkpoint(tmp_path / "nothing") is None


def test_a_lost_average_is_not_silently_replaced_by_the_weights(tmp_path: Path) -> None:
    weights = {"a": torch.ones(2)}
    found = save_checkpoint(tmp_path, state(3), {ckpt.WEIGHTS: weights, ckpt.EMA: weights})
    (found / ckpt.EMA).unlink()
    with pytest.raises(InputError, match=r"ema\.safetensors is damaged \(the file is missing\)"):
        ckpt.load_tensors(found, ckpt.model_file(found))
    assert ckpt.model_file(found, ema=False) == ckpt.WEIGHTS


@pytest.mark.parametrize("content", ["[]", '{"phase": "generator", "step": 3, "total_steps": 9, "final": true}'])
def test_a_state_of_another_shape_is_damaged(tmp_path: Path, content: str) -> None:
    found = save(tmp_path)
    (found / ckpt.STATE).write_text(content)
    with pytest.raises(InputError, match=r"state\.json is damaged") as caught:
        ckpt.read_state(found)
    assert "https" not in str(caught.value)


@pytest.mark.parametrize("name", [ckpt.WEIGHTS, ckpt.OPTIMIZER, ckpt.STATE])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "removed"])
def test_damage_is_named_with_a_remedy(tmp_path: Path, name: str, damage: str) -> None:
    found = save(tmp_path)
    content = (found / name).read_bytes()
    if damage == "removed":
        (found / name).unlink()
    elif damage == "truncated":
        (found / name).write_bytes(content[: len(content) // 2])
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]
        (found / name).write_bytes(flipped)
    with pytest.raises(InputError, match=r"is damaged .*; remove the folder .*step-00000003") as caught:
        ckpt.read_state(found)
        ckpt.load_tensors(found, ckpt.WEIGHTS)
        ckpt.load_optimizers(found)
    assert name in str(caught.value)
    assert "and the training" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("failing", ["safetensors.torch.save_file", "torch.save", "nvgbench.runs.checkpoint._sync"])
def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    save(tmp_path, 3)

    def full(*arguments: object, **named: object) -> None:
        if failing == "torch.save":
            raise RuntimeError("PytorchStreamWriter failed writing file data")  # what torch makes of ENOSPC
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(failing, full)
    with pytest.raises(OSError, match=r"No space left|could not write the checkpoint of step 00000004") as caught:
        save(tmp_path, 4)
    assert caught.value.filename == str(tmp_path / "step-00000004")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]
    assert ckpt.load_tensors(tmp_path / "step-00000003", ckpt.WEIGHTS)


@pytest.mark.parametrize("large", ["weights", "optimizer"])
def test_what_the_file_system_refuses_is_an_os_error(tmp_path: Path, large: str) -> None:
    """Whichever library writes, the command line must see OSError. A limit on file sizes stands in for a full disk."""
    save(tmp_path, 3)
    big = {"a": torch.zeros(100_000)}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError):  # noqa: PT011 - the text is the library's
            save_checkpoint(
                tmp_path,
                state(4),
                {ckpt.WEIGHTS: big if large == "weights" else {}},
                {"m": big if large == "optimizer" else {}},
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        save(tmp_path / "file" / "generator")
