"""One self-contained HTML page, built from records and their artifact files alone."""

from __future__ import annotations

import dataclasses
import importlib.resources
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from nvgbench import __version__
from nvgbench.errors import InputError
from nvgbench.files import StrPath, write_text
from nvgbench.gates.schema import Verdict
from nvgbench.reporting import (
    breakdowns,
    cautions,
    claim_tables,
    costs,
    data,
    entries,
    figures,
    gate,
    history,
    pairs,
    provenance_table,
    published_tables,
    scores,
    studies,
)
from nvgbench.reporting.claims import Evidence, Judged, load_claims
from nvgbench.reporting.galleries import artifact_count, galleries
from nvgbench.reporting.published import SENTENCE
from nvgbench.reporting.score_statements import score_statements
from nvgbench.reporting.score_table import score_table
from nvgbench.reporting.side_by_side import side_by_side
from nvgbench.reporting.tables import Statement, Table
from nvgbench.results.grouping import training_groups
from nvgbench.results.schema import RunRecord
from nvgbench.results.store import LocatedRecord

DEFAULT_TITLE = "Structured image generators, measured"
LIMIT = 5_000_000
"""Largest size of the page, bytes."""
_MOST_DATA = 1_500_000
"""Bytes of embedded data above which the records' tables, then the records, then the numbers of studies are only in the JSON
beside the page."""
STUDIES = "studies"
"""The section of the page, and of its numbers, that shows studies."""
_SCRIPTS = ("sort", "compare", "models", "copy")
_SIDE_BY_SIDE = 0.4
"""Largest share of the space for pictures that the side-by-side view takes, in bytes of PNG."""
_PICTURE_TEXT = 2_000
"""Bytes of HTML around a picture."""


@dataclass(frozen=True)
class _Report:
    """The page before pictures and data are added: what the template shows, and the document with the same numbers."""

    content: dict[str, Any]
    document: dict[str, Any]
    entries: list[entries.Entry]
    located: list[LocatedRecord]


def render_report(
    located: Sequence[LocatedRecord],
    out: StrPath,
    *,
    title: str = DEFAULT_TITLE,
    verdicts: Sequence[Verdict] = (),
    force: bool = False,
    earlier: Sequence[StrPath] = (),
) -> Path:
    """Write the page for ``located`` records to ``out``, and its numbers beside it as ``.json`` and ``.csv``.

    Args:
        located: what to show; of several records of one kind and subject the newest counts. A missing picture leaves a note on
            the page.
        out: HTML file of at most 5 MB, readable without network and scripts. Pictures are scaled down until it fits, with a
            note below each.
        title: heading of the page.
        verdicts: of a gate, if one was run.
        force: also show differences of scores that are not comparable, marked as forced.
        earlier: JSON files of earlier reports, whose scores are part of the history.

    Returns:
        ``out``.

    Raises:
        InputError: no records, so many that their tables alone exceed 5 MB, or an earlier report that cannot be read.
        OSError: a file cannot be written.
    """
    out = Path(out)
    if not located:
        raise InputError("no records to report on; evaluate or profile a run first, or choose another folder (`runs=`)")
    report = _report(located, title, verdicts, force, earlier)
    page = _fitting_page(report)
    records = data.record_trees([one.record for one in report.located])
    write_text(out.with_suffix(".json"), data.for_file({**report.document, "records": records}))
    write_text(out.with_suffix(".csv"), entries.as_csv(report.entries))
    write_text(out, page)
    return out


