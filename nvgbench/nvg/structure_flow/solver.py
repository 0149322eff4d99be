"""Integration from noise to data on a grid of times.

Shape letters: B batch, L positions, K structure channels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor

Velocity = Callable[[Tensor, int], Tensor]
"""``z [B, L, K]`` and the index of a time to the velocity there."""


def time_grid(steps: int, schedule: Literal["shifted", "uniform"], positions: int) -> list[float]:
    """Times 1 = t_0 > … > t_steps = 0 of the integration.

    ``shifted`` puts more steps near the noise, the more positions there are: t' = e^mu / (e^mu + 1/t - 1) with mu linear in
    the number of positions, 0.5 at 256 and 1.15 at 4096 (the schedule of FLUX, which the reference uses).
    """
    uniform = [1 - step / steps for step in range(steps + 1)]
    if schedule == "uniform":
        return uniform
    shift = math.exp(0.5 + (1.15 - 0.5) * (positions - 256) / (4096 - 256))
    return [shift / (shift + (1 / t - 1)) if t > 0 else 0.0 for t in uniform]


def euler(velocity: Velocity, start_BLK: Tensor, times: Sequence[float], impose: Callable[[Tensor], Tensor]) -> Tensor:
    """One evaluation per interval; ``impose`` overwrites decided channels at the start and after every step."""
    z_BLK = impose(start_BLK)
    for step, (now, later) in enumerate(itertools.pairwise(times)):
        z_BLK = impose(z_BLK + (later - now) * velocity(z_BLK, step))
    return z_BLK


def heun(velocity: Velocity, start_BLK: Tensor, times: Sequence[float], impose: Callable[[Tensor], Tensor]) -> Tensor:
    """Heun's method; the last step is Euler's, since the network is hardly trained at t = 0. 2 n - 1 evaluations."""
    z_BLK = impose(start_BLK)
    last = len(times) - 2
    for step, (now, later) in enumerate(itertools.pairwise(times)):
        first_BLK = velocity(z_BLK, step)
        ahead_BLK = impose(z_BLK + (later - now) * first_BLK)
        if step < last:
            ahead_BLK = impose(z_BLK + (later - now) * (first_BLK + velocity(ahead_BLK, step + 1)) / 2)
        z_BLK = ahead_BLK
    return z_BLK
