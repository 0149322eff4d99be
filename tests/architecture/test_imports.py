"""The package's rooms: which may import which, what stays quick to import, and how large files may grow."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import nvgbench

ROOT = Path(nvgbench.__file__).parent
ENTRANCE = {"errors", "types", "interfaces", "files", "progress", "registry", "device", "allocator", "config"}
"""What every room may import."""


def _readme_rows() -> dict[str, set[str]]:
    """Room -> the rooms that it imports, from the table in the README."""
    table = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8").partition("## Architecture")[2]
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|$", table, re.MULTILINE)
    return {room: set(re.findall(r"\w+", imports)) for room, imports in rows}


ARROWS = _readme_rows()


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _files() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def _room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def _imported(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Full names of the modules (or of their attributes) that import statements name."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _arrows() -> dict[tuple[str, str], list[str]]:
    """``(from, to)`` -> the files behind each arrow between rooms."""
    found: dict[tuple[str, str], list[str]] = {}
    rooms = {_room(path) for path in _files()}
    for path in _files():
        for name in _imported(ast.walk(_tree(path))):
            if name.startswith("nvgbench.") and (target := name.split(".")[1]) in rooms and target != _room(path):
                found.setdefault((_room(path), target), []).append(str(path.relative_to(ROOT)))
    return found


def test_the_readme_lists_every_room_below_what_it_imports() -> None:
    rooms = {_room(path) for path in _files()} - {"__init__", "__main__"}
    assert set(ARROWS) | ENTRANCE == rooms
    seen: set[str] = set()
    for room, targets in ARROWS.items():
        assert targets <= seen, room
        seen.add(room)


def test_rooms_import_along_the_listed_arrows_only() -> None:
    offenders = {
        f"{source} -> {target}": files
        for (source, target), files in _arrows().items()
        if source in ARROWS and target not in ARROWS[source] | ENTRANCE
    }
    assert offenders == {}


def test_every_listed_arrow_is_used() -> None:
    used = set(_arrows())
    assert [
        f"{source} -> {target}" for source, targets in ARROWS.items() for target in targets if (source, target) not in used
    ] == []


def test_no_circle_of_files() -> None:
    """Imports inside functions included: a circle there is a circle in the reader's head."""
    modules = {".".join(("nvgbench", *path.relative_to(ROOT).with_suffix("").parts)): path for path in _files()}
    edges = {
        module: {name for name in _imported(_without_type_checking(_tree(path))) if name in modules and name != module}
        for module, path in modules.items()
    }
    assert _circle(edges) == []


def _without_type_checking(tree: ast.Module) -> Iterator[ast.AST]:
    """All nodes but those below ``if TYPE_CHECKING``, which import nothing when the program runs."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            waiting += ast.iter_child_nodes(node)


def _circle(edges: dict[str, set[str]]) -> list[str]:
    """One circle as the names along it; empty where there is none."""
    finished: set[str] = set()

    def visit(node: str, trail: list[str]) -> list[str]:
        if node in trail:
            return [*trail[trail.index(node) :], node]
        if node in finished:
            return []
        for target in sorted(edges[node]):
            if found := visit(target, [*trail, node]):
                return found
        finished.add(node)
        return []

    return next((found for node in sorted(edges) if (found := visit(node, []))), [])


def test_nothing_imports_the_guests() -> None:
    offenders = [
        path for path in _files() if any(name.startswith("nvgbench_baselines") for name in _imported(ast.walk(_tree(path))))
    ]
    assert offenders == []


def test_heavy_libraries_are_imported_where_they_are_used() -> None:
    """torch never in the rooms that read records; elsewhere what takes long is imported inside the functions that need it."""
    slow = {"torchvision", "torch_fidelity", "cleanfid", "lpips", "transformers"}
    light = {"torch", "pandas", "matplotlib", "seaborn", "scipy", "sklearn", "skimage"}
    offenders: dict[str, set[str]] = {}
    for path in _files():
        top = [node for node in _tree(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
        at_top = {name.split(".")[0] for name in _imported(iter(top))}
        found = at_top & slow
        if _room(path) in ("cli", *ENTRANCE - {"device"}):
            found |= at_top & light
        if _room(path) in ("results", "gates", "reporting"):
            found |= {name.split(".")[0] for name in _imported(ast.walk(_tree(path)))} & {"torch", "torchvision"}
        if found:
            offenders[str(path.relative_to(ROOT))] = found
    assert offenders == {}


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


def test_files_and_functions_stay_readable() -> None:
    offenders = [
        str(path.relative_to(ROOT)) for path in _files() if path.name == "utils.py" or path.read_text().count("\n") > 450
    ]
    offenders += [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in _files()
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno > 90
    ]
    assert offenders == []
