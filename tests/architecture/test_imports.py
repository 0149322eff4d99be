"""The package's borders: which part may import which, and what must stay quick to import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nvgbench

ROOT = Path(nvgbench.__file__).parent
BORDERS = {"types", "protocols", "errors", "files", "registry", "config", "__init__", "__main__", "device"}
SCORE_TABLE = "nvgbench.metrics.protocol"
"""Names, directions and bounds of scores: a table without torch, which whoever reads records may look into."""

# part -> parts of nvgbench it may import, beside itself and the borders
ALLOWED: dict[str, set[str]] = {
    "sampling": {"data"},
    "layouts": set(),
    "hub_network": set(),
    "autoencoder": {"data", "layouts", "parity"},
    "nvg": {"sampling", "autoencoder", "data", "layouts", "parity", "hub_network"},
    "parity": set(),
    "data": set(),
    "results": set(),
    "gates": {"results"},
    "report": {"results", "gates"},
    "metrics": {"autoencoder", "hub_network"},
    "profiling": set(),
    "training": {"data", "autoencoder", "sampling", "results", "runs"},
    "runs": {"training", "results", "sampling", "data"},
    "published": {"runs", "training"},
    "evaluation": {"data", "metrics", "sampling", "results", "runs", "training"},
    "ablations": {"data", "metrics", "nvg", "results", "runs", "training"},
}


def _modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py"))


def _part(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return relative.parts[0].removesuffix(".py")


def _imports(tree: ast.AST) -> set[str]:
    """Names of all modules imported anywhere in the file."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _top_level_imports(path: Path) -> set[str]:
    """Names of modules imported when the file is imported (not inside functions or TYPE_CHECKING blocks)."""
    body = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    return _imports(ast.Module(body=list(body), type_ignores=[]))


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    part = _part(path)
    if part in BORDERS | {"cli"}:
        return
    allowed = ALLOWED[part] | BORDERS | {part}
    names = {name for name in _imports(ast.parse(path.read_text())) if not name.startswith(SCORE_TABLE)}
    used = {name.split(".")[1] for name in names if name.startswith("nvgbench.")}
    # `from nvgbench import __version__` names an attribute, not a part
    assert used - allowed - {"__version__"} == set()


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_imports_the_guests(path: Path) -> None:
    assert not [name for name in _imports(ast.parse(path.read_text())) if name.split(".")[0] == "nvgbench_baselines"]


@pytest.mark.parametrize("part", ["results", "gates", "report"])
def test_no_torch_below_the_records(part: str) -> None:
    for path in (ROOT / part).rglob("*.py"):
        assert not {name.split(".")[0] for name in _imports(ast.parse(path.read_text()))} & {"torch", "torchvision"}


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    heavy = {"torchvision", "torch_fidelity", "cleanfid", "lpips"}
    if _part(path) in BORDERS | {"cli"} - {"device"}:
        heavy |= {"torch", "pandas", "matplotlib", "seaborn", "scipy", "sklearn", "skimage"}
    if path.name == "device.py":
        heavy -= {"torch"}
    assert not {name.split(".")[0] for name in _top_level_imports(path)} & heavy


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys; sys.argv = ['nvgbench', '--help']\n"
        "from nvgbench.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'pandas', 'matplotlib', 'pydantic', 'scipy', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "train" in done.stdout


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_readable(path: Path) -> None:
    source = path.read_text()
    assert source.count("\n") <= 450
    assert path.name != "utils.py"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno <= 90, (
                f"{node.name} is {(node.end_lineno or 0) - node.lineno} lines long"
            )
