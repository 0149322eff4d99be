"""What a reader must know before trusting a number: findings of the linter, and refusals that were overridden."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nvgbench.reporting.tables import Cell, Column, Group, Statement, Table, Tone
from nvgbench.results.compare import Scored
from nvgbench.results.missing import missing_scores
from nvgbench.results.paths import without_machine_paths
from nvgbench.results.schema import RunRecord

_SEVERITIES: Mapping[str, Tone] = {"forced": "worse", "warning": "warning"}


@dataclass(frozen=True, kw_only=True)
class Caution:
    """One finding about the records of some subjects; its severity is ``forced`` if a refusal was overridden."""

    check: str
    severity: str
    message: str
    subjects: tuple[str, ...]


def cautions(records: Iterable[RunRecord]) -> list[Caution]:
    """Findings in the records' provenance (``lint``: rows of check, severity and message), forced ones first.

    A finding that several subjects share is listed once.
    """
    subjects_of: dict[tuple[str, str, str], dict[str, None]] = {}
    for record in records:
        rows = record.provenance.get("lint")
        for row in rows if isinstance(rows, Sequence) and not isinstance(rows, str) else ():
            if isinstance(row, Mapping):
                check, severity, message = (str(row.get(key, "")) for key in ("check", "severity", "message"))
                subjects_of.setdefault((check, severity, without_machine_paths(message)), {})[record.subject] = None
    found = [
        Caution(check=check, severity=severity, message=message, subjects=tuple(subjects))
        for (check, severity, message), subjects in subjects_of.items()
    ]
    return sorted(found, key=lambda one: one.severity != "forced")


def lpips_notes(scores: Mapping[str, Mapping[str, Scored]]) -> list[str]:
    """Why reconstructions have no LPIPS, as far as the newest records say: one line per reason, with its subjects.

    Args:
        scores: subject -> name of the score -> newest value.
    """
    subjects_of: dict[str, list[str]] = {}
    for subject, metrics in scores.items():
        if "LPIPS" in metrics or "PSNR" not in metrics:
            continue
        if reason := missing_scores(metrics["PSNR"].record).get("LPIPS"):
            subjects_of.setdefault(reason, []).append(subject)
    return [f"No LPIPS for {', '.join(subjects)}: {reason}." for reason, subjects in subjects_of.items()]


def caution_table(found: Sequence[Caution]) -> Table | None:
    """One row per finding."""
    if not found:
        return None
    rows = [
        [
            Cell(text=one.check),
            Cell(text=one.severity, tone=_SEVERITIES.get(one.severity, "plain")),
            Cell(text=one.message),
            Cell(text=", ".join(one.subjects)),
        ]
        for one in found
    ]
    columns = [Column(label=label, number=False) for label in ("check", "severity", "finding", "models")]
    return Table(caption="Warnings about samples and references", columns=columns, groups=[Group(rows=rows)])


def caution_statements(found: Sequence[Caution]) -> list[Statement]:
    """One sentence for forced findings, one for warnings."""
    statements = []
    for severity, word in (("forced", "Forced"), ("warning", "Warnings")):
        chosen = [one for one in found if one.severity == severity]
        if not chosen:
            continue
        subjects = ", ".join(dict.fromkeys(subject for one in chosen for subject in one.subjects))
        checks = ", ".join(dict.fromkeys(one.check for one in chosen))
        text = (
            f"Scores of {subjects} were computed although the checks refuse it ({checks}); do not compare them."
            if severity == "forced"
            else f"The linter has warnings about the scores of {subjects} ({checks}); see the table below."
        )
        statements.append(Statement(text=text, tone=_SEVERITIES[severity], word=word))
    return statements
