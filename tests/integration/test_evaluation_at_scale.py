"""Evaluations that are killed and started again, and evaluations by two processes, end with the numbers of one at one go."""

from __future__ import annotations

import random
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nvgbench.results.store import read_records
from tests.helpers.evaluation_jobs import REFERENCE, SAMPLES, diary_of, evaluate_run, start


@pytest.fixture(scope="module", autouse=True)
def restore_stubs() -> Any:
    """Undo what `evaluate_run` replaces in this process."""
    patch = pytest.MonkeyPatch()
    for name in ("scorer.open_extractor", "evaluate.config_hash", "evaluate.changed_settings"):
        patch.setattr(f"nvgbench.evaluation.{name}", None)
    patch.setattr("nvgbench.evaluation.reconstructions.load_lpips", None)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple]:
    """Every score of an evaluation at one go."""
    return scores(evaluate_run(tmp_path_factory.mktemp("whole")))


def scores(record) -> dict[str, tuple]:
    return {metric.name: (metric.value, metric.interval, metric.n, metric.n_reference) for metric in record.metrics}


def images(root: Path, word: str) -> int:
    return sum(int(line.split()[-1]) for line in diary_of(root, word))


@pytest.mark.parametrize("keep", [True, False])
def test_two_processes_equal_one(tmp_path: Path, whole: dict, keep: bool) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    processes = []
    for rank in range(2):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        processes.append(start(tmp_path, keep=keep, environment=place))
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    (record,) = read_records(tmp_path / "painter")  # written by the first alone
    assert scores(record) == whole
    # beside the job, the few that a trace would take
    assert SAMPLES <= images(tmp_path, "drawn") <= SAMPLES + 8
    assert images(tmp_path, "extracted") == SAMPLES + 2 * REFERENCE  # the reference and its reconstructions
    assert bool(list(tmp_path.rglob("samples-*.npz"))) == keep
    assert record.provenance["lint"] == []


@pytest.mark.parametrize(("keep", "seed"), [(True, 0), (False, 1)])
def test_killed_and_started_again(tmp_path: Path, whole: dict, keep: bool, seed: int) -> None:
    """SIGKILL when a random number of batches has been drawn or extracted; nothing that was finished is done again."""
    rng = random.Random(seed)
    for _ in range(2):
        done = len(diary_of(tmp_path, "drawn")) + len(diary_of(tmp_path, "extracted"))
        stop = done + rng.randint(8, 30)
        process = start(tmp_path, keep=keep, pause=0.01)
        until = time.monotonic() + 60
        while len(diary_of(tmp_path, "drawn")) + len(diary_of(tmp_path, "extracted")) < stop and process.is_alive():
            assert time.monotonic() < until
            time.sleep(0.002)
        process.kill()
        process.join(timeout=30)
    features = {path.stem: path for path in tmp_path.glob("_features/classifier-*/*.npz")}
    written = {path: path.stat().st_mtime_ns for path in features.values()}
    left_to_extract = SAMPLES + 2 * REFERENCE - sum(len(np.load(path)["features"]) for path in features.values())
    left_to_draw = SAMPLES - 50 * len(list(tmp_path.rglob("images-*.npy")))
    before = {word: images(tmp_path, word) for word in ("drawn", "extracted")}
    record = evaluate_run(tmp_path, keep=keep)
    assert scores(record) == whole
    assert written == {path: path.stat().st_mtime_ns for path in features.values()}
    assert images(tmp_path, "extracted") - before["extracted"] == left_to_extract
    assert left_to_draw <= images(tmp_path, "drawn") - before["drawn"] <= left_to_draw + 8  # a trace's
    assert bool(list(tmp_path.rglob("samples-*.npz"))) == keep
    assert len(read_records(tmp_path / "painter")) == 1
