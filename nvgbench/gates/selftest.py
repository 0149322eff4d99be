"""Self-test of a gate: how often it fails though nothing changed (A/A), and how often it catches a planted change (A/B).

Where scores come from does not matter here: a `Draw` makes a record with new noise each time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from nvgbench.errors import InputError
from nvgbench.gates.baseline import SCORED_KINDS, Baseline
from nvgbench.gates.noise import noise_of
from nvgbench.gates.rules import Rule, RuleSet
from nvgbench.gates.schema import Verdict, overall
from nvgbench.gates.verdicts import evaluate_gates
from nvgbench.results.compare import latest_metrics
from nvgbench.results.schema import RunRecord
from nvgbench.types import MetricValue

DETECTION = 0.9
"""Share of planted changes that a gate must catch."""
CHANCE = 0.01
"""A promise counts as broken if a result this bad has less than this probability when it is kept."""

Draw = Callable[[int, float], RunRecord]
"""``draw(seed, loss)``: the scores of one evaluation, with the planted metric worse by the share ``loss``."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How often something happened, and what was promised.

    Attributes:
        count, pairs: it happened in ``count`` of ``pairs`` pairs.
        promised: at most this share (``at_most``) or at least this share; None if nothing is promised.
    """

    name: str
    count: int
    pairs: int
    promised: float | None = None
    at_most: bool = True

    @property
    def share(self) -> float:
        return self.count / self.pairs

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share."""
        found = binomtest(self.count, self.pairs).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)

    @property
    def broken(self) -> bool:
        """Whether chance does not explain that the promise was missed (binomial test at `CHANCE`)."""
        if self.promised is None:
            return False
        tail = "greater" if self.at_most else "less"
        return bool(binomtest(self.count, self.pairs, self.promised, alternative=tail).pvalue < CHANCE)


def selftest(rules: RuleSet, draw: Draw, *, pairs: int, loss: float, seed: int, progress: Callable[[int], None]) -> list[Rate]:
    """Measure the rates of false alarms, of caught losses and of caught gains.

    Args:
        rules: of the gate; all are treated as blocking, as an advisory rule cannot fail a gate.
        draw: makes the records; the metric in which it plants changes must have a rule.
        pairs: pairs of evaluations of each kind.
        loss: share by which the planted metric becomes worse, and better.
        seed: of everything that is drawn.
        progress: called after each pair with the number of pairs done.

    Raises:
        InputError: fewer than 20 pairs, a loss outside (0, 1), or no rule that fits a metric of the draws.
    """
    if pairs < 20 or not 0 < loss < 1:
        raise InputError(f"`pairs={pairs}`, `loss={loss}`: expected at least 20 pairs and a loss between 0 and 1, e.g. 0.05")
    strict = dataclasses.replace(rules, rules=tuple(dataclasses.replace(rule, severity="blocking") for rule in rules.rules))
    bare = dataclasses.replace(strict, rules=tuple(_without_margin(rule) for rule in strict.rules))
    alarms = bare_alarms = losses = gains = 0
    for pair in range(pairs):
        # Four evaluations per pair, all with noise of their own.
        first = seed + 4 * pair
        baseline = Baseline.of([draw(first, 0.0)])
        again = draw(first + 1, 0.0)
        alarms += overall(evaluate_gates(strict, baseline, [again])) == "fail"
        bare_alarms += overall(evaluate_gates(bare, baseline, [again])) == "fail"
        losses += _caught(evaluate_gates(strict, baseline, [draw(first + 2, loss)]), "worse")
        gains += _caught(evaluate_gates(strict, baseline, [draw(first + 3, -loss)]), "suspiciously good")
        progress(pair + 1)
    one_sided = all(rule.direction == "worse" for rule in rules.rules)
    return [
        Rate(name="false alarms, nothing changed", count=alarms, pairs=pairs, promised=rules.alpha),
        Rate(name="the same without any margin", count=bare_alarms, pairs=pairs),
        Rate(name=f"losses of {loss:.1%} caught", count=losses, pairs=pairs, promised=DETECTION, at_most=False),
        Rate(
            name=f"gains of {loss:.1%} caught",
            count=gains,
            pairs=pairs,
            promised=None if one_sided else DETECTION,
            at_most=False,
        ),
    ]


def recorded_draw(records: Sequence[RunRecord]) -> Draw:
    """Recorded scores, moved by the noise that their intervals state.

    This assumes that the intervals are right and the metrics independent. Changes are planted in the first metric of the first
    subject that has an interval and a better direction.

    Raises:
        InputError: no score has an interval.
    """
    newest = latest_metrics(records, SCORED_KINDS)
    scores = [
        (subject, scored)
        for subject, metrics in newest.items()
        for scored in metrics.values()
        if scored.metric.value and scored.metric.interval is not None and scored.metric.higher_is_better is not None
    ]
    if not scores:
        raise InputError("no recorded score has an interval; leave out the records to simulate features instead")
    subject = scores[0][0]
    own = [scored for name, scored in scores if name == subject]

    def draw(seed: int, loss: float) -> RunRecord:
        noise = np.random.default_rng(seed).normal(size=len(own))
        changes = np.zeros(len(own))
        changes[0] = loss
        metrics = [_moved(scored.metric, *pair) for scored, *pair in zip(own, noise, changes, strict=True)]
        return dataclasses.replace(own[0].record, metrics=tuple(metrics), measurements=())

    return draw


def _moved(metric: MetricValue, noise: float, loss: float) -> MetricValue:
    """A new draw of a score: ``noise`` standard errors away, worse by the share ``loss``, with its interval moved along."""
    assert metric.value is not None
    assert metric.interval is not None
    spread = noise_of(metric)
    assert spread is not None
    worse = -1 if metric.higher_is_better else 1
    step = noise * spread.deviation + worse * loss * abs(metric.value)
    interval = dataclasses.replace(metric.interval, low=metric.interval.low + step, high=metric.interval.high + step)
    return dataclasses.replace(metric, value=metric.value + step, interval=interval)


def _caught(verdicts: Sequence[Verdict], reason: str) -> bool:
    return any(verdict.outcome == "fail" and verdict.reason.startswith(reason) for verdict in verdicts)


def _without_margin(rule: Rule) -> Rule:
    return dataclasses.replace(rule, relative=0.0, absolute=0.0) if rule.kind == "interval" else rule
