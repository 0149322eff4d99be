"""Scores: the main table, the tokenizers' table, and the sentences that say what is decided."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nvgbench.report.numbers import of_metric, of_record
from nvgbench.report.quantities import count, covered_text, decimals, interval_text, score
from nvgbench.report.tables import BLANK, Cell, Column, Footnotes, Group, Statement, Table, unavailable
from nvgbench.results.compare import Difference, Scored, compare, latest_metrics, why_not_comparable
from nvgbench.results.grouping import members
from nvgbench.results.schema import RunRecord
from nvgbench.results.scores import score_of, stem_of
from nvgbench.types import Interval

ANCHOR = "anchor"
_REAL = "real"
"""How the name of the anchor begins that no model is expected to beat."""
_FIRST = ("FID", "FD", "rFID", "rFD", "PSNR", "SSIM", "LPIPS", "KID", "KD", "IS", "precision", "recall")

_NUMBER = re.compile(r"-?\d[\d.]*(e[+-]?\d+)?")

Scores = Mapping[str, Mapping[str, Scored]]
"""Subject -> key of the score (`nvgbench.results.compare.score_key`) -> newest value."""
_RowsOf = tuple[RunRecord, Sequence[Mapping[str, Any]]]
"""A record and the rows of one of its tables."""


@dataclass(frozen=True, kw_only=True)
class AllScores:
    """The newest scores: of models, apart from them of anchors, and of reconstructions."""

    models: Scores
    anchors: Scores
    tokenizers: Scores


def collect_scores(records: Iterable[RunRecord]) -> AllScores:
    """The newest value of every score of every subject."""
    generated: dict[str, dict[str, Scored]] = {}
    reconstructed: dict[str, dict[str, Scored]] = {}
    for subject, metrics in latest_metrics(records, ("eval", "reconstruction")).items():
        for key, scored in metrics.items():
            kind = reconstructed if _judges_reconstructions(scored) else generated
            kind.setdefault(subject, {})[key] = scored
    anchors = {s: m for s, m in generated.items() if next(iter(m.values())).record.family == ANCHOR}
    models = {s: m for s, m in generated.items() if s not in anchors}
    return AllScores(models=models, anchors=anchors, tokenizers=reconstructed)


def single_trainings(models: Scores) -> Scores:
    """The members of training groups. The group speaks for them: the best of several seeds was lucky, not better."""
    grouped = {member for metrics in models.values() for scored in metrics.values() for member in members(scored.record)}
    return {subject: metrics for subject, metrics in models.items() if subject in grouped}


def ranked(models: Scores) -> Scores:
    """Models that are held against each other: groups of trainings, and what was trained once."""
    single = single_trainings(models)
    return {subject: metrics for subject, metrics in models.items() if subject not in single}


def _stem(scored: Scored) -> str:
    """The score without extractor and protocol."""
    return stem_of(scored.metric.name)


def _judges_reconstructions(scored: Scored) -> bool:
    """Whichever record the score stands in; the rest are scores of generated images."""
    score = score_of(scored.metric.name)
    return score is not None and score.of_reconstructions


def metric_order(scores: Iterable[Mapping[str, Scored]]) -> list[str]:
    """Keys of all metrics: distances and the papers' scores first, each by nvgbench's protocol before others; then the rest."""
    found = {key: scored for metrics in scores for key, scored in metrics.items()}

    def rank(key: str) -> tuple[int, bool]:
        stem = _stem(found[key])
        return _FIRST.index(stem) if stem in _FIRST else len(_FIRST), key != found[key].metric.name

    return sorted(found, key=rank)


def primary_metric(scores: Scores) -> str | None:
    """The score that the summary speaks of: the Fréchet distance that most models have, FID before others."""
    scores = ranked(scores)
    distances = Counter(
        key
        for metrics in scores.values()
        for key, scored in metrics.items()
        if scored.metric.value is not None and _stem(scored) in ("FID", "FD")
    )
    return max((key for key in metric_order(scores.values()) if key in distances), key=distances.__getitem__, default=None)


def score_table(models: Scores, anchors: Scores, caption: str) -> Table:
    """Models (best first) x metrics, below them apart what is not ranked: members of training groups, anchors.

    What must not be compared carries a footnote.
    """
    names = metric_order([*models.values(), *anchors.values()])
    notes = Footnotes()
    norms = {name: _norm(name, {**models, **anchors}) for name in names}
    best = {name: _best(name, ranked(models), norms[name]) for name in names}
    images = {norm.metric.n for norm in norms.values()}
    references = {norm.metric.n_reference for norm in norms.values() if norm.metric.n_reference}
    uniform = len(images) == 1 and len(references) <= 1
    if uniform:
        caption = f"{caption}: {_counts(*images, *references)}"
    covered = {name: _covered(name, {**models, **anchors}) for name in names}
    everywhere = next(iter(covered.values()), "") if len(set(covered.values())) == 1 else ""
    if everywhere:
        caption = f"{caption}; below each value its {everywhere}"
    columns = [
        Column(label="model", number=False),
        *(_column(name, norms[name], "" if everywhere else covered[name], not uniform) for name in names),
    ]
    order, single = model_order(models), single_trainings(models)
    groups = [Group(rows=[_row(s, models[s], covered, norms, best, notes) for s in order if s not in single])]
    if single:
        rows = [_row(subject, single[subject], covered, norms, {}, notes) for subject in order if subject in single]
        groups.append(Group(heading="Single trainings of the groups above", rows=rows))
    if anchors:
        rows = [_row(subject, anchors[subject], covered, norms, {}, notes) for subject in anchors]
        groups.append(Group(heading="Anchors, for scale: none of them is a trained model", rows=rows))
    remarks = [_remark(name, {**models, **anchors}) for name in names]
    return Table(caption=caption, columns=columns, groups=groups, notes=[*notes.lines(), *filter(None, remarks)])


def _remark(name: str, scores: Scores) -> str:
    """What the records note about the values of one score, each remark once, with the models that it is about.

    Of remarks that differ in numbers alone only what they share is said; the numbers are in the data.
    """
    about: dict[str, list[str]] = {}
    having = [subject for subject, metrics in scores.items() if has_value(metrics, name)]
    shared = _shared([scores[subject][name].metric.note for subject in having])
    for subject in having:
        about.setdefault(shared or scores[subject][name].metric.note, []).append(subject)
    said = []
    for note, subjects in about.items():
        if note:
            said.append(note if len(subjects) == len(having) else f"{note} ({', '.join(subjects)})")
    return f"{name}: {'; '.join(said)}." if said else ""


def _shared(notes: Sequence[str]) -> str:
    """The parts, between commas, in which notes agree that differ in numbers alone; empty where they differ in words."""
    if len({_NUMBER.sub("#", note) for note in notes}) != 1:
        return ""
    parts = [note.split(", ") for note in notes]
    return ", ".join(one[0] for one in zip(*parts, strict=True) if len(set(one)) == 1)


def _norm(name: str, scores: Scores) -> Scored:
    """The score of a column that most others may be compared with."""
    scored = [metrics[name] for metrics in scores.values() if name in metrics]
    return max(scored, key=lambda one: sum(why_not_comparable(one, other) is None for other in scored))


def _best(name: str, models: Scores, norm: Scored) -> float | None:
    higher = norm.metric.higher_is_better
    values = [
        metrics[name].metric.value
        for metrics in models.values()
        if name in metrics and why_not_comparable(norm, metrics[name]) is None
    ]
    finite = [value for value in values if value is not None]
    if higher is None or len(set(finite)) < 2:
        return None
    return max(finite) if higher else min(finite)


def _covered(name: str, scores: Scores) -> str:
    """What the intervals of a column cover, where all of them cover the same."""
    found = {covered_text(metrics[name].metric.interval) for metrics in scores.values() if has_value(metrics, name)}
    return found.pop() if len(found - {""}) == 1 == len(found) else ""


def _column(name: str, norm: Scored, covered: str, with_counts: bool) -> Column:
    direction = {True: "higher is better", False: "lower is better", None: ""}[norm.metric.higher_is_better]
    counts = _counts(norm.metric.n, norm.metric.n_reference) if with_counts else ""
    # a line may break before the extractor
    label = f"{name}, {norm.metric.unit}" if norm.metric.unit else name.replace("[", "\u200b[")
    return Column(label=label, sub="; ".join(part for part in (direction, counts, covered) if part))


def _counts(n: int, n_reference: int | None = None) -> str:
    return f"n = {n:,}" + (f" against {n_reference:,} reference images" if n_reference else "")


def _row(
    subject: str,
    metrics: Mapping[str, Scored],
    covered: Mapping[str, str],
    norms: Mapping[str, Scored],
    best: Mapping[str, float | None],
    notes: Footnotes,
) -> list[Cell]:
    record = next(iter(metrics.values())).record
    cells = [Cell(text=subject, sub="" if record.family == ANCHOR else record.family)]
    for name, said_above in covered.items():
        if name not in metrics:
            cells.append(BLANK)
            continue
        metric = metrics[name].metric
        reason = why_not_comparable(norms[name], metrics[name])
        mark = notes.sign(f"not comparable with the rest of its column: {reason}") if reason else ""
        if metric.value is None:
            mark = mark or (notes.sign(metric.note) if metric.note else "")
            cells.append(unavailable(mark))
            continue
        covers = "" if said_above else covered_text(metric.interval)
        cells.append(
            Cell(
                text=score(metric.value),
                sub=f"{interval_text(metric.interval, metric.value)}\n{covers}".strip(),
                number=of_metric(metrics[name]),
                best=reason is None and metric.value == best.get(name),
                mark=mark,
            )
        )
    return cells


def score_statements(models: Scores, anchors: Scores) -> list[Statement]:
    """What the primary score decides, in words."""
    models = ranked(models)
    name = primary_metric(models)
    if name is None:
        text = "No model has been scored yet; 'nvgbench eval RUN' does it."
        return [Statement(text=text, tone="warning", word="No scores")]
    having = [subject for subject in model_order(models) if has_value(models[subject], name)]
    best = having[0]
    leading = models[best][name]
    value = f"{name} {value_text(leading)}, n = {leading.metric.n:,}"
    said = [
        Statement(text=f"{best} is the only model with a score: {value}.", word="Measured")
        if len(having) == 1
        else Statement(text=f"{best} has the lowest {name}: {value[len(name) + 1 :]}.", tone="better", word="Lowest")
    ]
    for other in having[1:]:
        said.append(_against(best, other, leading, models[other][name]))
    reference = [f"{subject} {value_text(metrics[name])}" for subject, metrics in anchors.items() if has_value(metrics, name)]
    if reference:
        said.append(Statement(text=f"For scale, {name} of the anchors: {'; '.join(reference)}.", word="Anchors"))
    said += _not_beaten(best, leading, anchors, name)
    return [*said, *_interval_statements({subject: models[subject][name].metric.interval for subject in having})]


def _interval_statements(intervals: Mapping[str, Interval | None]) -> list[Statement]:
    """What the models' intervals cover; which models', where they differ in it."""
    about: dict[tuple[str, float], list[str]] = {}
    methods: dict[tuple[str, float], str] = {}
    for subject, interval in intervals.items():
        if interval is not None:
            about.setdefault((interval.source, interval.level), []).append(subject)
            methods.setdefault((interval.source, interval.level), interval.method)
    said = []
    for (source, level), subjects in about.items():
        covers = {
            "sampling": "other images from the same models; another training of the same model may move its score further",
            "training": "other trainings of the same models",
        }.get(source, source)
        whose = "Intervals" if len(about) == 1 else f"Intervals of {', '.join(subjects)}"
        text = f"{whose} are {level:.0%} ({methods[source, level]}) and cover {covers}."
        said.append(Statement(text=text, word="Intervals"))
    return said


def _not_beaten(best: str, leading: Scored, anchors: Scores, name: str) -> list[Statement]:
    """A warning where even the best model is not clearly better than something that has learnt nothing."""
    names = []
    for subject, metrics in anchors.items():
        if subject.startswith(_REAL) or not has_value(metrics, name) or why_not_comparable(leading, metrics[name]):
            continue
        if compare(leading, metrics[name]).outcome != "worse":
            names.append(f"{subject} ({value_text(metrics[name])})")
    if not names:
        return []
    text = f"{best}, the best model, is not clearly better than {', '.join(names)}, which has learnt nothing to draw."
    return [Statement(text=text, tone="worse", word="Not above chance")]


def has_value(metrics: Mapping[str, Scored], name: str) -> bool:
    """Whether a score was measured and could be computed."""
    return name in metrics and metrics[name].metric.value is not None


def _against(best: str, other: str, leading: Scored, trailing: Scored) -> Statement:
    reason = why_not_comparable(leading, trailing)
    if reason is not None:
        text = f"{other} ({value_text(trailing)}) cannot be compared with {best}: {reason}."
        return Statement(text=text, tone="warning", word="Not comparable")
    found = compare(leading, trailing)
    gap = _gap_text(found)
    if found.outcome == "worse":
        text = f"{other} ({value_text(trailing)}) is worse than {best} by {gap}."
        return Statement(text=text, tone="worse", word="Worse")
    why = "noise alone could explain it" if found.low is not None else "without intervals nothing is decided"
    text = f"{other} ({value_text(trailing)}) against {best}: the difference is {gap}, and {why}."
    return Statement(text=text, tone="inconclusive", word="Inconclusive")


def value_text(scored: Scored) -> str:
    """A score that has a value, and its interval."""
    assert scored.metric.value is not None
    return f"{score(scored.metric.value)} {interval_text(scored.metric.interval, scored.metric.value)}".rstrip()


def _gap_text(found: Difference) -> str:
    """The difference and its interval, with as many decimals as the scores themselves."""
    assert found.baseline.value is not None
    places = decimals(found.baseline.value)
    interval = "" if found.low is None or found.high is None else f" [{found.low:.{places}f}, {found.high:.{places}f}]"
    return f"{abs(found.value):.{places}f}{interval}"


def model_order(models: Scores) -> list[str]:
    """Models by their primary score, the best first; then those not comparable with most others, then those without it.

    Members of training groups come last, by their names.
    """
    last = sorted(single_trainings(models), key=_by_number)
    models = ranked(models)
    name = primary_metric(models)
    if name is None:
        return [*models, *last]
    norm = _norm(name, models)

    def key(subject: str) -> tuple[bool, bool, float]:
        if not has_value(models[subject], name):
            return True, True, 0.0
        scored = models[subject][name]
        assert scored.metric.value is not None
        return False, why_not_comparable(norm, scored) is not None, scored.metric.value

    return [*sorted(models, key=key), *last]


def _by_number(name: str) -> list[tuple[bool, int, str]]:
    """Sorts ``m-seed2`` before ``m-seed10``."""
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)]


def codebook_table(records: Iterable[RunRecord]) -> Table | None:
    """Use of the codebook by stage: tables whose rows have ``stage`` and ``use``, the newest of each subject."""
    rows_of = {subject: found for (subject, _), found in _newest_rows(records, {"stage", "use"}).items()}
    if not rows_of:
        return None
    names = {str(row["stage"]) for _, rows in rows_of.values() for row in rows}
    stages = sorted(names, key=lambda stage: (not stage.isdigit(), stage.zfill(4)))
    lines = []
    for subject, (record, rows) in rows_of.items():
        by_stage = {str(row["stage"]): row for row in rows}
        lines.append([Cell(text=subject), *(_use(by_stage.get(stage), record) for stage in stages)])
    columns = [Column(label="tokenizer", number=False)]
    columns += [Column(label=f"stage {stage}" if stage.isdigit() else f"{stage} stages") for stage in stages]
    note = (
        "Share of the codebook that the held-out images use, and below it the perplexity of the codes. Early stages hold few "
        "tokens an image, so that few codes can be used at all."
    )
    return Table(caption="Codebook use by stage", columns=columns, groups=[Group(rows=lines)], notes=[note])


def codebook_use(records: Iterable[RunRecord]) -> dict[str, tuple[float, RunRecord]]:
    """Subject -> share of the codebook that the first of several stages uses, and the record that says so."""
    found = {}
    for (subject, _), (record, rows) in _newest_rows(records, {"stage", "use"}).items():
        stages = sorted((int(row["stage"]), row["use"]) for row in rows if str(row["stage"]).isdigit())
        if len(stages) > 1 and isinstance(stages[0][1], int | float):
            found[subject] = (float(stages[0][1]), record)
    return found


def _use(row: Mapping[str, Any] | None, record: RunRecord) -> Cell:
    use = None if row is None else row.get("use")
    if row is None or not isinstance(use, int | float):
        return BLANK if row is None else unavailable()
    perplexity = row.get("perplexity")
    below = count(round(perplexity)) if isinstance(perplexity, int | float) else ""
    return Cell(text=f"{use:.1%}", sub=below, number=of_record(f"codebook use, stage {row['stage']}", use, record))


def class_tables(records: Iterable[RunRecord]) -> list[Table]:
    """Scores by class: a table a score, a row a model, from tables whose rows have ``class`` and ``value``."""
    by_score: dict[str, dict[str, _RowsOf]] = {}
    for (subject, name), found in _newest_rows(records, {"class", "value"}).items():
        by_score.setdefault(name, {})[subject] = found
    tables = []
    for name, rows_of in by_score.items():
        labels = list(dict.fromkeys(row["class"] for _, rows in rows_of.values() for row in rows))
        lines = []
        for subject, (record, rows) in rows_of.items():
            by_class = {row["class"]: row for row in rows}
            lines.append([Cell(text=subject), *(_class_cell(name, by_class.get(label), record) for label in labels)])
        columns = [Column(label="model", number=False), *(Column(label=str(label)) for label in labels)]
        tables.append(Table(caption=name, columns=columns, groups=[Group(rows=lines)]))
    return tables


def _class_cell(name: str, row: Mapping[str, Any] | None, record: RunRecord) -> Cell:
    value = None if row is None else row["value"]
    if row is None or not isinstance(value, int | float):
        return BLANK
    counts = {key: row[key] for key in ("n", "n_reference") if isinstance(row.get(key), int)}
    return Cell(text=score(value), number=of_record(f"{name}: {row['class']}", value, record, **counts))


def _newest_rows(records: Iterable[RunRecord], keys: set[str]) -> dict[tuple[str, str], _RowsOf]:
    """(subject, table's name) -> the newest record with a table whose rows have the ``keys``, subjects in their order."""
    found: dict[tuple[str, str], _RowsOf] = {}
    for record in records:
        for name, rows in record.tables.items():
            place = (record.subject, name)
            if rows and keys <= set(rows[0]) and (place not in found or record.created >= found[place][0].created):
                found[place] = (record, rows)
    return found
