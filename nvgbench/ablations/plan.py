"""The ablation studies and what each of them varies. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a study asks, varies and reports.

    Attributes:
        name: the command: ``nvgbench ablate NAME``.
        question: one line.
        varies: what is changed, with its levels in words.
        reports: the tables of its record, one line each.
    """

    name: str
    question: str
    varies: Mapping[str, str]
    reports: Mapping[str, str]


NOISE_LEVELS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Standard deviation of the noise on the features, relative to that of the image's features."""
SHIFT_CELLS = (1, 2)
CROP_CELLS = (1, 2)

CLUSTERS = Study(
    name="clusters",
    question="How stable is the hierarchy of structure maps, and how much of the features does it explain?",
    varies={
        "clustering": "greedy (the method's), quadtree (fixed, ignores features), random (drawn anew for every view)",
        "seed": "tokenizers trained with different seeds, every pair of runs",
        "noise": f"on the features, {', '.join(f'{level:g}' for level in NOISE_LEVELS)} of their standard deviation",
        "flip": "the image mirrored left to right",
        "shift": f"the image shifted right by {' and '.join(map(str, SHIFT_CELLS))} cells of the latent grid",
        "crop": f"{' and '.join(map(str, CROP_CELLS))} cells cropped from every side, the rest enlarged to full size",
        "bf16": "features rounded to bfloat16",
        "chance": "maps of other images",
    },
    reports={
        "cluster_stability": "adjusted Rand index (95 % interval over images) and mutual information at every inner stage",
        "cluster_quality": "share of the features' sum of squares that the cluster means explain, at every inner stage",
    },
)

STUDIES: dict[str, Study] = {study.name: study for study in (CLUSTERS,)}
