"""``nvgbench compare``: is one model better than another?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nvgbench.cli.options import DEFAULT_RUNS, Device, Force, RunsRoot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nvgbench.results.compare import Comparison, Margin
    from nvgbench.results.schema import RunRecord


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def compare(
        run_a: Annotated[str, typer.Argument(metavar="RUN_A", help="A run, a name in the records, or a group of trainings.")],
        run_b: Annotated[str, typer.Argument(metavar="RUN_B", help="What is compared with it.")],
        metric: Annotated[list[str] | None, typer.Option(help="Only this score: FID, or 'FID (adm)'. Repeatable.")] = None,
        force: Force = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
        device: Device = "auto",
        runs: RunsRoot = DEFAULT_RUNS,
    ) -> None:
        """Decide for each score whether RUN_B is better or worse than RUN_A, or whether the data leave it open.

        Scores of several protocols have a line each. If the features of both models are still cached, images with equal seeds
        are compared pairwise. Scores with unequal number of images, reference, extractor or preprocessing are refused.
        """
        from nvgbench.results.compare import compare_all
        from nvgbench.results.lookup import scores_of

        def margins(old: RunRecord, new: RunRecord) -> Mapping[str, Margin]:
            from nvgbench.device import resolve_device
            from nvgbench.evaluation.paired import paired_margins

            # Means over trainings or sampling seeds have intervals of their own.
            if any("repeated" in one.provenance for one in (old, new)):
                return {}
            return paired_margins(old, new, runs, device=resolve_device(device))

        found = compare_all(
            scores_of(run_a, runs),
            scores_of(run_b, runs),
            metrics=metric or (),
            margins=margins,
            force=force,
            names=(run_a, run_b),
        )
        typer.echo(_json(found) if as_json else str(found))


def _json(comparison: Comparison) -> str:
    import dataclasses
    import json

    from nvgbench.results.store import plain

    rows = []
    for name, found in comparison.items():
        row = {"metric": name, **plain(dataclasses.asdict(found))}
        rows.append({**row, "forced": bool(found.forced), "reason": found.forced})
    tree = {
        "a": comparison.baseline,
        "b": comparison.candidate,
        "forced": any(row["forced"] for row in rows),
        "differences": rows,
        "only_one_has": {
            comparison.baseline: list(comparison.only_baseline),
            comparison.candidate: list(comparison.only_candidate),
        },
        "cautions": list(comparison.cautions),
    }
    return json.dumps(tree, indent=1, ensure_ascii=False, allow_nan=False)
