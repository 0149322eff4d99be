"""A run that was killed or interrupted, and started again, ends with the same bytes as an uninterrupted one."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch

from nvgbench.errors import InputError
from nvgbench.results.store import read_records
from nvgbench.runs.find import find_run, find_runs
from nvgbench.runs.folder import RunFolder
from nvgbench.types import SampleRequest
from tests.helpers.training_jobs import Signal, log, start, train, weights


@pytest.fixture(scope="module", params=["nvg", "var", "ar"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """An uninterrupted run: family and folder."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(folder, request.param)
    return request.param, folder


CHANGES = 88
"""How often an uninterrupted run changes files."""
# Before which change each of three attempts is killed: while a checkpoint, the token cache, the configuration is written …
KILLS = {"nvg": (7, 47, 34), "ar": (14, 40, 28)}


def files(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*"))


def test_killed_three_times(whole: tuple[str, Path], tmp_path: Path) -> None:
    family, reference = whole
    if family not in KILLS:
        pytest.skip("the longest and the shortest training show it")
    for operation in KILLS[family]:
        process = start(tmp_path / "run", family, sent=Signal(signal.SIGKILL, operation))
        process.join()
        assert process.exitcode == -signal.SIGKILL
    process = start(tmp_path / "run", family)
    process.join()
    assert process.exitcode == 0
    assert weights(tmp_path / "run") == weights(reference)
    assert log(tmp_path / "run") == log(reference)
    assert files(tmp_path / "run") == files(reference), "leftovers"
    assert len(read_records(tmp_path / "run")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("whole", ["ar"], indirect=True)
@pytest.mark.parametrize("operation", range(1, CHANGES + 1))
def test_killed_at_any_moment(whole: tuple[str, Path], tmp_path: Path, operation: int) -> None:
    family, reference = whole
    process = start(tmp_path / "run", family, sent=Signal(signal.SIGKILL, operation))
    process.join()
    assert process.exitcode == -signal.SIGKILL
    train(tmp_path / "run", family)
    assert weights(tmp_path / "run") == weights(reference)
    assert log(tmp_path / "run") == log(reference)
    assert files(tmp_path / "run") == files(reference), "leftovers"
    assert len(read_records(tmp_path / "run")) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop(whole: tuple[str, Path], tmp_path: Path, number: signal.Signals) -> None:
    family, reference = whole
    if family != "nvg":
        pytest.skip("signals know nothing of families")
    when = Signal(number, 1, "train.jsonl")  # two steps are done
    process = start(tmp_path / "run", family, "train.checkpoint_every=1000", sent=when)
    process.join()
    assert process.exitcode == 1  # Interrupted is an exception; the command line makes 130 of it
    state = RunFolder(tmp_path / "run").state("tokenizer")
    assert state is not None, "no checkpoint was written"
    assert state.step >= 2
    train(tmp_path / "run", family, "train.checkpoint_every=1000")
    assert weights(tmp_path / "run") == weights(reference)


def test_a_finished_run_is_left_alone(whole: tuple[str, Path]) -> None:
    family, folder = whole
    before = weights(folder), log(folder), (folder / "records.jsonl").read_bytes()
    said: list = []
    train(folder, family, progress=said.append)
    assert said == [{"message": "tokenizer: already finished"}, {"message": "generator: already finished"}]
    assert (weights(folder), log(folder), (folder / "records.jsonl").read_bytes()) == before


def test_the_record(whole: tuple[str, Path]) -> None:
    family, folder = whole
    (record,) = read_records(folder)
    assert (record.kind, record.subject, record.family, record.preset) == ("train", "whole", family, f"{family}-tiny")
    rows = {row["phase"]: row for row in record.tables["training"]}
    assert [rows[phase]["images"] for phase in ("tokenizer", "generator")] == [32, 32]
    assert rows["generator"]["loss/generator"] == log(folder)[-1]["losses"]["generator"]
    assert rows["generator"]["parameters/generator"] > 0
    assert [row["step"] for row in record.tables["curve"]] == [2, 4, 6, 8] * 2
    names = {measurement.name for measurement in record.measurements}
    assert names >= {"training_time", "training_throughput", "training_mfu", "training_data_share", "training_memory"}
    assert record.provenance["config_hash"] == RunFolder(folder).hash
    assert record.provenance["seeds"] == [0]
    assert record.provenance["notes"]["tokenizer"]


def test_what_was_trained_can_be_loaded(whole: tuple[str, Path]) -> None:
    family, folder = whole
    assert [run.path for run in find_runs(folder.parent)] == [folder]
    generator = find_run("whole", folder.parent).load_generator("cpu")
    assert (generator.spec.name, generator.spec.family, generator.spec.num_classes) == ("whole", family, 10)
    assert generator.spec.provenance["step"] == 8
    request = SampleRequest(labels_B=torch.tensor([0, 1]), seeds_B=torch.tensor([5, 6]))
    images = generator.generate(request).images_B3HW
    assert (images.shape, images.dtype) == ((2, 3, 16, 16), torch.uint8)
    plain = RunFolder(folder).load_generator("cpu", weights="plain")
    assert plain.spec.provenance["weights"] != generator.spec.provenance["weights"]


def test_another_configuration_is_refused(whole: tuple[str, Path]) -> None:
    family, folder = whole
    with pytest.raises(InputError, match=r"train\.generator\.learning_rate: 0\.001 there, 0\.5 now.*another `name=`"):
        train(folder, family, "train.generator.learning_rate=0.5")


def test_a_damaged_checkpoint_is_refused_with_a_remedy(whole: tuple[str, Path], tmp_path: Path) -> None:
    family, reference = whole
    folder = tmp_path / "run"
    train(folder, family, phases=("tokenizer",))
    file = next(folder.rglob("ema.safetensors"))
    content = file.read_bytes()
    file.write_bytes(content[:-10])
    with pytest.raises(InputError, match=r"ema\.safetensors is damaged.*the training repeats the tokenizer"):
        train(folder, family)
    file.write_bytes(content)
    train(folder, family)
    assert weights(folder) == weights(reference)
    assert [record.provenance["phases"] for record in read_records(folder)] == [["tokenizer"], ["generator", "tokenizer"]]


def test_another_runs_tokenizer(whole: tuple[str, Path], tmp_path: Path) -> None:
    family, reference = whole
    folder = tmp_path / "second"
    train(folder, family, "train.seed=7", tokenizer=reference)
    assert RunFolder(folder).tokenizer_fingerprint() == RunFolder(reference).tokenizer_fingerprint()
    (record,) = read_records(folder)
    assert record.provenance["tokenizer_from"]["run"] == "whole"
    assert record.tables["training"][0]["images"] == 8 * 4, "what the tokenizer saw in the run that trained it"
    assert {row["phase"] for row in record.tables["curve"]} == {"generator"}
    train(folder, family, "train.seed=7", tokenizer=reference)  # again: nothing to do
    train(tmp_path / "copy of the copy", family, tokenizer=folder, phases=("tokenizer",))
    assert RunFolder(tmp_path / "copy of the copy").state("tokenizer").source["images"] == 8 * 4  # type: ignore[union-attr]
    with pytest.raises(InputError, match="does not fit: codebook_size differ"):
        train(tmp_path / "third", family, "tokenizer.codebook_size=16", tokenizer=reference)
    with pytest.raises(InputError, match="has no finished tokenizer"):
        train(tmp_path / "fourth", family, phases=("generator",))


def test_a_run_whose_tokenizer_was_taken_before_its_images_were_noted_resumes(whole: tuple[str, Path], tmp_path: Path) -> None:
    family, reference = whole
    folder = tmp_path / "old"
    train(folder, family, tokenizer=reference, phases=("tokenizer",))
    file = next(folder.rglob("state.json"))
    state = json.loads(file.read_text())
    del state["source"]["images"]
    file.write_text(json.dumps(state))
    train(folder, family, tokenizer=reference)
    assert RunFolder(folder).is_finished()
    state["source"]["weights"] = "others"
    file.write_text(json.dumps(state))
    with pytest.raises(InputError, match="already has another tokenizer"):
        train(folder, family, tokenizer=reference)


def test_online_tokens_train_like_cached_ones(whole: tuple[str, Path], tmp_path: Path) -> None:
    """The same batches in the same order; only the batch in which an image is tokenized differs, so up to rounding."""
    family, reference = whole
    train(tmp_path / "online", family, "train.cache_tokens=false")
    for one, other in zip(log(tmp_path / "online"), log(reference), strict=True):
        assert one["losses"] == pytest.approx(other["losses"], rel=1e-3)


def test_other_images_are_refused(whole: tuple[str, Path]) -> None:
    _, folder = whole
    run = RunFolder(folder)
    info = run.dataset
    with pytest.raises(InputError, match="started with other images"):
        run.note_dataset(type(info)(name=info.name, classes=info.classes, images=3, fingerprint="other"))
