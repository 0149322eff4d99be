"""Bad input to every command: exit code 2, one line that says what is wrong, no traceback, nothing lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nvgbench.cli.app import main

SMALL = [
    word
    for setting in ("train.steps=2", "data.train_images=40", "data.eval_images=40", "train.tokenizer.batch_size=4",
                    "train.generator.batch_size=4", "sampling.flow_steps=1")
    for word in ("--set", setting)
]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one trained run called nvg-tiny and some files that are not what they should be."""
    root = tmp_path_factory.mktemp("bad input")
    with pytest.raises(SystemExit) as done:
        main(["train", "nvg-tiny", "--runs", str(root / "runs"), "--device", "cpu", *SMALL])
    assert done.value.code == 0
    (root / "garbage.npz").write_bytes(b"no archive")
    (root / "sizes").mkdir()
    for number, side in enumerate((32, 32, 16)):
        Image.new("RGB", (side, side)).save(root / "sizes" / f"{number}.png")
    np.savez(root / "wrong_type.npz", arr_0=np.zeros((30, 32, 32, 3), dtype=np.float32))
    noise = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)
    np.savez(root / "classes.npz", arr_0=noise, arr_1=np.arange(50))
    (root / "broken.jsonl").write_text("{not json\n")
    (root / "empty").mkdir()
    (root / "baseline.json").write_text('{"metrics": {}}')
    (root / "rules.toml").write_text('[[rule]]\nmetric = "FD*"\nrelativ = 0.1\n')
    (root / "mask.png").write_text("no picture")
    Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32)).save(root / "noisy.png")
    torn = root / "runs" / "torn"
    shutil.copytree(root / "runs" / "nvg-tiny", torn)
    weights = sorted(torn.glob("checkpoints/generator/*/*.safetensors"))
    for path in weights:
        path.write_bytes(path.read_bytes()[:100])
    shutil.copytree(root / "runs" / "nvg-tiny", root / "runs" / "edited")
    config = root / "runs" / "edited" / "config.toml"
    config.write_text(config.read_text().replace("depth = 4", "depht = 4"))
    return root


