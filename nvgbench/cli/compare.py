"""``nvgbench compare``: is one model better than another?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nvgbench.cli.options import DEFAULT_RUNS, Device, RunsRoot
from nvgbench.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from nvgbench.results.compare import Difference, Margin, Scored


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def compare(
        run_a: Annotated[str, typer.Argument(metavar="RUN_A", help="A run, a name in records, or NAME for NAME-seed0, 1 ….")],
        run_b: Annotated[str, typer.Argument(metavar="RUN_B", help="What is held against it.")],
        metric: Annotated[list[str] | None, typer.Option(help="Only this score: FID, or 'FID (adm)'. Repeatable.")] = None,
        force: Annotated[bool, typer.Option("--force", help="Compare what must not be compared, and mark it.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
        device: Device = "auto",
        runs: RunsRoot = DEFAULT_RUNS,
    ) -> None:
        """Say of every score whether RUN_B is better or worse than RUN_A, or whether the data leave it open.

        Scores of several protocols have a line each. Where the features of both are still in the cache, images of equal seeds
        are held against each other. Scores of unequal number of images, reference, extractor or preprocessing are refused.
        """
        from nvgbench.results.compare import compare as hold
        from nvgbench.results.compare import why_not_comparable

        old, new = _scores(run_a, runs), _scores(run_b, runs)
        names = _choose(metric or [], old, new, (run_a, run_b))
        differences = {}
        margins: dict[tuple[str, str], dict[str, Margin]] = {}
        for name in names:
            reason = why_not_comparable(old[name], new[name])
            pair = (old[name].record.id, new[name].record.id)
            if reason is None and pair not in margins:
                margins[pair] = _margins(old[name], new[name], runs, device)
            margin = margins.get(pair, {}).get(name) if reason is None else None
            differences[name] = hold(old[name], new[name], margin=margin, force=force)
        alone = {run: [name for name in one if name not in other] for run, one, other in ((run_a, old, new), (run_b, new, old))}
        if as_json:
            typer.echo(_json(run_a, run_b, differences, alone))
        else:
            _print(run_a, run_b, differences, alone)


def _scores(run: str, root: Path) -> dict[str, Scored]:
    """The newest value of every score of a run, of a subject, or of the runs of several training seeds."""
    from nvgbench.results.compare import latest_metrics
    from nvgbench.results.grouping import training_groups
    from nvgbench.results.store import RECORDS_FILE, read_records, records_of

    kinds = ("eval", "reconstruction")
    own = next((path / RECORDS_FILE for path in (root / run, Path(run)) if (path / RECORDS_FILE).is_file()), None)
    if own is not None:
        found = latest_metrics(read_records(own), kinds)
        if len(found) != 1:
            raise InputError(f"{own} holds scores of {len(found)} subjects, expected one; 'nvgbench eval' makes them")
        return next(iter(found.values()))
    records = [located.record for located in records_of((), (), root)] if root.is_dir() else []
    subjects = latest_metrics(records, kinds) | latest_metrics(training_groups(records), kinds)
    if run not in subjects:
        known = f"known: {', '.join(subjects)}" if subjects else "'nvgbench eval' makes them"
        raise InputError(f"no scores of {run!r} in {root}{did_you_mean(run, subjects)}; {known}")
    return subjects[run]


def _choose(wanted: list[str], old: dict[str, Scored], new: dict[str, Scored], runs: tuple[str, str]) -> list[str]:
    """Keys of the scores that both have: all, or those of a wanted name by any protocol, or by the one in parentheses."""
    shared = [
        key for key, scored in old.items()
        if key in new and scored.metric.value is not None and new[key].metric.value is not None
    ]  # fmt: skip
    if not shared:
        raise InputError(
            f"{runs[0]} and {runs[1]} have no score in common: {', '.join(old) or 'none'} and {', '.join(new) or 'none'}; "
            "evaluate both in the same way"
        )
    chosen: list[str] = []
    for name in wanted:
        found = [key for key in shared if name in (key, old[key].metric.name)]
        if not found:
            near = did_you_mean(name, [*shared, *(old[key].metric.name for key in shared)])
            raise InputError(f"no score {name!r} of both{near}; both have: {', '.join(shared)}")
        chosen += found
    return chosen or shared


def _margins(old: Scored, new: Scored, root: Path, device: str) -> dict[str, Margin]:
    """The errors of the differences from the images of both, where the intervals cover sampling and the features are there."""
    from nvgbench.device import resolve_device
    from nvgbench.evaluation.paired import paired_margins

    if any("repeated" in one.record.provenance for one in (old, new)):
        return {}
    return paired_margins(old.record, new.record, root, device=resolve_device(device))


def _print(run_a: str, run_b: str, differences: dict[str, Difference], alone: dict[str, list[str]]) -> None:
    """One line a score, plain enough for logs and for grep."""
    width = max(len(name) for name in differences)
    typer.echo(f"{run_b} against {run_a} (difference: {run_b} minus {run_a})")
    for name, found in differences.items():
        values = f"{found.baseline.value:.5g} -> {found.candidate.value:.5g}"
        interval = "no interval" if found.low is None or found.high is None else f"{found.low:+.4g} to {found.high:+.4g}"
        covers = f"95 %, {found.covers}{', paired' if found.paired else ''}" if found.covers else ""
        marked = f"  FORCED: {found.forced}" if found.forced else ""
        line = f"{found.outcome:<12}  {name:<{width}}  {values}  {found.value:+.4g} ({interval}; {covers}){marked}"
        typer.echo(line.replace("(no interval; )", "(no interval)"))
    for run, names in alone.items():
        if names:
            typer.echo(f"only of {run}: {', '.join(names)}")


def _json(run_a: str, run_b: str, differences: dict[str, Difference], alone: dict[str, list[str]]) -> str:
    import dataclasses
    import json

    from nvgbench.results.store import plain

    rows = [{"metric": name, **plain(dataclasses.asdict(found))} for name, found in differences.items()]
    for row in rows:
        row["reason"], row["forced"] = row["forced"], bool(row["forced"])
    tree = {"a": run_a, "b": run_b, "forced": any(row["forced"] for row in rows), "differences": rows, "only_one_has": alone}
    return json.dumps(tree, indent=1, ensure_ascii=False, allow_nan=False)
