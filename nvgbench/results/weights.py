"""Whether a score is of the weights with which its run's training ended. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nvgbench.results.schema import RunRecord

GENERATOR, TOKENIZER = "generator", "tokenizer"


def unfinished(model: Any) -> str:
    """``unfinished, step 11 of 600`` for a model (`provenance["model"]`) whose training had not ended; else empty."""
    if not isinstance(model, Mapping) or model.get("finished", True):
        return ""
    total = f" of {model['total_steps']}" if model.get("total_steps") else ""
    return f"unfinished, step {model.get('step', 'unknown')}{total}"


def newest_trainings(records: Iterable[RunRecord]) -> dict[str, RunRecord]:
    """Subject -> its newest record of a finished generator's training."""
    found: dict[str, RunRecord] = {}
    for record in records:
        known = found.get(record.subject)
        if _is_of_generator(record) and (known is None or record.created >= known.created):
            found[record.subject] = record
    return found


def weights_caution(record: RunRecord, trained: RunRecord | None, phase: str = GENERATOR) -> str:
    """Why a score is not one of the finished run, or empty.

    Args:
        record: the score's record.
        trained: the newest training of its subject, if any (`newest_trainings`).
        phase: whose weights the score depends on; reconstructions depend on the tokenizer's alone.

    Returns:
        That the training had not ended, or that it has been continued or repeated since. Empty if the records do not tell.
    """
    if phase == GENERATOR and "caution" in record.provenance:  # a group of trainings, see `training_groups`
        return str(record.provenance["caution"])
    model = record.provenance.get("model")
    if not isinstance(model, Mapping):
        return ""
    early = unfinished(model) if phase == GENERATOR else ""
    if trained is None or not _is_outdated(model, trained, phase):
        return early
    step = _steps(trained, phase)
    since = f"the training has ended since{f', at step {step}' if step else ''}; evaluate the run again"
    return f"{early or f'of earlier weights of the {phase}'} ({since})"


def _is_of_generator(record: RunRecord) -> bool:
    return record.kind == "train" and GENERATOR in record.provenance.get("phases", (GENERATOR,))


def _is_outdated(model: Mapping[str, Any], trained: RunRecord, phase: str) -> bool:
    """Whether the model's weights are not those of the training, by their SHA-256 or, in older records, by the step."""
    used = model.get("weights" if phase == GENERATOR else "tokenizer_weights")
    final = trained.provenance.get("weights")
    if isinstance(final, Mapping) and phase in final and used is not None:
        return used not in final[phase]
    step, last = model.get("step"), _steps(trained, phase)
    return phase == GENERATOR and step is not None and last is not None and step != last


def _steps(trained: RunRecord, phase: str) -> int | None:
    rows = (row for row in trained.tables.get("training", ()) if row.get("phase") == phase)
    return next((row.get("steps") for row in rows), None)
