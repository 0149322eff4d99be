"""Every nvgbench command in the documentation is one that the command line accepts."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from tests.helpers.pages import PAGES, commands, page_name

COMMAND_PAGES = [page for page in PAGES if any(commands(page))]


@pytest.mark.parametrize("page", COMMAND_PAGES, ids=page_name)
def test_commands_parse(page: Path, app: typer.Typer) -> None:
    root = typer.main.get_command(app)
    for words in commands(page):
        if page.stem == "add-a-study":
            words[1] = "components"  # the guide's own study is not installed here; its commands run in the guide's test
        command, context, rest = root, None, words
        while True:
            context = command.make_context(command.name, list(rest), parent=context)  # raises where an option is unknown
            if not hasattr(command, "resolve_command"):
                break
            _, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
