"""The hierarchy of structure maps, built bottom-up from latents (paper, Algorithm 1): exact, batched, on any device.

At each level the closest pair of cluster means is joined and removed from the pool, until the pool is empty.
`nvgbench.nvg.sequential` does this pair by pair. Three ideas make it fast, and independent of batch size, device and number
of threads:

1. *Lattice.* Latents are rounded to integers, so squared distances are exact integers whatever the order of summation.
   Floating-point distances depend on how they are computed, and in flat image regions that alone decides the pairs. The step
   is a power of two per image, derived from its largest magnitude: 2^-16 for 256 latents of 32 channels that reach 4 … 8.
2. *Strict total order of edges.* With ties broken by index, no two edges are equal. Joining mutual nearest neighbours in any
   order then gives exactly the pairs of the sequential loop, and sorting them gives its order. One int64 key holds distance
   and indices, so the minimum of a row identifies its nearest neighbour.
3. *Recurrence.* Clusters of a level have equal sizes, so the distances of the next level follow from those of this one:
   |a + b - c - d|² = ac + ad + bc + bd - ab - cd, between the sums of the members.

The same labels come from three implementations: `batched` (tensor operations), `compiled` (numba, on a CPU) and `kernel`
(Triton, on a GPU). `backends` chooses.
"""

from __future__ import annotations

from nvgbench.nvg.clustering.batched import TieBreak
from nvgbench.nvg.clustering.hierarchy import ChildOrder, Method, build_structure, joining_order

__all__ = ["ChildOrder", "Method", "TieBreak", "build_structure", "joining_order"]
