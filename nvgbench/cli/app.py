"""The command line. Heavy imports happen inside the commands, so that ``--help`` answers at once."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from nvgbench import __version__
from nvgbench.allocator import keep_freed_memory
from nvgbench.cli import groups
from nvgbench.cli.options import as_options
from nvgbench.cli.streams import lasting_streams
from nvgbench.errors import InputError, file_error

FAULT = 70
"""Exit code of an unexpected exception (EX_SOFTWARE of sysexits.h); 1 would be a regression for ``gate``."""

# What the parser raises for an unknown option or a value out of range; typer has no public name for it.
_UsageError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")


class _Commands(TyperGroup):
    """Says how to resume after an interruption; typer alone exits with 130 and prints nothing.

    Commands find the whole command line in their context's ``obj``, to run it elsewhere.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.obj = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("interrupted; run the same command to resume", err=True)
            raise typer.Exit(130) from None


def _version(value: bool) -> None:
    if value:
        typer.echo(f"nvgbench {__version__}")
        raise typer.Exit


def build_app() -> typer.Typer:
    """The application with all its commands."""
    app = typer.Typer(
        name="nvgbench",
        cls=_Commands,
        help="Honest measurement of structured image generators: NVG beside VAR and autoregressive baselines.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def _root(
        version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version and exit."),
    ) -> None:
        pass

    groups.register(app)
    return app


def main(arguments: list[str] | None = None) -> None:
    """Entry point. Exit codes: the command's own, 2 for bad input, 70 for a fault of the program, 130 for an interruption."""
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")  # Pillow's; such images are refused with a message
    keep_freed_memory()
    code = FAULT
    try:
        with lasting_streams():
            code = _exit_code(arguments)
    except OSError as error:  # of standard output
        typer.echo(f"error: {as_options(file_error(error))}", err=True)
        code = 2
    sys.exit(code)


def _exit_code(arguments: list[str] | None) -> int:
    try:
        return build_app()(arguments, standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            return 2  # the help is already printed
        line = _one_line(error)
        if os.environ.get("NVGBENCH_DEBUG"):
            traceback.print_exc()
        typer.echo(f"error: {_fault(error)}" if line is None else f"error: {as_options(line)}", err=True)
        return FAULT if line is None else 2


def _one_line(error: Exception) -> str | None:
    """The message of an error; None for faults of the program itself."""
    if isinstance(error, _UsageError):
        command = error.ctx.command_path if error.ctx is not None else "nvgbench"
        text = " ".join(error.format_message().split()).rstrip(".")
        return f"{text}; see '{command} --help'"
    if isinstance(error, OSError):
        return file_error(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in str(error)):
        return f"not enough memory ({' '.join(str(error).split())[:200]}); use smaller batches or another `device=`"
    return " ".join(str(error).split()) if isinstance(error, InputError) else None


def _fault(error: Exception) -> str:
    """One line for an exception that nobody expected: what and where."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return (
        f"this is a fault of the program ({said}; {os.path.basename(place.filename)}, line {place.lineno}); "
        "NVGBENCH_DEBUG=1 shows the traceback for a report"
    )
