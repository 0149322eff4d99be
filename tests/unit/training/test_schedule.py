"""Learning rates against the numbers of VAR's own function, and the shapes' defining properties."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nvgbench_baselines.var.verification import FIXTURES

from nvgbench.config.schema import PhaseConfig
from nvgbench.training.schedule import learning_rate, weight_decay

GOLDEN = json.loads((FIXTURES / "var_train_recipe_numbers.json").read_text())["schedules"]

# name of the schedule -> shape, peak, decay_start, final_fraction, total steps, warm-up steps
RECIPES = {
    "d16_README lin0": ("linear", 3e-4, 0.05, 0.1, 200 * 1669, 4 * 1669),
    "d30_README lin0": ("linear", 3.2e-4, 0.05, 0.01, 350 * 1252, 7 * 1252),
    "cos": ("cosine", 1.0, 0.0, 0.01, 1000, 20),
    "lin": ("linear", 1.0, 0.15, 0.01, 1000, 20),
    "lin00": ("linear", 1.0, 0.0, 0.01, 1000, 20),
    "lin0.3": ("bent", 1.0, 0.3, 0.01, 1000, 20),
    "exp": ("exponential", 1.0, 0.15, 0.01, 1000, 20),
}


@pytest.mark.parametrize("name", list(RECIPES))
def test_rates_equal_those_of_var(name: str) -> None:
    schedule, peak, decay_start, final, total, warmup = RECIPES[name]
    phase = PhaseConfig(
        steps=total,
        batch_size=768,
        learning_rate=peak,
        schedule=schedule,
        warmup_steps=warmup,
        warmup_start=0.005,
        decay_start=decay_start,
        final_fraction=final,
    )
    for step, rate, _ in GOLDEN[name]["rows"]:
        assert learning_rate(phase, step, total) == pytest.approx(rate, rel=1e-9), step


def test_wsd_is_flat_until_80_percent_and_ends_at_a_tenth() -> None:
    phase = PhaseConfig(steps=1001, batch_size=1, learning_rate=1.0, schedule="wsd", warmup_steps=100, decay_start=0.8)
    assert learning_rate(phase, 0, 1001) == 0.005
    assert {learning_rate(phase, step, 1001) for step in range(100, 801)} == {1.0}
    assert learning_rate(phase, 900, 1001) == pytest.approx(0.55)
    assert learning_rate(phase, 1000, 1001) == pytest.approx(0.1)


@example(schedule="wsd", total=3, warmup=2, decay_start=0.0, final=0.0)
@given(
    schedule=st.sampled_from(["wsd", "cosine", "linear", "bent", "exponential", "constant"]),
    total=st.integers(1, 300),
    warmup=st.integers(0, 400),
    decay_start=st.floats(0, 1),
    final=st.floats(0, 1),
)
def test_rates_rise_then_never_rise_again(schedule: str, total: int, warmup: int, decay_start: float, final: float) -> None:
    phase = PhaseConfig(
        steps=total,
        batch_size=1,
        learning_rate=0.5,
        schedule=schedule,
        warmup_steps=warmup,
        decay_start=decay_start,
        final_fraction=final,
    )
    rates = [learning_rate(phase, step, total) for step in range(total)]
    assert all(0 <= rate <= 0.5 + 1e-12 for rate in rates)
    peak = rates.index(max(rates))
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(rates[: peak + 1]))
    assert all(a + 1e-12 >= b for a, b in itertools.pairwise(rates[peak:]))
    if schedule != "constant" and total > 2 and decay_start < 1:
        assert rates[-1] == pytest.approx(0.5 * final)


def test_weight_decay_is_constant_or_moves_along_half_a_cosine() -> None:
    still = PhaseConfig(steps=101, batch_size=1, learning_rate=1.0, weight_decay=0.05)
    assert {weight_decay(still, step, 101) for step in range(101)} == {0.05}
    rising = PhaseConfig(steps=101, batch_size=1, learning_rate=1.0, weight_decay=0.05, final_weight_decay=0.08)
    values = [weight_decay(rising, step, 101) for step in range(101)]
    assert values == sorted(values)
    assert [values[0], values[50], values[100]] == pytest.approx([0.05, 0.065, 0.08])
    assert weight_decay(rising, 0, 1) == pytest.approx(0.05)
