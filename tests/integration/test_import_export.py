"""Published files to runs and back, through the command line: the same tensors key for key, and what does not fit refused.

The files are stand-ins in the original layouts of small models (two blocks, 64 codes); key names and shapes come from the
golden numbers of the original code, not from ours.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import pickle
import shutil
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nvgbench_baselines.var.verification import FIXTURES as VAR_FIXTURES
from torch import Tensor

from nvgbench.cli.app import main
from nvgbench.config.load import load_preset
from nvgbench.errors import InputError
from nvgbench.files import file_sha256
from nvgbench.nvg.verification import FIXTURES
from nvgbench.results.records import Records
from nvgbench.runs import checkpoint as ckpt
from nvgbench.runs.folder import RunFolder
from nvgbench.runs.models import untrained_generator
from nvgbench.training.initial import InitialWeights
from nvgbench.training.run import train_run
from nvgbench.weights.exports import original_state
from nvgbench.weights.imports import import_run
from nvgbench.weights.source import source_run
from tests.helpers.stand_ins import nvg_generator_file, nvg_stand_in, var_stand_in

VAR = json.loads((VAR_FIXTURES / "var_public.json").read_text())
NVG = json.loads((FIXTURES / "nvg_public.json").read_text())["config"]["D"]["state_dict"]
LAYOUT = json.loads((FIXTURES / "nvg_state_dict_layouts.json").read_text())
SCALES = VAR["config"]["patch_nums"]
VAR_PAIR = ["var.pth", "--tokenizer", "vae.pth"]


def small_autoencoder(codes: int = 64) -> dict[str, list[int]]:
    """The published autoencoder with a sixteenth of the channels and fewer codes."""
    narrow = {128: 8, 256: 16, 512: 32, 4096: codes}
    return {key: [narrow.get(size, size) for size in shape] for key, shape in LAYOUT["autoencoder"]["keys"].items()}


def nvg_files(root: Path) -> None:
    autoencoder = small_autoencoder()
    tokenizer = nvg_stand_in(autoencoder)
    averaged = {f"ema_model.{key}": value + 1 for key, value in tokenizer.items() if key != "total_visited_codes"}
    torch.save({"state_dict": tokenizer | averaged | {"loss.discriminator.bias": torch.ones(3)}}, root / "ae.ckpt")
    projector = {"projector.0.weight": [16, 128], "projector.0.bias": [16]}
    state = nvg_generator_file(NVG | projector, autoencoder) | {"repa_encoder.norm.bias": torch.ones(2)}
    torch.save({"state_dict": state, "epoch": 3, "global_step": 9}, root / "nvg.ckpt")
    plain = nvg_generator_file(NVG, autoencoder, ema=False)
    torch.save({"state_dict": plain}, root / "plain.ckpt")
    torch.save(nvg_stand_in(NVG), root / "bare.ckpt")
    torch.save({"state_dict": nvg_stand_in(small_autoencoder(32))}, root / "ae32.ckpt")


def var_files(root: Path) -> None:
    torch.save(var_stand_in(VAR["vae_state_dict"], SCALES), root / "vae.pth")
    state = var_stand_in(VAR["var_state_dict"], SCALES)
    torch.save(state, root / "var.pth")
    torch.save({**state, "head.weight": torch.ones(32, 128), "head.bias": torch.ones(32)}, root / "var32.pth")
    torch.save({key: value for key, value in state.items() if key != "head.bias"}, root / "headless.pth")
    torch.save({**state, "blocks.0.attn.rotary": torch.ones(2)}, root / "extended.pth")
    torch.save({"word_embed.weight": 3}, root / "numbers.pth")
    (root / "cut.pth").write_bytes((root / "var.pth").read_bytes()[:100_000])
    (root / "noise.pth").write_bytes(b"no weights")


class Code:
    """What a pickle can do when it is read without care."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {Path.cwd() / 'code_has_run'}",)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    nvg_files(folder)
    var_files(folder)
    torch.save({"state_dict": {"word_embed.weight": Code()}}, folder / "code.pth")
    (folder / "code_pickle.pth").write_bytes(pickle.dumps(Code()))
    call(folder, "import", "nvg.ckpt", "--out", "nvg", "--data", "shapes")
    call(folder, "import", "var.pth", "--tokenizer", "vae.pth", "--out", "var", "--data", "shapes")
    call(folder, "import", "ae.ckpt", "--out", "ae")
    return folder


