"""One self-contained HTML page from records and their artifact files alone, so that it can be rebuilt at any time."""

from __future__ import annotations

import dataclasses
import importlib.resources
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from nvgbench import __version__
from nvgbench.errors import InputError
from nvgbench.files import write_text
from nvgbench.gates.schema import Verdict
from nvgbench.report import costs, figures, scores, sources
from nvgbench.report.pictures import Picture, load_pictures
from nvgbench.report.published import SENTENCE
from nvgbench.results.schema import Artifact
from nvgbench.results.store import LocatedRecord

DEFAULT_TITLE = "Structured image generators, measured"
_GALLERIES = {
    "samples": "Samples",
    "trace": "How an image comes about: structure maps and canvases, stage by stage",
    "reference": "Reference images",
}


def render_report(
    located: Sequence[LocatedRecord], out: Path, *, title: str = DEFAULT_TITLE, verdicts: Sequence[Verdict] = ()
) -> Path:
    """Write the page for ``located`` records to ``out`` and return its path.

    Args:
        located: what to show; of several records of one kind about one subject the newest counts. A missing picture leaves
            a note on the page.
        out: HTML file; needs no network and no script to be read, and stays under 5 MB.
        title: heading of the page.
        verdicts: of a gate, where one was run.

    Raises:
        InputError: no records.
        OSError: the file cannot be written.
    """
    if not located:
        raise InputError("no records to report on; run 'nvgbench eval' or 'nvgbench profile' first, or name other --runs")
    template = _environment().get_template("page.html.j2")
    write_text(out, template.render(_content(located, title, verdicts)))
    return out


def _content(located: Sequence[LocatedRecord], title: str, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    found = scores.collect_scores(one.record for one in located)
    models, anchors = found.models, found.anchors
    # Every table and legend lists the models in the order of the main table.
    rank = {subject: number for number, subject in enumerate(scores.model_order(models))}
    located = sorted(located, key=lambda one: rank.get(one.record.subject, len(rank)))
    records = [one.record for one in located]
    tokenizers = dict(sorted(found.tokenizers.items(), key=lambda entry: rank.get(entry[0], len(rank))))
    series = figures.series_numbers(record.subject for record in records if record.family != scores.ANCHOR)
    primary = scores.primary_metric(models)
    measured = {
        subject: f"{primary} {scores.value_text(metrics[primary])}"
        for subject, metrics in models.items()
        if primary is not None and scores.has_value(metrics, primary)
    }
    beside, published = sources.published_tables(records, measured)
    studies = [record for record in records if "cluster_stability" in record.tables or "cluster_quality" in record.tables]
    ablations = list(costs.newest(studies, "ablation").values())
    statements = [
        *([sources.gate_statement(verdicts)] if verdicts else []),
        *scores.score_statements(models, anchors),
        *costs.budget_statements(records, models),
        *costs.cost_statements(records, models),
    ]
    return {
        "title": title,
        "version": __version__,
        "newest": max(record.created for record in records).replace("T", " ").removesuffix("+00:00"),
        "count": len(records),
        "statements": statements,
        "gate": sources.gate_table(verdicts) if verdicts else None,
        "budgets": costs.budget_table(records),
        "scores": scores.score_table(models, anchors, "Scores of generated images") if models or anchors else None,
        "score_figures": [
            figure
            for figure in (
                figures.score_figure(models, anchors, series),
                figures.tradeoff_figure(records, models, series),
            )
            if figure
        ],
        "tokenizers": scores.score_table(tokenizers, {}, "Reconstruction of held-out images") if tokenizers else None,
        "by_class": scores.class_tables(records),
        "codebooks": scores.codebook_table(records),
        "costs": costs.cost_table(records),
        "published_beside": beside,
        "published": published,
        "published_sentence": SENTENCE,
        "galleries": _galleries(located),
        "curves": figures.training_figures(records, series),
        "stability": [figure for n, record in enumerate(ablations) for figure in figures.stability_figures(record, n)],
        "provenance": sources.provenance_table(records),
        "data": Markup(sources.embedded_data(records)),
        "css": Markup(_asset("report.css")),
        "script": Markup(_asset("sort.js")),
    }


def _galleries(located: Sequence[LocatedRecord]) -> list[tuple[str, list[Picture]]]:
    """Pictures by kind; of each subject those of the newest record that has the kind."""
    chosen: dict[tuple[str, str], tuple[LocatedRecord, list[Artifact]]] = {}
    for one in located:
        for kind in dict.fromkeys(artifact.kind for artifact in one.record.artifacts):
            known = chosen.get((kind, one.record.subject))
            if known is None or one.record.created >= known[0].record.created:
                own = [artifact for artifact in one.record.artifacts if artifact.kind == kind]
                chosen[kind, one.record.subject] = (one, own)
    pictures = load_pictures([(one, artifact) for one, artifacts in chosen.values() for artifact in artifacts])
    kinds = [*_GALLERIES, *dict.fromkeys(picture.kind for picture in pictures if picture.kind not in _GALLERIES)]
    found = []
    for kind in kinds:
        shown = _distinct([picture for picture in pictures if picture.kind == kind])
        scale = min((picture.scale for picture in shown if picture.uri), default=1)
        shown = [dataclasses.replace(picture, scale=scale) for picture in shown]
        if shown:
            found.append((_GALLERIES.get(kind, kind.capitalize()), shown))
    return found


def _distinct(pictures: Sequence[Picture]) -> list[Picture]:
    """Each picture once: models scored against the same reference all carry it."""
    seen: set[str] = set()
    kept = []
    for picture in pictures:
        if not picture.uri or picture.uri not in seen:
            kept.append(picture)
        seen.add(picture.uri)
    return kept


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nvgbench.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = Markup
    return environment


def _asset(name: str) -> str:
    return importlib.resources.files("nvgbench.report").joinpath("assets", name).read_text(encoding="utf-8")
