"""``nvgbench profile`` on a preset: what is measured, printed and stored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from nvgbench.errors import InputError
from nvgbench.results.records import Records

SMALL = ("--batch-sizes", "1,2", "--repeats", "1", "--warmup", "0", "--device", "cpu")


def test_a_preset_is_profiled_with_random_weights(app: typer.Typer, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["profile", "var-tiny", *SMALL, "--set", "model.depth=1", "--runs", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.exception
    (record,) = Records.read(tmp_path).select(kind="profile", subject="var-tiny")
    assert json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))["id"] == record.id
    measured = {(m.name, m.conditions.get("batch_size")): m for m in record.measurements}
    assert len(measured["latency", 1].samples) == 1
    assert measured["throughput", 2].samples[0] > 0
    assert measured["energy", 2].samples == ()
    # The counter and the family's formula are two ways to the same number; norms and softmax count in neither.
    assert measured["flops", 1].samples[0] == pytest.approx(measured["flops_analytic", 1].samples[0], rel=0.05)
    assert record.provenance["model"]["weights"] == "untrained"
    assert record.provenance["config_hash"]
    assert sum(row["count"] for row in record.tables["parameters"]) > 1000


def test_bad_targets_stop_the_command_at_its_start(app: typer.Typer, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["profile", "var-tiny", "vra-tiny", *SMALL, "--runs", str(tmp_path)])
    assert isinstance(done.exception, InputError)
    assert "did you mean 'var-tiny'" in str(done.exception)
    assert not (tmp_path / "records.jsonl").exists()
    for arguments, message in ((("--batch-sizes", "1,x"), "comma-separated"), (("--repeats", "0"), "repeats")):
        failed = CliRunner().invoke(app, ["profile", "var-tiny", "--runs", str(tmp_path), *arguments])
        assert message in str(failed.exception)
