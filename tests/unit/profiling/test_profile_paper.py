"""Table 4 of the paper: its rows, and the batch that pays."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

import nvgbench as nb
from nvgbench.api.paper import TABLE_4, PaperTable, cases, paper_rows, published_only
from nvgbench.errors import InputError
from nvgbench.interfaces import ImageGenerator
from nvgbench.profiling import batches
from nvgbench.profiling.batches import batch_that_pays
from nvgbench.results.records import Records
from nvgbench.results.schema import RunRecord
from nvgbench.types import ModelSpec, SampleRequest, SampleResult

CPU = torch.device("cpu")
SMALL = ("--repeats", "1", "--warmup", "1", "--device", "cpu", "--set", "model.depth=1")


def test_rows_of_the_table() -> None:
    names = [case.name for case in cases()]
    assert len(names) == len(set(names)) == 3 * 2 + 4 * 2 + 2
    assert {"nvg-d24", "nvg-d24 (given structure)", "var-d30 (without KV cache)", "ar-xl"} <= set(names)
    assert set(TABLE_4) <= set(names)
    with pytest.raises(InputError, match="did you mean 'nvg-d16'"):
        list(cases(["nvg-d61"]))


def test_every_published_row_of_our_families_has_its_place() -> None:
    records = [RunRecord(kind="profile", subject=case.name, tables={"parameters": []}) for case in cases()]
    rows = {row.name: row.published for row in paper_rows(records)}
    found = rows["nvg-d16 (given structure)"]
    assert found is not None
    assert (found.time_s, found.memory_mib) == ("0.073220", "1563")
    assert rows["var-d16"] is not None
    assert rows["var-d16 (without KV cache)"] is None
    assert {row.model for row in published_only(records)} == {"SiT-X", "IBQ-XL"}


def test_the_table_of_small_presets(app: typer.Typer, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["profile", "--paper", "nvg-tiny", "var-tiny", "ar-tiny", *SMALL, "--runs", str(tmp_path)])
    assert done.exit_code == 0, done.exception
    names = ["nvg-tiny", "nvg-tiny (given structure)", "var-tiny", "var-tiny (without KV cache)", "ar-tiny"]
    records = {record.subject: record for record in Records.read(tmp_path).select(kind="profile")}
    assert list(records) == names
    rows = {row.name: row for row in paper_rows(list(records.values()))}
    for row in rows.values():
        assert row.image_s is not None
        assert row.tokens_s is not None
        assert row.mfu is not None
        assert row.memory is not None
    generated, given = rows["nvg-tiny"], rows["nvg-tiny (given structure)"]
    assert given.parameters < generated.parameters, "the structure network is not used"
    assert not any(row["part"] == "structure" and row["share"] > 0.5 for row in records[given.name].tables["parts"])
    for name in names:
        flops = {m.name: m.samples[0] for m in records[name].measurements if m.name.startswith("flops")}
        assert flops["flops"] == pytest.approx(flops["flops_analytic"], rel=0.01), name


def test_the_table_in_a_notebook(tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    table = nb.profile_paper(
        ["var-tiny"], largest_batch=1, repeats=1, warmup=1, device="cpu", set={"model.depth": 1}, runs=tmp_path,
        progress=lambda *counts: done.append(counts),
    )  # fmt: skip
    names = ["var-tiny", "var-tiny (without KV cache)"]
    assert [row.name for row in table] == [table[0].name, table[1].name] == names
    assert done == [(1, 2), (2, 2)]
    assert [record.subject for record in Records.read(tmp_path).select(kind="profile")] == names
    frame = table.to_frame()
    assert list(frame.index) == names
    assert (frame["image_s"] > 0).all()
    assert "var-tiny (without KV cache)" in repr(table)
    assert "<table" in table._repr_html_()


def test_published_figures_stand_in_the_frame() -> None:
    table = PaperTable(
        tuple(RunRecord(kind="profile", subject=name, tables={"parameters": []}) for name in ("var-d16", "ar-l"))
    )
    published = table.to_frame()["published_s"]
    assert published["var-d16"] == float(table[0].published.time_s)
    assert math.isnan(published["ar-l"])


def test_nothing_to_profile_is_said(app: typer.Typer) -> None:
    assert "give --paper" in str(CliRunner().invoke(app, ["profile"]).exception)


@pytest.mark.parametrize(
    ("seconds", "most", "expected"),
    [
        ({1: 1.0, 4: 1.0, 16: 1.0, 64: 4.0}, 64, 16),  # 1, 4, 16, 16 images/s
        ({1: 1.0, 4: 2.0, 16: 6.0, 64: 20.0}, 64, 64),
        ({1: 1.0, 4: 1.0, 16: 1.0}, 15, 4),
        ({1: 1.0, 4: 1.0, 16: None}, 64, 4),  # out of memory
    ],
)
def test_the_largest_batch_that_pays(
    seconds: dict[int, Any], most: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Generator:
        spec = ModelSpec(name="fake", family="external", image_size=16, num_classes=3)

        def generate(self, request: SampleRequest) -> SampleResult:
            self.batch = len(request.labels_B)
            if seconds[self.batch] is None:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return SampleResult(torch.zeros(self.batch, 3, 16, 16, dtype=torch.uint8))

    generator: Any = Generator()
    assert isinstance(generator, ImageGenerator)

    def timed(call: Any, *_: object, **__: object) -> tuple[float]:
        call()
        return (seconds[generator.batch],)

    monkeypatch.setattr(batches, "time_repetitions", timed)
    assert batch_that_pays(generator, most, {}, CPU) == expected
