"""Why a record lacks a score that it could have. No torch."""

from __future__ import annotations

from nvgbench.results.paths import without_machine_paths
from nvgbench.results.schema import RunRecord

_PREFIX = "perceptual loss: none, because "
_WAY_OUT = ", or go without"
"""How the note, which comes from the training loss, begins, and how its advice begins, which does not apply to evaluations."""


def why_no_lpips(record: RunRecord) -> str:
    """Why a record of reconstructions has no LPIPS, as one line without paths; empty if it has, or has no reconstructions."""
    names = {metric.name for metric in record.metrics}
    note = record.provenance.get("lpips")
    if "LPIPS" in names or "PSNR" not in names or not isinstance(note, str):
        return ""
    return str(without_machine_paths(note)).removeprefix(_PREFIX).partition(_WAY_OUT)[0]
