"""The command line. Heavy imports happen inside the commands, so that ``--help`` answers at once."""

from __future__ import annotations

import os
import sys

import typer

from nvgbench import __version__
from nvgbench.cli import groups
from nvgbench.errors import InputError


def _version(value: bool) -> None:
    if value:
        typer.echo(f"nvgbench {__version__}")
        raise typer.Exit


def build_app() -> typer.Typer:
    """The application with all its commands."""
    app = typer.Typer(
        name="nvgbench",
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
    try:
        build_app()(arguments)
    except (InputError, OSError) as error:
        if os.environ.get("NVGBENCH_DEBUG"):
            raise
        typer.echo(f"error: {_one_line(error)}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command continues where this one stopped", err=True)
        sys.exit(130)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())
