"""Objectives of the structure generator: identities on a flow that is known in closed form, and learning a known distribution.

The known flow has Gaussian data N(0, S²): with s(t)² = (1 - t)²·S² + t², a point moves from t to r as z·s(r) / s(t).

Shape letters: N rows, L positions, K structure channels.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from nvgbench.nvg.config import NvgSamplingConfig
from nvgbench.nvg.sampler import NvgSampler
from nvgbench.nvg.structure_flow.bits import logistic
from nvgbench.nvg.structure_flow.jump import JumpObjective, Rows
from nvgbench.nvg.structure_flow.mean_flow import total_derivative
from nvgbench.nvg.structure_flow.registry import OBJECTIVES
from nvgbench.nvg.structure_flow.solver import euler, heun
from nvgbench.nvg.structure_flow.split_mean_flow import SplitMeanFlow
from tests.helpers.tiny_nvg import SQUARE, tiny
from tests.helpers.toy_structure import (
    LAW,
    LAYOUT,
    ToyNetwork,
    draw_maps,
    learn,
    pattern_law,
    sampled_bits,
    total_variation,
    toy_objective,
)

STEPS = 400
JUMPS = [name for name, found in OBJECTIVES.items() if issubclass(found, JumpObjective)]


def spread(t: Tensor, deviation: float = 0.5) -> Tensor:
    return (((1 - t) * deviation).square() + t.square()).sqrt()


def known_velocity(z_NLK: Tensor, t_N: Tensor, deviation: float = 0.5) -> Tensor:
    return z_NLK * ((t_N - (1 - t_N) * deviation**2) / spread(t_N, deviation).square())[:, None, None]


def known_average(z_NLK: Tensor, t_N2: Tensor, rows_N: Tensor | None = None) -> Tensor:
    """Average velocity from t to r; the velocity where they are equal."""
    t_N, r_N = t_N2.unbind(-1)
    jump = ((1 - spread(r_N) / spread(t_N)) / (t_N - r_N).clamp_min(1e-9))[:, None, None] * z_NLK
    return torch.where((t_N - r_N)[:, None, None] > 1e-6, jump, known_velocity(z_NLK, t_N))


def known_rows(count: int = 64) -> Rows:
    rng = torch.Generator().manual_seed(0)
    times = torch.rand(count, 2, generator=rng, dtype=torch.float64)
    z = torch.randn(count, 4, 2, generator=rng, dtype=torch.float64)
    t, r = 0.1 + 0.9 * times.amax(-1), 0.05 * times.amin(-1)
    return Rows(z, t, r, z, known_velocity(z, t), torch.ones(count, 1, 2, dtype=torch.float64))


def test_the_identity_of_mean_flows_holds_for_a_known_flow() -> None:
    rows = known_rows()
    slope = total_derivative(known_average, rows, rows.velocity_NLK, torch.arange(64))
    u = known_average(rows.z_NLK, torch.stack((rows.t_N, rows.target_N), -1))
    left = u + (rows.t_N - rows.target_N)[:, None, None] * slope
    # The central difference has half a step of 0.01; the error of its third derivative is below a hundredth.
    torch.testing.assert_close(left, rows.velocity_NLK, rtol=1e-2, atol=5e-3)


def test_two_jumps_of_a_known_flow_average_to_one() -> None:
    rows, objective = known_rows(), toy_objective("split-mean-flow")
    assert isinstance(objective, SplitMeanFlow)
    composed = objective._composed(known_average, rows, torch.arange(64))
    torch.testing.assert_close(composed, known_average(rows.z_NLK, torch.stack((rows.t_N, rows.target_N), -1)))


def test_the_lagrangian_condition_of_the_endpoint_holds_for_a_known_flow() -> None:
    """pi - g·s·dpi/ds = pi(X, s, s), in which pi is no longer bounded."""
    rows = known_rows()
    z, t = rows.z_NLK[:, 0, 0], rows.t_N
    s = (0.1 + rows.target_N).requires_grad_(True)

    def pi(z: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return (z * spread(s) / spread(t) - s / t * z) / (1 - s / t)

    (slope,) = torch.autograd.grad(pi(z, t, s).sum(), s)
    reached = z * spread(s) / spread(t)
    diagonal = reached - s * known_velocity(reached[:, None, None], s)[:, 0, 0]
    torch.testing.assert_close(pi(z, t, s) - (1 - s / t) * s * slope, diagonal)


def test_heun_is_of_second_order() -> None:
    start = torch.ones(1, 1, 1, dtype=torch.float64)
    errors: dict[Any, list[float]] = {}
    for solve in (euler, heun):
        for steps in (20, 40):
            grid = [1 - 0.9 * step / steps for step in range(steps + 1)]

            def velocity(z: Tensor, step: int, grid: list[float] = grid) -> Tensor:
                return known_velocity(z, torch.tensor([grid[step]], dtype=torch.float64))

            exact = spread(torch.tensor(0.1, dtype=torch.float64)) / spread(torch.tensor(1.0, dtype=torch.float64))
            errors.setdefault(solve, []).append(float((solve(velocity, start, grid, lambda z: z) - exact).abs()))
    assert errors[euler][0] / errors[euler][1] == pytest.approx(2, abs=0.3)
    assert errors[heun][1] < errors[euler][1] / 3  # its last step is Euler's


def test_logistic_noise_draws_with_the_probability_of_a_logit() -> None:
    noise = logistic(torch.randn(40_000, generator=torch.Generator().manual_seed(0)))
    for logit in (-2.0, 0.5):
        share = float((noise + logit > 0).float().mean())
        assert share == pytest.approx(float(torch.tensor(logit).sigmoid()), abs=0.01)  # four standard errors


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_a_certain_structure_costs_nothing(name: str) -> None:
    """All images have one structure map, and the network knows it."""
    torch.manual_seed(0)
    objective, structure_BL = toy_objective(name), torch.arange(4).expand(8, -1)
    inputs = objective.draw(structure_BL, torch.Generator().manual_seed(0))
    data = inputs.data_BLK[0]

    def network(z: Tensor, t: Tensor, rows: Tensor | None) -> Tensor:
        if name in ("flow-map", "bernoulli", "masked", "grouped"):
            return 20 * data.expand_as(z)
        now = t[:, 0] if objective.two_times else t
        return (z - data) / now[:, None, None]

    # The logits are 20, not infinite; the difference of a mean flow is of float32 values.
    assert objective.losses(network, inputs).abs().max() < 1e-3


@pytest.mark.parametrize("taught", [False, True])
@pytest.mark.parametrize("name", [*OBJECTIVES, "endpoint"])
def test_the_cost_of_training_is_that_of_the_passes(name: str, taught: bool) -> None:
    objective = toy_objective("flow-map", flow_map_loss="endpoint") if name == "endpoint" else toy_objective(name)
    if taught and not objective.distils:
        pytest.skip("there is no teacher")
    inputs = objective.draw(torch.arange(4).expand(8, -1), torch.Generator().manual_seed(0))
    passes = 0

    def network(z: Tensor, t: Tensor, rows: Tensor | None) -> Tensor:
        nonlocal passes
        passes += len(z) * (3 if torch.is_grad_enabled() else 1)
        return torch.zeros_like(z)

    objective.losses(network, inputs, network if taught else None)
    assert passes / 8 == objective.training_cost(taught)


@pytest.mark.parametrize("name", JUMPS)
def test_targets_are_no_later_than_times(name: str) -> None:
    objective = toy_objective(name)
    inputs = objective.draw(torch.arange(4).expand(400, -1), torch.Generator().manual_seed(0))
    assert inputs.target_BT is not None
    assert isinstance(objective, JumpObjective)
    assert (inputs.target_BT <= inputs.t_BT).all()
    assert (inputs.target_BT >= 0).all()
    share = float((inputs.target_BT < inputs.t_BT).float().mean())
    assert share == pytest.approx(1 / objective.period, abs=0.02)


@pytest.mark.parametrize(("name", "steps", "counts"), [("masked", 4, [0, 1, 4, 9, 16]), ("grouped", 4, [0, 4, 8, 12, 16])])
def test_every_pass_reveals_positions(name: str, steps: int, counts: list[int]) -> None:
    objective: Any = tiny(structure_objective=name).flow
    assert objective.revealed(steps) == counts
    assert objective.revealed(50) == list(range(17))
    assert sorted(objective.order(torch.randn(1, 16))[0].tolist()) == list(range(16))


@functools.cache
def learned(name: str) -> ToyNetwork:
    return learn(toy_objective(name), STEPS)


def distance(name: str, steps: int, network: ToyNetwork | None = None) -> float:
    settings = NvgSamplingConfig(flow_steps=steps, flow_schedule="uniform")
    bits_BL = sampled_bits(toy_objective(name), network or learned(name), settings)
    assert torch.equal(bits_BL.sum(1), torch.full((len(bits_BL),), LAYOUT.positions // 2))
    return total_variation(pattern_law(bits_BL), LAW)


@pytest.mark.parametrize(
    ("name", "steps", "bound"),
    [
        ("flow", 8, 0.09),
        ("flow-map", 1, 0.12),
        ("mean-flow", 1, 0.15),
        ("split-mean-flow", 1, 0.15),
        ("shortcut", 2, 0.15),
        ("masked", 4, 0.06),
        ("grouped", 4, 0.06),
    ],
)
def test_samples_follow_the_known_distribution(name: str, steps: int, bound: float) -> None:
    """Total-variation distance; 20,000 samples contribute below 0.01, the rest is the short training."""
    assert distance(name, steps) < bound


@pytest.mark.parametrize("name", ["flow-map", "mean-flow"])
def test_one_step_beats_independent_bits(name: str) -> None:
    """Independent bits are 0.36 away, however long they train: the law of the patterns is no product."""
    independent = distance("bernoulli", 1)
    assert independent > 0.33
    assert distance(name, 1) < independent - 0.18


def test_a_student_agrees_with_its_teacher() -> None:
    teacher, objective = learned("flow"), toy_objective("mean-flow")
    student = learn(objective, STEPS, teacher=teacher)
    exact = sampled_bits(toy_objective("flow"), teacher, NvgSamplingConfig(flow_steps=25), 4000)
    ours = sampled_bits(objective, student, NvgSamplingConfig(flow_steps=1), 4000)
    assert total_variation(pattern_law(ours), pattern_law(exact)) < 0.12
    # Both start from the same noise, so that not only the distributions but the samples agree.
    assert (ours == exact).float().mean() > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flow", "flow-map", "mean-flow", "split-mean-flow", "shortcut"])
def test_longer_training_comes_closer(name: str) -> None:
    network = learn(toy_objective(name), 3000)
    assert distance(name, 8, network) < 0.05
    assert name == "flow" or distance(name, 1, network) < 0.08


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_the_real_generator_learns_and_samples_with_every_objective(name: str) -> None:
    model = tiny(structure_objective=name)
    assert ("structure.interval_embed.linear_in.weight" in model.state_dict()) == OBJECTIVES[name].two_times
    rng = torch.Generator().manual_seed(0)
    structure_BL = torch.stack([torch.randperm(16, generator=rng) for _ in range(3)])
    inputs = model.flow.draw(structure_BL, rng)
    output = model(
        torch.randn(3, 5, 16, 6, generator=rng), structure_BL,
        lambda conditions, own: model.flow.losses(conditions.bind(own), inputs),
        torch.tensor([0, 1, 3]), content=False,
    )  # fmt: skip
    assert output.structure.shape == (3,)
    output.structure.mean().backward()
    without = {key for key, weight in model.structure.named_parameters() if weight.grad is None or not weight.grad.any()}
    # What feeds the interval's last layer starts at 0, so its input has no gradient yet.
    assert without <= {"interval_embed.linear_in.weight", "interval_embed.linear_in.bias"}
    assert all(weight.grad is None for weight in model.content.parameters())
    settings = NvgSamplingConfig(flow_steps=2, structure_guidance=(1.0, 2.0))
    with torch.no_grad():
        sampler = NvgSampler(model.eval(), _NoCodes(), settings)
        canvas, labels = torch.randn(2, 16, 6, generator=rng), torch.tensor([0, 1])
        noise = torch.randn(2, 16, 4, generator=rng)
        scores = sampler.structure_scores(canvas, torch.arange(16).expand(2, -1) // 8, 1, labels, noise)
        other = sampler.structure_scores(canvas, torch.arange(16).expand(2, -1) // 8, 1, labels, -noise)
    assert scores.shape == (2, 16, 1)
    assert SQUARE.structure_stages == 3
    assert not torch.equal(scores, other)


class _NoCodes:
    def refine(self, indices_Bn: Tensor, structure_BL: Tensor, stage: int) -> Tensor:
        raise NotImplementedError


def test_toy_maps_have_the_known_law() -> None:
    maps = draw_maps(20_000, torch.Generator().manual_seed(5))
    assert total_variation(pattern_law(maps >> 1), LAW) < 0.02
