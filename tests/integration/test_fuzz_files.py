"""Damaged bytes in the files of runs, gates, weights and the feature cache: a result or an `InputError` of one line.

`tests/unit/data/test_fuzz.py` does the same for images and arrays.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nvgbench.config.load import load_file, load_preset, to_toml
from nvgbench.extractors.cache import FeatureCache
from nvgbench.gates.baseline import read_baseline, update_baseline
from nvgbench.gates.rules import load_rules
from nvgbench.results.store import encode_record, read_records
from nvgbench.runs.checkpoint import CheckpointState, load_optimizers, load_tensors, read_state, save_checkpoint
from nvgbench.runs.folder import RunFolder
from nvgbench.weights.files import read_published
from tests.helpers.damage import damaged, tolerated
from tests.helpers.gate_records import evaluation, metric, profile

WEIGHTS = {"a.weight": torch.zeros(3, 4), "b": torch.arange(5)}
RECORDS = [evaluation(metric("FID", 3.0)), profile((0.1, 0.2))]
RULES = 'alpha = 0.01\n[[rule]]\nmetric = "FD*"\nrelative = 0.1\n[[rule]]\nmetric = "latency"\nabsolute = 1.0\n'


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one valid file of each kind."""
    root = tmp_path_factory.mktemp("fuzz")
    (root / "config.toml").write_text(to_toml(load_preset("nvg-tiny")))
    state = CheckpointState(phase="generator", step=3, total_steps=9, final=False, images=12, seconds=1.5)
    save_checkpoint(root / "checkpoints", state, {"weights.safetensors": WEIGHTS}, {"model": {"state": {0: torch.ones(2)}}})
    (root / "dataset.json").write_text(json.dumps({"name": "shapes", "classes": ["a"], "images": 3, "fingerprint": "x"}))
    update_baseline(root / "baseline.json", RECORDS)
    (root / "rules.toml").write_text(RULES)
    (root / "records.jsonl").write_text("".join(f"{encode_record(record)}\n" for record in RECORDS))
    torch.save(WEIGHTS, root / "weights.pth")
    listing = FeatureCache(root / "cache")._listing("x", "y", "z")
    listing.parent.mkdir(parents=True)
    listing.write_text(json.dumps(["one"]))
    np.savez(listing.parent / "one.npz", features=np.zeros((2, 3), np.float32), logits=np.zeros((2, 4), np.float32))
    return root


def _read_checkpoint(folder: Path) -> None:
    read_state(folder)
    load_tensors(folder, "weights.safetensors")
    load_optimizers(folder)


CHECKPOINT = "checkpoints/step-00000003"
FILES: dict[str, Callable[[Path], object]] = {
    "config.toml": lambda root: load_file(root / "config.toml"),
    f"{CHECKPOINT}/state.json": lambda root: _read_checkpoint(root / CHECKPOINT),
    f"{CHECKPOINT}/weights.safetensors": lambda root: _read_checkpoint(root / CHECKPOINT),
    f"{CHECKPOINT}/optimizer.pt": lambda root: _read_checkpoint(root / CHECKPOINT),
    "dataset.json": lambda root: RunFolder(root).dataset,
    "baseline.json": lambda root: read_baseline(root / "baseline.json"),
    "rules.toml": lambda root: load_rules(root / "rules.toml"),
    "records.jsonl": lambda root: read_records(root / "records.jsonl"),
    "weights.pth": lambda root: read_published(root / "weights.pth"),
    "cache/*/one.npz": lambda root: FeatureCache(root / "cache").stored("x", "y", "z"),
    "cache/*/*.json": lambda root: FeatureCache(root / "cache").stored("x", "y", "z"),
}
"""Name of the file -> what reads it."""


def _fuzz(name: str, place: Path, examples: int) -> None:
    (path,) = place.glob(name)
    valid = path.read_bytes()
    FILES[name](place)  # the valid file is read

    @settings(deadline=None, max_examples=examples, suppress_health_check=list(HealthCheck), database=None)
    @given(content=st.one_of(damaged(st.just(valid)), st.binary(max_size=300), st.text(max_size=60).map(str.encode)))
    def example(content: bytes) -> None:
        path.write_bytes(content)
        tolerated(lambda: FILES[name](place))

    try:
        example()
    finally:
        path.write_bytes(valid)


@pytest.mark.parametrize("name", FILES)
def test_damaged_files(name: str, place: Path) -> None:
    _fuzz(name, place, 40)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_many_damaged_files(name: str, place: Path) -> None:
    _fuzz(name, place, 3000)
