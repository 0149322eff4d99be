"""Claims of the paper: the data, and verdicts that small models cannot get."""

from __future__ import annotations

import dataclasses

import pytest

from nvgbench.reporting.claim_tables import claim_rows, claim_statement, claim_table, scale_table
from nvgbench.reporting.claims import Evidence, Judged, load_claims
from nvgbench.reporting.published import published_results
from nvgbench.reporting.scores import collect_scores
from nvgbench.results.schema import RunRecord
from nvgbench.types import Interval, Measurement
from tests.helpers.report_records import codebook_rows, metric, profile_record, provenance

IMAGENET = {"name": "imagenet (train)", "fingerprint": "i" * 64}
TINY = {"name": "shapes (train)", "fingerprint": "d" * 64}


def scored(preset: str, name: str, value: float, half: float, dataset: dict = IMAGENET, **changes) -> RunRecord:
    better = name.partition("[")[0] in ("IS", "precision", "recall")
    measured = dataclasses.replace(metric(name, value, half, better, n=50_000), **changes)
    family = preset.partition("-")[0]
    return RunRecord(
        kind="eval",
        subject=f"my {preset}",
        family=family,
        preset=preset,
        metrics=(measured,),
        provenance=provenance(dataset=dataset),
    )


def judge(*records: RunRecord) -> dict[str, Judged]:
    evidence = Evidence(records, collect_scores(records))
    return {claim.text: evidence.judge(claim) for claim in load_claims()}


def at_this_scale(*records: RunRecord) -> list[Judged]:
    return Evidence(records, collect_scores(records)).at_this_scale(load_claims())


FIRST = "NVG-d16 beats VAR-d16 in FID"


def test_the_data_agree_with_the_published_tables() -> None:
    rows = {(row.table, row.model): row for row in published_results()}
    fields = {"FID": "fid", "IS": "is_", "precision": "precision", "recall": "recall", "rFID": "rfid", "LPIPS": "lpips"}
    fields |= {"latency": "time_s", "peak_memory_cuda": "memory_mib"}
    claims = load_claims()
    assert len({claim.text for claim in claims}) == len(claims) == 30
    for claim in claims:
        assert (claim.value_a > claim.value_b) == claim.higher_is_better, f"the paper's own figures contradict: {claim.text}"
        if claim.table != "text":
            for model, value in ((claim.a, claim.value_a), (claim.b, claim.value_b)):
                assert float(getattr(rows[claim.table, model], fields[claim.metric])) == value, claim.text


@pytest.mark.parametrize(
    ("nvg", "var", "half", "outcome"),
    [
        (3.03, 3.30, 0.05, "supported"),
        (3.50, 3.30, 0.05, "not supported"),
        (3.03, 3.30, 0.40, "inconclusive"),
    ],
)
def test_verdicts(nvg: float, var: float, half: float, outcome: str) -> None:
    found = judge(scored("nvg-d16", "FID", nvg, half), scored("var-d16", "FID", var, half))
    one = found[FIRST]
    assert one.interval is not None
    assert (one.outcome, one.interval.source) == (outcome, "sampling")
    assert "sampling noise only" in one.reason
    assert one.a is not None
    assert one.b is not None
    assert (one.a.value, one.b.value) == (nvg, var)
    others = {text: judged for text, judged in found.items() if text != FIRST}
    assert {judged.outcome for judged in others.values()} == {"not measured here"}


def test_no_interval_no_verdict() -> None:
    bare = [scored(f"{family}-d16", "FID", value, 0.1, interval=None) for family, value in (("nvg", 3.0), ("var", 3.3))]
    one = judge(*bare)[FIRST]
    assert one.outcome == "inconclusive"
    assert "without intervals" in one.reason


def test_unequal_counts_are_not_compared() -> None:
    one = judge(scored("nvg-d16", "FID", 3.0, 0.05), scored("var-d16", "FID", 3.3, 0.05, n=10_000))[FIRST]
    assert one.outcome == "not comparable"
    assert "50000" in one.reason


def by_rules(preset: str, protocol: str, value: float, **changes) -> RunRecord:
    return scored(preset, "FID", value, 0.05, protocol=protocol, **changes)


OURS = [by_rules("nvg-d16", "nvgbench/2", 3.4), by_rules("var-d16", "nvgbench/2", 3.3)]
PAPERS = [by_rules("nvg-d16", "adm/1", 3.0), by_rules("var-d16", "adm/1", 3.2)]


@pytest.mark.parametrize(
    ("records", "outcome", "protocol"),
    [
        ([*OURS, *PAPERS], "supported", "adm/1"),  # the figures are by the papers' protocol
        ([*PAPERS, *OURS], "supported", "adm/1"),
        ([*OURS, PAPERS[0]], "not supported", "nvgbench/2"),
        ([*OURS, PAPERS[0], by_rules("var-d16", "adm/1", 3.2, n=10_000)], "not supported", "nvgbench/2"),
        ([PAPERS[0], by_rules("var-d16", "adm/1", 3.2, n=10_000)], "not comparable", "adm/1"),
    ],
)
def test_claims_are_judged_by_one_protocol(records: list[RunRecord], outcome: str, protocol: str) -> None:
    one = judge(*records)[FIRST]
    assert one.a is not None
    assert one.b is not None
    assert (one.outcome, one.a.protocol, one.b.protocol) == (outcome, protocol, protocol)


