"""Two models held against each other from their cached features, and the command that does it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nvgbench.cli.app import main
from nvgbench.evaluation.paired import paired_margins
from nvgbench.evaluation.scores import compute_scores
from nvgbench.extractors.cache import FeatureCache
from nvgbench.metrics.metric import MetricInputs
from nvgbench.results.compare import Scored, compare, latest_metrics
from nvgbench.results.protocols import PROTOCOLS
from nvgbench.results.schema import RunRecord
from nvgbench.results.store import ResultStore
from nvgbench.types import Features, Interval, MetricValue
from tests.helpers.replicates import replicate

N, D = 120, 6
NEIGHBOURS = ("precision", "recall", "density", "coverage", "clipped-density", "clipped-coverage")
GLOBAL = ("FD", "FD∞", "KD", "KD-RBF", "MIND", "IS", "Vendi")


class Given:
    """Hands out features that were drawn beforehand, in the order of the images."""

    name, fingerprint, provenance = "classifier", "e" * 64, {}

    def __init__(self, features: np.ndarray) -> None:
        self.features = torch.from_numpy(features.astype(np.float32))

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.features, self.features[:, :4]


def store(root: Path, features: np.ndarray, mark: int) -> Features:
    images = torch.full((len(features), 3, 2, 2), mark, dtype=torch.uint8)
    return FeatureCache(root / "_features", batch_size=len(features)).extract([images], Given(features))


def record(root: Path, subject: str, features: np.ndarray, mark: int, real: Features, seed: int = 0) -> RunRecord:
    made = store(root, features, mark)
    found = RunRecord(
        kind="eval",
        subject=subject,
        family="nvg",
        metrics=tuple(compute_scores(MetricInputs(generated=made, reference=real, extractor="classifier"))[0]),
        provenance={
            "seeds": {"sampling": seed, "scores": 0},
            "extractor": {"name": "classifier", "fingerprint": "e" * 64},
            "reference": {"name": "r", "fingerprint": real.fingerprint, "images_fingerprint": real.fingerprint, "n": len(real)},
            "samples": {"name": "s", "fingerprint": made.fingerprint, "n": len(made)},
        },
    )
    ResultStore(root / subject).append(found)
    return found


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, RunRecord, RunRecord, RunRecord]:
    """Models whose images share nine tenths of their noise; the second is a little worse; the third has another seed."""
    rng = np.random.default_rng(0)
    real = store(tmp_path, rng.standard_normal((N, D)), 0)
    common = rng.standard_normal((N, D))
    drawn = [0.95 * common + 0.3 * rng.standard_normal((N, D)) + shift for shift in (0.3, 0.4, 0.4)]
    found = [record(tmp_path, f"m{i}", x, i + 1, real, seed=int(i == 2)) for i, x in enumerate(drawn)]
    return tmp_path, *found


def test_pairs_of_images_narrow_the_interval(models: tuple) -> None:
    root, old, new, other = models
    paired, alone = paired_margins(old, new, root), paired_margins(old, other, root)
    assert paired.keys() == alone.keys() == {f"{name}[classifier]" for name in (*GLOBAL, *NEIGHBOURS)}
    assert all(margin.paired for margin in paired.values())
    assert not any(margin.paired for margin in alone.values())
    name = "FD[classifier]"
    assert paired[name].stderr < 0.6 * alone[name].stderr
    before, after = ({metric.name: Scored(metric, one) for metric in one.metrics} for one in (old, new))
    with_pairs, without = compare(before[name], after[name], margin=paired[name]), compare(before[name], after[name])
    assert (with_pairs.verdict, without.verdict) == ("worse", "inconclusive")
    assert with_pairs.interval is not None
    assert with_pairs.interval.source == "sampling"
    # Not paired, it is what the two intervals say.
    third = {metric.name: Scored(metric, other) for metric in other.metrics}[name]
    a, b = compare(before[name], third, margin=alone[name]), compare(before[name], third)
    assert a.interval is not None
    assert b.interval is not None
    assert a.interval.high - a.interval.low == pytest.approx(b.interval.high - b.interval.low, rel=0.02)


def test_no_features_no_margin(models: tuple) -> None:
    root, old, new, _ = models
    others = tuple(dataclasses.replace(metric, protocol="adm/1") for metric in new.metrics)
    assert paired_margins(old, dataclasses.replace(new, metrics=others), root) == {}
    for path in (root / "_features").rglob("set-*.json"):
        path.unlink()
    assert paired_margins(old, new, root) == {}


def test_no_margin_for_a_distance_to_stored_moments(models: tuple) -> None:
    """The reference's features in the cache are not what these distances were taken to."""
    root, *found = models

    def stored(record: RunRecord, **said) -> RunRecord:
        known = record.provenance["reference"]
        reference = {**known, "fingerprint": "m" * 64, "images_fingerprint": known["fingerprint"], **said}
        return dataclasses.replace(record, provenance={**record.provenance, "reference": reference})

    old, new, _ = (stored(record, stored_moments=True) for record in found)
    assert paired_margins(old, new, root).keys() == paired_margins(*found[:2], root).keys() - {
        "FD[classifier]",
        "FD∞[classifier]",
    }
    old, new, _ = (stored(record, stored_moments=False) for record in found)
    assert "FD[classifier]" in paired_margins(old, new, root)


