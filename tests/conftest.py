"""What every test shares: one thread per process, the command line, small models."""

from __future__ import annotations

import os

# Set before torch is imported and inherited by child processes: sums are taken in the same order everywhere, and the workers
# of pytest-xdist do not compete for cores.
os.environ["OMP_NUM_THREADS"] = "1"

import functools
from collections.abc import Callable, Iterator

import pytest
import torch
import typer
from hypothesis import settings

torch.set_num_threads(1)
# The same examples in every run, so that a failure is a change of the code; HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("same", derandomize=True)
settings.register_profile("explore", settings.get_profile("default"), max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Leaves the user's cache alone, also in child processes."""
    os.environ["NVGBENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def app() -> Iterator[typer.Typer]:
    """The command line, for ``CliRunner().invoke``; built once, and its parser too, which takes longer than most commands."""
    from nvgbench.cli import app as command_line

    built, parser = command_line.build_app(), functools.cache(typer.main.get_command)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command_line, "build_app", lambda: built)
        patch.setattr("typer.main.get_command", parser)
        patch.setattr("typer.testing._get_command", parser)
        yield built


@pytest.fixture(scope="session")
def small() -> Callable:
    """``small("var")`` builds a tiny VAR or AR model; see `tests.helpers.small_models.build_small`."""
    from tests.helpers.small_models import build_small

    return build_small