CASES = {
    # presets and settings
    "train: preset": (["train", "nvg-tinny"], "did you mean 'nvg-tiny'"),
    "train: key": (["train", "nvg-tiny", "--set", "train.stpes=2"], "did you mean 'steps'"),
    "train: type": (["train", "nvg-tiny", "--set", "train.steps=many"], "train.steps"),
    "train: no data": (["train", "nvg-tiny", "--data", "imagefolder:{root}/nowhere"], "nowhere"),
    "train: empty data": (["train", "nvg-tiny", "--data", "imagefolder:{root}/empty"], "empty"),
    "train: unknown data": (["train", "nvg-tiny", "--name", "x", "--data", "shapse"], "did you mean"),
    "train: no ImageNet": (["train", "nvg-d16", "--set", "train.steps=2"], "--data imagenet:PATH"),
    "train: broken archive": (["train", "nvg-tiny", "--data", "npz:{root}/garbage.npz"], "garbage.npz"),
    "train: other settings": (["train", "nvg-tiny", "--set", "train.steps=3"], "train.steps"),
    "train: tokenizer": (["train", "nvg-tiny", "--name", "x", "--tokenizer", "nobody"], "nobody"),
    "train: phase": (["train", "nvg-tiny", "--phase", "decoder"], "decoder"),
    "train: folder is a file": (["train", "nvg-tiny", "--runs", "{root}/garbage.npz"], "garbage.npz"),
    "train: tokenizer's file": (["train", "nvg-tiny", "--name", "x", "--tokenizer", "{root}/garbage.npz"], "garbage.npz"),
    "presets: name": (["presets", "nvg-d61"], "did you mean 'nvg-d16'"),
    "data: name": (["data", "show", "shaeps"], "did you mean"),
    # runs
    "sample: run": (["sample", "nvg-tinny"], "nvg-tinny"),
    "sample: corrupt checkpoint": (["sample", "torn"], "torn"),
    "sample: edited configuration": (["sample", "edited"], "did you mean 'depth'"),
    "sample: setting": (["sample", "nvg-tiny", "--set", "flow_stps=3"], "did you mean 'flow_steps'"),
    "sample: setting's value": (["sample", "nvg-tiny", "--set", "flow_steps=0"], "flow_steps"),
    "sample: class": (["sample", "nvg-tiny", "--classes", "10"], "class 10 is out of range"),
    "sample: classes": (["sample", "nvg-tiny", "--classes", "one"], "comma-separated"),
    "sample: none": (["sample", "nvg-tiny", "-n", "0"], "at least 1"),
    "sample: device": (["sample", "nvg-tiny", "--device", "gpu"], "--device"),
    "sample: out in a file": (["sample", "nvg-tiny", "-n", "2", "--out", "{root}/garbage.npz/x.npz"], "garbage.npz"),
    "sample: mask": (["sample", "nvg-tiny", "--structure-mask", "{root}/mask.png"], "mask.png"),
    "sample: mask's regions": (["sample", "nvg-tiny", "--structure-mask", "{root}/noisy.png"], "regions"),
    "sample: no image": (["sample", "nvg-tiny", "--structure-image", "{root}/no.png"], "no.png"),
    "sample: stage": (["sample", "nvg-tiny", "--structure-sample", "0", "--structure-stage", "9"], "stages 1 to"),
    "eval: run": (["eval", "nobody"], "nobody"),
    "eval: nothing": (["eval"], "--all"),
    "eval: corrupt checkpoint": (["eval", "torn", "-n", "20"], "torn"),
    "eval: no file": (["eval", "--samples", "{root}/no.npz", "--reference", "shapes"], "no.npz"),
    "eval: broken file": (["eval", "--samples", "{root}/garbage.npz", "--reference", "shapes"], "garbage.npz"),
    "eval: wrong size": (["eval", "--samples", "{root}/sizes", "--reference", "shapes"], "16x16 pixels, expected 32x32"),
    "eval: wrong type": (["eval", "--samples", "{root}/wrong_type.npz", "--reference", "shapes"], "wrong_type.npz"),
    "eval: extractor": (["eval", "nvg-tiny", "--extractor", "incepton"], "did you mean 'inception'"),
    "eval: weights": (["eval", "nvg-tiny", "--inception-weights", "{root}/no.pth"], "no.pth"),
    "eval: protocol": (["eval", "nvg-tiny", "--protocol", "clean-fit"], "did you mean 'clean-fid'"),
    "eval: protocol and extractor": (["eval", "nvg-tiny", "--protocol", "adm", "--extractor", "clip"], "Inception features"),
    "eval: protocol's weights": (
        ["eval", "nvg-tiny", "--protocol", "torch-fidelity", "--inception-weights", "{root}/garbage.npz"],
        "garbage.npz does not hold the Inception weights",
    ),
    "eval: extractor's weights": (
        ["eval", "nvg-tiny", "--extractor", "dinov2", "--extractor-weights", "{root}/empty"],
        "dinov2",
    ),
    "eval: classes": (["eval", "--samples", "{root}/classes.npz", "--reference", "shapes"], "--force"),
    "lint: no file": (["lint", "{root}/no.npz"], "no.npz"),
    "lint: broken file": (["lint", "{root}/garbage.npz"], "garbage.npz"),
    "lint: wrong size": (["lint", "{root}/sizes"], "16x16 pixels, expected 32x32"),
    "lint: wrong type": (["lint", "{root}/wrong_type.npz"], "wrong_type.npz"),
    "lint: reference": (["lint", "{root}/classes.npz", "--reference", "shapse"], "shapse"),
    "lint: classes": (["lint", "{root}/classes.npz", "--reference", "shapes"], "class 49"),
    "profile: name": (["profile", "nvg-tinny"], "nvg-tinny"),
    "profile: batch": (["profile", "nvg-tiny", "--batch-sizes", "a"], "batch"),
    "profile: setting": (["profile", "nvg-tiny", "--set", "flow_stps=2"], "flow_stps"),
    "ablate: run": (["ablate", "clusters", "nobody"], "nobody"),
    "ablate: corrupt": (["ablate", "clusters", "edited"], "did you mean 'depth'"),
    # published weights
    "import: no file": (["import", "nobody.pth"], "nobody.pth"),
    "import: name": (["import", "vard16.pth"], "did you mean 'var_d16.pth'"),
    "import: no weights": (["import", "{root}/garbage.npz"], "garbage.npz"),
    "import: preset": (["import", "{root}/garbage.npz", "--preset", "nvg-d61"], "did you mean 'nvg-d16'"),
    "export: run": (["export", "nobody", "--out", "{root}/x.ckpt"], "nobody"),
    "export: suffix": (["export", "nvg-tiny", "--out", "{root}/x.pth"], "end in .ckpt"),
    "export: into a file": (["export", "nvg-tiny", "--out", "{root}/garbage.npz/x.ckpt"], "garbage.npz"),
    "export: corrupt checkpoint": (["export", "torn", "--out", "{root}/x.ckpt"], "torn"),
    # golden numbers
    "verify: family": (["verify", "nvgg"], "did you mean 'nvg'"),
    "verify: no original": (["verify", "ar"], "use nvg or var"),
    "verify: no file": (["verify", "nvg", "--fixture", "{root}/none.json"], "none.json"),
    "verify: no fixture": (["verify", "var", "--fixture", "{root}/baseline.json"], "baseline.json"),
    "verify: broken file": (["verify", "var", "--fixture", "{root}/broken.jsonl"], "not a JSON file"),
    "verify: device": (["verify", "nvg", "--device", "gpu"], "--device"),
    # records
    "compare: run": (["compare", "nobody", "nvg-tiny"], "nobody"),
    "compare: no scores": (["compare", "nvg-tiny", "nvg-tiny"], "nvg-tiny"),
    "gate: no baseline": (["gate", "--baseline", "{root}/none.json"], "none.json"),
    "gate: edited baseline": (["gate", "--baseline", "{root}/baseline.json"], "baseline.json"),
    "gate: broken records": (["gate", "--baseline", "{root}/b.json", "--update", "--records", "{root}/broken.jsonl"], "line 1"),
    "gate: rule's key": (["gate", "--baseline", "{root}/b.json", "--rules", "{root}/rules.toml"], "did you mean 'relative'"),
    "gate: no summary": (["gate", "--baseline", "{root}/b.json", "--github-summary"], "GITHUB_STEP_SUMMARY"),
    "gate: self-test": (["gate", "selftest", "--pairs", "2"], "at least 20 pairs"),
    "gate: self-test of a run": (["gate", "selftest", "nvg-tinny"], "nvg-tinny"),
    "report: broken records": (["report", "--records", "{root}/broken.jsonl", "--out", "{root}/r.html"], "line 1"),
    "report: no run": (["report", "nobody", "--out", "{root}/r.html"], "nobody"),
    "report: no older report": (["report", "--against", "{root}/none.html", "--out", "{root}/r.html"], "no report at"),
    "report: older report": (["report", "--against", "{root}/baseline.json", "--out", "{root}/r.html"], "damaged report data"),
}


