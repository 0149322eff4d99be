"""Scores of unfinished trainings and of earlier weights are recognised, marked, and judge nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from nvgbench.errors import InputError
from nvgbench.gates.baseline import Baseline, update_baseline
from nvgbench.gates.rules import load_rules
from nvgbench.gates.verdicts import evaluate_gates
from nvgbench.reporting.claims import Evidence, load_claims
from nvgbench.reporting.pairs import pair_table
from nvgbench.reporting.score_statements import score_statements
from nvgbench.reporting.score_table import score_table
from nvgbench.reporting.scores import collect_scores
from nvgbench.results.compare import Scored, compare_all, latest_metrics
from nvgbench.results.grouping import training_groups
from nvgbench.results.records import to_frame
from nvgbench.results.schema import RunRecord
from nvgbench.results.weights import newest_trainings, unfinished, weights_caution
from tests.helpers.gate_records import metric
from tests.helpers.replicates import replicate

SOON, LATE = "2026-01-01T10:00:00+00:00", "2026-01-01T12:00:00+00:00"
HALF = {"step": 11, "total_steps": 600, "finished": False, "weights": "half", "tokenizer_weights": "tok"}
WHOLE = HALF | {"step": 600, "finished": True, "weights": "whole"}


def evaluated(model: dict[str, Any], subject: str = "run", created: str = SOON, value: float = 5.0, **more: Any) -> RunRecord:
    scores = (metric("FID", value), dataclasses.replace(metric("rFID", 1.0), protocol=""))
    return RunRecord(kind="eval", subject=subject, created=created, metrics=scores, provenance={"model": model, **more})


def trained(subject: str = "run", created: str = LATE, *, digests: bool = True, steps: int = 600) -> RunRecord:
    weights = {"weights": {"generator": ["plain", "whole"], "tokenizer": ["tok"]}} if digests else {}
    rows = [{"phase": "tokenizer", "steps": 9}, {"phase": "generator", "steps": steps}]
    provenance = {"phases": ["generator", "tokenizer"], **weights}
    return RunRecord(kind="train", subject=subject, created=created, tables={"training": rows}, provenance=provenance)


def caution(*records: RunRecord, score: str = "FID", subject: str = "run") -> str:
    return latest_metrics(records, ("eval",))[subject][score].caution


def test_words() -> None:
    assert unfinished(HALF) == "unfinished, step 11 of 600"
    assert unfinished({"step": 11, "finished": False}) == "unfinished, step 11"
    assert unfinished(WHOLE) == unfinished({}) == unfinished(None) == unfinished("untrained") == ""


@pytest.mark.parametrize("digests", [True, False], ids=["by hash", "by step"])
def test_a_score_before_the_end_of_the_training_is_of_earlier_weights(digests: bool) -> None:
    done = trained(digests=digests)
    assert caution(evaluated(HALF)) == "unfinished, step 11 of 600"
    since = "(the training has ended since, at step 600; evaluate the run again)"
    assert caution(evaluated(HALF), done) == f"unfinished, step 11 of 600 {since}"
    assert caution(evaluated(WHOLE), done) == ""
    assert caution(evaluated(HALF), evaluated(WHOLE, created=LATE), done) == "", "the newest score counts"


def test_a_continued_training_makes_earlier_scores_old() -> None:
    longer = trained(digests=False, created="2026-01-02T00:00:00+00:00", steps=800)
    assert "earlier weights of the generator (the training has ended since, at step 800" in caution(
        evaluated(WHOLE), trained(digests=False), longer
    )


def test_plain_weights_of_the_end_are_final_too() -> None:
    assert caution(evaluated(WHOLE | {"weights": "plain"}), trained()) == ""
    assert "earlier weights" in caution(evaluated(WHOLE | {"weights": "other"}), trained())


def test_reconstructions_depend_on_the_tokenizer_alone() -> None:
    assert caution(evaluated(HALF), trained(), score="rFID") == ""
    assert "tokenizer" in caution(evaluated(WHOLE | {"tokenizer_weights": "old"}), trained(), score="rFID")


def test_records_without_these_fields_stay_readable() -> None:
    assert caution(evaluated({}), trained()) == ""
    assert weights_caution(RunRecord(kind="eval", subject="x"), trained()) == ""
    assert newest_trainings([RunRecord(kind="train", subject="x")]).keys() == {"x"}
    only_tokenizer = RunRecord(kind="train", subject="x", provenance={"phases": ["tokenizer"]})
    assert newest_trainings([only_tokenizer]) == {}


def test_compare_marks_and_gate_does_not_judge(tmp_path: Path) -> None:
    old, new = (latest_metrics([one], ("eval",))["run"] for one in (evaluated(WHOLE), evaluated(HALF, value=500.0)))
    found = compare_all(old, new, names=("a", "b"))
    assert found.cautions == ("b: unfinished, step 11 of 600",)
    assert "warning: b: unfinished, step 11 of 600" in repr(found)
    rules = load_rules(None)
    good, bad = evaluated(WHOLE), evaluated(HALF, value=500.0)
    (verdict,) = (v for v in evaluate_gates(rules, Baseline.of([good]), [bad]) if v.metric == "FID")
    assert (verdict.outcome, verdict.blocking) == ("inconclusive", True)
    assert verdict.reason == "not judged: the new record is unfinished, step 11 of 600"
    (verdict,) = (v for v in evaluate_gates(rules, Baseline.of([good]), [evaluated(WHOLE | {"weights": "x"}), trained()])
                  if v.metric == "FID")  # fmt: skip
    assert "earlier weights" in verdict.reason
    assert all(v.outcome == "pass" for v in evaluate_gates(rules, Baseline.of([good]), [good, trained()]))
    with pytest.raises(InputError, match="finished runs only; run is unfinished, step 11 of 600"):
        update_baseline(tmp_path / "gate.json", [bad])
    assert not (tmp_path / "gate.json").exists()


def test_a_group_with_an_unfinished_member_has_a_caution() -> None:
    runs = [evaluated(WHOLE if seed else HALF, f"x-seed{seed}", value=5 + seed, **replicate("x", seed)) for seed in range(3)]
    (group,) = training_groups(runs)
    assert group.provenance["caution"] == "x-seed0: unfinished, step 11 of 600"
    assert caution(group, subject="x") == "x-seed0: unfinished, step 11 of 600"
    assert "caution" not in training_groups(runs[1:])[0].provenance


def test_the_report_marks_them_and_ranks_the_others() -> None:
    records = [evaluated(HALF, "half", value=1.0), evaluated(WHOLE, "good", value=5.0), evaluated(WHOLE, "fair", value=9.0)]
    models = collect_scores(records).models
    texts = {statement.word: statement.text for statement in score_statements(models, {})}
    assert texts["Not ranked"] == "FID of half is not ranked: unfinished, step 11 of 600."
    assert texts["Lowest"].startswith("good has the lowest FID")
    table = score_table(models, {}, "Scores")
    assert [row[0].text for row in table.groups[0].rows] == ["good", "fair", "half"]
    assert any("unfinished, step 11 of 600" in note for note in table.notes)
    assert [row[1].best for row in table.groups[0].rows] == [True, False, False]
    pairs = pair_table(models)
    assert pairs is not None
    cells = {row[0].text: row for group in pairs.groups for row in group.rows}
    assert "unfinished" in str(cells)
    assert to_frame(records)["note"].str.contains("unfinished").sum() == 1
    alone = score_statements(collect_scores(records[:1]).models, {})
    assert [statement.word for statement in alone] == ["Not ranked"]


def test_claims_are_never_judged_by_unfinished_runs() -> None:
    def judged(model: dict[str, Any]) -> set[str]:
        records = [
            dataclasses.replace(
                evaluated(model, preset, value=value, dataset="imagenet"), preset=preset, family=preset.partition("-")[0]
            )
            for preset, value in (("nvg-d16", 3.0), ("var-d16", 4.0))
        ]
        evidence = Evidence(records, collect_scores(records))
        return {evidence.judge(claim).outcome for claim in load_claims() if claim.metric == "FID"}

    assert judged(HALF) == {"not measured here"}
    assert judged(WHOLE) > {"not measured here"}


def test_unequal_precision_is_remarked() -> None:
    def drawn(precision: str | None) -> dict[str, Scored]:
        settings = {} if precision is None else {"precision": precision}
        record = evaluated(WHOLE)
        provenance = {**record.provenance, "settings": settings, "seeds": {"sampling": 0}}
        return latest_metrics([dataclasses.replace(record, provenance=provenance)], ("eval",))["run"]

    found = compare_all(drawn("fp32"), drawn("bf16"), names=("a", "b"))
    assert found.cautions == ("sampled in unequal precision: a in fp32 and b in bf16",)
    assert compare_all(drawn(None), drawn("fp32")).cautions == ()  # records of before precision was a setting
    assert compare_all(drawn("bf16"), drawn("bf16")).cautions == ()
