"""Packages outside nvgbench that register entry points, as if they were installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

_RUN = """
import json, runpy, sys
from nvgbench.cli.app import main
for step in json.loads(sys.argv[1]):
    if isinstance(step, str):
        runpy.run_path(step)
        continue
    try:
        main(step)
    except SystemExit as end:
        if end.code:
            raise
"""


def install(project: Path, site: Path) -> None:
    """Copy a project with a pyproject.toml into ``site`` and write the metadata that pip would write."""
    shutil.copytree(project, site, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    declared = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    register(site, declared["name"], declared["version"], declared["entry-points"])


def register(site: Path, package: str, version: str, groups: Mapping[str, Mapping[str, str]]) -> None:
    """Write a package's metadata with its entry points: group -> name -> ``module:attribute``."""
    metadata = site / f"{package.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    lines = []
    for group, entries in groups.items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")


def run_steps(steps: Iterable[list[str] | str], site: Path, cwd: Path) -> str:
    """Run nvgbench commands and scripts in one new process that sees ``site``; gives what they print.

    A step is the arguments of a command, or the path of a script. A failing step fails the test with what it says.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), *filter(None, sys.path)]), "COLUMNS": "200"}
    words = [sys.executable, "-c", _RUN, json.dumps(list(steps))]
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