def _files(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.stat().st_size for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_ends_with_code_2_and_one_line(
    case: str, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, said = CASES[case]
    arguments = [word.format(root=runs) for word in arguments]
    command = arguments[0]
    monkeypatch.chdir(runs)
    monkeypatch.delenv("NVGBENCH_IMAGENET", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    if (
        command in ("train", "sample", "eval", "profile", "ablate", "compare", "gate", "report", "import", "export")
        and "--runs" not in arguments
    ):
        arguments += ["--runs", str(runs / "runs")]
    if "--set" not in arguments and command == "train":
        arguments += SMALL
    before = _files(runs)
    capsys.readouterr()
    with pytest.raises(SystemExit) as done:
        main(arguments)
    shown = capsys.readouterr()
    assert done.value.code == 2, shown
    lines = [line for line in shown.err.strip().splitlines() if line.strip()]
    assert said in " ".join(lines), shown.err
    assert "Traceback" not in shown.err
    errors = [line for line in lines if line.startswith("error:")]
    usage = [line for line in lines if "Usage:" in line]  # typer's own box for options it checks itself
    assert len(errors) == 1 or usage, shown.err
    after = _files(runs)
    assert {path: size for path, size in after.items() if path in before} == before


def test_a_full_disk_is_one_line(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The disk fills up while samples are written: exit code 2, and what was there stays."""
    import errno
    import os

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "samples")

    before = _files(runs)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SystemExit) as done:
        main(["sample", "nvg-tiny", "-n", "3", "--seed", "77", "--runs", str(runs / "runs"), "--device", "cpu"])
    assert done.value.code == 2
    assert "No space left on device" in capsys.readouterr().err
    assert _files(runs) == before


def test_structure_guidance_from_the_command_line(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Structure from an image, a mask and a sample: all samples of a job share the given maps."""
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[:, 16:] = 200
    Image.fromarray(mask).save(runs / "halves.png")
    Image.fromarray(np.stack([mask] * 3, axis=-1)).save(runs / "image.png")
    base = ["sample", "nvg-tiny", "-n", "4", "--runs", str(runs / "runs"), "--device", "cpu"]
    pictures = []
    for number, source in enumerate(
        (
            ["--structure-image", str(runs / "image.png")],
            ["--structure-mask", str(runs / "halves.png")],
            ["--structure-sample", "1"],
            [],
        )
    ):
        with pytest.raises(SystemExit) as done:
            main([*base, *source, "--out", str(runs / f"guided{number}.npz"), "--trace", str(runs / f"trace{number}.png")])
        assert done.value.code == 0, capsys.readouterr()
        pictures.append(np.load(runs / f"guided{number}.npz")["arr_0"])
        assert (runs / f"trace{number}.png").stat().st_size > 0
    assert not np.array_equal(pictures[1], pictures[3])
    assert torch.from_numpy(pictures[0]).shape == (4, 32, 32, 3)
