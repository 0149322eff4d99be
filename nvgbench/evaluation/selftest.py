"""A self-test of the metrics: failures of a generator with known answers, run through every score of the registry.

After Räisä, van Breugel and van der Schaar (arXiv 2505.22450), who show that every score of fidelity or diversity fails some of
them. Features are drawn, not extracted: a mixture of ten Gaussians is the real distribution, and a failure changes how samples
are drawn from it. Shape letters: N samples, D features, K modes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nvgbench.data.remarks import counted
from nvgbench.errors import InputError
from nvgbench.metrics.arrays import Floats
from nvgbench.metrics.metric import Metric, MetricInputs
from nvgbench.metrics.registry import select_metrics
from nvgbench.metrics.uncertainty import Contributions, interval_of
from nvgbench.progress import Report, quiet
from nvgbench.results.scores import SCORES
from nvgbench.types import Features

if TYPE_CHECKING:
    import pandas

Kind = Literal["fidelity", "diversity", "both", "copying", "none"]
"""What a failure damages, and what a score is meant to see."""

MODES = 10
_SEEN = 0.8
"""Power from which a failure counts as seen."""
_Z = NormalDist().inv_cdf(0.975)
_TASKS: dict[str, Kind] = {
    "precision": "fidelity",
    "density": "fidelity",
    "accuracy": "fidelity",
    "clipped-density": "fidelity",
    "recall": "diversity",
    "coverage": "diversity",
    "clipped-coverage": "diversity",
    "Vendi": "diversity",
    "nearest-training-ratio": "copying",
    "novelty": "copying",
    "FLD-gap": "copying",
}
"""What scores are meant to see; those that are not listed compare whole distributions."""


Points = tuple[Floats, NDArray[np.int64]]
"""Points ``[N, D]`` and their modes ``[N]``: those of samples are the ones that were asked for."""


@dataclass(frozen=True)
class World:
    """The real distribution: a mixture of `MODES` equally frequent unit Gaussians around random centres.

    Attributes:
        centres_KD: float64, drawn from a standard normal; the last one is of a mode that no real image has.
    """

    centres_KD: Floats

    @classmethod
    def drawn(cls, dimension: int, seed: int) -> World:
        """A world with ``dimension`` features."""
        return cls(np.random.default_rng((seed, 0)).standard_normal((MODES + 1, dimension)))

    def draw(self, rng: np.random.Generator, modes_N: NDArray[np.int64], spread: float | Floats = 1.0) -> Points:
        """One point per mode, and the modes; ``spread`` is the standard deviation, one number or one per point ``[N, 1]``."""
        shape = (len(modes_N), self.centres_KD.shape[1])
        return self.centres_KD[modes_N] + spread * rng.standard_normal(shape), modes_N

    def real(self, rng: np.random.Generator, n: int) -> Points:
        """n real points and their modes."""
        return self.draw(rng, rng.integers(MODES, size=n))

    def features(self, points_ND: Floats) -> Features:
        """Points as features, with the log-posteriors of the modes as logits."""
        real_KD = self.centres_KD[:MODES]
        logits_NK = points_ND @ real_KD.T - (real_KD**2).sum(axis=1) / 2
        return Features(points_ND.astype(np.float32), logits_NK.astype(np.float32))

    @property
    def moments(self) -> tuple[Floats, Floats]:
        """Mean and covariance of the real distribution."""
        real_KD = self.centres_KD[:MODES]
        between_DD = np.cov(real_KD.T, ddof=0)
        return real_KD.mean(axis=0), between_DD + np.eye(real_KD.shape[1])


Draw = Callable[[World, np.random.Generator, Points], Points]
"""A world, a generator of random numbers and N training images to N samples."""


@dataclass(frozen=True)
class Failure:
    """A way in which a generator fails.

    Attributes:
        summary: what its samples are like.
        damages: what is worse than in real images.
        draw: draws its samples.
    """

    summary: str
    damages: Kind
    draw: Draw


def _modes(rng: np.random.Generator, training: Points) -> NDArray[np.int64]:
    return rng.integers(MODES, size=len(training[1]))


def _real(world: World, rng: np.random.Generator, training: Points) -> Points:
    return world.real(rng, len(training[1]))


def _dropped(world: World, rng: np.random.Generator, training: Points) -> Points:
    return world.draw(rng, rng.integers(MODES - 1, size=len(training[1])))


def _invented(world: World, rng: np.random.Generator, training: Points) -> Points:
    asked_N = _modes(rng, training)
    return world.draw(rng, np.where(rng.random(len(training[1])) < 0.1, MODES, asked_N))[0], asked_N


def _outliers(world: World, rng: np.random.Generator, training: Points) -> Points:
    spread_N = np.where(rng.random(len(training[1])) < 0.02, 3.0, 1.0)
    return world.draw(rng, _modes(rng, training), spread_N[:, None])


def _memorised(world: World, rng: np.random.Generator, training: Points) -> Points:
    points_ND, modes_N = training
    return points_ND + 0.01 * rng.standard_normal(points_ND.shape), modes_N


def _impostors(world: World, rng: np.random.Generator, training: Points) -> Points:
    mean, covariance = world.moments
    points_ND = rng.multivariate_normal(mean, covariance, size=len(training[1]))
    return points_ND, _modes(rng, training)


def _spread(factor: float) -> Draw:
    return lambda world, rng, training: world.draw(rng, _modes(rng, training), factor)


def _noise(share: float) -> Draw:
    def draw(world: World, rng: np.random.Generator, training: Points) -> Points:
        points_ND, modes_N = world.draw(rng, _modes(rng, training))
        mean, covariance = world.moments
        noise_ND = mean + math.sqrt(np.trace(covariance) / len(mean)) * rng.standard_normal(points_ND.shape)
        return (1 - share) * points_ND + share * noise_ND, modes_N

    return draw


FAILURES: dict[str, Failure] = {
    "none": Failure(
        "other real images: every alarm is false", "none", lambda world, rng, training: world.real(rng, len(training[1]))
    ),
    "mode dropped": Failure("one of ten modes is missing", "diversity", _dropped),
    "mode invented": Failure("a tenth of the samples is in a mode that no real image has", "fidelity", _invented),
    "variance shrunk": Failure("standard deviation within modes 0.9 times the real one", "diversity", _spread(0.9)),
    "variance widened": Failure("standard deviation within modes 1.1 times the real one", "fidelity", _spread(1.1)),
    "outliers": Failure("2 % of the samples with three times the standard deviation", "fidelity", _outliers),
    "memorised": Failure("training images with noise of 0.01 standard deviations", "copying", _memorised),
    "impostors": Failure("one Gaussian with the mean and the covariance of the real images", "fidelity", _impostors),
    "noise 10 %": Failure("0.9 times a real image plus 0.1 times noise", "both", _noise(0.1)),
    "noise 30 %": Failure("0.7 times a real image plus 0.3 times noise", "both", _noise(0.3)),
}


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What a score makes of a failure.

    Attributes:
        score, failure: their names.
        n: number of samples, of reference and of training images.
        change: mean difference from the score of real images.
        error: standard error of that difference for one pair of sets, by the scores' own errors; None if unknown.
        better: whether the failure improves the score; None if neither direction is better.
        due: whether it is the score's task to see it.
    """

    score: str
    failure: str
    n: int
    change: float
    error: float | None
    better: bool | None
    due: bool

    @property
    def power(self) -> float | None:
        """Probability that a two-sided comparison at 5 % decides, if differences are normal with this mean and error."""
        if self.error is None:
            return None
        if self.error == 0:
            return 1.0 if self.change else 0.0
        z = abs(self.change) / self.error
        normal = NormalDist()
        return normal.cdf(z - _Z) + normal.cdf(-z - _Z)


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """The sights of all scores.

    Attributes:
        sights: score by score, failure by failure, number by number.
        dimension: number of features.
        repeats: number of samples -> how many pairs of sets were drawn.
        seed: of everything drawn.
    """

    sights: tuple[Sight, ...]
    dimension: int
    repeats: Mapping[int, int]
    seed: int
    failures: Mapping[str, Failure] = field(default_factory=lambda: FAILURES)

    def to_frame(self) -> pandas.DataFrame:
        """One row per score, failure and number."""
        import pandas

        rows = [{**vars(sight), "power": sight.power} for sight in self.sights]
        return pandas.DataFrame(rows)

    def markdown(self) -> str:
        """One table per number of samples: power in per cent, bold where seeing the failure is the score's task."""
        parts = []
        for n, repeats in self.repeats.items():
            own = {(sight.score, sight.failure): sight for sight in self.sights if sight.n == n}
            scores = list(dict.fromkeys(score for score, _ in own))
            head = ["score", *self.failures]
            lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * len(self.failures)}"]
            for score in scores:
                cells = [_cell(own.get((score, failure))) for failure in self.failures]
                lines.append(f"| {score} | {' | '.join(cells)} |")
            about = f"n = {n:,} samples, {n:,} reference images, {n:,} training images; {counted(repeats, 'pair')} of sets"
            parts.append("\n".join([f"{about}, {self.dimension} features, {MODES} modes, seed {self.seed}.", "", *lines]))
        return "\n\n".join(parts) + "\n"