def test_protocols_are_not_mixed_for_a_claim() -> None:
    one = judge(OURS[0], PAPERS[1])[FIRST]
    assert (one.outcome, one.reason) == ("not comparable", "protocol differs: nvgbench/2 and adm/1")


def test_questions_at_this_scale_are_answered_by_one_protocol() -> None:
    def tiny(preset: str, name: str, value: float, protocol: str) -> RunRecord:
        return scored(preset, name, value, 0.05, TINY, protocol=protocol)

    records = [tiny("nvg-tiny", "FD[classifier]", 9.0, "nvgbench/2"), tiny("nvg-tiny", "FID", 3.0, "adm/1")]
    records += [tiny("var-tiny", "FID", 5.0, "nvgbench/2"), tiny("var-tiny", "FID", 4.0, "adm/1")]
    (one,) = at_this_scale(*records)
    assert one.a is not None
    assert one.b is not None
    assert (one.outcome, one.a.value, one.b.value, one.b.protocol) == ("supported", 3.0, 4.0, "adm/1")


@pytest.mark.parametrize(
    ("preset", "name", "dataset"),
    [
        ("d16", "FD[classifier]", IMAGENET),  # another extractor
        ("d16", "FID", TINY),  # other data
        ("tiny", "FID", IMAGENET),  # a smaller model
        ("d160", "FID", IMAGENET),
    ],
)
def test_only_the_named_models_judge_a_claim(preset: str, name: str, dataset: dict) -> None:
    records = [scored(f"{family}-{preset}", name, value, 0.05, dataset) for family, value in (("nvg", 3.0), ("var", 3.3))]
    assert {one.outcome for one in judge(*records).values()} == {"not measured here"}
    # The same question is answered at this scale, about the models that were measured.
    (scaled,) = at_this_scale(*records)
    assert (scaled.outcome, scaled.subject_a, scaled.subject_b) == ("supported", f"my nvg-{preset}", f"my var-{preset}")


@pytest.mark.parametrize(("share", "outcome"), [(0.5, "not measured here"), (1.0, "supported")])
def test_a_run_cut_short_does_not_judge_a_claim(share: float, outcome: str) -> None:
    images = int(share * 200 * 1_281_167)  # the paper trains d16 for 200 epochs
    rows = [{"phase": "generator", "steps": 1, "images": images, "seconds": 1.0}]
    trained = [
        RunRecord(kind="train", subject=f"my {family}-d16", family=family, preset=f"{family}-d16", tables={"training": rows})
        for family in ("nvg", "var")
    ]
    found = judge(*trained, scored("nvg-d16", "FID", 3.0, 0.05), scored("var-d16", "FID", 3.3, 0.05))
    assert found[FIRST].outcome == outcome


def test_time_is_judged_without_training() -> None:
    profiles = [dataclasses.replace(profile_record(f"{f}-d16", f, n), preset=f"{f}-d16") for n, f in ((0, "nvg"), (1, "var"))]
    one = judge(*profiles)["VAR-d16 is faster than NVG-d16 with structure generation"]
    assert (one.outcome, one.subject_a, one.subject_b) == ("supported", "var-d16", "nvg-d16")


def test_models_of_different_sizes_are_not_compared() -> None:
    assert at_this_scale(scored("nvg-tiny", "FID", 3.0, 0.05, TINY), scored("var-cifar10", "FID", 3.3, 0.05, TINY)) == []


def memory(value: float) -> Measurement:
    return Measurement(name="peak_memory_cuda", unit="B", samples=(value,), conditions={"batch_size": 1})


def test_costs_and_codebooks_at_this_scale() -> None:
    profiles = [dataclasses.replace(profile_record(f"{f}-tiny", f, n), preset=f"{f}-tiny") for n, f in ((0, "nvg"), (1, "var"))]
    tables = [
        RunRecord(
            kind="eval", subject=f"{f}-tiny", family=f, preset=f"{f}-tiny", tables={"codebook by stage": codebook_rows(f)}
        )
        for f in ("nvg", "var")
    ]
    profiles = [
        dataclasses.replace(record, measurements=(*record.measurements, memory(4e9 + n))) for n, record in enumerate(profiles)
    ]
    found = {one.claim.metric: one for one in at_this_scale(*profiles, *tables)}
    assert found["latency"].outcome == "supported"  # VAR is faster, and the ranges of the repetitions do not overlap
    assert found["peak_memory_cuda"].outcome == "supported"
    assert found["codebook use, first stage"].outcome == "inconclusive"
    elsewhere = dataclasses.replace(
        profiles[1], provenance={**profiles[1].provenance, "machine": {"gpu": "another", "cpu": "another"}}
    )
    assert {one.outcome for one in at_this_scale(profiles[0], elsewhere)} == {"not comparable"}


