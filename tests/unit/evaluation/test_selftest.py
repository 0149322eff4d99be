"""The self-test of metrics: failures are what they say, and scores see what they are known to see."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from nvgbench.cli.app import build_app
from nvgbench.errors import InputError
from nvgbench.evaluation.selftest import FAILURES, MODES, SelfTest, Sight, World, run_selftest
from nvgbench.metrics.registry import metrics
from nvgbench.results.scores import SCORES

N = 20_000


@pytest.fixture(scope="module")
def world() -> World:
    return World.drawn(16, seed=0)


@pytest.mark.parametrize(
    ("failure", "deviation"),
    [
        ("none", 1.0),
        ("mode dropped", 1.0),
        ("variance shrunk", 0.9),
        ("variance widened", 1.1),
        ("outliers", math.sqrt(0.98 + 0.02 * 9)),
        ("noise 10 %", None),
    ],
)
def test_failures_are_what_they_say(world: World, failure: str, deviation: float | None) -> None:
    rng = np.random.default_rng(1)
    points_ND, modes_N = FAILURES[failure].draw(world, rng, world.real(rng, N))
    assert points_ND.shape == (N, 16)
    assert len(np.unique(modes_N)) == MODES - (failure == "mode dropped")
    if deviation is not None:
        within = points_ND - world.centres_KD[modes_N]
        assert within.std() == pytest.approx(deviation, rel=0.01)  # 320,000 numbers: standard error 0.2 %


def test_impostors_have_the_moments_of_real_points(world: World) -> None:
    rng = np.random.default_rng(2)
    real = world.real(rng, N)
    for points_ND in (real[0], FAILURES["impostors"].draw(world, rng, real)[0]):
        mean, covariance = world.moments
        assert np.abs(points_ND.mean(axis=0) - mean).max() < 5 * math.sqrt(np.diag(covariance).max() / N)
        assert np.abs(np.cov(points_ND.T) - covariance).max() < 0.1  # standard error at most 3 / sqrt(N) = 0.02


def test_invented_and_memorised(world: World) -> None:
    rng = np.random.default_rng(3)
    training = world.real(rng, 2000)
    invented_ND, asked_N = FAILURES["mode invented"].draw(world, rng, training)
    distance_KN = np.linalg.norm(invented_ND - world.centres_KD[:, None], axis=2)
    assert (distance_KN.argmin(axis=0) == MODES).mean() == pytest.approx(0.1, abs=0.03)
    assert asked_N.max() < MODES
    copies_ND, modes_N = FAILURES["memorised"].draw(world, rng, training)
    assert np.abs(copies_ND - training[0]).max() < 0.06
    assert np.array_equal(modes_N, training[1])
    logits_NK = world.features(training[0]).logits_NK
    assert (logits_NK.argmax(axis=1) == training[1]).mean() > 0.9  # modes are separate, so posteriors know them


@pytest.fixture(scope="module")
def quick() -> SelfTest:
    return run_selftest({300: 1}, dimension=8)


def test_scores_see_what_they_are_known_to_see(quick: SelfTest) -> None:
    sights = {(sight.score, sight.failure): sight for sight in quick.sights}
    assert set(FAILURES) == {failure for _, failure in sights}
    missing = {score.name for metric in metrics().values() for score in metric.scores} - {score for score, _ in sights}
    assert missing <= {"IS-ordered"}  # above 5,000 images only
    for score in ("FID", "KID"):
        assert sights[score, "mode dropped"].power > 0.5
        assert sights[score, "noise 30 %"].power > 0.99
        assert sights[score, "noise 30 %"].better is False
        assert sights[score, "none"].power < 0.5
    assert sights["nearest-training-ratio", "memorised"].power > 0.99
    assert sights["FID", "impostors"].power < 0.5  # equal moments are all that FID sees
    assert sights["density", "variance shrunk"].better  # and shrunk variance looks like quality
    due = {(score, failure) for (score, failure), sight in sights.items() if sight.due}
    assert ("FID", "impostors") in due
    assert ("precision", "mode dropped") not in due
    assert ("recall", "mode dropped") in due
    assert {failure for score, failure in due if score == "nearest-training-ratio"} == {"memorised"}
    assert not any(failure == "none" for _, failure in due)


def test_draws_do_not_depend_on_the_chosen_scores(quick: SelfTest) -> None:
    alone = run_selftest({300: 1}, dimension=8, metrics=["FID"])
    assert list(alone.sights) == [sight for sight in quick.sights if sight.score == "FID"]


def test_power() -> None:
    def sight(change: float, error: float | None) -> Sight:
        return Sight(score="FID", failure="none", n=10, change=change, error=error, better=None, due=False)

    assert sight(0.0, 1.0).power == pytest.approx(0.05)
    assert sight(1.959964, 1.0).power == pytest.approx(0.5, abs=1e-4)
    assert sight(-9.0, 1.0).power == pytest.approx(1.0)
    assert (sight(0.1, 0.0).power, sight(0.0, 0.0).power) == (1.0, 0.0)
    assert sight(1.0, None).power is None


def test_the_command(tmp_path: Path) -> None:
    def call(*arguments: str):
        return CliRunner().invoke(build_app(), ["selftest", "metrics", *arguments])

    told = call("--size", "60:1", "--features", "4", "--metrics", "FID,recall", "--out", str(tmp_path / "a.csv"))
    assert told.exit_code == 0, told.exception
    assert "n = 60 samples, 60 reference images, 60 training images; 1 pair of sets, 4 features" in told.stdout
    rows = [line for line in told.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 7  # head, rule, and every score of both metrics
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1 + 7 * len(FAILURES)
    for arguments, message in (
        (["--size", "many"], "expected N:REPEATS"),
        (["--size", "60:0"], "0 repetitions of 60 samples"),
        (["--size", "5:1"], "expected at least 1 of at least 20"),
        (["--quick", "--size", "60:1"], "--quick has sizes of its own"),
        (["--size", "60:1", "--metrics", "FIB"], "did you mean 'FID'"),
    ):
        assert message in str(call(*arguments).exception)
    with pytest.raises(InputError, match="0 numbers of samples"):
        run_selftest({})


def test_every_task_is_of_a_score() -> None:
    from nvgbench.evaluation.selftest import _TASKS

    metrics()
    assert set(_TASKS) <= set(SCORES)
