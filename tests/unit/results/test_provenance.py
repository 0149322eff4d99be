from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from nvgbench.results import provenance


def test_what_is_collected() -> None:
    found = provenance.collect(config_hash="abc", seeds=[0, 1], gpu="Imaginary 9000")
    assert found["config_hash"] == "abc"
    assert found["seeds"] == [0, 1]
    assert found["machine"]["gpu"] == "Imaginary 9000"
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["memory"] > 2**28
    assert found["libraries"]["numpy"] != provenance.NOT_AVAILABLE
    assert found["time"].endswith("+00:00")


def test_a_package_outside_a_checkout_has_no_commit(monkeypatch) -> None:
    """The commit of a repository around an installed package is not that of the package."""
    answers = {"rev-parse": "/somewhere/else"}
    monkeypatch.setattr(provenance, "_git", lambda root, *arguments: answers.get(arguments[0]))
    provenance.source_state.cache_clear()
    try:
        assert provenance.source_state() == (None, None)
    finally:
        provenance.source_state.cache_clear()


def test_results_do_not_import_torch() -> None:
    code = (
        "import sys, nvgbench.results.store, nvgbench.results.provenance as p; p.collect();"
        "assert 'torch' not in sys.modules, 'torch imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
