"""Scores: the main table, the tokenizers' table, and the sentences that say what is decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from nvgbench.report.quantities import count, interval_text, score
from nvgbench.report.tables import BLANK, Cell, Column, Footnotes, Group, Statement, Table, unavailable
from nvgbench.results.compare import Difference, Scored, compare, latest_metrics, why_not_comparable
from nvgbench.results.schema import RunRecord

ANCHOR = "anchor"
_FIRST = ("FID", "FD", "rFID", "rFD", "PSNR", "SSIM", "LPIPS", "KID", "KD", "IS", "precision", "recall")

Scores = Mapping[str, Mapping[str, Scored]]
"""Subject -> metric -> newest value."""


def collect_scores(records: Iterable[RunRecord], kind: str) -> tuple[Scores, Scores]:
    """The newest scores of models and, apart from them, of anchors."""
    found = {subject: metrics for subject, metrics in latest_metrics(records, [kind]).items() if metrics}
    anchors = {s: m for s, m in found.items() if next(iter(m.values())).record.family == ANCHOR}
    return {s: m for s, m in found.items() if s not in anchors}, anchors


def metric_order(scores: Iterable[Mapping[str, Scored]]) -> list[str]:
    """Names of all metrics: distances and the papers' scores first, then as recorded."""
    names = list(dict.fromkeys(name for metrics in scores for name in metrics))

    def rank(name: str) -> int:
        stem = name.partition("[")[0]
        return _FIRST.index(stem) if stem in _FIRST else len(_FIRST)

    return sorted(names, key=rank)


def primary_metric(scores: Scores) -> str | None:
    """The score that the summary speaks of: the Fréchet distance that most models have, FID before others."""
    names = Counter(name for metrics in scores.values() for name, s in metrics.items() if s.metric.value is not None)
    distances = [name for name in metric_order(scores.values()) if name in names and name.partition("[")[0] in ("FID", "FD")]
    return max(distances, key=lambda name: names[name], default=None)


def score_table(models: Scores, anchors: Scores, caption: str) -> Table:
    """Models (best first) x metrics, anchors set apart below; what must not be compared carries a footnote."""
    names = metric_order([*models.values(), *anchors.values()])
    notes = Footnotes()
    norms = {name: _norm(name, models, anchors) for name in names}
    best = {name: _best(name, models, norms[name]) for name in names}
    counts = {(norm.metric.n, norm.metric.n_reference) for norm in norms.values()}
    if len(counts) == 1:
        caption = f"{caption}: {_counts(*counts.pop())}"
    columns = [Column(label="model", number=False), *(_column(name, norms[name], bool(counts)) for name in names)]
    order = model_order(models)
    groups = [Group(rows=[_row(subject, models[subject], names, norms, best, notes) for subject in order])]
    if anchors:
        rows = [_row(subject, anchors[subject], names, norms, {}, notes) for subject in anchors]
        groups.append(Group(heading="Anchors: what the scores of no model look like", rows=rows))
    return Table(caption=caption, columns=columns, groups=groups, notes=notes.lines())


def _norm(name: str, models: Scores, anchors: Scores) -> Scored:
    """The score of a column that most others may be compared with."""
    scored = [metrics[name] for metrics in (*models.values(), *anchors.values()) if name in metrics]
    return max(scored, key=lambda one: sum(why_not_comparable(one, other) is None for other in scored))


def _best(name: str, models: Scores, norm: Scored) -> float | None:
    higher = norm.metric.higher_is_better
    values = [
        metrics[name].metric.value
        for metrics in models.values()
        if name in metrics and why_not_comparable(norm, metrics[name]) is None
    ]
    finite = [value for value in values if value is not None]
    if higher is None or len(finite) < 2:
        return None
    return max(finite) if higher else min(finite)


def _column(name: str, norm: Scored, with_counts: bool) -> Column:
    direction = {True: "higher is better", False: "lower is better", None: ""}[norm.metric.higher_is_better]
    counts = _counts(norm.metric.n, norm.metric.n_reference) if with_counts else ""
    # a line may break before the extractor
    label = f"{name}, {norm.metric.unit}" if norm.metric.unit else name.replace("[", "\u200b[")
    return Column(label=label, sub="; ".join(part for part in (direction, counts) if part))


def _counts(n: int, n_reference: int | None) -> str:
    return f"n = {n:,}" + (f" against {n_reference:,} reference images" if n_reference else "")


