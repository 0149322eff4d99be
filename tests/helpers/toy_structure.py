"""A distribution of balanced bit maps whose joint law is known, and a network small enough to learn it in seconds.

A grid of 2 x 2 positions has one split to learn: two of its four positions get a 1. Of the six patterns, the halves (top,
bottom, left, right) have different probabilities and the diagonals none, which independent bits cannot imitate.

Shape letters: B batch, N rows, L positions, K structure channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nvgbench.nvg.config import NvgModelConfig, NvgSamplingConfig
from nvgbench.nvg.stages import StageLayout
from nvgbench.nvg.structure import split_clusters
from nvgbench.nvg.structure_flow.objective import Network, StructureObjective
from nvgbench.nvg.structure_flow.registry import structure_objective

LAYOUT = StageLayout((2, 2))
PATTERNS = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0]])
LAW = torch.tensor([0.4, 0.3, 0.2, 0.1, 0.0, 0.0])


def draw_maps(count: int, rng: torch.Generator) -> Tensor:
    """Structure maps of the last stage ``[B, L]``: the first bit from `LAW`, the second uniform within the parents."""
    bits_BL = PATTERNS[torch.multinomial(LAW, count, replacement=True, generator=rng)]
    return split_clusters(bits_BL, 1, torch.zeros(count, 4), rng)


def pattern_law(bits_BL: Tensor) -> Tensor:
    """Frequencies of the six patterns."""
    return (bits_BL[:, None] == PATTERNS).all(-1).float().mean(0)


def total_variation(first: Tensor, other: Tensor) -> float:
    return float((first - other).abs().sum() / 2)


class ToyNetwork(nn.Module):
    """A multilayer perceptron on the noised maps and the times."""

    def __init__(self, two_times: bool, width: int = 96) -> None:
        super().__init__()
        self.two_times = two_times
        inputs = LAYOUT.positions * LAYOUT.channels + (2 if two_times else 1)
        outputs = LAYOUT.positions * LAYOUT.channels
        self.layers = nn.Sequential(
            nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, outputs),
        )  # fmt: skip

    def forward(self, z_NLK: Tensor, t_N: Tensor, rows_N: Tensor | None = None) -> Tensor:
        times_NX = t_N if self.two_times else t_N[:, None]
        return self.layers(torch.cat((z_NLK.flatten(1), times_NX), dim=-1)).view_as(z_NLK)


def learn(
    objective: StructureObjective, steps: int, *, teacher: Network | None = None, batch: int = 256, rate: float = 3e-3
) -> ToyNetwork:
    """A network trained with the objective."""
    torch.manual_seed(0)
    network, rng = ToyNetwork(objective.two_times), torch.Generator().manual_seed(1)
    averaged = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99))
    optimizer = torch.optim.Adam(network.parameters(), lr=rate, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=rate / 50)
    maps_XL = draw_maps(8192, rng)
    for _ in range(steps):
        maps_BL = maps_XL[torch.randint(len(maps_XL), (batch,), generator=rng)]
        loss = objective.losses(network, objective.draw(maps_BL, rng), teacher).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        averaged.update_parameters(network)
    result = averaged.module
    assert isinstance(result, ToyNetwork)
    return result


@torch.no_grad()
def sampled_bits(objective: StructureObjective, network: Network, settings: NvgSamplingConfig, count: int = 20_000) -> Tensor:
    """First splits ``[B, L]`` of 0 and 1."""
    rng = torch.Generator().manual_seed(2)
    noise_BLK = torch.randn(count, LAYOUT.positions, LAYOUT.channels, generator=rng)
    times = objective.evaluations(settings)

    def predict(z_BLK: Tensor, step: int) -> Tensor:
        t = torch.tensor(times[step]).expand(count, -1)
        return network(z_BLK, t if objective.two_times else t[:, 0], None)

    scores_BLb = objective.scores(predict, torch.ones_like(noise_BLK), 0, noise_BLK, settings)
    uniforms_BL = torch.rand(count, LAYOUT.positions, generator=rng) if settings.gumbel else None
    return split_clusters(
        torch.zeros(count, LAYOUT.positions, dtype=torch.int64), 0, scores_BLb[..., 0], uniforms_BL=uniforms_BL
    )


def toy_objective(name: str, **options: object) -> StructureObjective:
    config = NvgModelConfig(depth=1, structure_objective=name, **options)  # type: ignore[arg-type]
    return structure_objective(config, LAYOUT)