def _fitting_page(report: _Report) -> str:
    """The page with as much data and as many pictures as fit."""
    template = _environment().get_template("page.html.j2")
    content = {**report.content, "data": Markup(_embedded(report)), "galleries": [], "side_by_side": None}
    bare = len(template.render(content).encode())
    room = LIMIT - bare - _PICTURE_TEXT * artifact_count(report.located)
    if room < 0:
        raise InputError(
            f"a page of {len(report.located)} records would have {bare / 1e6:.1f} MB without pictures, more than "
            f"{LIMIT / 1e6:.0f} MB; choose fewer runs"
        )
    content["side_by_side"] = side_by_side(report.located, int(room * _SIDE_BY_SIDE))
    room -= len(template.render(content).encode()) - bare
    # Base64 turns three bytes into four.
    page = template.render({**content, "galleries": galleries(report.located, room * 3 // 4)})
    assert len(page.encode()) <= LIMIT
    return page


def _embedded(report: _Report) -> str:
    """The data inside the page: with records, without their tables, without records, or without numbers of studies, as fits."""
    records = [one.record for one in report.located]
    others = [number for number in report.document["numbers"] if number["section"] != STUDIES]
    for more in (
        {"records": data.record_trees(records)},
        {"records": data.record_trees(records, tables=False)},
        {},
        {"numbers": others},
    ):
        text = data.for_page({**report.document, **more})
        if len(text) <= _MOST_DATA:
            break
    return text


def _report(
    located: Sequence[LocatedRecord],
    title: str,
    verdicts: Sequence[Verdict],
    force: bool,
    earlier: Sequence[StrPath],
) -> _Report:
    over_time = history.histories((one.record for one in located), history.earlier_numbers(earlier))
    groups = training_groups(one.record for one in located)
    located = [*located, *(LocatedRecord(group, located[0].file, 0) for group in groups)]
    found = scores.collect_scores(one.record for one in located)
    models, anchors = found.models, found.anchors
    # Every table and legend lists the models in the order of the table of scores.
    rank = {subject: number for number, subject in enumerate(scores.model_order(models))}
    located = sorted(located, key=lambda one: rank.get(one.record.subject, len(rank)))
    records = [one.record for one in located]
    series = figures.series_numbers(record.subject for record in records if record.family != scores.ANCHOR)
    evidence, claims = Evidence(records, found), load_claims()
    judged, scaled = [evidence.judge(claim) for claim in claims], evidence.at_this_scale(claims)
    warned = cautions.cautions(records)
    tables = _tables(records, found, judged, scaled, force)
    sections = studies.study_sections(records)
    only_studies = bool(sections) and all(record.kind == "ablation" for record in records)
    tables[STUDIES] = [table for section in sections for table in section.tables]
    past = history.history_section(over_time, series)
    tables["history"] = None if past is None or past.table.empty else past.table
    tables["gate"] = gate.gate_table(verdicts) if verdicts else None
    found_entries = entries.entries({section: _listed(found) for section, found in tables.items()})
    statements = [
        *([gate.gate_statement(verdicts)] if verdicts else []),
        *cautions.caution_statements(warned),
        *pairs.forced_statements(tables["differences"]),
        *(() if only_studies else score_statements(models, anchors)),
        *(past.statements if past else ()),
        claim_tables.claim_statement(judged, scaled),
        *costs.budget_statements(records, models),
        *costs.cost_statements(records, models),
    ]
    newest = max(record.created for record in records)
    document = {
        "format": data.FORMAT,
        "version": data.VERSION,
        "nvgbench": __version__,
        "title": title,
        "newest": newest,
        "statements": [{"word": one.word, "text": one.text, "tone": one.tone} for one in statements],
        "claims": claim_tables.claim_rows(judged, scaled),
        "warnings": [vars(one) for one in warned],
        "gate": [dataclasses.asdict(verdict) for verdict in verdicts],
        "numbers": [entries.as_tree(entry) for entry in found_entries],
    }
    subjects = list(dict.fromkeys([*rank, *anchors, *series]))
    content = _content(tables, statements) | {
        "models": subjects,
        "only_studies": only_studies,
        "models_json": Markup(data.for_page(subjects)),
        "title": title,
        "newest": newest.replace("T", " ").removesuffix("+00:00"),
        "count": len(records),
        "cautions": cautions.caution_table(warned),
        "judged": any(one.a is not None for one in judged),
        "score_figures": _drawn(
            figures.score_figure(models, anchors, series),
            pairs.pair_figure(models, series),
            figures.tradeoff_figure(records, models, series),
        ),
        "curves": figures.training_figures(records, series),
        "studies": sections,
        "history": past,
        "provenance": provenance_table.provenance_table(records),
    }
    return _Report(content, document, found_entries, located)


def _reconstruction(tokenizers: scores.Scores) -> Table:
    """Scores of reconstructions, with notes on why some have no LPIPS."""
    table = score_table(tokenizers, {}, "Reconstruction of held-out images")
    return dataclasses.replace(table, notes=[*table.notes, *cautions.lpips_notes(tokenizers)])


def _tables(
    records: Sequence[RunRecord], found: scores.AllScores, judged: Sequence[Judged], scaled: Sequence[Judged], force: bool
) -> dict[str, Any]:
    """The page's tables by section: one, several or None for each."""
    models, anchors = found.models, found.anchors
    order = scores.model_order(models)
    tokenizers = dict(
        sorted(found.tokenizers.items(), key=lambda entry: order.index(entry[0]) if entry[0] in order else len(order))
    )
    primary = scores.primary_metric(models)
    measured = {
        subject: f"{primary} {scores.value_text(metrics[primary])}"
        for subject, metrics in models.items()
        if primary is not None and scores.has_value(metrics, primary)
    }
    return {
        "claims": claim_tables.claim_table(judged),
        "questions": claim_tables.scale_table(scaled),
        "scores": score_table(models, anchors, "Scores of generated images") if models or anchors else None,
        "differences": pairs.pair_table(models, force) if len(models) > 1 else None,
        "by class": breakdowns.class_tables(records),
        "training": costs.budget_table(records),
        "costs": costs.cost_table(records),
        "reconstruction": _reconstruction(tokenizers) if tokenizers else None,
        "codebooks": breakdowns.codebook_table(records),
        "published beside": published_tables.matched_table(records, measured),
        "published": published_tables.published_tables(),
    }


def _content(tables: dict[str, Any], statements: Sequence[Statement]) -> dict[str, Any]:
    """What the template shows: statements, tables by section, and the fixed parts of the page."""
    return {
        "version": __version__,
        "statements": statements,
        "tables": tables,
        "published_sentence": SENTENCE,
        "css": Markup(_asset("report.css")),
        "script": Markup("\n".join(_asset(f"{name}.js") for name in _SCRIPTS)),
    }


def _listed(tables: Table | list[Table] | None) -> list[Table]:
    return tables if isinstance(tables, list) else [] if tables is None else [tables]


def _drawn(*found: figures.Figure | None) -> list[figures.Figure]:
    return [figure for figure in found if figure is not None]


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nvgbench.reporting", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = Markup
    return environment


def _asset(name: str) -> str:
    return importlib.resources.files("nvgbench.reporting").joinpath("assets", name).read_text(encoding="utf-8")
