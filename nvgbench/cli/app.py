"""The command line. Heavy imports happen inside the commands, so that ``--help`` answers at once."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from nvgbench import __version__
from nvgbench.cli import groups
from nvgbench.cli.options import as_options
from nvgbench.errors import InputError, file_error

# What the parser raises for an unknown option or a value out of range; typer has no public name for it.
_UsageError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")


class _Commands(TyperGroup):
    """Says how to resume after an interruption; typer alone exits with 130 and prints nothing."""

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
    """Entry point: bad input ends with exit code 2 and one line, an interruption with 130."""
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")  # Pillow's; such images are refused with a message
    try:
        sys.exit(build_app()(arguments, standalone_mode=False) or 0)
    except (InputError, OSError, MemoryError, RuntimeError, _UsageError) as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.exit(2)  # the help is already printed
        line = _one_line(error)
        if line is None or os.environ.get("NVGBENCH_DEBUG"):
            raise
        typer.echo(f"error: {as_options(line)}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


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