def _row(
    subject: str,
    metrics: Mapping[str, Scored],
    names: Sequence[str],
    norms: Mapping[str, Scored],
    best: Mapping[str, float | None],
    notes: Footnotes,
) -> list[Cell]:
    record = next(iter(metrics.values())).record
    cells = [Cell(text=subject, sub="" if record.family == ANCHOR else record.family)]
    for name in names:
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
        if metric.note and not mark:
            mark = notes.sign(metric.note)
        cells.append(
            Cell(
                text=score(metric.value),
                sub=interval_text(metric.interval),
                sort=metric.value,
                best=reason is None and metric.value == best.get(name),
                mark=mark,
            )
        )
    return cells


def score_statements(models: Scores, anchors: Scores) -> list[Statement]:
    """What the primary score decides, in words."""
    name = primary_metric(models)
    if name is None:
        text = "No model has been scored yet; 'nvgbench evaluate RUN' does it."
        return [Statement(text=text, tone="warning", word="No scores")]
    having = [subject for subject in model_order(models) if _has(models[subject], name)]
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
    reference = [f"{subject} {value_text(metrics[name])}" for subject, metrics in anchors.items() if _has(metrics, name)]
    if reference:
        said.append(Statement(text=f"For scale, {name} of the anchors: {'; '.join(reference)}.", word="Anchors"))
    interval = leading.metric.interval
    if interval is not None:
        covers = {
            "sampling": "other images from the same models; another training of the same model may move its score further",
            "training": "other trainings of the same models",
        }.get(interval.source, interval.source)
        text = f"Intervals are {interval.level:.0%} ({interval.method}) and cover {covers}."
        said.append(Statement(text=text, word="Intervals"))
    return said


def _has(metrics: Mapping[str, Scored], name: str) -> bool:
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
    return f"{score(scored.metric.value)} {interval_text(scored.metric.interval)}".rstrip()


def _gap_text(found: Difference) -> str:
    """The difference and its interval, with as many decimals as the scores themselves."""
    assert found.baseline.value is not None
    decimals = len(score(found.baseline.value).partition(".")[2])
    interval = "" if found.low is None or found.high is None else f" [{found.low:.{decimals}f}, {found.high:.{decimals}f}]"
    return f"{abs(found.value):.{decimals}f}{interval}"


def model_order(models: Scores) -> list[str]:
    """Models by their primary score, the best first; those without it at the end."""
    name = primary_metric(models)
    if name is None:
        return list(models)

    def key(subject: str) -> tuple[bool, float]:
        value = models[subject][name].metric.value if name in models[subject] else None
        return value is None, value if value is not None else 0.0

    return sorted(models, key=key)


def codebook_table(records: Iterable[RunRecord]) -> Table | None:
    """Use of the codebook by stage, from tables of reconstruction records whose rows have ``stage`` and ``use``."""
    rows_of: dict[str, list[Mapping[str, object]]] = {}
    for record in sorted((r for r in records if r.kind == "reconstruction"), key=lambda record: record.created):
        for rows in record.tables.values():
            if rows and {"stage", "use"} <= set(rows[0]):
                rows_of[record.subject] = list(rows)
    if not rows_of:
        return None
    names = {str(row["stage"]) for rows in rows_of.values() for row in rows}
    stages = sorted(names, key=lambda stage: (not stage.isdigit(), stage.zfill(4)))
    lines = []
    for subject, rows in rows_of.items():
        by_stage = {str(row["stage"]): row for row in rows}
        lines.append([Cell(text=subject), *(_use(by_stage.get(stage)) for stage in stages)])
    columns = [Column(label="tokenizer", number=False)]
    columns += [Column(label=f"stage {stage}" if stage.isdigit() else f"{stage} stages") for stage in stages]
    note = (
        "Share of the codebook that the held-out images use, and below it the perplexity of the codes. Early stages hold few "
        "tokens an image, so that few codes can be used at all."
    )
    return Table(caption="Codebook use by stage", columns=columns, groups=[Group(rows=lines)], notes=[note])


def _use(row: Mapping[str, object] | None) -> Cell:
    use = None if row is None else row.get("use")
    if row is None or not isinstance(use, int | float):
        return BLANK if row is None else unavailable()
    perplexity = row.get("perplexity")
    below = count(round(perplexity)) if isinstance(perplexity, int | float) else ""
    return Cell(text=f"{use:.1%}", sub=below, sort=float(use))
