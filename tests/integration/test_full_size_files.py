"""Stand-ins for the published files at full size: read, sampled at 256 px, profiled, and written again.

VAR has its default settings; NVG one flow step a stage in place of 25, which are seven times the work.
Takes several minutes, 8 GiB of memory and 10 GiB of disk: ``pytest -m full_size -s`` (it prints the seconds of each command).
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from nvgbench.cli.app import main
from nvgbench.results.records import Records
from nvgbench.runs.folder import RunFolder
from nvgbench.weights.exports import original_state
from tests.helpers.stand_ins import write_stand_in

MODELS = {
    "nvg-d16": ("d16.ckpt", "ae.ckpt", 255_175_712 + 8_192 + 64_369_672, ["--set", "flow_steps=1"]),
    "var-d16": ("var_d16.pth", "vae_ch160v4096z32.pth", 310_283_520, []),
}
TOKENIZERS = {"ae.ckpt": 110_332_355, "vae_ch160v4096z32.pth": 108_948_355}
PROFILE = ["--batch-sizes", "1", "--repeats", "1", "--warmup", "0", "--energy-seconds", "1"]


def call(*arguments: str) -> float:
    """Run a command and return its seconds."""
    start = time.monotonic()
    with pytest.raises(SystemExit) as done:
        main(list(arguments))
    assert not done.value.code
    return time.monotonic() - start


@pytest.mark.full_size
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("model", MODELS)
def test_a_model_of_the_published_size(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file, tokenizer, parameters, settings = MODELS[model]
    for name in (file, tokenizer):
        write_stand_in(name, tmp_path / name)
    took = {"import": call("import", file, "--tokenizer", tokenizer, "--out", model)}
    took["sample"] = call("sample", model, "-n", "1", "--out", "one.npz", "--device", "cpu", *settings)
    took["profile"] = call("profile", model, *PROFILE, "--device", "cpu", *settings)
    print(model, {name: round(seconds, 1) for name, seconds in took.items()})
    run = RunFolder(tmp_path / "runs" / model)
    assert run.config.name == model
    image = np.load("one.npz")["arr_0"]
    assert image.shape == (1, 256, 256, 3)
    assert image.std() > 1
    record = Records.read(run.records_path).select(kind="profile")[-1]
    counted = {row["part"]: row["count"] for row in record.tables["parameters"]}
    assert counted.pop("tokenizer") == TOKENIZERS[tokenizer]
    assert sum(counted.values()) == parameters
    for part, source in (("generator", file), ("tokenizer", tokenizer)):
        written = original_state(run, part)  # type: ignore[arg-type]
        content = torch.load(source, weights_only=True, mmap=True)
        expected = content.get("state_dict", content)
        assert sorted(written) == sorted(expected)
        for key, value in expected.items():
            assert (written[key].dtype, written[key].shape) == (value.dtype, value.shape), key
            assert torch.equal(written[key], value), key
