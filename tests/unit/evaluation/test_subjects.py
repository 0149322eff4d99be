"""What samples are called, and that two sets never share a name unnoticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nvgbench.data.image_set import ImageSet, open_images
from nvgbench.errors import InputError
from nvgbench.evaluation.subjects import check_subject, set_fingerprint, subject_name
from nvgbench.extractors.cache import FeatureCache
from nvgbench.results.grouping import replicate_of, training_groups
from nvgbench.results.schema import RunRecord
from nvgbench.runs.folder import CONFIG
from nvgbench.types import Interval, MetricValue


def images(seed: int) -> ImageSet:
    return open_images(np.random.default_rng(seed).integers(0, 256, (7, 8, 8, 3), dtype=np.uint8))


def record(subject: str, seed: int, **extra: object) -> RunRecord:
    samples = {"name": subject, "n": 7, "fingerprint": set_fingerprint(images(seed)), **extra}
    metric = MetricValue(name="FID", value=3.0 + seed, n=7, interval=Interval(2, 9, 0.95, "sampling", "jackknife"))
    return RunRecord(kind="eval", subject=subject, family="external", metrics=(metric,), provenance={"samples": samples})


@pytest.mark.parametrize(
    ("path", "is_folder", "name"),
    [
        ("GPT-B-c2i-cfg-1.5-seed-0", True, "GPT-B-c2i-cfg-1.5-seed-0"),
        ("cfg-1.5.npz", True, "cfg-1.5.npz"),
        ("cfg-1.5.npz", False, "cfg-1.5"),
        ("cfg-1.75", False, "cfg-1.75"),
        ("x.NPY", False, "x"),
        ("x.zip", False, "x"),
        (".hidden.d", True, ".hidden.d"),
    ],
)
def test_a_name_is_whole(tmp_path: Path, path: str, is_folder: bool, name: str) -> None:
    if is_folder:
        (tmp_path / path).mkdir()
    assert subject_name(tmp_path / path) == name


def test_the_current_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert subject_name(".") == tmp_path.name


def test_other_images_of_a_known_name_are_refused_unless_the_name_is_chosen(tmp_path: Path) -> None:
    known = [record("x", 0)]
    assert check_subject("x", images(0), known, tmp_path, chosen=False) == ""
    assert check_subject("y", images(1), known, tmp_path, chosen=False) == ""
    with pytest.raises(InputError, match=r"other images called 'x' .* `name=`, or `name='x'` to replace them"):
        check_subject("x", images(1), known, tmp_path, chosen=False)
    assert "replace" in check_subject("x", images(1), known, tmp_path, chosen=True)
    # The newest counts: once replaced, the replacement has the name.
    assert check_subject("x", images(1), [*known, record("x", 1)], tmp_path, chosen=False) == ""


def test_the_same_files_at_another_size_are_no_collision(tmp_path: Path) -> None:
    assert check_subject("x", images(1), [record("x", 0, fit="to 16x16 px (bicubic)")], tmp_path, chosen=False) == ""


def test_samples_do_not_take_the_name_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "nvg-tiny").mkdir()
    (tmp_path / "nvg-tiny" / CONFIG).touch()
    with pytest.raises(InputError, match=r"'nvg-tiny' is the name of a run .* `name='nvg-tiny-samples'`"):
        check_subject("nvg-tiny", images(0), [], tmp_path, chosen=True)


def test_the_fingerprint_is_that_of_the_features() -> None:
    chosen = images(3)
    extractor: Any = lambda batch: (torch.zeros(len(batch), 2), torch.zeros(len(batch), 0))  # noqa: E731
    features = FeatureCache(None).extract(chosen.chunks(), extractor)
    assert set_fingerprint(chosen) == features.fingerprint


def test_files_called_like_trainings_are_none() -> None:
    """The suffix of 'train --seeds' makes no training of a file, even if its record claims to be of one."""
    named = [record(f"x-seed{seed}", seed) for seed in range(3)]
    claimed = [
        RunRecord(
            kind="eval",
            subject=one.subject,
            family="external",
            metrics=one.metrics,
            provenance={**one.provenance, "replicate": {"of": "a" * 16, "seed": seed, "name": "x"}},
        )
        for seed, one in enumerate(named)
    ]
    assert training_groups(named) == []
    assert training_groups(claimed) == []
    assert replicate_of(claimed[0]) is None
