"""The clustering kernel's choices: warps and size of its tiles, and what precedes it."""

from __future__ import annotations

import functools

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.clustering import GOALS, latents
from nvgbench.nvg.clustering import batched, kernel
from nvgbench.nvg.clustering.lattice import integer_points


def measure(bench: Bench) -> None:
    """Times of the parts at each batch size."""
    for batch in GOALS:
        points_BLC = integer_points(latents(batch, bench))
        seconds = bench.time(functools.partial(integer_points, latents(batch, bench)))
        bench.add("integer points", "latency", "s", seconds, batch=batch)
        seconds = bench.time(functools.partial(batched.squared_distances, points_BLC))
        bench.add("squared distances", "latency", "s", seconds, batch=batch)
        for warps in (4, 8, 16):
            for tile in (2048, 4096, 8192):
                run = functools.partial(kernel.finest_maps, points_BLC, "xor", warps=warps, tile=tile)
                seconds = bench.time(run, repeats=10)
                bench.add("distances and kernel", "latency", "s", seconds, batch=batch, warps=warps, tile=tile)
