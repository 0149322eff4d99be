"""Whole trainings with feature alignment: resumed, by two processes, recorded, sampled, exported."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.nvg import alignment_target
from nvgbench.results.store import read_records
from nvgbench.runs import checkpoint as ckpt
from nvgbench.runs.folder import RunFolder
from nvgbench.types import SampleRequest
from nvgbench.weights.exports import export_part, original_state
from nvgbench.weights.imports import import_run
from tests.helpers.forked import forked
from tests.helpers.training_jobs import log, train, weights

ONLINE = ("train.cache_tokens=false", "model.depth=2", "model.alignment_block=1")
FEATURES = 7


class FakeTarget:
    """A fixed mixture of the colours of each patch, without a download."""

    features = FEATURES

    def __call__(self, images_B3HW: Tensor) -> Tensor:
        mixture = torch.randn(3, FEATURES, generator=torch.Generator().manual_seed(0))
        return torch.nn.functional.avg_pool2d(images_B3HW, 4).flatten(2).transpose(1, 2) @ mixture + 0.1


def found(*_: object) -> tuple[FakeTarget, tuple[str, ...]]:
    return FakeTarget(), ("feature alignment: a stand-in",)


def nothing(*_: object) -> tuple[None, tuple[str, ...]]:
    return None, ("feature alignment: none, because it is a test",)


class CrashError(Exception):
    """A process that dies."""


def crash_at(phase: str, step: int):
    def progress(event) -> None:
        if (event.get("phase"), event.get("done")) == (phase, step):
            raise CrashError

    return progress


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment_target, "load_target", found)
        train(folder, "nvg", *ONLINE)
    return folder


@pytest.mark.parametrize("step", [1, 5])
def test_a_resumed_training_ends_with_the_same_bytes(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(alignment_target, "load_target", found)
    with pytest.raises(CrashError):
        train(tmp_path / "run", "nvg", *ONLINE, progress=crash_at("generator", step))
    train(tmp_path / "run", "nvg", *ONLINE)
    assert weights(tmp_path / "run") == weights(whole)
    assert log(tmp_path / "run") == log(whole)


def test_the_record_counts_the_projector_apart(whole: Path) -> None:
    rows = {row["phase"]: row for row in read_records(whole)[0].tables["training"]}
    card = RunFolder(whole).load_generator().spec.parameters
    width = RunFolder(whole).config.model.content_width
    assert rows["generator"]["parameters/projector"] == 2048 * (width + 1 + 2048 + 1 + FEATURES) + FEATURES
    assert rows["generator"]["parameters/generator"] == card["content"] + card["structure"]
    assert read_records(whole)[0].provenance["notes"]["generator"] == ["feature alignment: a stand-in"]
    losses = [row["losses"]["generator/alignment"] for row in log(whole) if row["phase"] == "generator"]
    assert losses[-1] < losses[0]


def test_samples_need_no_projector(whole: Path) -> None:
    generator = RunFolder(whole).load_generator()
    request = SampleRequest(labels_B=torch.tensor([0, 1]), seeds_B=torch.tensor([5, 6]))
    assert generator.generate(request).images_B3HW.shape == (2, 3, 16, 16)
    assert not [name for name in generator.generator.state_dict() if "projector" in name]


def test_an_export_carries_the_projector_and_comes_back(whole: Path, tmp_path: Path) -> None:
    tensors = original_state(RunFolder(whole), "generator")
    for prefix in ("nvgformer.", "ema_model.nvgformer."):
        assert tensors[f"{prefix}projector.4.weight"].shape == (FEATURES, 2048)
    settings = export_part(RunFolder(whole), "generator", tmp_path / "g.ckpt")
    assert not [line for line in settings if "alignment" in line]
    export_part(RunFolder(whole), "tokenizer", tmp_path / "t.ckpt")
    back = import_run(tmp_path / "back", tmp_path / "g.ckpt", tmp_path / "t.ckpt", config=RunFolder(whole).config)
    again = original_state(back, "generator")
    assert sorted(again) == sorted(tensors)
    assert all(torch.equal(again[name], value) for name, value in tensors.items())


@pytest.mark.parametrize(("first", "second"), [(found, nothing), (nothing, found)])
def test_a_training_does_not_resume_with_another_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first, second) -> None:
    monkeypatch.setattr(alignment_target, "load_target", first)
    with pytest.raises(CrashError):
        train(tmp_path / "run", "nvg", *ONLINE, progress=crash_at("generator", 5))
    monkeypatch.setattr(alignment_target, "load_target", second)
    with pytest.raises(InputError, match=r"generator \([\d,]+ parameters\).*cannot be resumed with.*'auto'") as raised:
        train(tmp_path / "run", "nvg", *ONLINE)
    assert "\n" not in str(raised.value)


def test_auto_without_weights_trains_as_if_there_were_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path / "off", "nvg", *ONLINE)
    monkeypatch.setattr(alignment_target, "find_target", lambda config: (None, "feature alignment: none, because of a test"))
    said: list = []
    train(tmp_path / "auto", "nvg", *ONLINE, "model.alignment=auto", progress=said.append)
    assert weights(tmp_path / "auto") == weights(tmp_path / "off")
    assert {"message": "generator: feature alignment: none, because of a test"} in said
    (record,) = read_records(tmp_path / "auto")
    assert record.provenance["notes"]["generator"] == ["feature alignment: none, because of a test"]


def test_a_cache_is_refused_before_anything_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "weights" / "model.safetensors"
    monkeypatch.setattr(type(alignment_target.DINOV2), "find", lambda self, folder: file)
    with pytest.raises(InputError, match="keeps only their tokens"):
        train(tmp_path / "run", "nvg", "model.alignment=auto", "model.alignment_block=1", "train.cache_tokens=true")
    assert not (tmp_path / "run").exists()
    # An objective of another family may ask for images, too.
    monkeypatch.setattr(alignment_target, "load_target", found)
    with pytest.raises(InputError, match=r"needs the images.*`continue_with=train\.cache_tokens=false`"):
        train(tmp_path / "run", "nvg", "model.alignment_block=1", "train.cache_tokens=true")


def test_with_transformers_from_a_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 56, "patch_size": 14}
    transformers.Dinov2Model(transformers.Dinov2Config(**small)).save_pretrained(tmp_path / "dinov2")
    demand = ("model.alignment=dinov2", f"model.alignment_folder={tmp_path / 'dinov2'}")
    train(tmp_path / "run", "nvg", *ONLINE, *demand, "train.generator.micro_batch_size=2")
    (record,) = read_records(tmp_path / "run")
    (note,) = record.provenance["notes"]["generator"]
    assert "DINOv2 of width 16 (SHA-256" in note
    rows = {row["phase"]: row for row in record.tables["training"]}
    assert 0 < rows["generator"]["loss/generator/alignment"] < 2


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _child(folder: Path, settings: tuple[str, ...], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    alignment_target.load_target = found  # type: ignore[assignment]
    train(folder, "nvg", *settings)


def test_two_processes_equal_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flow's noise differs by process, but does not affect the content transformer and the projector."""
    # Clipping by the norm of all gradients would let the flow in.
    settings = (
        *ONLINE,
        "model.label_drop=0",
        "train.steps=6",
        "train.generator.clip_norm=1e9",
        "train.tokenizer.clip_norm=1e9",
    )
    monkeypatch.setattr(alignment_target, "load_target", found)
    train(tmp_path / "one", "nvg", *settings)
    port = str(_free_port())
    processes = []
    for rank in range(2):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        arguments = (tmp_path / "two", settings, place)
        processes.append(forked().Process(target=_child, args=arguments))
        processes[-1].start()
    for process in processes:
        process.join(timeout=120)
        assert process.exitcode == 0
    for one, two in zip(log(tmp_path / "one"), log(tmp_path / "two"), strict=True):
        for name in ("alignment", "canvas_mse", "token_cross_entropy"):
            if f"generator/{name}" in one["losses"]:
                assert two["losses"][f"generator/{name}"] == pytest.approx(one["losses"][f"generator/{name}"], rel=2e-3)
    states = [ckpt.latest_checkpoint(tmp_path / name / "checkpoints" / "generator") for name in ("one", "two")]
    one, two = (ckpt.load_tensors(path, ckpt.WEIGHTS)["projector.4.weight"] for path in states)
    assert float((one - two).abs().mean()) < 1e-4  # Adam's steps are 1e-3 here
