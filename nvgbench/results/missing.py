"""Scores that a record might have and has not, and why. No torch."""

from __future__ import annotations

from nvgbench.results.paths import without_machine_paths
from nvgbench.results.schema import RunRecord

_PREFIX = "perceptual loss: none, because "
_WAY_OUT = ", or go without"
"""How the note, which is that of the training loss, begins, and how its advice begins that is of no use to an evaluation."""


def why_no_lpips(record: RunRecord) -> str:
    """Why a record of reconstructions has no LPIPS, a line without paths; empty where it has, or holds none."""
    names = {metric.name for metric in record.metrics}
    said = record.provenance.get("lpips")
    if "LPIPS" in names or "PSNR" not in names or not isinstance(said, str):
        return ""
    return str(without_machine_paths(said)).removeprefix(_PREFIX).partition(_WAY_OUT)[0]