def call(root: Path, *arguments: str) -> int:
    here = Path.cwd()
    os.chdir(root)
    try:
        with pytest.raises(SystemExit) as done:
            main(list(arguments))
    finally:
        os.chdir(here)
    return int(done.value.code or 0)


def state_of(path: Path) -> dict[str, Tensor]:
    content = torch.load(path, weights_only=True)
    return content.get("state_dict", content)


def assert_identical(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], imported: bool = True) -> None:
    assert sorted(ours) == sorted(theirs)
    assert list(ours) == list(theirs) or not imported, "a run that was imported knows the file's order"
    for key, value in theirs.items():
        assert ours[key].dtype == value.dtype, key
        assert ours[key].shape == value.shape, key
        assert torch.equal(ours[key], value), key


@pytest.mark.parametrize(
    ("run", "part", "file"),
    [
        ("nvg", "generator", "nvg.ckpt"),
        ("ae", "tokenizer", "ae.ckpt"),
        ("var", "generator", "var.pth"),
        ("var", "tokenizer", "vae.pth"),
    ],
)
def test_round_trip(root: Path, tmp_path: Path, run: str, part: str, file: str) -> None:
    out = tmp_path / f"out{Path(file).suffix}"
    assert call(root, "export", run, "--out", str(out), "--part", part) == 0
    assert_identical(state_of(out), state_of(root / file))
    assert ("state_dict" in torch.load(out, weights_only=True)) == (out.suffix == ".ckpt")


@pytest.mark.parametrize("file", ["plain.ckpt", "bare.ckpt"])
@pytest.mark.parametrize("choice", [[], ["--no-ema"]])
def test_round_trip_without_average(root: Path, tmp_path: Path, file: str, choice: list[str]) -> None:
    assert call(root, "import", file, "--tokenizer", "ae.ckpt", "--out", str(tmp_path / "run"), *choice) == 0
    assert_identical(original_state(RunFolder(tmp_path / "run"), "generator"), state_of(root / file))


def test_the_tokenizer_inside_a_generators_file_is_used(root: Path) -> None:
    inside = {
        key.removeprefix("first_stage_model."): value
        for key, value in state_of(root / "nvg.ckpt").items()
        if key.startswith("first_stage_model.")
    }
    assert_identical(original_state(RunFolder(root / "runs" / "nvg"), "tokenizer"), inside)


def test_averaged_or_plain_weights(root: Path, tmp_path: Path) -> None:
    published = state_of(root / "nvg.ckpt")
    own = "content.embed.weight"
    for choice, key in (([], "ema_model.nvgformer."), (["--ema"], "ema_model.nvgformer."), (["--no-ema"], "nvgformer.")):
        folder = tmp_path / "".join(["run", *choice])
        assert call(root, "import", "nvg.ckpt", "--out", str(folder), *choice) == 0
        generator: Any = RunFolder(folder).load_generator()
        assert torch.equal(generator.generator.state_dict()[own], published[f"{key}content_embed.weight"])
        assert_identical(original_state(RunFolder(folder), "generator"), published)
    for choice, key in (([], ""), (["--tokenizer-ema"], "ema_model.")):
        folder = tmp_path / "".join(["ae", *choice])
        assert call(root, "import", "ae.ckpt", "--out", str(folder), *choice) == 0
        tokenizer = RunFolder(folder).load_tokenizer()
        weight = state_of(root / "ae.ckpt")[f"{key}encoder.conv_in.conv.weight"]
        assert torch.equal(tokenizer.state_dict()["encoder.stem.weight"], weight)
        assert_identical(original_state(RunFolder(folder), "tokenizer"), state_of(root / "ae.ckpt"))


