"""The table that says where each record comes from."""

from __future__ import annotations

from typing import Any

from nvgbench.reporting.provenance_table import provenance_table
from nvgbench.reporting.tables import Cell
from nvgbench.results.schema import RunRecord
from tests.helpers.report_records import provenance

EVALUATION = {
    "protocol": {"id": "adm", "version": 1, "summary": "its rules", "library": ""},
    "settings": {"content_guidance": [1.0, 3.5], "top_k": 0, "top_p": [1.0, 0.5], "temperature": 1.0, "flow_steps": 25},
    "reference": {
        "name": "VIRTUAL_imagenet256_labeled.npz",
        "fingerprint": "a" * 64,
        "images_fingerprint": "b" * 64,
        "stored_moments": True,
    },
    "extractor": {"name": "inception", "fingerprint": "c" * 64, "weights_sha256": "6726825d" * 8},
    "device": {"device": "cuda:0", "threads": 8, "matmul_precision": "highest"},
    "precision": "float32",
}


def row(**origin: Any) -> dict[str, Cell]:
    table = provenance_table([RunRecord(kind="eval", subject="m", provenance=provenance(**origin))])
    (found,) = table.groups[0].rows
    return {column.label: cell for column, cell in zip(table.columns, found, strict=True)}


def test_everything_that_affects_a_score_is_shown() -> None:
    shown = row(**EVALUATION)
    assert shown["sampling settings"].text == (
        "content_guidance 1.0 to 3.5, top_k 0, top_p 1.0 to 0.5, temperature 1.0, flow_steps 25"
    )
    assert shown["protocol"].text == "adm/1"
    assert shown["reference"].text == "VIRTUAL_imagenet256_labeled.npz"
    assert shown["reference"].sub == f"SHA-256 {'a' * 16}…; with its stored moments"
    assert shown["extractor"].sub == f"SHA-256 {'c' * 16}…; weights SHA-256 6726825d6726825d…"
    assert shown["machine"].text == "NVIDIA H200"
    for part in ("Processor 3000", "on cuda:0", "16 cores", "8 threads", "float32", "matmul precision highest"):
        assert part in shown["machine"].sub


def test_the_reference_of_reconstructions_is_named_if_it_differs() -> None:
    own = {"name": "shapes (eval)", "fingerprint": "d" * 64, "n": 512}
    assert (
        f"; reconstructions: shapes (eval), SHA-256 {'d' * 16}…"
        in row(**EVALUATION, reconstruction_reference=own)["reference"].sub
    )
    assert row(reference=own, reconstruction_reference=own)["reference"].sub == f"SHA-256 {'d' * 16}…"


def test_missing_provenance_is_blank() -> None:
    shown = row(settings={})
    assert [shown[name].text for name in ("sampling settings", "protocol", "reference", "extractor")] == ["\u2013"] * 4
