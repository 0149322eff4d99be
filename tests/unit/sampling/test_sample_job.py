"""Sampling jobs: the same images however they are cut into batches, and nothing finished is done again."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nvgbench.errors import InputError
from nvgbench.evaluation.subjects import read_origin
from nvgbench.sampling import export
from nvgbench.sampling.job import finished_ranges, image_seed, job_labels, sample_job
from nvgbench.sampling.pictures import structure_colours, trace_strip
from nvgbench.types import ModelSpec, SampleRequest, SampleResult, StageTrace


class SeedPainter:
    """A generator whose image is a pure function of seed and label; it fails after a given number of images."""

    def __init__(self, num_classes: int = 5, fail_after: int | None = None) -> None:
        self.spec = ModelSpec(name="painter", family="external", image_size=4, num_classes=num_classes)
        self.fail_after = fail_after
        self.made = 0

    def generate(self, request: SampleRequest) -> SampleResult:
        if self.fail_after is not None and self.made >= self.fail_after:
            raise KeyboardInterrupt
        self.made += len(request.labels_B)
        value = (request.seeds_B * 31 + request.labels_B * 7) % 251
        return SampleResult(value.to(torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4))


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path) as archive:
        return archive["arr_0"], archive["arr_1"]


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 40), first=st.integers(1, 9), second=st.integers(1, 9), stop=st.integers(0, 40))
def test_an_interrupted_job_equals_an_uninterrupted_one(
    tmp_path_factory: pytest.TempPathFactory, n: int, first: int, second: int, stop: int
) -> None:
    whole = _read(sample_job(SeedPainter(), n, tmp_path_factory.mktemp("whole"), batch_size=7))
    folder = tmp_path_factory.mktemp("cut")
    broken = SeedPainter(fail_after=stop)
    with contextlib.suppress(KeyboardInterrupt):
        sample_job(broken, n, folder, batch_size=first)
    resumed = SeedPainter()
    images, labels = _read(sample_job(resumed, n, folder, batch_size=second))
    assert broken.made + resumed.made == n  # nothing finished was drawn again
    np.testing.assert_array_equal(images, whole[0])
    np.testing.assert_array_equal(labels, whole[1])


def test_samples_carry_what_they_come_from(tmp_path: Path) -> None:
    painter = SeedPainter()
    model = {"run": "r", "step": 11, "finished": False, "weights": "a" * 64, "dataset": "imagefolder:/home/someone/images"}
    painter.spec = dataclasses.replace(painter.spec, provenance=model)
    path = sample_job(painter, 4, tmp_path, seed=2, settings={"top_k": 3})
    origin = read_origin(path)
    assert "dataset" not in origin["model"], "it may name a folder of this machine"
    assert origin["model"].items() >= {"name": "painter", "step": 11, "finished": False, "weights": "a" * 64}.items()
    assert (origin["seed"], origin["settings"]) == (2, {"top_k": 3})
    # Entries that only describe the weights do not make it another job.
    painter.spec = dataclasses.replace(painter.spec, provenance=model | {"total_steps": 600, "weights_kind": "averaged"})
    assert sample_job(painter, 4, tmp_path, seed=2, settings={"top_k": 3}) == path


def test_files_of_others_have_no_origin(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", arr_0=np.zeros((1, 4, 4, 3), np.uint8), provenance=np.array("not JSON"))
    np.savez(tmp_path / "b.npz", arr_0=np.zeros((1, 4, 4, 3), np.uint8), provenance=np.arange(3))
    np.save(tmp_path / "c.npy", np.zeros((1, 4, 4, 3), np.uint8))
    assert [read_origin(tmp_path / name) for name in ("a.npz", "b.npz", "c.npy", ".")] == [{}] * 4


def test_the_npz_is_what_evaluators_expect(tmp_path: Path) -> None:
    images, labels = _read(sample_job(SeedPainter(), 11, tmp_path, batch_size=4, seed=3))
    assert images.dtype == np.uint8
    assert images.shape == (11, 4, 4, 3)
    np.testing.assert_array_equal(labels, np.arange(11) % 5)
    expected = [(image_seed(3, i) * 31 + (i % 5) * 7) % 251 for i in range(11)]
    np.testing.assert_array_equal(images[:, 0, 0, 0], expected)


def test_asking_for_more_images_goes_on(tmp_path: Path) -> None:
    sample_job(SeedPainter(), 10, tmp_path)
    more = SeedPainter()
    images, _ = _read(sample_job(more, 25, tmp_path))
    assert more.made == 15
    assert len(images) == 25


def test_other_settings_seeds_and_classes_are_other_jobs(tmp_path: Path) -> None:
    base = sample_job(SeedPainter(), 5, tmp_path)
    others = [
        sample_job(SeedPainter(), 5, tmp_path, seed=1),
        sample_job(SeedPainter(), 5, tmp_path, settings={"top_k": 3}),
        sample_job(SeedPainter(), 5, tmp_path, classes=[2]),
    ]
    assert len({path.parent for path in [base, *others]}) == 4


def test_progress_counts_what_was_there_already(tmp_path: Path) -> None:
    sample_job(SeedPainter(), 4, tmp_path, batch_size=4)
    seen: list[tuple[int, int]] = []
    sample_job(SeedPainter(), 10, tmp_path, batch_size=4, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 10), (8, 10), (10, 10)]


@pytest.mark.parametrize(
    ("n", "classes", "seed", "said"),
    [(0, None, 0, "at least 1"), (3, [6], 0, "class 6"), (3, [], 0, "class"), (3, None, -1, "seed")],
)
def test_bad_requests_say_what_is_wrong(tmp_path: Path, n: int, classes: list[int] | None, seed: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        sample_job(SeedPainter(), n, tmp_path, classes=classes, seed=seed)


def test_finished_ranges_ignore_overlaps_and_strangers(tmp_path: Path) -> None:
    for name in ("images-000000000-000000004.npy", "images-000000002-000000006.npy", "images-9.npy", "notes.npy"):
        (tmp_path / name).touch()
    assert finished_ranges(tmp_path, 5) == [(0, 4), (4, 5)]


def test_labels_are_never_in_blocks() -> None:
    np.testing.assert_array_equal(job_labels(3, 8, [4, 9]), [9, 4, 9, 4, 9])


def test_export_to_npz_and_png(tmp_path: Path) -> None:
    made = sample_job(SeedPainter(), 6, tmp_path / "runs")
    copy = export.place(made, tmp_path / "out" / "x.npz")
    np.testing.assert_array_equal(_read(copy)[0], _read(made)[0])
    folder = export.place(made, tmp_path / "pngs")
    assert sorted(path.name for path in folder.iterdir())[:2] == ["000000_class0000.png", "000001_class0001.png"]
    assert export.write_grid(made, tmp_path / "grid.png", 5).stat().st_size > 0


def test_a_folder_of_other_images_is_not_mixed_with_samples(tmp_path: Path) -> None:
    first, more = (sample_job(SeedPainter(), n, tmp_path / "runs") for n in (4, 6))
    other = sample_job(SeedPainter(), 4, tmp_path / "runs", seed=1)
    folder = export.place(first, tmp_path / "pngs")
    (folder / ".000005_class0000.png.half.png").touch()  # left by a killed process
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    with pytest.raises(InputError, match=r"000000_class0000\.png belongs to another job"):
        export.place(other, folder)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    export.place(more, folder)
    assert len(list(folder.glob("0*.png"))) == 6
    with pytest.raises(InputError, match=r"holds other images \(00000[45]_class"):
        export.place(first, folder)


def test_a_damaged_part_is_named_with_a_remedy(tmp_path: Path) -> None:
    made = sample_job(SeedPainter(), 6, tmp_path, batch_size=2)
    whole = made.read_bytes()
    made.unlink()
    part = next(tmp_path.rglob("images-000000002-*.npy"))
    part.write_bytes(part.read_bytes()[:200])
    (part.parent / ".samples-6.npz.x.npz").touch()  # left by a killed process
    with pytest.raises(InputError, match=f"{part.name} is damaged .*; remove it, and the same call draws its 2 images again"):
        sample_job(SeedPainter(), 6, tmp_path, batch_size=2)
    part.unlink()
    assert sample_job(SeedPainter(), 6, tmp_path, batch_size=2).read_bytes() == whole
    assert not list(tmp_path.rglob(".*"))


def test_settings_are_values_not_text() -> None:
    assert export.parse_settings(["top_k=5", "sampling.top_p=[1.0, 0.5]"]) == {"top_k": 5, "top_p": [1.0, 0.5]}
    with pytest.raises(InputError, match="key=value"):
        export.parse_settings(["top_k"])


def test_trace_strip_draws_every_stage(tmp_path: Path) -> None:
    from PIL import Image

    canvas = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    stages = tuple(StageTrace(2**i, canvas, torch.zeros(2, 4, 4, dtype=torch.int64)) for i in range(5))
    path = trace_strip(SampleResult(canvas, stages), tmp_path / "trace.png", side=16)
    with Image.open(path) as picture:
        assert picture.size == (5 * 20 + 4, 16 + 2 * (2 * 20 + 4))
    with pytest.raises(InputError, match="trace"):
        trace_strip(SampleResult(canvas), tmp_path / "none.png")


@pytest.mark.parametrize("tokens", [1, 2, 16, 256])
def test_structure_colours_are_distinct(tokens: int) -> None:
    assert len({tuple(colour) for colour in structure_colours(tokens)}) == tokens
