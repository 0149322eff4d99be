"""References given by name: files with stored moments, data sources, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nvgbench.data.image_set import open_images
from nvgbench.errors import InputError
from nvgbench.evaluation.lint.inspection import inspect
from nvgbench.evaluation.reference import open_reference

PIXELS = np.random.default_rng(0).integers(0, 256, (23, 16, 16, 3), dtype=np.uint8)


def test_references(tmp_path: Path) -> None:
    path = tmp_path / "ref.npz"
    np.savez(path, arr_0=PIXELS, mu=np.zeros(4), sigma=np.eye(4))
    reference = open_reference(str(path), 16)
    assert reference.moments is not None
    assert reference.moments.covariance_DD.shape == (4, 4)
    with pytest.raises(InputError, match="samples have 32 px"):
        open_reference(str(path), 32)
    with pytest.raises(InputError, match="neither a file or folder nor a data source"):
        open_reference("cifra10", 32)
    assert open_reference("shapes", 16).images.count == 2048


def test_remarks_of_both_sides_are_findings(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, arr_0=PIXELS, arr_1=np.full(23, 0.5))
    found = inspect(open_images(path), None, dimension=8)
    assert [finding.check for finding in found if "x.npz are float64" in finding.message] == ["labels"]
    found = inspect(open_images(PIXELS), open_reference(str(path), 16), dimension=8)
    assert "labels" in [finding.check for finding in found]


def test_stored_moments_are_of_the_images_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, arr_0=PIXELS, mu=np.zeros(4), sigma=np.eye(4))
    assert open_reference(str(path), 16, resize=16, crop="center").moments is not None
    smaller = open_reference(str(path), 8, resize=8, crop="center")
    assert smaller.images.image_size == 8
    assert smaller.moments is None
