"""Statistics files of the field: read by their keys, checked, written."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from nvgbench.data.moments import Statistics, StoredMoments, read_statistics, write_statistics
from nvgbench.errors import InputError

FEATURES = np.random.default_rng(0).standard_normal((40, 6)) * 3 + 1
MEAN, COVARIANCE = FEATURES.mean(axis=0), np.cov(FEATURES, rowvar=False)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_files_of_other_evaluators(tmp_path: Path, dtype: type) -> None:
    """pytorch-fid, TTUR, clean-fid and MAR write mu and sigma; ADM mu_s and sigma_s too, with images beside them."""
    mean, covariance = MEAN.astype(dtype), COVARIANCE.astype(dtype)
    np.savez(tmp_path / "a.npz", mu=mean, sigma=covariance)
    np.savez_compressed(tmp_path / "b.npz", sigma=covariance, mu=mean, n=np.array(40))
    np.savez(
        tmp_path / "c.npz", arr_0=np.zeros((3, 8, 8, 3), np.uint8), mu=mean, sigma=covariance, mu_s=mean[:4], sigma_s=np.eye(4)
    )
    torch.save({"mu": mean, "sigma": covariance}, tmp_path / "d.pt")
    torch.save({"mu": torch.from_numpy(mean), "sigma": torch.from_numpy(covariance)}, tmp_path / "e.pt")
    for name in ("a.npz", "b.npz", "c.npz", "d.pt", "e.pt"):
        found = read_statistics(tmp_path / name)
        assert found is not None
        assert found.moments is not None
        np.testing.assert_array_equal(found.moments.mean_D, mean)
        np.testing.assert_array_equal(found.moments.covariance_DD, covariance)
        assert found.moments.covariance_DD.dtype == np.float64
        assert found.count == (40 if name == "b.npz" else None)
        assert (found.spatial_moments is not None) == (name == "c.npz")


def test_files_without_statistics(tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", np.zeros((3, 8, 8, 3), np.uint8))
    np.savez(tmp_path / "half.npz", mu=MEAN)
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "text.npz").write_text("hello")
    for path in (tmp_path, *tmp_path.iterdir()):
        assert read_statistics(path) is None


@pytest.mark.parametrize(
    ("mean", "covariance", "said"),
    [
        (MEAN[:5], COVARIANCE, r"mu and sigma have shapes \(5,\) and \(6, 6\); expected \[D\] and \[D, D\]"),
        (MEAN, COVARIANCE[:5], "have shapes"),
        (MEAN[None], COVARIANCE, "have shapes"),
        (MEAN[:0], COVARIANCE[:0, :0], "have shapes"),
        (MEAN.astype(str), COVARIANCE, "expected floats"),
        (MEAN, COVARIANCE.astype(complex), "expected floats"),
        (MEAN, COVARIANCE.astype(object), "expected floats"),
        (np.where(MEAN > 1, np.nan, MEAN), COVARIANCE, "not finite"),
        (MEAN, COVARIANCE * np.inf, "not finite"),
        (MEAN, COVARIANCE + np.triu(np.ones((6, 6)), 1), "sigma is not symmetric"),
        (MEAN, -COVARIANCE, "sigma has negative eigenvalues"),
        (MEAN, COVARIANCE - 9 * np.eye(6), "sigma has negative eigenvalues"),
    ],
)
def test_what_is_no_mean_and_covariance_is_refused(tmp_path: Path, mean, covariance, said: str) -> None:
    np.savez(tmp_path / "x.npz", mu=mean, sigma=covariance)
    with pytest.raises(InputError, match=rf"x\.npz: .*{said}"):
        read_statistics(tmp_path / "x.npz")


def test_singular_covariances_are_read(tmp_path: Path) -> None:
    """Of fewer images than features, and of identical images; eigenvalues are 0 up to rounding, also that of float32."""
    few = np.random.default_rng(1).standard_normal((5, 300)).astype(np.float32) * 10
    for features in (few, np.repeat(few[:1], 5, axis=0)):
        covariance = np.cov(features, rowvar=False).astype(np.float32)
        np.savez(tmp_path / "x.npz", mu=features.mean(axis=0), sigma=covariance)
        assert read_statistics(tmp_path / "x.npz") is not None


def test_written_statistics_are_read_back(tmp_path: Path) -> None:
    moments = StoredMoments(MEAN, COVARIANCE)
    path = write_statistics(tmp_path / "x.npz", Statistics(moments=moments, spatial_moments=moments, count=40))
    with np.load(path) as archive:
        assert set(archive.files) == {"mu", "sigma", "mu_s", "sigma_s", "n"}
        np.testing.assert_array_equal(archive["sigma"], COVARIANCE)
    found = read_statistics(path)
    assert found is not None
    assert found.count == 40
    for wrong in (Statistics(), Statistics(moments=StoredMoments(MEAN, -COVARIANCE))):
        with pytest.raises(InputError):
            write_statistics(tmp_path / "y.npz", wrong)
    with pytest.raises(InputError, match=r"does not end in \.npz"):
        write_statistics(tmp_path / "y.pt", Statistics(moments=moments))
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


def test_no_code_of_a_file_is_run(tmp_path: Path) -> None:
    class Malice:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "run",)

    torch.save({"mu": Malice(), "sigma": MEAN}, tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"x\.pt is damaged") as caught:
        read_statistics(tmp_path / "x.pt")
    assert "\n" not in str(caught.value)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"mu": Malice()}))
    assert read_statistics(tmp_path / "x.pkl") is None
    assert not (tmp_path / "run").exists()
