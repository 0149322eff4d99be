"""Options that several commands share, and the option for an argument of the library."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

RunsRoot = Annotated[Path, typer.Option("--runs", envvar="NVGBENCH_RUNS", help="Folder that holds the runs.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Overrides = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, e.g. train.steps=100 or sampling.top_k=5. Repeatable."),
]

Step = Annotated[int | None, typer.Option(min=1, help="Use the generator's checkpoint of this step; the last by default.")]
WeightsKind = Annotated[
    Literal["averaged", "plain"],
    typer.Option("--weights-kind", help="The moving average of the generator's weights, if any, or the weights themselves."),
]

Compile = Annotated[
    bool | None,
    typer.Option("--compile/--no-compile", help="torch.compile of the blocks; by default on CUDA, if a compiler is found."),
]

RunNames = Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Runs; everything below --runs if none.")]
RecordFiles = Annotated[list[Path] | None, typer.Option(help="A records.jsonl, or a folder with such files. Repeatable.")]
RulesFile = Annotated[Path | None, typer.Option(help="TOML file with the gate's rules; built-in rules if not given.")]
Force = Annotated[bool, typer.Option("--force", help="Also compare scores that are not comparable, and mark them.")]

DEFAULT_RUNS = Path("runs")


def compile_setting(choice: bool | None, section: Literal["sampling", "train"]) -> list[str]:
    """The override that ``--compile`` or ``--no-compile`` stands for; none if neither is given."""
    return [] if choice is None else [f"{section}.compile={str(choice).lower()}"]


_ARGUMENT = re.compile(r"`([a-z][a-z0-9_.]*)=([^`]*)`")


def as_options(message: str) -> str:
    """A message of the library with the arguments that it names in backticks written as options.

    `out=` becomes ``--out``, `extractor='clip'` ``--extractor clip``, `n=50` ``-n 50``, `force=True` ``--force``,
    `force=False` ``--no-force``, and a setting (a name with dots), `train.steps=9`, ``--set train.steps=9``. As ``--weights``
    takes published files, `weights='plain'` becomes ``--weights-kind plain``.
    """
    return _ARGUMENT.sub(lambda match: _option(match[1], match[2]), message)


def _option(name: str, value: str) -> str:
    if value[:1] in ("'", '"') and " " not in value:
        value = value.strip("'\"")
    if "." in name:
        return f"--set {name}={value}"
    dashed = "weights-kind" if name == "weights" and value in ("averaged", "plain") else name.replace("_", "-")
    if value in ("True", "False"):
        return f"--{dashed}" if value == "True" else f"--no-{dashed}"
    return f"{'-' if len(name) == 1 else '--'}{dashed} {value}".rstrip()