def test_sizes_are_told_from_the_tensors(root: Path) -> None:
    nvg, var, tokenizer = (RunFolder(root / "runs" / name).config for name in ("nvg", "var", "ae"))
    assert (nvg.name, nvg.model.depth, nvg.data.image_size, nvg.data.source) == ("nvg-imported", 2, 256, "shapes")
    assert (nvg.tokenizer.base_channels, nvg.tokenizer.codebook_size, nvg.tokenizer.attention) == (8, 64, False)
    assert (var.name, var.model.depth, var.model.width, var.data.image_size) == ("var-imported", 2, 128, 64)
    assert (var.tokenizer.base_channels, var.tokenizer.channel_multipliers) == (32, (1, 1, 2, 2, 4))
    assert var.tokenizer.quantizer.sides(var.grid) == (1, 2, 3, 4)
    assert (tokenizer.data.image_size, tokenizer.data.source) == (256, "imagenet")
    assert len(RunFolder(root / "runs" / "nvg").dataset.classes) == 10


@pytest.mark.parametrize(("run", "setting", "side"), [("nvg", "flow_steps=1", 256), ("var", "top_k=5", 64)])
def test_an_imported_run_is_sampled_and_profiled(root: Path, run: str, setting: str, side: int) -> None:
    assert call(root, "sample", run, "-n", "2", "--set", setting, "--out", f"{run}.npz", "--device", "cpu") == 0
    assert np.load(root / f"{run}.npz")["arr_0"].shape == (2, side, side, 3)
    quick = ["--batch-sizes", "1", "--repeats", "1", "--warmup", "0", "--energy-seconds", "1"]
    assert call(root, "profile", run, "--set", setting, *quick, "--device", "cpu") == 0
    record = Records.read(RunFolder(root / "runs" / run).records_path).select(kind="profile")[-1]
    file = root / ("nvg.ckpt" if run == "nvg" else "var.pth")
    assert record.provenance["model"]["published"]["generator"] == {"file": file.name, "sha256": file_sha256(file)}


def test_an_imported_run_is_scored_and_reported(root: Path) -> None:
    quick = ["-n", "12", "--batch-size", "6", "--reference", "npz:reference.npz", "--device", "cpu"]
    rng = np.random.default_rng(0)
    np.savez(root / "reference.npz", arr_0=rng.integers(0, 256, (120, 64, 64, 3), dtype=np.uint8), arr_1=np.arange(120) % 10)
    data = f"npz:{root / 'reference.npz'}"
    assert call(root, "import", *VAR_PAIR, "--out", "scored", "--data", data) == 0
    assert call(root, "eval", "scored", "--set", "top_k=5", *quick) == 0
    assert call(root, "report", "scored", "--out", "report.html") == 0
    assert "scored" in (root / "report.html").read_text()