def _cell(sight: Sight | None) -> str:
    if sight is None:
        return ""
    if sight.power is None:
        return "?"
    arrow = {True: "↑ ", False: "↓ ", None: "± "}[sight.better] if sight.power >= _SEEN else ""
    text = f"{arrow}{100 * sight.power:.0f}"
    return f"**{text}**" if sight.due else text


def run_selftest(
    repeats: Mapping[int, int],
    *,
    dimension: int = 32,
    metrics: Sequence[str] | None = None,
    seed: int = 0,
    report: Report = quiet,
) -> SelfTest:
    """Run every failure through every score.

    Args:
        repeats: number of samples -> how many pairs of sets (real and failed) are drawn for it.
        dimension: number of features.
        metrics: names of scores or metrics; all of the registry if None.
        seed: of everything drawn.
        report: opens a progress display.

    Raises:
        InputError: no samples, too few for a metric, or an unknown metric.
    """
    chosen = select_metrics(metrics)
    fewest = max(20, *(metric.fewest_images for metric in chosen))
    for n, count in repeats.items():
        if n < fewest or count < 1:
            raise InputError(f"{count} repetitions of {n} samples; expected at least 1 of at least {fewest}")
    if not repeats or dimension < 2:
        raise InputError(f"{len(repeats)} numbers of samples and {dimension} features; expected at least 1 and 2")
    world = World.drawn(dimension, seed)
    sights: list[Sight] = []
    with report("self-test") as update:
        total, done = sum(repeats.values()) * (len(FAILURES) + 1), 0
        for n, count in repeats.items():
            found: dict[tuple[str, str], list[tuple[Contributions, Contributions]]] = {}
            for repeat in range(count):
                rng = np.random.default_rng((seed, n, repeat))
                reference, training = world.real(rng, n), world.real(rng, n)
                base = _scores(chosen, world, world.real(rng, n), reference, training)
                update(done := done + 1, total)
                for name, failure in FAILURES.items():
                    failed = _scores(chosen, world, failure.draw(world, rng, training), reference, training)
                    for score in base.keys() & failed.keys():
                        found.setdefault((score, name), []).append((base[score], failed[score]))
                    update(done := done + 1, total)
            sights += [_sight(score, failure, n, pairs) for (score, failure), pairs in found.items()]
    order = list(SCORES)
    sights.sort(key=lambda sight: (order.index(sight.score), list(FAILURES).index(sight.failure), sight.n))
    return SelfTest(sights=tuple(sights), dimension=dimension, repeats=dict(repeats), seed=seed)


