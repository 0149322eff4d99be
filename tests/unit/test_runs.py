"""Run folders without a training: making, refusing, finding."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nvgbench.config.load import load_preset
from nvgbench.errors import InputError
from nvgbench.runs import checkpoint as ckpt
from nvgbench.runs.find import find_run, find_runs
from nvgbench.runs.folder import DatasetInfo, RunFolder
from nvgbench.runs.models import untrained_generator
from nvgbench.types import SampleRequest


def test_the_same_configuration_opens_the_folder_again(tmp_path: Path) -> None:
    config = load_preset("nvg-tiny")
    run = RunFolder.create(tmp_path / "a", config)
    assert RunFolder.create(tmp_path / "a", config).config == config
    assert run.name == "a"
    assert not run.is_finished()
    assert run.state("tokenizer") is None
    with pytest.raises(InputError, match=r"train\.seed: 0 there, 1 now.*use another `name=`"):
        RunFolder.create(tmp_path / "a", load_preset("nvg-tiny", ["train.seed=1"]))


def test_a_run_knows_which_trainings_are_its_replicates(tmp_path: Path) -> None:
    configs = [load_preset("nvg-tiny", [f"train.seed={seed}"]) for seed in (0, 1)]
    alone = RunFolder.create(tmp_path / "alone", configs[0])
    runs = [RunFolder.create(tmp_path / f"run{seed}", config, "mine") for seed, config in enumerate(configs)]
    of = alone.replicate["of"]
    assert alone.replicate == {"of": of, "seed": 0}
    assert [run.replicate for run in runs] == [{"of": of, "seed": seed, "name": "mine"} for seed in (0, 1)]
    # Killed before the name was written, the same call writes it.
    (runs[0].path / "group.json").unlink()
    assert RunFolder.create(runs[0].path, configs[0], "mine").replicate == runs[0].replicate
    (runs[0].path / "group.json").write_text("{")
    with pytest.raises(InputError, match=r"group\.json is damaged"):
        _ = runs[0].replicate


def test_a_process_killed_as_it_created_the_folder_can_be_repeated(tmp_path: Path) -> None:
    (tmp_path / ".config.toml.x7.toml").write_text("half")
    RunFolder.create(tmp_path, load_preset("nvg-tiny"))
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


def test_a_folder_with_other_things_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="is no run"):
        RunFolder.create(tmp_path, load_preset("nvg-tiny"))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_is_not_trained_cannot_be_loaded(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "a", load_preset("nvg-tiny"))
    with pytest.raises(InputError, match="no trained tokenizer yet; train nvg-tiny as `name=a` first"):
        run.load_tokenizer()
    with pytest.raises(InputError, match="training of this run has not started"):
        run.load_generator()


def test_runs_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are no runs yet"):
        find_run("a", tmp_path / "nothing")
    for name in ("b", "alpha"):
        RunFolder.create(tmp_path / name, load_preset("nvg-tiny"))
    RunFolder.create(tmp_path / ".tokenizer-1" / "ae.ckpt", load_preset("nvg-tiny"))  # left by a killed process
    assert [run.name for run in find_runs(tmp_path)] == ["alpha", "b"]
    assert find_run("b", tmp_path).path == tmp_path / "b"
    assert find_run(str(tmp_path / "b"), Path("elsewhere")).path == tmp_path / "b"
    with pytest.raises(InputError, match=r"did you mean 'alpha'\?.*known: alpha, b"):
        find_run("alpa", tmp_path)


def test_listing_runs_does_not_import_torch(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "a", load_preset("nvg-tiny"))
    run.note_dataset(DatasetInfo(name="x", classes=("a",), images=1, fingerprint="f"))
    state = ckpt.CheckpointState(phase="tokenizer", step=3, total_steps=3, final=True)
    ckpt.save_checkpoint(run.checkpoints("tokenizer"), state, {ckpt.WEIGHTS: {"a": torch.zeros(1)}})
    code = (
        "import sys\n"
        "from nvgbench.runs.find import find_runs\n"
        "from nvgbench.runs.log import read_log\n"
        f"(run,) = find_runs({str(tmp_path)!r})\n"
        "said = (run.name, run.config.family, run.dataset.images, run.state('tokenizer').step, read_log(run.log_path))\n"
        "print(*said, run.is_finished(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "a nvg 1 3 [] False False"


def test_untrained_models_depend_on_their_seed_alone() -> None:
    config = load_preset("ar-tiny")
    request = SampleRequest(labels_B=torch.tensor([1]), seeds_B=torch.tensor([2]))
    torch.manual_seed(9)
    before = torch.get_rng_state()
    images = [untrained_generator(config, 10, seed).generate(request).images_B3HW for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