def test_weights_are_given_to_the_commands_themselves(root: Path, tmp_path: Path) -> None:
    """`--weights` makes the run that the command then takes; asked again it is there already."""
    run = str(tmp_path / "runs" / "direct")
    for out in ("first.npz", "again.npz"):
        files = ["--weights", "var.pth", "--tokenizer", "vae.pth"]
        assert call(root, "sample", run, *files, "-n", "2", "--out", str(tmp_path / out), "--device", "cpu") == 0
    assert np.load(tmp_path / "again.npz")["arr_0"].shape == (2, 64, 64, 3)
    assert_identical(original_state(RunFolder(Path(run)), "generator"), state_of(root / "var.pth"))
    quick = ["--batch-sizes", "1", "--repeats", "1", "--warmup", "0", "--energy-seconds", "1", "--set", "flow_steps=1"]
    other = str(tmp_path / "runs" / "other")
    assert call(root, "profile", other, "--weights", "nvg.ckpt", *quick, "--device", "cpu") == 0
    record = Records.read(RunFolder(Path(other)).records_path).select(kind="profile")[-1]
    assert record.provenance["model"]["published"]["generator"]["file"] == "nvg.ckpt"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sample", "var", "--tokenizer", "vae.pth"], "--tokenizer vae.pth goes with --weights"),
        (["sample", "new", "--weights", "var.pth"], "add --tokenizer FILE"),
        (["sample", "new", "--weights", "absent.pth"], "absent.pth is neither a file nor"),
        (["sample", "var-d16", "--weights", "var.pth", "--tokenizer", "vae.pth"], "does not fit var-d16"),
        (["profile", "var", "nvg", "--weights", "var.pth", "--tokenizer", "vae.pth"], "got 2 names"),
        (["eval", "--all", "--weights", "var.pth", "--tokenizer", "vae.pth"], "got 0 names"),
        (["eval", "--samples", "x.npz", "--data", "shapes"], "--data shapes is the place of a run's own data"),
    ],
)
def test_weights_that_the_commands_refuse(
    root: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert call(root, *arguments, "--device", "cpu") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert said in lines[0]


def test_asked_again_nothing_changes_and_other_weights_are_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = root / "runs" / "var"
    before = {path: path.stat().st_mtime_ns for path in (run / "checkpoints").rglob("*")}
    assert call(root, "import", "var.pth", "--tokenizer", "vae.pth", "--out", "var", "--data", "shapes") == 0
    assert {path: path.stat().st_mtime_ns for path in (run / "checkpoints").rglob("*")} == before
    altered = state_of(root / "var.pth")
    altered["head.bias"] = altered["head.bias"] + 1
    torch.save(altered, root / "altered.pth")
    assert call(root, "import", "altered.pth", "--tokenizer", "vae.pth", "--out", "var", "--data", "shapes") == 2
    assert "generator of another origin; give the run another name" in capsys.readouterr().err
    command = ["sample", "var", "--weights", "altered.pth", "--tokenizer", "vae.pth", "--out", "x.npz", "--device", "cpu"]
    assert call(root, *command) == 2
    assert "generator of another origin; give the run another name" in capsys.readouterr().err


@pytest.mark.parametrize(("family", "suffix"), [("nvg", ".ckpt"), ("var", ".pth")])
def test_a_run_that_was_not_imported_can_be_exported(root: Path, tmp_path: Path, family: str, suffix: str) -> None:
    """Its file holds all of the original's tensors, and imports to the same model."""
    config = RunFolder(root / "runs" / family).config
    model: Any = untrained_generator(config, 10, seed=3)
    run = RunFolder.create(tmp_path / "runs" / "own", config)
    generator = model.generator if family == "nvg" else model.transformer
    for phase, module in (("tokenizer", model.tokenizer), ("generator", generator)):
        state = ckpt.CheckpointState(phase=phase, step=1, total_steps=1, final=True)
        averaged = {key: value * 2 if value.is_floating_point() else value for key, value in module.state_dict().items()}
        ckpt.save_checkpoint(run.checkpoints(phase), state, {ckpt.WEIGHTS: module.state_dict(), ckpt.EMA: averaged})
    for part in ("generator", "tokenizer"):
        assert call(tmp_path, "export", "own", "--part", part, "--out", f"{part}{suffix}") == 0
    shapes = {"nvg": NVG, "var": VAR["var_state_dict"]}[family]
    written = state_of(tmp_path / f"generator{suffix}")
    prefixes = ["nvgformer.", "ema_model.nvgformer."] if family == "nvg" else [""]
    assert {key: list(value.shape) for key, value in written.items()} == {p + k: s for p in prefixes for k, s in shapes.items()}
    files = [f"generator{suffix}", "--tokenizer", f"tokenizer{suffix}"]
    assert call(tmp_path, "import", *files, "--out", "again", "--data", "shapes") == 0
    again = RunFolder(tmp_path / "runs" / "again")
    for phase in ("tokenizer", "generator"):
        found = ckpt.latest_checkpoint(again.checkpoints(phase))
        there = ckpt.latest_checkpoint(run.checkpoints(phase))
        assert found is not None
        assert there is not None
        ours, theirs = (ckpt.load_tensors(place, ckpt.model_file(place)) for place in (found, there))
        assert_identical(ours, theirs)


def test_what_a_layout_does_not_carry_is_said(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = load_preset("nvg-tiny", ["tokenizer.norm_groups=4", "tokenizer.quantizer.child_order=raster"])
    run = RunFolder.create(tmp_path / "runs" / "own", config)
    tokenizer = untrained_generator(config, 10, seed=0).tokenizer  # type: ignore[attr-defined]
    state = ckpt.CheckpointState(phase="tokenizer", step=1, total_steps=1, final=True)
    ckpt.save_checkpoint(run.checkpoints("tokenizer"), state, {ckpt.WEIGHTS: tokenizer.state_dict()})
    assert call(tmp_path, "export", "own", "--part", "tokenizer", "--out", "own.ckpt") == 0
    said = capsys.readouterr().err
    assert "tokenizer.norm_groups = 4" in said
    assert "tokenizer.quantizer.child_order = raster" in said


def test_a_published_model_is_fine_tuned_on_other_classes(root: Path, tmp_path: Path) -> None:
    config = RunFolder(root / "runs" / "var").config
    phase = dataclasses.replace(config.train.generator, batch_size=2, micro_batch_size=None, steps=1, epochs=None)
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, train_images=4, augment="none"),
        train=dataclasses.replace(config.train, generator=phase, tokenizer=phase),
    )
    events: list[Mapping[str, Any]] = []
    with source_run(root / "var.pth", tmp_path, config, tokenizer=root / "vae.pth") as start:
        train_run(config, tmp_path / "tuned", device=torch.device("cpu"), progress=events.append, init=start)
    run = RunFolder(tmp_path / "tuned")
    origin = run.origins["generator"]
    assert origin["sha256"] == file_sha256(root / "var.pth")
    assert origin["classes"] == {"kept": 0, "new": 10}
    synsets = [f"n{number:08d}" for number in range(10)]
    with source_run(root / "var.pth", tmp_path, config, tokenizer=root / "vae.pth") as start:
        assert start is not None
        initial = InitialWeights(RunFolder(start), config, synsets, ["generator"])
    assert initial.origin["classes"] == {"kept": 10, "new": 0}, "ImageNet's classes in the order of the published weights"
    assert any("10 are new" in str(event.get("message")) for event in events)
    assert run.state("tokenizer").source["sha256"] == file_sha256(root / "vae.pth")  # type: ignore[union-attr]
    assert not list(tmp_path.glob(".weights-*"))