def _scores(
    metrics: Sequence[Metric], world: World, generated: Points, reference: Points, training: Points
) -> dict[str, Contributions]:
    """Every score that can be computed from features, by its name in the table of scores."""
    found: dict[str, Contributions] = {}
    for metric in metrics:
        only = metric.scores[0].extractor
        points = [generated[0], reference[0], training[0]]
        if only is not None:  # embeddings have length 1
            points = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in points]
        ours, real, seen = (world.features(part) for part in points)
        inputs = MetricInputs(
            generated=ours, reference=real, training=seen, labels_N=generated[1], extractor=only or "classifier"
        )
        found |= metric.compute(inputs)
    return found


def _sight(score: str, failure: str, n: int, pairs: Sequence[tuple[Contributions, Contributions]]) -> Sight:
    change = float(np.mean([after.value - before.value for before, after in pairs]))
    errors = [math.hypot(*both) for pair in pairs if None not in (both := [_error(one) for one in pair])]  # type: ignore[arg-type]
    task, damages = _TASKS.get(score, "both"), FAILURES[failure].damages
    higher = SCORES[score].higher_is_better
    return Sight(
        score=score,
        failure=failure,
        n=n,
        change=change,
        error=float(np.mean(errors)) if errors else None,
        better=None if higher is None else (change > 0) == higher,
        due=_due(task, damages),
    )


def _due(task: Kind, damages: Kind) -> bool:
    """Whether a score with this task has to see such damage."""
    if damages == "none" or "copying" in (task, damages):
        return task == damages
    return task == damages or "both" in (task, damages)


def _error(found: Contributions) -> float | None:
    """Standard error of a score; half the width of its interval by 1.96 if its images contribute nothing."""
    if found.parts.any():
        return found.stderr
    interval: Any = interval_of(found)
    return None if interval is None else (interval.high - interval.low) / (2 * _Z)
