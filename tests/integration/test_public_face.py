"""The package as a notebook uses it: every public name, from features to a comparison and from a training to a report."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import nvgbench as nb
from tests.helpers.training_jobs import small_settings


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        nb.train("nvg-tiny", set=small_settings("nvg") | {"train.seed": seed}, name=f"nvg{seed}", runs=folder, device="cpu")
    return folder


@pytest.fixture(scope="module")
def run(runs: Path) -> nb.Run:
    return nb.load_run("nvg0", runs=runs, device="cpu")


class Thumbnails:
    """In place of an extractor whose weights would have to be here or trained: 2 x 2 thumbnails, and logits of brightness."""

    name, fingerprint = "thumbnails", "t" * 64
    provenance: dict = {}  # noqa: RUF012 - as an extractor has it

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        small = torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 2)
        return small.flatten(1), 10 * small.mean(dim=(2, 3))


def test_the_package_imports_nothing_before_it_is_used() -> None:
    code = "import sys, nvgbench; print(sorted({'torch', 'numpy', 'pydantic', 'pandas', 'scipy', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_exists_and_is_documented() -> None:
    for name in nb.__all__:
        found = getattr(nb, name)
        assert inspect.getdoc(found), name
        if inspect.isfunction(found):
            assert "Args:" in found.__doc__, name
    assert set(nb.__all__) <= set(dir(nb))
    with pytest.raises(AttributeError, match="no attribute 'fld'"):
        _ = nb.fld


def test_from_features_to_a_comparison() -> None:
    x, y = np.random.default_rng(0).standard_normal((2, 300, 8)).astype(np.float32)
    value = nb.fid(x, y)
    assert (value.name, value.n, value.n_reference) == ("FD[features]", 300, 300)
    assert value.interval.low < float(value) < value.interval.high
    assert nb.fid(x, y, extractor="inception").name == "FID"
    assert float(nb.fid(torch.from_numpy(x), torch.from_numpy(y))) == float(value)
    scores = nb.score(x, y, metrics=["FID", "recall", "kernel"], name="a")
    assert list(scores) == ["FD[features]", "recall[features]", "KD[features]"]
    assert scores["FID"] == scores["FD[features]"]
    assert list(scores.to_frame().index) == list(scores)
    assert "<table" in scores._repr_html_()
    other = nb.score(1.1 * x, y, name="b")  # the same noise, a little wider
    worse = nb.compare(scores, other, paired=True)
    assert worse.verdict == "worse"
    assert worse.difference == pytest.approx(other["FID"].value - float(value))
    assert worse.interval.low > 0
    apart = nb.compare(scores, other)
    assert worse.interval.high - worse.interval.low < apart.interval.high - apart.interval.low


def test_what_features_do_not_allow_is_said_in_the_librarys_words() -> None:
    x = np.zeros((50, 4), np.float32)
    images = np.zeros((8, 16, 16, 3), np.uint8)
    for call, message in (
        (lambda: nb.score(x, images), "give them as `reference=`"),
        (lambda: nb.score(x, x, metrics=["IS"]), "IS cannot be computed from what was given"),
        (lambda: nb.score(x, x, metrics=["FIB"]), "no metric or score 'FIB' .*did you mean 'FID'"),
        (lambda: nb.score(x, x, protocol="adm"), "`protocol='adm'`"),
        (lambda: nb.fid(x[:2], x), "samples: 2 images are too few; use at least 3"),
        (lambda: nb.score(images), "give one with `reference=`"),
        (lambda: nb.score(images, images, extractor="classifier"), "as `reference=`"),
        (lambda: nb.load_run("nothing", runs="nowhere"), "no run 'nothing'"),
        (lambda: nb.profile("nvg-tyni"), "did you mean 'nvg-tiny'"),
        (lambda: nb.ablate("clutsers", []), "did you mean 'clusters'"),
        (lambda: nb.build_structure(torch.zeros(3)), r"expected \[B, L, C\]"),
    ):
        with pytest.raises(nb.InputError, match=message) as raised:
            call()
        assert " --" not in str(raised.value)
        assert "\n" not in str(raised.value)


def test_a_run_gives_pictures(run: nb.Run) -> None:
    samples = run.sample(n=6, classes=["star", 3], seed=1, trace=True, batch_size=4, top_k=5)
    assert samples.images.shape == (6, 16, 16, 3)
    assert samples.images.dtype == np.uint8
    names = [run.classes[label] for label in samples.labels]
    assert names[:3] == ["one star", "several stars", run.classes[3]]
    assert np.array_equal(samples.images[:3], run.sample(n=3, classes=["star", 3], seed=1, top_k=5).images)
    assert not np.array_equal(samples.images, run.sample(n=6, classes=["star", 3], seed=2, top_k=5).images)
    assert [image.size for image in samples.pil()] == [(16, 16)] * 6
    assert isinstance(samples.grid(captions=True), Image.Image)
    assert samples._repr_png_().startswith(b"\x89PNG")
    assert len(samples.trace) == 5
    assert samples.stages().width > samples.stages(images=1).height
    with pytest.raises(nb.InputError, match="no class 'stra'"):
        run.sample(classes=["stra"])


def test_a_tokenizer_works_on_images(run: nb.Run) -> None:
    images = run.sample(n=3).images
    tokens = run.tokenizer.encode(images)
    again = run.tokenizer.decode(tokens)
    assert again.shape == images.shape
    assert again.dtype == np.uint8
    maps = run.structure_maps(images)
    assert maps.shape == (3, 5, 4, 4)
    assert np.array_equal(maps[:, 1], maps[:, 2] // 2)
    assert sorted(maps[0, -1].ravel()) == list(range(16))
    with pytest.raises(nb.InputError, match="expected uint8"):
        run.tokenizer.encode(images.astype(np.float32))


def test_runs_and_images_are_scored(runs: Path, run: nb.Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("nvgbench.api.scoring.open_extractor", lambda *_, **__: Thumbnails())
    first = nb.score("nvg0", n=40, runs=runs, device="cpu", cache=tmp_path)
    assert first.subject == "nvg0"
    assert first["FID"].name == "FD[thumbnails]"
    assert first.provenance["seeds"] == {"sampling": 0}
    assert first.record.kind == "eval"
    second = nb.score(nb.load_run(runs / "nvg1", device="cpu").sample(n=40), n=40, runs=runs, device="cpu")
    assert nb.compare(first, second, device="cpu")["FD[thumbnails]"].paired
    images = run.sample(n=40).images
    path = tmp_path / "theirs.npz"
    np.savez(path, arr_0=images)
    by_array, by_file = nb.score(images, "shapes", device="cpu"), nb.score(path, "shapes", device="cpu")
    assert by_array["FID"].value == by_file["FID"].value
    assert "sampling" not in by_file.provenance["seeds"]
    assert nb.inception_score(images, device="cpu").n == 40


def test_work_leaves_records_that_reports_and_gates_read(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvgbench.ablations.scoring.open_extractor", lambda *_, **__: Thumbnails())
    record = nb.profile("nvg0", batch_sizes=[1, 2], repeats=1, warmup=0, runs=runs, device="cpu", set={"flow_steps": 2})
    assert record.kind == "profile"
    assert record.subject == "nvg0"
    study = nb.ablate("clusters", [runs / "nvg0", runs / "nvg1"], images=8, device="cpu")
    assert study.kind == "ablation"
    found = nb.records(runs)
    assert {one.subject for one in found} == {"nvg0", "nvg1"}
    assert len(nb.records("nvg0", runs=runs)) == 1
    frame = found.to_frame()
    assert set(frame["kind"]) == {"train"}
    page = nb.report(runs, out=tmp_path / "page.html")
    assert page.read_text().startswith("<!doctype html>")
    from nvgbench.gates.baseline import update_baseline

    update_baseline(tmp_path / "baseline.json", [record])
    result = nb.gate(tmp_path / "baseline.json", [record])
    assert result.passed
    assert len(result.to_frame()) == len(result)
