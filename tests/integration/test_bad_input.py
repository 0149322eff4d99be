"""Bad input to every command: exit code 2, one line that says what is wrong, no traceback, nothing lost.

`CASES` is what each command is given, `DAMAGES` what a run on disk can suffer, `OUTPUTS` what cannot be written.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nvgbench.cli.app import main
from tests.helpers.evaluation_jobs import Thumbnails
from tests.helpers.streams import unread_pipe

SMALL = [
    word
    for setting in ("train.steps=2", "data.train_images=40", "data.eval_images=40", "train.tokenizer.batch_size=4",
                    "train.generator.batch_size=4", "sampling.flow_steps=1")  # the last is NVG's alone
    for word in ("--set", setting)
]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one trained run called nvg-tiny and some files that are not what they should be."""
    root = tmp_path_factory.mktemp("bad input")
    model = ["nvg-tiny", "--runs", str(root / "runs")]
    for arguments in (
        ["train", *model, "--device", "cpu", *SMALL],
        ["gate", "cost", "nvg-tiny", "--out", str(root / "cost.jsonl")],
        ["gate", "--records", str(root / "cost.jsonl"), "--baseline", str(root / "cost.json"), "--update"],
        ["export", *model, "--out", str(root / "generator.ckpt")],
        ["export", *model, "--out", str(root / "tokenizer.ckpt"), "--part", "tokenizer"],
    ):
        with pytest.raises(SystemExit) as done:
            main(arguments)
        assert done.value.code == 0, arguments
    _write_arrays(root)
    _write_images(root)
    (root / "broken.jsonl").write_text("{not json\n")
    (root / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    (root / "empty").mkdir()
    (root / "baseline.json").write_text('{"metrics": {}}')
    (root / "rules.toml").write_text('[[rule]]\nmetric = "FD*"\nrelativ = 0.1\n')
    (root / "broken.toml").write_text("[[rule")
    for name, damage in DAMAGES.items():
        shutil.copytree(root / "runs" / "nvg-tiny", root / "damaged" / name)
        damage(root / "damaged" / name)
    return root


def _write_arrays(root: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)
    (root / "garbage.npz").write_bytes(b"no archive")
    np.savez(root / "nothing.npz")
    np.savez(root / "no_images.npz", arr_0=noise[:0])
    np.savez(root / "wrong_type.npz", arr_0=noise.astype(np.float32))
    np.savez(root / "planes.npz", arr_0=noise.transpose(0, 3, 1, 2))
    np.savez(root / "one_label.npz", arr_0=noise, arr_1=np.array([0]))
    np.savez(root / "negative.npz", arr_0=noise, arr_1=np.full(50, -1))
    np.savez(root / "classes.npz", arr_0=noise, arr_1=np.arange(50))
    np.savez(root / "plain.npz", arr_0=noise)
    whole = (root / "classes.npz").read_bytes()
    (root / "half.npz").write_bytes(whole[: len(whole) // 2])


def _write_images(root: Path) -> None:
    def picture(name: str, side: int = 32) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (side, side)).save(root / name)

    for number, side in enumerate((32, 32, 16)):
        picture(f"sizes/{number}.png", side)
    torn = [f"torn/a/{number}.png" for number in range(20)]
    for name in (*torn, "hollow/a/0.png", "hollow/a/1.png", "strange/train/a/0.png"):
        picture(name)
    picture("strange/val/b/0.png")
    (root / "hollow" / "b").mkdir()
    for name in torn:
        (root / name).write_bytes((root / name).read_bytes()[:60])
    (root / "text").mkdir()
    (root / "text" / "notes.txt").write_text("no picture")
    (root / "mask.png").write_text("no picture")
    Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32)).save(root / "noisy.png")


