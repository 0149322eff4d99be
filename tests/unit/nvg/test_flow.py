"""The flow of the structure maps: interpolant, partial noise, times, solver."""

from __future__ import annotations

import pytest
import torch

from nvgbench.nvg.config import GranularityConfig, NvgSamplingConfig
from nvgbench.nvg.quantizer import GranularityQuantizer
from nvgbench.nvg.sampler import NvgSampler
from nvgbench.nvg.structure_flow.solver import time_grid
from tests.helpers.tiny_nvg import tiny


@pytest.mark.parametrize("structure_input", ["partial-noise", "pure-noise"])
def test_partial_noise_shows_the_decided_channels(structure_input: str) -> None:
    structure_BL = torch.stack([torch.randperm(16, generator=torch.Generator().manual_seed(seed)) for seed in range(4)])
    epsilon = torch.randn(4, 16, 4, generator=torch.Generator().manual_seed(2))
    flow = tiny(structure_input=structure_input).flow.mix(structure_BL, epsilon, torch.full((4, 3), 0.25))
    assert set(flow.data_BLK.unique().tolist()) == {-1.0, 1.0}
    for stage in range(3):
        noise, z = flow.noise_BTLK[:, stage], flow.z_BTLK[:, stage]
        known = stage if structure_input == "partial-noise" else 0
        assert torch.equal(noise[..., :known], flow.data_BLK[..., :known])
        assert torch.equal(z[..., :known], flow.data_BLK[..., :known])
        assert torch.equal(noise[..., known:], epsilon[..., known:])
        torch.testing.assert_close(z[..., known:], (0.75 * flow.data_BLK + 0.25 * epsilon)[..., known:])


@pytest.mark.parametrize("structure_input", ["partial-noise", "pure-noise"])
def test_decided_channels_stay_while_integrating(structure_input: str) -> None:
    flow = tiny(structure_input=structure_input).flow
    noise = torch.randn(2, 16, 4, generator=torch.Generator().manual_seed(0))
    se = torch.full((2, 16, 4), 2.0)
    seen: list[torch.Tensor] = []

    def predict(z: torch.Tensor, step: int) -> torch.Tensor:
        seen.append(z)
        return torch.ones_like(z)

    scores = flow.scores(predict, se, 2, noise, NvgSamplingConfig(flow_steps=3))
    assert len(seen) == 3
    assert torch.equal(seen[0][..., 2:], noise[..., 2:])
    for z in seen:
        assert bool((z[..., :2] == 1).all()) == (structure_input == "partial-noise")
    # A velocity of one over the unit of time: noise - 1.
    torch.testing.assert_close(scores, noise[..., 2:3] - 1)


def test_the_last_split_needs_no_network() -> None:
    flow, noise = tiny().flow, torch.randn(2, 16, 4)

    def predict(z: torch.Tensor, step: int) -> torch.Tensor:
        raise AssertionError

    assert torch.equal(flow.scores(predict, torch.ones(2, 16, 4), 3, noise, NvgSamplingConfig()), noise[..., 3:])


def test_drawn_times_are_logit_normal() -> None:
    structure = torch.arange(16).expand(2000, -1)
    inputs = tiny().flow.draw(structure, torch.Generator().manual_seed(0))
    logits = inputs.t_BT.logit()
    # 6,000 draws: standard errors of 0.013 (mean) and 0.009 (deviation).
    assert abs(logits.mean()) < 0.06
    assert abs(logits.std() - 1) < 0.05


def test_times_run_from_noise_to_data() -> None:
    for schedule in ("shifted", "uniform"):
        times = time_grid(7, schedule, 64)  # type: ignore[arg-type]
        assert times[0] == 1.0
        assert times[-1] == 0.0
        assert times == sorted(times, reverse=True)
    assert time_grid(4, "uniform", 64) == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert time_grid(2, "shifted", 4096)[1] > time_grid(2, "shifted", 256)[1] > 0.5


def test_one_euler_step_of_a_constant_flow_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(structure_input="pure-noise")
    data = torch.randn(2, 16, 4, generator=torch.Generator().manual_seed(3))
    noise = torch.randn(2, 16, 4, generator=torch.Generator().manual_seed(4))
    monkeypatch.setattr(model.structure, "velocity_modulated", lambda z, *rest: noise - data)
    quantizer = GranularityQuantizer(GranularityConfig(), 20, 6, (4, 4))
    for steps in (1, 5):
        sampler = NvgSampler(model, quantizer, NvgSamplingConfig(flow_steps=steps, structure_guidance=(1.0, 1.0)))
        structure = (torch.arange(16) >> 3).expand(2, -1)
        scores = sampler.structure_scores(torch.zeros(2, 16, 6), structure, 1, torch.zeros(2).long(), noise)
        torch.testing.assert_close(scores[..., 0], data[..., 1])