def test_a_generator_is_trained_on_a_published_tokenizer(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["tokenizer.base_channels=32", "tokenizer.channel_multipliers=[1,1,2,2,4]", "tokenizer.encoder_blocks=2",
             "tokenizer.decoder_blocks=3", "tokenizer.attention=true", "tokenizer.quant_convs=true", "data.image_size=64",
             "tokenizer.latent_channels=32", "tokenizer.codebook_size=64", "tokenizer.norm_groups=32", "model.depth=1",
             "tokenizer.quantizer.scales=[1,2,3,4]",
             "data.train_images=8", "train.steps=1", "train.generator.batch_size=2"]  # fmt: skip
    command = ["train", "var-tiny", "--name", "on_published", "--device", "cpu", "--runs", str(tmp_path)]
    command += [word for setting in sizes for word in ("--set", setting)]
    assert call(root, *command, "--tokenizer", "vae.pth") == 0, capsys.readouterr().err
    assert call(root, *command, "--tokenizer", "vae.pth") == 0  # again: nothing to do
    run = RunFolder(tmp_path / "on_published")
    state = run.state("tokenizer")
    assert state is not None
    assert state.source["sha256"] == file_sha256(root / "vae.pth")
    assert not list(tmp_path.glob(".weights-*"))
    assert_identical(
        {k: v for k, v in original_state(run, "tokenizer").items() if "ema_vocab" not in k},
        {k: v for k, v in state_of(root / "vae.pth").items() if "ema_vocab" not in k},
        imported=False,
    )
    wrong = [*command, "--set", "tokenizer.codebook_size=32", "--name", "other"]
    assert call(root, *wrong, "--tokenizer", "vae.pth") == 2
    assert "quantize.embedding.weight [64, 32] instead of [32, 32]" in capsys.readouterr().err


REFUSED = {
    "cut short": (["cut.pth", "--tokenizer", "vae.pth"], "cut.pth is truncated at 100,000 bytes"),
    "noise": (["noise.pth", "--tokenizer", "vae.pth"], "noise.pth"),
    "code in a file": (["code.pth", "--tokenizer", "vae.pth"], "Python objects"),
    "code as a pickle": (["code_pickle.pth", "--tokenizer", "vae.pth"], "code_pickle.pth"),
    "no tensors": (["numbers.pth", "--tokenizer", "vae.pth"], "'word_embed.weight' is a int"),
    "no file": (["nothing.pth"], "nothing.pth is neither a file nor a published name"),
    "misspelt name": (["vard16.pth"], "did you mean 'var_d16.pth'"),
    "tokenizer's name": ([*VAR_PAIR[:2], "vae_ch160v4096z23.pth"], "did you mean 'vae_ch160v4096z32.pth'"),
    "wrong depth": ([*VAR_PAIR, "--preset", "var-d16"], "var.pth does not fit var-d16: the tensors do not fit this model"),
    "wrong depth, NVG": (["nvg.ckpt", "--preset", "nvg-d20"], "of another shape"),
    "no average": (["plain.ckpt", "--ema"], "plain.ckpt holds no averaged weights"),
    "no average, VAR": ([*VAR_PAIR, "--ema"], "var.pth holds no averaged weights"),
    "no averaged tokenizer": ([*VAR_PAIR, "--tokenizer-ema"], "vae.pth holds no averaged weights"),
    "NVG as VAR": (["nvg.ckpt", "--preset", "var-d16"], "nvg.ckpt is a file of NVG"),
    "VAR as NVG": ([*VAR_PAIR, "--preset", "nvg-d16"], "var.pth is a file of VAR"),
    "VAR as AR": ([*VAR_PAIR, "--preset", "ar-b"], "ar-b is of family 'ar'"),
    "tokenizer of the other": (["var.pth", "--tokenizer", "ae.ckpt"], "ae.ckpt is a tokenizer of NVG"),
    "tokenizer of the other, NVG": (["nvg.ckpt", "--tokenizer", "vae.pth"], "vae.pth is a tokenizer of VAR"),
    "generator as tokenizer": (["var.pth", "--tokenizer", "var.pth"], "var.pth is a generator of VAR"),
    "tokenizer as generator": (["vae.pth", "--tokenizer", "vae.pth"], "vae.pth is a tokenizer itself"),
    "no tokenizer": (["var.pth"], "add --tokenizer FILE (published: vae_ch160v4096z32.pth)"),
    "no tokenizer, NVG": (["bare.ckpt"], "add --tokenizer FILE (published: ae.ckpt)"),
    "other vocabulary": (["var32.pth", "--tokenizer", "vae.pth"], "predicts 32 codes of 32 channels"),
    "other vocabulary, NVG": (["nvg.ckpt", "--tokenizer", "ae32.ckpt"], "predicts 64 codes of 32 channels"),
    "tensor missing": (["headless.pth", "--tokenizer", "vae.pth"], "headless.pth does not fit var-imported"),
    "tensor left over": (["extended.pth", "--tokenizer", "vae.pth"], "unexpected: blocks.0.attn.rotary"),
    "preset": ([*VAR_PAIR, "--preset", "var-d61"], "did you mean"),
    "setting": ([*VAR_PAIR, "--set", "sampling.topk=3"], "did you mean 'top_k'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, said = REFUSED[case]
    capsys.readouterr()
    assert call(root, "import", *arguments, "--out", str(tmp_path / "run")) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert said in lines[0]
    assert not (tmp_path / "run").exists()
    assert not list(root.parent.rglob("code_has_run"))
    assert not Path("code_has_run").exists()


def test_another_depth_is_refused_by_the_names_of_the_blocks(root: Path, tmp_path: Path) -> None:
    for depth, words in ((1, "unexpected: blocks.1.ada_lin.1.bias"), (3, "missing: blocks.2.ada_lin.1.bias")):
        found = RunFolder(root / "runs" / "var").config
        deeper = dataclasses.replace(found, model=dataclasses.replace(found.model, depth=depth, heads=2))
        with pytest.raises(InputError, match=words):
            import_run(tmp_path / "run", root / "var.pth", root / "vae.pth", config=deeper)
    assert not (tmp_path / "run").exists()


def test_a_run_that_was_trained_is_left_alone(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "trained"
    shutil.copytree(root / "runs" / "var", folder)
    path = next((folder / "checkpoints" / "generator").rglob("state.json"))
    state = json.loads(path.read_text())
    path.write_text(json.dumps(copy.deepcopy(state) | {"source": {}}))
    assert call(root, "import", *VAR_PAIR, "--out", str(folder), "--data", "shapes") == 2
    assert "another origin" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nobody", "--out", "x.pth"], "nobody"),
        (["var", "--out", "x.ckpt"], "files of VAR end in .pth"),
        (["nvg", "--out", "x.safetensors"], "files of NVG end in .ckpt"),
        (["ae", "--out", "x.ckpt"], "no trained generator"),
        (["ar", "--out", "x.pth"], "family 'ar' has no published files"),
        (["var", "--out", "cut.pth/x.pth"], "cut.pth"),
    ],
)
def test_exports_that_are_refused(root: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    RunFolder.create(root / "runs" / "ar", load_preset("ar-tiny"))
    assert call(root, "export", *arguments) == 2
    assert said in capsys.readouterr().err


def hub(monkeypatch: pytest.MonkeyPatch, raised: str | None, found: Path | None = None) -> None:
    """A stand-in for huggingface_hub, with its hierarchy of exceptions."""
    errors: Any = types.ModuleType("huggingface_hub.errors")
    errors.HfHubHTTPError = type("HfHubHTTPError", (OSError,), {})
    errors.RepositoryNotFoundError = type("RepositoryNotFoundError", (errors.HfHubHTTPError,), {})
    errors.GatedRepoError = type("GatedRepoError", (errors.RepositoryNotFoundError,), {})
    errors.EntryNotFoundError = type("EntryNotFoundError", (Exception,), {})
    errors.LocalEntryNotFoundError = type("LocalEntryNotFoundError", (errors.EntryNotFoundError, FileNotFoundError), {})
    errors.OfflineModeIsEnabled = type("OfflineModeIsEnabled", (ConnectionError,), {})

    def download(repository: str, name: str, revision: str | None = None, local_files_only: bool = False) -> str:
        assert (repository, name) in (("yikaiwang/nvg", "d16.ckpt"), ("FoundationVision/var", "var_d16.pth"))
        if raised is not None:
            raise getattr(errors, raised)("no")
        return str(found)

    module: Any = types.ModuleType("huggingface_hub")
    module.errors, module.hf_hub_download = errors, download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("GatedRepoError", "d16.ckpt is gated: request access at https://huggingface.co/yikaiwang/nvg"),
        ("LocalEntryNotFoundError", "d16.ckpt is not in the cache of huggingface_hub"),
        ("OfflineModeIsEnabled", "d16.ckpt is not in the cache of huggingface_hub"),
        ("RepositoryNotFoundError", "https://huggingface.co/yikaiwang/nvg has no d16.ckpt"),
        ("EntryNotFoundError", "https://huggingface.co/yikaiwang/nvg has no d16.ckpt"),
        ("HfHubHTTPError", "is not reachable"),
    ],
)
def test_downloads_that_fail(
    root: Path, raised: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub(monkeypatch, raised)
    assert call(root, "import", "d16.ckpt") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert "download it elsewhere (gated; S-Lab License 1.0, non-commercial)" in lines[0]


def test_a_name_is_downloaded(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, None, root / "var.pth")
    assert call(root, "import", "var_d16.pth", "--tokenizer", "vae.pth", "--out", str(tmp_path / "run")) == 0
    assert_identical(original_state(RunFolder(tmp_path / "run"), "generator"), state_of(root / "var.pth"))


def test_without_huggingface_hub(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert call(root, "import", "d16.ckpt") == 2
    assert "pip install 'nvgbench[hub]'" in capsys.readouterr().err
