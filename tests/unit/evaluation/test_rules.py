"""Rules of other evaluators: ADM against a transcription, the libraries against their own functions, tags on every number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from numpy.typing import NDArray

from nvgbench.data.image_set import in_memory
from nvgbench.data.moments import StoredMoments
from nvgbench.errors import InputError
from nvgbench.evaluation.options import EvaluationOptions
from nvgbench.evaluation.reference import Reference, open_reference
from nvgbench.evaluation.rules.adm import AdmRules
from nvgbench.evaluation.rules.base import moved
from nvgbench.evaluation.rules.catalog import open_rules
from nvgbench.evaluation.rules.clean_fid import CleanFidRules
from nvgbench.evaluation.rules.torch_fidelity import TorchFidelityRules
from nvgbench.evaluation.scores import ScoreSettings, compute_scores, evaluate_samples
from nvgbench.extractors import spatial
from nvgbench.extractors.cache import FeatureCache
from nvgbench.metrics.metric import MetricInputs
from nvgbench.results.compare import Scored, why_not_comparable
from nvgbench.results.protocols import PROTOCOLS
from nvgbench.results.schema import RunRecord
from nvgbench.types import Features, Interval, MetricValue

POOL, SPATIAL, CLASSES = 24, 35, 20
REFERENCE = Reference(in_memory("reference", torch.zeros(1, 3, 8, 8, dtype=torch.uint8)))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spatial, "POOL_FEATURES", POOL)
    monkeypatch.setattr(spatial, "SPATIAL_FEATURES", SPATIAL)


def features(n: int, seed: int, *, width: int = POOL + SPATIAL, shift: float = 0.0) -> Features:
    """Features like those of a network after its last ReLU, logits that grow surer of the class, sorted by class."""
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.integers(0, CLASSES, n))
    # One bit of precision fewer than a half has: distances tie now and then.
    found = np.round((rng.gamma(1.0, 0.4, (n, width)) + shift) * 512) / 512
    logits = rng.standard_normal((n, CLASSES)) + 4 * np.eye(CLASSES)[labels]
    return Features(found.astype(np.float32), logits.astype(np.float32), "f")


def exact(n: int, m: int) -> list[MetricValue]:
    interval = Interval(0.9, 1.2, 0.95, "sampling", "made up")
    return [
        MetricValue(name=name, value=1.0, n=n, n_reference=m, interval=interval, note="of nvgbench")
        for name in ("FID", "IS", "precision", "recall", "density", "coverage", "KID")
    ]


def named(metrics: list[MetricValue]) -> dict[str, MetricValue]:
    return {metric.name: metric for metric in metrics}


def fid_by_rule(x: NDArray, y: NDArray | StoredMoments) -> float:
    mu1, sigma1 = np.mean(x, axis=0), np.cov(x, rowvar=False)
    mu2, sigma2 = (y.mean_D, y.covariance_DD) if isinstance(y, StoredMoments) else (np.mean(y, axis=0), np.cov(y, rowvar=False))
    root = scipy.linalg.sqrtm(sigma1 @ sigma2).real
    return float(((mu1 - mu2) ** 2).sum() + np.trace(sigma1) + np.trace(sigma2) - 2 * np.trace(root))


def inception_score_by_rule(logits: NDArray, size: int = 5000) -> float:
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    scores = []
    for low in range(0, len(p), size):
        part = p[low : low + size]
        scores.append(np.exp(np.mean(np.sum(part * (np.log(part) - np.log(part.mean(axis=0))), axis=1))))
    return float(np.mean(scores))


def test_adm_equals_the_transcription_on_sorted_input_with_a_partial_split() -> None:
    generated, real = features(5600, 0), features(300, 1, shift=0.01)
    found = named(AdmRules().scores(exact(5600, 300), generated, real, REFERENCE, seed=0))
    assert list(found) == ["FID", "sFID", "IS", "IS-shuffled", "precision", "recall"]
    parts = (generated.features_ND, real.features_ND)
    # float32 means differ in the last bit with the order of addition; the square root keeps nine digits.
    assert found["FID"].value == pytest.approx(fid_by_rule(*(part[:, :POOL] for part in parts)), rel=1e-6)
    assert found["sFID"].value == pytest.approx(fid_by_rule(*(part[:, POOL:] for part in parts)), rel=1e-6)
    ordered = inception_score_by_rule(generated.logits_NK.astype(np.float64))
    assert found["IS"].value == pytest.approx(ordered, rel=1e-9)
    order = np.random.default_rng(0).permutation(5600)
    shuffled = inception_score_by_rule(generated.logits_NK[order].astype(np.float64))
    assert found["IS-shuffled"].value == pytest.approx(shuffled, rel=1e-9)
    assert shuffled > 1.2 * ordered  # sorted by class, the last split holds few classes
    assert "2 splits" in found["IS"].note
    assert 0 < found["recall"].value < 1
    assert {metric.protocol for metric in found.values()} == {"adm/1"}


def test_adm_inception_score_has_the_interval_of_its_own_splits() -> None:
    """Ten splits of few images score lower and vary less than one."""
    generated, real = features(60, 2), features(60, 3)
    found = named(AdmRules().scores(exact(60, 60), generated, real, REFERENCE, seed=0))
    logits = generated.logits_NK.astype(np.float64)
    without = np.array([inception_score_by_rule(np.delete(logits, image, axis=0)) for image in range(60)])
    stderr = np.sqrt(59 / 60 * ((without - without.mean()) ** 2).sum())
    for name in ("IS", "IS-shuffled"):
        interval = found[name].interval
        assert interval.high - found[name].value == pytest.approx(1.96 * stderr, rel=1e-4)


def test_adm_takes_the_moments_stored_with_the_reference(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    stored = {}
    for mean, covariance, width in (("mu", "sigma", POOL), ("mu_s", "sigma_s", SPATIAL)):
        many = rng.gamma(1.1, 0.4, (500, width))
        stored |= {mean: many.mean(axis=0), covariance: np.cov(many, rowvar=False)}
    pixels = rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "reference.npz", arr_0=pixels, **stored)
    reference = open_reference(str(tmp_path / "reference.npz"), 8)
    assert reference.images.count == 12
    generated, real = features(200, 0), features(150, 1)
    found = named(AdmRules().scores(exact(200, 150), generated, real, reference, seed=0))
    for name, columns, moments in (("FID", slice(None, POOL), "moments"), ("sFID", slice(POOL, None), "spatial_moments")):
        expected = fid_by_rule(generated.features_ND[:, columns], getattr(reference, moments))
        assert found[name].value == pytest.approx(expected, rel=1e-6)
        assert "stored with the reference" in found[name].note
        assert found[name].interval.low < found[name].value < found[name].interval.high
    swapped = Reference(reference.images, reference.spatial_moments)
    with pytest.raises(InputError, match="FID: the moments stored with the reference have 35 features, expected 24"):
        AdmRules().scores(exact(200, 150), generated, real, swapped, seed=0)
    np.savez(tmp_path / "wrong.npz", arr_0=pixels, mu=stored["mu"], sigma=stored["sigma_s"])
    with pytest.raises(InputError, match=r"mu and sigma have shapes .*expected \[D\] and \[D, D\]"):
        open_reference(str(tmp_path / "wrong.npz"), 8)


def test_torch_fidelity_and_the_exact_scores_are_torch_fidelitys() -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    generated, real = features(200, 2, width=48), features(200, 3, width=48, shift=0.1)
    x, y = (torch.from_numpy(part.features_ND) for part in (generated, real))
    theirs = {
        "FID": fid_statistics_to_metric(*map(fid_features_to_statistics, (x, y)), verbose=False)["frechet_inception_distance"],
        "IS": isc_features_to_metric(torch.from_numpy(generated.logits_NK))["inception_score_mean"],
        "KID": kid_features_to_metric(x, y, kid_subset_size=200, verbose=False)["kernel_inception_distance_mean"],
        **dict(zip(("precision", "recall"), calculate_precision_recall_full(x, y), strict=True)),
    }
    own, _ = compute_scores(MetricInputs(generated=generated, reference=real, extractor="inception"))
    through = TorchFidelityRules().scores(own, generated, real, REFERENCE, seed=0)
    for metrics, tag in ((own, PROTOCOLS["nvgbench"].tag), (through, "torch-fidelity/1")):
        found = named(list(metrics))
        assert found["FID"].value == pytest.approx(theirs["FID"], rel=1e-6)
        assert found["IS"].value == pytest.approx(theirs["IS"], rel=1e-5)
        assert found["KID"].value == pytest.approx(theirs["KID"], rel=1e-5)
        for name in ("precision", "recall"):
            # Theirs is a float32 mean of zeros and ones.
            assert round(found[name].value * 200) == round(theirs[name] * 200)
            assert found[name].value == pytest.approx(theirs[name], abs=1e-7)
        assert {metric.protocol for metric in metrics} == {tag}


def test_torch_fidelity_below_its_subset_size() -> None:
    few = features(8, 2, width=6)
    with pytest.raises(InputError, match="too few for torch-fidelity's 10 splits"):
        TorchFidelityRules().scores(exact(8, 8), few, few, REFERENCE, seed=0)


def test_clean_fid_is_the_librarys() -> None:
    from cleanfid import fid

    x, y = features(300, 4, width=32).features_ND, features(260, 5, width=32, shift=0.1).features_ND
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    rules = CleanFidRules("clean-fid:legacy_pytorch")
    generated, real = (Features(part, np.zeros((len(part), 0), np.float32), "f") for part in (x, y))
    found = named(rules.scores(exact(300, 260), generated, real, REFERENCE, seed=3))
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    # The library's own formula by another root; sqrtm keeps nine digits.
    assert found["FID"].value == pytest.approx(fid_by_rule(x.astype(np.float64), y.astype(np.float64)), rel=1e-8)
    np.random.seed(3)  # noqa: NPY002
    assert found["KID"].value == pytest.approx(fid.kernel_distance(x, y), rel=1e-12)
    assert list(found) == ["FID", "KID"]
    assert found["FID"].protocol == "clean-fid:legacy_pytorch/1"
    assert hasattr(fid.linalg, "eigh")  # what was replaced is back


def test_intervals_move_along() -> None:
    generated = features(60, 4, width=6)
    logits = Features(generated.features_ND, np.zeros((60, 0), np.float32), "f")
    kid = named(CleanFidRules("clean-fid").scores(exact(60, 60), logits, logits, REFERENCE, seed=0))["KID"]
    assert kid.interval.low == pytest.approx(kid.value - 0.1)
    assert kid.interval.high == pytest.approx(kid.value + 0.2)
    assert "nvgbench" in kid.interval.method
    share = moved(exact(60, 60)[2], 0.95, PROTOCOLS["adm"])
    assert (share.interval.low, share.interval.high) == (pytest.approx(0.85), 1.0)  # a share ends at 1


class Thumbnails:
    """Stands in for ADM's network; its features are noise of the images' means."""

    name, fingerprint = "inception", "a" * 64

    def __init__(self, published: bool | None) -> None:
        self.provenance = {"weights_sha256": "0" * 64, "weights_published": published}

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        flat = images.float().flatten(1) / 255
        return flat[:, : POOL + SPATIAL], flat[:, :CLASSES]


def test_every_number_of_an_evaluation_carries_its_protocol() -> None:
    images, reference = (
        in_memory(name, torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)))
        for seed, name in enumerate(("samples", "reference"))
    )
    records = {}
    for id in ("nvgbench", "adm"):
        scores = evaluate_samples(
            images,
            Reference(reference),
            Thumbnails(published=id == "adm"),
            ScoreSettings(),
            cache=FeatureCache(None),
            rules=open_rules(id),
        )
        assert {metric.protocol for metric in scores.metrics} == {PROTOCOLS[id].tag}
        assert all(("not the published ones" in metric.note) == (id == "nvgbench") for metric in scores.metrics)
        records[id] = RunRecord(kind="eval", subject=id, metrics=scores.metrics, provenance=scores.provenance)
    first, second = (
        Scored(next(metric for metric in record.metrics if metric.name == "FID"), record) for record in records.values()
    )
    assert why_not_comparable(first, second) == f"protocol differs: {PROTOCOLS['nvgbench'].tag} and adm/1"


def test_protocols_are_looked_up_by_name() -> None:
    assert {id: open_rules(id) is None for id in PROTOCOLS} == {id: id == "nvgbench" for id in PROTOCOLS}
    assert all(rules.identity.id == id for id in PROTOCOLS if (rules := open_rules(id)) is not None)
    with pytest.raises(InputError, match="no protocol 'amd'"):
        open_rules("amd")
    with pytest.raises(InputError, match="did you mean 'torch-fidelity'"):
        EvaluationOptions(protocol="torch_fidelity")
    with pytest.raises(InputError, match="adm is defined for Inception features, got `extractor='classifier'`"):
        EvaluationOptions(protocol="adm", extractor="classifier")
