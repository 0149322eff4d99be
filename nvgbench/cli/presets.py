"""``nvgbench presets``: list what can be trained."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def presets(name: Annotated[str | None, typer.Argument(help="Print this preset in full as TOML.")] = None) -> None:
        """List the presets, or print one with all its settings."""
        from rich.console import Console
        from rich.table import Table

        from nvgbench.config.load import load_preset, to_toml
        from nvgbench.registry import preset_files, tokenizer_folders

        if name is not None:
            typer.echo(to_toml(load_preset(name)))
            return
        table = Table("preset", "family", "data", "size", "description", box=None)
        for preset in preset_files():
            config = load_preset(preset)
            table.add_row(preset, config.family, config.data.source, str(config.data.image_size), config.description)
        console = Console()
        console.print(table)
        console.print("\nTrained tokenizers, for 'nvgbench train PRESET --tokenizer NAME':", ", ".join(tokenizer_folders()))