def test_training_noise_is_named() -> None:
    def trained(preset: str, value: float) -> RunRecord:
        return scored(preset, "FID", value, 0.1, interval=Interval(value - 0.05, value + 0.05, 0.95, "training", "5 trainings"))

    one = judge(trained("nvg-d16", 3.0), trained("var-d16", 3.3))[FIRST]
    assert one.interval is not None
    assert (one.outcome, one.interval.source) == ("supported", "training")


def test_tables_statement_and_rows_agree() -> None:
    records = [scored("nvg-d16", "FID", 3.03, 0.05), scored("var-d16", "FID", 3.3, 0.05)]
    records += [scored("nvg-tiny", "FID", 9.0, 0.05, TINY), scored("var-tiny", "FID", 3.3, 0.05, TINY)]
    judged, scaled = list(judge(*records).values()), at_this_scale(*records)
    table = claim_table(judged)
    cells = {row[0].text: row for group in table.groups for row in group.rows}[FIRST]
    assert [cell.text for cell in cells[1:7]] == ["supported", "3.030", "3.300", "3.03", "3.30", "\u22120.27"]
    assert "sampling noise only" in cells[6].sub
    assert cells[7].text.startswith("nvgbench/")
    small = scale_table(scaled)
    assert small is not None
    assert [row[0].text for row in small.groups[0].rows] == ["my nvg-tiny beats my var-tiny in FID"]
    assert "no evidence for or against the paper's figures" in small.notes[0].replace("\n", " ")
    said = claim_statement(judged, scaled).text
    assert "1 of the paper's 30 claims could be judged here: 1 supported." in said
    assert "1 not supported" in said
    rows = claim_rows(judged, scaled)
    assert rows[0]["published"] == {"NVG-d16": 3.03, "VAR-d16": 3.3}
    assert [row["scale"] for row in rows].count("this one") == 1


def variant(name: str, value: float, changed: dict, preset: str = "nvg-d12", **settings: object) -> RunRecord:
    """An evaluation of a variant of one preset, by a subject of its own."""
    found = scored(preset, "FID", value, 0.05)
    origin = {**found.provenance, "changed": changed, "settings": settings or {"top_p": [1.0, 1.0]}}
    return dataclasses.replace(found, subject=name, provenance=origin)


PARTIAL = "Structure from partial noise gives a lower FID than from pure noise"
ROPE = "Structure-aware RoPE gives a lower FID than none"
PURE = {"model.structure_input": "pure-noise"}


def test_variants_are_told_apart_by_their_settings() -> None:
    full = variant("full", 37.6, {})
    found = judge(full, variant("pure", 37.9, PURE), variant("plain", 39.0, {"model.structure_rope": False}))
    assert (found[PARTIAL].outcome, found[PARTIAL].subject_a, found[PARTIAL].subject_b) == ("supported", "full", "pure")
    assert (found[ROPE].outcome, found[ROPE].subject_b) == ("supported", "plain")
    noised = found["Content from the plain canvas gives a lower FID than from a noised one"]
    assert (noised.outcome, noised.reason) == ("not measured here", "nvgbench has no NVG-d12 (noised canvas)")


@pytest.mark.parametrize(
    "other",
    [
        variant("pure", 37.9, PURE | {"model.mlp_ratio": 2}),  # another width
        variant("pure", 37.9, PURE | {"train.generator.learning_rate": 1e-3}),  # another recipe
        variant("pure", 37.9, PURE, top_p=[1.0, 0.5]),  # sampled otherwise
        variant("pure", 37.9, {}),  # the same model
    ],
)
def test_nothing_else_may_differ_between_variants(other: RunRecord) -> None:
    assert judge(variant("full", 37.6, {}), other)[PARTIAL].outcome == "not measured here"
    assert PARTIAL not in {one.claim.text for one in at_this_scale(variant("full", 37.6, {}), other)}


def test_variants_of_a_small_preset_answer_the_question_at_their_scale() -> None:
    quick = {"train.generator.steps": 150}
    records = [variant("full", 30.0, quick, "nvg-tiny"), variant("pure", 40.0, quick | PURE, "nvg-tiny")]
    (one,) = at_this_scale(*records)
    assert (one.claim.text, one.outcome, one.subject_a, one.subject_b) == (PARTIAL, "supported", "full", "pure")


def test_a_run_with_another_setting_is_not_the_published_model() -> None:
    nvg, var = scored("nvg-d16", "FID", 3.0, 0.05), scored("var-d16", "FID", 3.3, 0.05)
    plain = dataclasses.replace(nvg, provenance={**nvg.provenance, "changed": {"model.structure_rope": False}})
    assert judge(nvg, var)[FIRST].outcome == "supported"
    assert judge(plain, var)[FIRST].outcome == "not measured here"
    assert at_this_scale(plain, var) == []
