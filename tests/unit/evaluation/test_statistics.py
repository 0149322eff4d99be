"""Files of statistics as references: FID from mu and sigma alone, what they cannot give, and moments of other images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from nvgbench.cli.app import build_app
from nvgbench.data.moments import Statistics, StoredMoments, read_statistics, write_statistics
from nvgbench.errors import InputError
from nvgbench.evaluation import evaluate, scorer
from nvgbench.evaluation.evaluate import Evaluator
from nvgbench.evaluation.options import EvaluationOptions
from nvgbench.evaluation.reference import Reference, open_reference
from nvgbench.evaluation.rules import adm
from nvgbench.evaluation.rules.adm import AdmRules, short_split
from nvgbench.evaluation.scores import ScoreSettings, evaluate_samples
from nvgbench.evaluation.statistics import check_moments, set_moments
from nvgbench.extractors.cache import FeatureCache
from nvgbench.results.missing import missing_scores
from nvgbench.results.schema import RunRecord
from tests.unit.evaluation.test_evaluate import Thumbnails, coloured, image_set, stub_run

CACHE = FeatureCache(None)
INCEPTION = Thumbnails("inception")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer, "open_extractor", lambda name, *_, **__: Thumbnails(name, 10))
    monkeypatch.setattr("nvgbench.evaluation.reconstructions.load_lpips", lambda device: (None, "LPIPS: not here"))
    monkeypatch.setattr(evaluate, "config_hash", lambda config: "0123456789abcdef")
    monkeypatch.setattr(evaluate, "changed_settings", lambda config: {})


def write_reference(path: Path, seed: int = 2, *, moments_of: int | None = None, images: bool = True) -> Path:
    """Images in an npz with the statistics of a set of ``moments_of``'s seed; its own if None."""
    own = set_moments(image_set(50, seed if moments_of is None else moments_of), INCEPTION, cache=CACHE).moments
    assert own is not None
    pixels = {"arr_0": coloured(50, seed)[0].permute(0, 2, 3, 1).numpy()} if images else {}
    np.savez(path, **pixels, mu=own.mean_D, sigma=own.covariance_DD)
    return path


def write_samples(path: Path) -> Path:
    images, labels = coloured(60, 1)
    np.savez(path, arr_0=images.permute(0, 2, 3, 1).numpy(), arr_1=labels)
    return path


def scored(root: Path, reference: Path, **options: Any) -> RunRecord:
    defaults = {"extractor": "inception", "reference": str(reference)}
    samples = write_samples(root / "theirs.npz")
    record = Evaluator(root, EvaluationOptions(**(defaults | options))).files(samples)
    assert record is not None
    return record


@pytest.mark.usefixtures("offline")
def test_statistics_give_the_fid_of_their_images_and_say_what_they_cannot(tmp_path: Path) -> None:
    alone = scored(tmp_path, write_reference(tmp_path / "alone.npz", images=False))
    beside = scored(tmp_path, write_reference(tmp_path / "beside.npz"))
    values = {metric.name: metric for metric in alone.metrics}
    assert values.keys() == {"FID", "IS", "Vendi"}
    assert values["FID"].value == pytest.approx(beside.metrics[0].value, rel=1e-12)
    assert values["FID"].n_reference is None, "nobody knows how many images are behind them"
    assert "moments stored" in values["FID"].note
    missing = missing_scores(alone)
    neighbours = {"precision", "recall", "density", "coverage", "clipped-density", "clipped-coverage"}
    assert missing.keys() == {"KID", "KID-RBF", "MIND"} | neighbours
    assert set(missing.values()) == {"the reference alone.npz holds statistics and no images"}
    assert not missing_scores(beside)
    assert alone.provenance["reference"]["stored_moments"]
    assert [artifact.kind for artifact in alone.artifacts] == ["samples"]


@pytest.mark.usefixtures("offline")
def test_a_run_is_scored_against_statistics_too(tmp_path: Path) -> None:
    path = write_reference(tmp_path / "stats.npz", images=False)
    options = EvaluationOptions(n=40, extractor="inception", reference=str(path))
    record = Evaluator(tmp_path, options).run(stub_run(tmp_path))
    assert record is not None
    assert {"FID", "IS", "rFID", "PSNR"} <= {metric.name for metric in record.metrics}
    assert missing_scores(record).keys() >= {"KID", "LPIPS"}, "reasons of samples and of reconstructions"


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"extractor": "classifier"}, "holds statistics of Inception features and no images, got `extractor='classifier'`"),
        ({"protocol": "clean-fid"}, "which the protocol clean-fid needs"),
        ({"metrics": ("KID",)}, "no images, which KID takes; ask for FID or IS"),
        ({"per_class": True}, "per-class scores need labels"),
    ],
)
def test_what_statistics_cannot_give_is_refused_before_anything_is_extracted(
    tmp_path: Path, options: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorer, "open_extractor", lambda *_, **__: pytest.fail("opened the extractor"))
    path = write_reference(tmp_path / "stats.npz", images=False)
    with pytest.raises(InputError, match=said):
        scored(tmp_path, path, **options)


