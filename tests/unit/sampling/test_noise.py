"""Noise streams belong to images, not to batches."""

from __future__ import annotations

import pytest
import torch

from nvgbench.errors import InputError
from nvgbench.sampling.noise import SeededNoise


def _draw(noise: SeededNoise) -> list[torch.Tensor]:
    return [noise.normal(5, 3), noise.uniform(7), noise.normal(20)]


@pytest.mark.parametrize("rows", [[0], [3], [1, 2], [3, 0, 2]])
def test_an_image_is_the_same_in_every_batch(rows: list[int]) -> None:
    seeds = torch.tensor([11, 5, 2**40, 7])
    whole = _draw(SeededNoise(seeds, "cpu"))
    part = _draw(SeededNoise(seeds[rows], "cpu"))
    for one, other in zip(whole, part, strict=True):
        assert torch.equal(one[rows], other)


def test_the_global_generator_is_not_used() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    SeededNoise([1, 2]).normal(4)
    assert torch.equal(torch.rand(3), expected)


def test_shapes_and_ranges() -> None:
    noise = SeededNoise(range(64))
    uniform = noise.uniform(100)
    assert uniform.shape == (64, 100)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    normal = noise.normal(100)
    # 6400 draws: standard errors are 0.0125 (mean) and 0.009 (deviation); five of them.
    assert abs(normal.mean()) < 0.0625
    assert abs(normal.std() - 1) < 0.045
    assert not torch.equal(normal[0], normal[1])


@pytest.mark.parametrize(
    "seeds", [torch.zeros(2, 2, dtype=torch.int64), torch.tensor([0.5]), torch.zeros(0, dtype=torch.int64)]
)
def test_bad_seeds_are_refused(seeds: torch.Tensor) -> None:
    with pytest.raises(InputError, match="integer tensor"):
        SeededNoise(seeds)


def test_every_bit_of_a_seed_counts() -> None:
    """torch's generator looks at the lower 32 bits alone, and the seed of a job stands above them."""
    seeds = [7, 7 + (1 << 32), 7 + (2 << 32), 8, 8 + (1 << 32), -7]
    drawn = SeededNoise(torch.tensor(seeds)).normal(4)
    assert len({tuple(row.tolist()) for row in drawn}) == len(seeds)
    assert torch.equal(drawn[0], torch.randn(4, generator=torch.Generator().manual_seed(7)))