def _cut(pattern: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        for path in sorted(run.glob(pattern)):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return damage


def _replace(name: str, content: bytes) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        (run / name).write_bytes(content)

    return damage


def _remove(pattern: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        for path in sorted(run.glob(pattern)):
            path.unlink()

    return damage


def _misspell(run: Path) -> None:
    config = run / "config.toml"
    config.write_text(config.read_text().replace("depth = 4", "depht = 4"))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "torn": _cut("checkpoints/generator/*/*.safetensors"),
    "torn-tokenizer": _cut("checkpoints/tokenizer/*/*.safetensors"),
    "torn-state": _cut("checkpoints/*/*/state.json"),
    "no-average": _remove("checkpoints/*/*/ema.safetensors"),
    "torn-config": _cut("config.toml"),
    "edited": _misspell,
    "torn-dataset": _replace("dataset.json", b"\xff\xfe"),
    "torn-records": _cut("records.jsonl"),
    "no-records": _replace("records.jsonl", b"\xff\xfe\x00"),
}
"""Names of runs, and what was done to each."""

CASES = {
    # presets and settings
    "train: preset": (["train", "nvg-tinny"], "did you mean 'nvg-tiny'"),
    "train: no preset": (["train", ""], "no preset ''"),
    "train: option": (["train", "nvg-tiny", "--sed", "1"], "--seeds"),
    "train: key": (["train", "nvg-tiny", "--set", "train.stpes=2"], "did you mean 'steps'"),
    "train: type": (["train", "nvg-tiny", "--set", "train.steps=many"], "train.steps"),
    "train: section": (["train", "nvg-tiny", "--set", "tokenizer=3"], "'tokenizer' = 3"),
    "train: no value": (["train", "nvg-tiny", "--set", "train.steps"], "section.key=value"),
    "train: no steps": (["train", "nvg-tiny", "--set", "train.steps=0"], "greater than or equal to 1"),
    "train: image size": (["train", "nvg-tiny", "--set", "data.image_size=36"], "36 is not a multiple of 8"),
    "train: seeds": (["train", "nvg-tiny", "--seeds", "0.."], "0..4"),
    "train: name": (["train", "nvg-tiny", "--name", "../x"], "out of the runs folder"),
    "train: device": (["train", "nvg-tiny", "--name", "x", "--device", "meta"], "cuda:N"),
    "train: planes": (["train", "nvg-tiny", "--name", "x", "--data", "npz:{root}/planes.npz"], "expected uint8 images"),
    "train: an unreadable image": (["train", "nvg-tiny", "--name", "x0", "--data", "imagefolder:{root}/torn"], "torn/a/"),
    "train: a class without images": (["train", "nvg-tiny", "--name", "x1", "--data", "imagefolder:{root}/hollow"], "hollow/b"),
    "train: a class of held-out images": (
        ["train", "nvg-tiny", "--name", "x2", "--data", "imagefolder:{root}/strange"],
        "val/b is not among the training classes",
    ),
    "train: no data": (["train", "nvg-tiny", "--name", "x", "--data", "imagefolder:{root}/nowhere"], "nowhere"),
    "train: empty data": (["train", "nvg-tiny", "--data", "imagefolder:{root}/empty"], "empty"),
    "train: unknown data": (["train", "nvg-tiny", "--name", "x", "--data", "shapse"], "did you mean"),
    "train: no ImageNet": (["train", "nvg-d16", "--set", "train.steps=2"], "--data imagenet:PATH"),
    "train: broken archive": (["train", "nvg-tiny", "--data", "npz:{root}/garbage.npz"], "garbage.npz"),
    "train: other settings": (["train", "nvg-tiny", "--set", "train.steps=3"], "train.steps"),
    "train: tokenizer": (["train", "nvg-tiny", "--name", "x", "--tokenizer", "nobody"], "nobody"),
    "train: phase": (["train", "nvg-tiny", "--phase", "decoder"], "decoder"),
    "train: folder is a file": (["train", "nvg-tiny", "--runs", "{root}/garbage.npz"], "garbage.npz"),
    "train: tokenizer's file": (["train", "nvg-tiny", "--name", "x", "--tokenizer", "{root}/garbage.npz"], "garbage.npz"),
    "train: run is a file": (["train", "nvg-tiny", "--runs", "{root}", "--name", "garbage.npz"], "is no run"),
    "presets: name": (["presets", "nvg-d61"], "did you mean 'nvg-d16'"),
    "presets: empty": (["presets", ""], "no preset"),
    "presets: budget": (["presets", "budget:tiny"], "no preset"),
    "presets: option": (["presets", "--set", "a=1"], "No such option"),
    "data: command": (["data", "shwo"], "Did you mean 'show'"),
    "data: list": (["data", "list", "shapes"], "unexpected extra argument"),
    "data: name": (["data", "show", "shaeps"], "did you mean"),
    "data: size": (["data", "show", "shapes", "--size", "8"], "--size"),
    "data: split": (["data", "show", "shapes", "--split", "tset"], "--split"),
    "data: none": (["data", "show", "shapes", "-n", "0"], "-n"),
    "data: picture": (["data", "show", "shapes", "--out", "{root}/x.jpg"], ".png"),
    "data: no file": (["data", "show", "npz:{root}/no.npz"], "no.npz"),
    "data: broken file": (["data", "show", "npz:{root}/garbage.npz"], "garbage.npz"),
    "data: half a file": (["data", "show", "npz:{root}/half.npz"], "half.npz"),
    "data: empty file": (["data", "show", "npz:{root}/nothing.npz"], "no arr_0"),
    "data: no images": (["data", "show", "npz:{root}/no_images.npz"], "holds 0 images"),
    "data: floats": (["data", "show", "npz:{root}/wrong_type.npz"], "expected uint8 images"),
    "data: planes": (["data", "show", "npz:{root}/planes.npz"], "expected uint8 images"),
    "data: labels": (["data", "show", "npz:{root}/one_label.npz"], "one per image"),
    "data: class": (["data", "show", "npz:{root}/negative.npz"], "integers from 0, one per image"),
    "data: no folder": (["data", "show", "imagefolder:{root}/nowhere"], "nowhere"),
    "data: a text": (["data", "show", "imagefolder:{root}/text"], "one folder per class"),
    "data: a class without images": (["data", "show", "imagefolder:{root}/hollow"], "hollow/b holds no images"),
    "data: an unreadable image": (["data", "show", "imagefolder:{root}/torn"], "replace or remove the file"),
    "data: a bare path": (["data", "show", "{root}/classes.npz"], "did you mean 'npz:"),
    # runs
    "sample: run": (["sample", "nvg-tinny"], "nvg-tinny"),
    "sample: empty run": (["sample", ""], "no run ''"),
    "sample: run is a file": (["sample", "{root}/garbage.npz"], "garbage.npz"),
    "sample: no weights": (["sample", "nvg-tiny", "--weights", "{root}/no.pth"], "no.pth"),
    "sample: batch": (["sample", "nvg-tiny", "--batch-size", "0"], "--batch-size"),
    "sample: seed": (["sample", "nvg-tiny", "--seed", "-1"], "seed -1 is out of range"),
    "sample: setting": (["sample", "nvg-tiny", "--set", "flow_stps=3"], "did you mean 'flow_steps'"),
    "sample: setting's value": (["sample", "nvg-tiny", "--set", "flow_steps=0"], "flow_steps"),
    "sample: class": (["sample", "nvg-tiny", "--classes", "10"], "class 10 is out of range"),
    "sample: classes": (["sample", "nvg-tiny", "--classes", "strar"], "no class 'strar'"),
    "sample: no class": (["sample", "nvg-tiny", "--classes", ""], "no class ''"),
    "sample: none": (["sample", "nvg-tiny", "-n", "0"], "at least 1"),
    "sample: fewer than none": (["sample", "nvg-tiny", "-n", "-5"], "at least 1"),
    "sample: out of another type": (["sample", "nvg-tiny", "-n", "2", "--out", "{root}/z.jpg"], "give z.npz or a folder"),
    "sample: among other images": (["sample", "nvg-tiny", "-n", "2", "--out", "{root}/sizes"], "sizes holds other images"),
    "sample: device": (["sample", "nvg-tiny", "--device", "gpu"], "--device"),
    "sample: out in a file": (["sample", "nvg-tiny", "-n", "2", "--out", "{root}/garbage.npz/x.npz"], "garbage.npz"),
    "sample: mask": (["sample", "nvg-tiny", "--structure-mask", "{root}/mask.png"], "mask.png"),
    "sample: mask's regions": (["sample", "nvg-tiny", "--structure-mask", "{root}/noisy.png"], "regions"),
    "sample: no image": (["sample", "nvg-tiny", "--structure-image", "{root}/no.png"], "no.png"),
    "sample: stage": (["sample", "nvg-tiny", "--structure-sample", "0", "--structure-stage", "9"], "stages 1 to"),
    "sample: stage alone": (["sample", "nvg-tiny", "--structure-stage", "2"], "needs --structure-image"),
    "sample: image of the job": (["sample", "nvg-tiny", "--structure-sample", "-1"], "use 0 or more"),
    "eval: run": (["eval", "nobody"], "nobody"),
    "eval: nothing": (["eval"], "--all"),
    "eval: setting": (["eval", "nvg-tiny", "--set", "flow_stps=3"], "did you mean 'flow_steps'"),
    "eval: seeds": (["eval", "nvg-tiny", "--sampling-seeds", "0.."], "--sampling-seeds"),
    "eval: no images": (["eval", "--samples", "{root}/no_images.npz", "--reference", "shapes"], "no_images.npz"),
    "eval: planes": (["eval", "--samples", "{root}/planes.npz", "--reference", "shapes"], "planes.npz"),
    "eval: none": (["eval", "nvg-tiny", "-n", "0"], "-n"),
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
    "lint: empty file": (["lint", "{root}/nothing.npz"], "expected arr_0"),
    "lint: no images": (["lint", "{root}/no_images.npz"], "no_images.npz"),
    "lint: planes": (["lint", "{root}/planes.npz"], "expected uint8 images [N, H, W, 3]"),
    "lint: half a file": (["lint", "{root}/half.npz"], "half.npz"),
    "lint: labels": (["lint", "{root}/one_label.npz"], "one per image"),
    "lint: class": (["lint", "{root}/negative.npz"], "integers from 0, one per image"),
    "lint: a text": (["lint", "{root}/text"], "no images in this folder"),
    "lint: an unreadable image": (["lint", "{root}/torn"], "torn/a/0.png"),
    "lint: option": (["lint", "{root}/classes.npz", "--referenc", "shapes"], "--reference"),
    "lint: wrong size": (["lint", "{root}/sizes"], "16x16 pixels, expected 32x32"),
    "lint: wrong type": (["lint", "{root}/wrong_type.npz"], "wrong_type.npz"),
    "lint: reference": (["lint", "{root}/classes.npz", "--reference", "shapse"], "shapse"),
    "lint: classes": (["lint", "{root}/classes.npz", "--reference", "shapes"], "class 49"),
    "profile: name": (["profile", "nvg-tinny"], "nvg-tinny"),
    "profile: batch": (["profile", "nvg-tiny", "--batch-sizes", "a"], "batch"),
    "profile: setting": (["profile", "nvg-tiny", "--set", "flow_stps=2"], "flow_stps"),
    "profile: preset's key": (["profile", "ar-tiny", "--set", "model.depht=1"], "did you mean 'depth'"),
    "profile: batch of none": (["profile", "nvg-tiny", "--batch-sizes", "0"], "batch"),
    "profile: repeats": (["profile", "nvg-tiny", "--repeats", "0"], "repeats"),
    "profile: classes": (["profile", "ar-tiny", "--classes", "0"], "--classes"),
    "profile: no weights": (["profile", "nvg-tiny", "--weights", "{root}/no.pth"], "no.pth"),
    "ablate: study": (["ablate", "cluster", "nvg-tiny"], "Did you mean 'clusters'"),
    "ablate: run": (["ablate", "clusters", "nobody"], "nobody"),
    "ablate: option": (["ablate", "clusters", "nvg-tiny", "--imags", "4"], "--images"),
    "ablate: images": (["ablate", "clusters", "nvg-tiny", "--images", "1"], "--images"),
    "ablate: data": (["ablate", "clusters", "nvg-tiny", "--data", "shapse"], "did you mean 'shapes'"),
    "ablate: no file": (["ablate", "clusters", "nvg-tiny", "--data", "npz:{root}/no.npz"], "no.npz"),
    "ablate: planes": (["ablate", "clusters", "nvg-tiny", "--data", "npz:{root}/planes.npz"], "planes.npz"),
    # published weights
    "import: no file": (["import", "nobody.pth"], "nobody.pth"),
    "import: name": (["import", "vard16.pth"], "did you mean 'var_d16.pth'"),
    "import: no weights": (["import", "{root}/garbage.npz"], "garbage.npz"),
    "import: preset": (["import", "{root}/garbage.npz", "--preset", "nvg-d61"], "did you mean 'nvg-d16'"),
    "import: key": (["import", "{root}/garbage.npz", "--preset", "nvg-d16", "--set", "model.depht=3"], "did you mean 'depth'"),
    "import: tokenizer": (["import", "{root}/garbage.npz", "--tokenizer", "{root}/no.pth"], "no.pth"),
    "export: part": (["export", "nvg-tiny", "--out", "{root}/x.ckpt", "--part", "decoder"], "--part"),
    "export: run": (["export", "nobody", "--out", "{root}/x.ckpt"], "nobody"),
    "export: suffix": (["export", "nvg-tiny", "--out", "{root}/x.pth"], "end in .ckpt"),
    # golden numbers
    "verify: family": (["verify", "nvgg"], "did you mean 'nvg'"),
    "verify: no original": (["verify", "ar"], "use nvg or var"),
    "verify: no file": (["verify", "nvg", "--fixture", "{root}/none.json"], "none.json"),
    "verify: no fixture": (["verify", "var", "--fixture", "{root}/baseline.json"], "baseline.json"),
    "verify: broken file": (["verify", "var", "--fixture", "{root}/broken.jsonl"], "not a JSON file"),
    "verify: precision": (["verify", "nvg", "--dtype", "fp8"], "--dtype"),
    "verify: device": (["verify", "nvg", "--device", "gpu"], "--device"),
    # records
    "compare: run": (["compare", "nobody", "nvg-tiny"], "nobody"),
    "compare: option": (["compare", "nvg-tiny", "nvg-tiny", "--metrik", "FD"], "--metric"),
    "compare: run is a file": (["compare", "garbage.npz", "nvg-tiny"], "garbage.npz"),
    "compare: no scores": (["compare", "nvg-tiny", "nvg-tiny"], "nvg-tiny"),
    "gate: no baseline": (["gate", "--baseline", "{root}/none.json"], "none.json"),
    "gate: edited baseline": (["gate", "--baseline", "{root}/baseline.json"], "baseline.json"),
    "gate: broken records": (["gate", "--baseline", "{root}/b.json", "--update", "--records", "{root}/broken.jsonl"], "line 1"),
    "gate: rule's key": (["gate", "--baseline", "{root}/b.json", "--rules", "{root}/rules.toml"], "did you mean 'relative'"),
    "gate: option": (["gate", "--basline", "{root}/b.json"], "--baseline"),
    "gate: broken rules": (["gate", "--baseline", "{root}/b.json", "--rules", "{root}/broken.toml"], "not valid TOML"),
    "gate: no rules": (["gate", "--baseline", "{root}/b.json", "--rules", "{root}/none.toml"], "none.toml"),
    "gate: run": (["gate", "--baseline", "{root}/b.json", "--update", "nvg-tinny"], "did you mean 'nvg-tiny'"),
    "gate: no records": (["gate", "--baseline", "{root}/b.json", "--records", "{root}/none.jsonl"], "none.jsonl"),
    "gate: no text": (["gate", "--baseline", "{root}/b.json", "--records", "{root}/bytes.jsonl"], "not UTF-8"),
    "gate: cost of a preset": (["gate", "cost", "nvg-tinny", "--out", "{root}/c.jsonl"], "did you mean 'nvg-tiny'"),
    "gate: cost's key": (["gate", "cost", "nvg-tiny", "--set", "a=1"], "No such option"),
    "gate: self-test's loss": (["gate", "selftest", "--loss", "0"], "between 0 and 1"),
    "gate: self-test's rules": (["gate", "selftest", "--rules", "{root}/rules.toml"], "did you mean 'relative'"),
    "gate: self-test's records": (["gate", "selftest", "--records", "{root}/none.jsonl"], "none.jsonl"),
    "gate: no summary": (["gate", "--baseline", "{root}/b.json", "--github-summary"], "GITHUB_STEP_SUMMARY"),
    "gate: self-test": (["gate", "selftest", "--pairs", "2"], "at least 20 pairs"),
    "gate: self-test of a run": (["gate", "selftest", "nvg-tinny"], "nvg-tinny"),
    "report: broken records": (["report", "--records", "{root}/broken.jsonl", "--out", "{root}/r.html"], "line 1"),
    "report: no records": (["report", "--records", "{root}/none.jsonl", "--out", "{root}/r.html"], "none.jsonl"),
    "report: baseline": (["report", "--records", "{root}/cost.jsonl", "--baseline", "{root}/none.json"], "none.json"),
    "report: rules": (
        ["report", "--records", "{root}/cost.jsonl", "--baseline", "{root}/b.json", "--rules", "{root}/rules.toml"],
        "did you mean 'relative'",
    ),
    "report: option": (["report", "--basline", "{root}/b.json"], "--baseline"),
    "report: no name": (["report", "--records", "{root}/cost.jsonl", "--out", ""], "not a file name"),
    "report: no run": (["report", "nobody", "--out", "{root}/r.html"], "nobody"),
}


MODEL = ("torn", "torn-tokenizer", "torn-state", "no-average", "torn-config", "edited", "torn-dataset")
TOKENIZER = ("torn-tokenizer", "torn-state", "no-average", "torn-config", "edited")
GENERATOR = ("torn", "torn-state", "no-average", "torn-config", "edited")
RECORDS = ("torn-records", "no-records")
READERS = {
    "train": (
        ["train", "nvg-tiny", *SMALL, "--runs", "damaged", "--name", "{run}"],
        ("torn-state", "torn-config", "edited", "torn-dataset"),
    ),
    "sample": (["sample", "damaged/{run}", "-n", "2"], MODEL),
    "eval": (["eval", "damaged/{run}", "-n", "20"], MODEL),
    "profile": (["profile", "damaged/{run}", "--repeats", "1"], MODEL),
    "ablate": (["ablate", "clusters", "damaged/{run}"], TOKENIZER),
    "export": (["export", "damaged/{run}", "--out", "x.ckpt"], GENERATOR),
    "compare": (["compare", "damaged/{run}", "nvg-tiny"], RECORDS),
    "gate": (["gate", "--baseline", "b.json", "--update", "damaged/{run}"], RECORDS),
    "gate selftest": (["gate", "selftest", "damaged/{run}"], RECORDS),
    "report": (["report", "damaged/{run}", "--out", "r.html"], RECORDS),
}
"""Commands that read runs, and the damages that each would stumble over."""

GATE = ["gate", "--baseline", "cost.json", "--records", "cost.jsonl"]
OUTPUTS = {
    "train": ["train", "nvg-tiny", *SMALL, "--runs", "{out}"],
    "data show": ["data", "show", "shapes", "--out", "{out}.png"],
    "sample": ["sample", "nvg-tiny", "-n", "2", "--out", "{out}.npz"],
    "sample's folder": ["sample", "nvg-tiny", "-n", "2", "--out", "{out}"],
    "sample's grid": ["sample", "nvg-tiny", "-n", "2", "--grid", "{out}.png"],
    "sample's trace": ["sample", "nvg-tiny", "-n", "2", "--trace", "{out}.png"],
    "eval": ["eval", "--samples", "plain.npz", "--reference", "plain.npz", "--extractor", "inception", "--runs", "{out}"],
    "profile": ["profile", "ar-tiny", "--repeats", "1", "--warmup", "0", "--batch-sizes", "1", "--runs", "{out}"],
    "ablate": ["ablate", "clusters", "nvg-tiny", "-n", "4", "--out", "{out}"],
    "export": ["export", "nvg-tiny", "--out", "{out}.ckpt"],
    "import": ["import", "generator.ckpt", "--tokenizer", "tokenizer.ckpt", "--preset", "nvg-tiny", "--runs", "{out}"],
    "gate's baseline": ["gate", "--update", "--records", "cost.jsonl", "--baseline", "{out}.json"],
    "gate's JSON": [*GATE, "--json", "{out}.json"],
    "gate's JUnit": [*GATE, "--junit", "{out}.xml"],
    "gate's Markdown": [*GATE, "--markdown", "{out}.md"],
    "gate cost": ["gate", "cost", "nvg-tiny", "--out", "{out}.jsonl"],
    "report": ["report", "--records", "cost.jsonl", "--out", "{out}.html"],
}
"""What every command writes that writes anything; presets, data list, lint, compare and verify do not."""


def _files(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.stat().st_size for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture
def refused(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], str]:
    """Run a command that must end with code 2, lose nothing and leave nothing half-written; returns its one line."""
    monkeypatch.chdir(runs)
    monkeypatch.delenv("NVGBENCH_IMAGENET", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.setenv("NVGBENCH_RUNS", str(runs / "runs"))

    def refuse(arguments: list[str]) -> str:
        before = _files(runs)
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            main(arguments)
        shown = capsys.readouterr()
        assert done.value.code == 2, shown
        lines = [line for line in shown.err.splitlines() if line.startswith("error:")]
        assert len(lines) == 1, shown.err
        assert shown.err.rstrip().endswith(lines[0]), "the error is the last word"
        assert "Traceback" not in shown.err
        after = _files(runs)
        assert {path: after.get(path) for path in before} == before
        assert not [path for path in after if path not in before and Path(path).name.startswith(".")], "leftovers"
        return lines[0]

    return refuse


@pytest.fixture
def quick_extractor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of networks whose weights would have to be here, or would be trained first."""
    for module in ("nvgbench.evaluation.scorer", "nvgbench.ablations.scoring"):
        monkeypatch.setattr(f"{module}.open_extractor", lambda *_, **__: Thumbnails(tmp_path / "diary", 0.0))


@pytest.mark.parametrize("case", CASES)
def test_bad_input_ends_with_code_2_and_one_line(case: str, runs: Path, refused: Callable[[list[str]], str]) -> None:
    arguments, said = CASES[case]
    arguments = [word.format(root=runs) for word in arguments]
    if arguments[0] == "train" and "--set" not in arguments:
        arguments += SMALL
    assert said in refused(arguments)


@pytest.mark.parametrize("phase", ["all", "tokenizer"])
@pytest.mark.parametrize(
    ("preset", "setting", "said"),
    [
        ("nvg-tiny", "model.head_size=18", "smallest head size that fits this grid is 20"),
        ("nvg-tiny", "model.head_size=19", "even numbers only"),
        ("nvg-tiny", "tokenizer.quantizer.group_size=16", "fewer than three stages"),
        ("nvg-tiny", "tokenizer.quantizer.group_size=3", "cannot be grouped by 3"),
        ("var-tiny", "tokenizer.quantizer.scales=[1,2,3]", "must rise from 1 or more to 4"),
        ("ar-tiny", "model.head_size=18", "multiple of 4"),
    ],
)
def test_a_model_that_cannot_be_built_is_refused_before_anything_is_trained(
    preset: str, setting: str, said: str, phase: str, runs: Path, refused: Callable[[list[str]], str]
) -> None:
    assert said in refused(["train", preset, *SMALL[:-2], "--name", "unfit", "--phase", phase, "--set", setting])
    assert not (runs / "runs" / "unfit").exists()


@pytest.mark.parametrize(
    ("command", "damage"), [(command, damage) for command, (_, damages) in READERS.items() for damage in damages]
)
def test_a_damaged_run(command: str, damage: str, refused: Callable[[list[str]], str]) -> None:
    said = refused([word.format(run=damage) for word in READERS[command][0]])
    if damage == "edited":
        assert "did you mean 'depth'" in said
        return
    assert f"damaged/{damage}/" in said
    assert any(word in said for word in ("is damaged", "not valid TOML", "broken line", "not UTF-8")), said


@pytest.mark.usefixtures("quick_extractor")
@pytest.mark.parametrize("output", OUTPUTS)
def test_a_full_disk(output: str, tmp_path: Path, refused: Callable[[list[str]], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What was to be written is named, and the remedy; what was there stays."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    said = refused([word.format(out=tmp_path / "new" / "x") for word in OUTPUTS[output]])
    assert "No space left on device; make room there" in said


@pytest.mark.usefixtures("quick_extractor")
@pytest.mark.parametrize("place", ["garbage.npz", "/proc"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_a_folder_that_cannot_be_written(output: str, place: str, refused: Callable[[list[str]], str]) -> None:
    """Inside a file, and where nobody may make files, not even root."""
    said = refused([word.format(out=f"{place}/x") for word in OUTPUTS[output]])
    assert place in said


QUIET = {
    "presets": ["presets"],
    "a preset": ["presets", "nvg-tiny"],
    "data list": ["data", "list"],
    "data check": ["data", "check", "npz:{root}/plain.npz"],
    "lint": ["lint", "{root}/plain.npz"],
    "compare": ["compare", "nvg-tiny", "nvg-tiny"],
    "help": ["train", "--help"],
}
"""What the other commands do that prints and writes nothing."""
RESULTS = {"compare": 2}
"""Exit codes, if not 0: there are no scores to compare."""


@pytest.mark.usefixtures("quick_extractor")
@pytest.mark.parametrize("command", OUTPUTS | QUIET)
def test_hostile_surroundings(command: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No home, cache and working folder read-only, ASCII output into a pipe that nobody reads: the work is done."""
    out = tmp_path / "new" / "x"
    files = {path.name: str(path) for path in runs.iterdir() if path.suffix in (".npz", ".json", ".jsonl", ".ckpt")}
    arguments = [files.get(word, word.format(out=out, root=runs)) for word in (OUTPUTS | QUIET)[command]]
    monkeypatch.setenv("NVGBENCH_RUNS", str(runs / "runs"))
    monkeypatch.setenv("NVGBENCH_CACHE", "/proc/cache")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(Path, "home", _no_home)
    monkeypatch.chdir("/proc")
    with unread_pipe("ascii") as stream:
        for name in ("stdout", "__stdout__", "stderr", "__stderr__"):
            monkeypatch.setattr(sys, name, stream)
        with pytest.raises(SystemExit) as done:
            main(arguments)
        monkeypatch.undo()
    assert done.value.code == RESULTS.get(command, 0)
    assert (command in QUIET) != any(out.parent.glob("x*"))


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


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