def test_images_that_all_count_alike_lend_no_margin(models: tuple) -> None:
    """No sample in any ball: the errors of the scores of neighbours would be those of the other model alone."""
    root, old, *_ = models
    real = FeatureCache(root / "_features").stored("classifier", "e" * 64, old.provenance["reference"]["fingerprint"])
    assert real is not None
    far = record(root, "far", np.random.default_rng(9).standard_normal((N, D)) * 0.01 + 50, 9, real)
    found = paired_margins(old, far, root)
    assert found.keys() == {f"{name}[classifier]" for name in GLOBAL}
    before, after = (latest_metrics([one], ["eval"])[one.subject]["density[classifier]"] for one in (old, far))
    assert after.metric.value == 0
    assert after.metric.interval is not None
    assert (after.metric.interval.low, after.metric.interval.high) == (0, pytest.approx(3.8415 / (N + 3.8415), rel=1e-4))
    assert compare(before, after).verdict == "worse"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as done:
        main(["compare", *arguments])
    return int(done.value.code or 0)


def test_the_command(models: tuple, capsys: pytest.CaptureFixture[str]) -> None:
    root, _, new, _ = models
    here = ("--runs", str(root), "--device", "cpu")
    assert run("m0", "m1", *here) == 0
    text = capsys.readouterr().out
    assert next(line for line in text.splitlines() if "FD[classifier]" in line).startswith("worse ")
    assert "paired" in text
    assert run("m0", "m1", "--json", "--metric", "FD[classifier]", *here) == 0
    tree = json.loads(capsys.readouterr().out)
    assert (tree["forced"], [row["metric"] for row in tree["differences"]]) == (False, ["FD[classifier]"])
    assert tree["differences"][0]["verdict"] == "worse"
    assert tree["differences"][0]["paired"] is True

    metrics = tuple(dataclasses.replace(metric, n=99) for metric in new.metrics)
    ResultStore(root / "few").append(dataclasses.replace(new, subject="few", metrics=metrics, id="few"))
    assert run("m0", "few", *here) == 2
    assert "number of images differs: 120 and 99" in capsys.readouterr().err
    assert run("m0", "few", "--force", *here) == 0
    assert "FORCED: number of images differs" in capsys.readouterr().out
    assert run("m0", "few", "--force", "--json", *here) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["forced"] is True
    assert "number of images" in tree["differences"][0]["reason"]
    for arguments, said in (
        (("m0", "m9"), "did you mean 'm"),
        (("m0", "m1", "--metric", "FID[clasifier]"), "did you mean"),
    ):
        assert run(*arguments, *here) == 2
        assert said in capsys.readouterr().err
    ResultStore(root / "other").append(RunRecord(kind="eval", subject="other"))
    assert run("m0", "other", *here) == 2


def by_rules(root: Path, subject: str, *scores: tuple[str, float, str]) -> None:
    """Records of a value each, by the rules of a protocol."""
    for name, value, protocol in scores:
        interval = Interval(value - 0.1, value + 0.1, 0.95, "sampling", "jackknife")
        metric = MetricValue(name=name, value=value, n=100, higher_is_better=False, protocol=protocol, interval=interval)
        ResultStore(root / subject).append(RunRecord(kind="eval", subject=subject, metrics=(metric,)))


def test_protocols_are_compared_each_with_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = PROTOCOLS["nvgbench"].tag, PROTOCOLS["adm"].tag
    by_rules(tmp_path, "a", ("FID", 10.0, ours), ("FID", 20.0, theirs), ("sFID", 7.0, theirs), ("KID", 1.0, ours))
    by_rules(tmp_path, "b", ("FID", 30.0, theirs), ("FID", 5.0, ours), ("KID", 2.0, "clean-fid/1"))
    here = ("--runs", str(tmp_path), "--device", "cpu")

    def rows(*options: str) -> dict[str, tuple[float, str]]:
        assert run("a", "b", "--json", *options, *here) == 0
        tree = json.loads(capsys.readouterr().out)
        assert tree["only_one_has"] == {"a": ["sFID (adm)", "KID"], "b": ["KID (clean-fid)"]}
        return {row["metric"]: (row["value"], row["candidate"]["protocol"]) for row in tree["differences"]}

    both = {"FID": (-5.0, ours), "FID (adm)": (10.0, theirs)}
    assert rows() == rows("--metric", "FID") == both
    assert rows("--metric", "FID (adm)") == {"FID (adm)": (10.0, theirs)}
    assert run("a", "b", *here) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0].strip() for line in lines[1:3]] == ["better", "worse"]
    assert lines[3:] == ["only a has: sFID (adm), KID", "only b has: KID (clean-fid)"]
    for metric, said in (("FDI", "did you mean 'FID'"), ("FID (amd)", "did you mean 'FID (adm)'"), ("KID", "both have: FID, ")):
        assert run("a", "b", "--metric", metric, *here) == 2
        assert said in capsys.readouterr().err
    by_rules(tmp_path, "c", ("FID", 30.0, "torch-fidelity/1"))
    assert run("a", "c", *here, "--force") == 2
    error = capsys.readouterr().err
    assert "no score in common: FID, FID (adm), sFID (adm), KID and FID (torch-fidelity);" in error
    by_rules(tmp_path, "d", ("FID", 30.0, "adm/0"))
    assert run("a", "d", *here) == 2
    assert "FID (adm) of 'a' and 'd' is not comparable: protocol differs" in capsys.readouterr().err


def test_groups_of_training_seeds(models: tuple, capsys: pytest.CaptureFixture[str]) -> None:
    root, old, new, _ = models
    for name, source in (("a", old), ("b", new)):
        for seed in range(3):
            change = 0.01 * seed + (name == "b")
            shifted = tuple(dataclasses.replace(metric, value=(metric.value or 0) + change) for metric in source.metrics)
            subject = f"{name}-seed{seed}"
            origin = {**source.provenance, **replicate(name, seed)}
            ResultStore(root / subject).append(
                dataclasses.replace(source, subject=subject, metrics=shifted, id=subject, provenance=origin)
            )
    assert run("a", "b", "--metric", "FD[classifier]", "--runs", str(root), "--device", "cpu") == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.startswith("worse ")
    assert "training" in line