def test_spatial_statistics_give_sfid_by_adm_s_rules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(adm, "split_features", lambda features_NF: (features_NF[:, :9], features_NF[:, 9:]))
    moments = set_moments(image_set(50, 2), INCEPTION, cache=CACHE).moments
    assert moments is not None

    def part(chosen: slice) -> StoredMoments:
        return StoredMoments(moments.mean_D[chosen], moments.covariance_DD[chosen, chosen])

    path = tmp_path / "adm.npz"
    write_statistics(path, Statistics(moments=part(slice(9)), spatial_moments=part(slice(9, 12)), count=50))

    def scores(reference: Reference) -> dict[str, float]:
        settings = ScoreSettings(protocol="adm")
        found = evaluate_samples(image_set(60, 1), reference, INCEPTION, settings, cache=CACHE, rules=AdmRules())
        return {name: float(value) for name, value in found.items()}

    alone, images = scores(open_reference(str(path), 16)), scores(Reference(image_set(50, 2)))
    assert alone.keys() == {"FID", "sFID", "IS", "IS-shuffled"}
    for name in alone:  # the evaluator's own moments are float32
        assert alone[name] == pytest.approx(images[name], rel=1e-4)


def test_moments_of_other_images_are_found_by_a_few_of_them() -> None:
    images, other = image_set(400, 2), image_set(400, 9)
    own = set_moments(images, INCEPTION, cache=CACHE).moments
    theirs = set_moments(other, INCEPTION, cache=CACHE).moments
    assert own is not None
    assert theirs is not None
    asked = {"pool": None, "cache": CACHE}
    assert check_moments(images, own, INCEPTION, **asked) == []
    assert check_moments(images, theirs, INCEPTION, **asked) == [], "another draw of the same distribution"
    moved = StoredMoments(own.mean_D + 0.5, own.covariance_DD)
    with pytest.raises(InputError, match="statistics stored in set 2 are not those of its images"):
        check_moments(images, moved, INCEPTION, **asked)
    (finding,) = check_moments(images, moved, INCEPTION, force=True, **asked)
    assert finding.severity == "forced"
    with pytest.raises(InputError, match="the stored mean has 5 features, inception 12"):
        check_moments(images, StoredMoments(np.zeros(5), np.eye(5)), INCEPTION, **asked)
    point = StoredMoments(own.mean_D + 1, np.zeros((12, 12)))
    with pytest.raises(InputError, match="inf times"):
        check_moments(images, point, INCEPTION, **asked)


@pytest.mark.usefixtures("offline")
def test_wrong_moments_beside_images_stop_an_evaluation_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_reference(tmp_path / "wrong.npz")
    with np.load(path) as archive:
        content = dict(archive)
    np.savez(path, **(content | {"mu": content["mu"] + 1}))
    monkeypatch.setattr(Evaluator, "_fill", lambda *_: pytest.fail("extracted all features"))
    with pytest.raises(InputError, match=r"wrong.npz are not those of its images"):
        scored(tmp_path, path)


def test_statistics_survive_the_way_to_disk(tmp_path: Path) -> None:
    written = set_moments(image_set(50, 2), INCEPTION, cache=CACHE)
    read = read_statistics(write_statistics(tmp_path / "s.npz", written))
    assert read is not None
    assert read.moments is not None
    assert written.moments is not None
    features_ND = INCEPTION(coloured(50, 2)[0])[0].numpy()
    np.testing.assert_allclose(read.moments.mean_D, features_ND.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(read.moments.covariance_DD, np.cov(features_ND, rowvar=False), rtol=1e-5, atol=1e-9)
    assert read.count == 50
    with pytest.raises(InputError, match="1 image has no covariance"):
        set_moments(image_set(1, 2), INCEPTION, cache=CACHE)


def test_a_short_last_split_is_warned_of() -> None:
    """A mean over splits in which 192 images count as much as 5,000 lowers IS: 830 instead of 914 at n = 40,192."""
    assert [short_split(n) for n in (12, 4999, 5000, 50_000)] == [""] * 4
    assert "8 splits of 5,000 and a last one of 192" in short_split(40_192)
    logits = torch.nn.functional.one_hot(torch.arange(10_050) % 1000, 1000).float().numpy() * 100
    found = adm._inception(logits, "in the order given")
    assert found.value == pytest.approx((1000 + 1000 + 50) / 3, rel=1e-6)
    assert "; 1000 without the last split, of 50 images" in found.note


def test_the_command_writes_what_a_reference_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvgbench.evaluation.statistics.open_extractor", lambda *_, **__: INCEPTION)
    samples, runs = write_samples(tmp_path / "theirs.npz"), ["--runs", str(tmp_path), "--device", "cpu"]
    out = tmp_path / "stats.npz"
    done = CliRunner().invoke(build_app(), ["stats", str(samples), "--out", str(out), *runs], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "statistics of 60 images of 16 px" in done.output
    reference = open_reference(str(out), 16)
    assert reference.statistics_only
    assert reference.count == 60
    scores = evaluate_samples(image_set(60, 1), reference, INCEPTION, ScoreSettings(metrics=("FID",)), cache=CACHE)
    assert scores["FID"].value == pytest.approx(0, abs=1e-6)
    with pytest.raises(InputError, match=r"does not end in .npz"):
        CliRunner().invoke(build_app(), ["stats", "absent", "--out", "x.pt", *runs], catch_exceptions=False)
