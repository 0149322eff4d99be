"""Checks of two arrays, and computing in another precision."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nvgbench.errors import InputError
from nvgbench.parity.arithmetic import Arithmetic
from nvgbench.parity.fixture import Fixture, read_fixture
from nvgbench.parity.ledger import Comparison, Ledger, judge
from nvgbench.registry import get_family

CPU = torch.device("cpu")


@given(values=st.lists(st.integers(-1000, 1000), min_size=1, max_size=30), place=st.integers(0, 29), step=st.integers(1, 9))
def test_one_integer_off_is_a_failure(values: list[int], place: int, step: int) -> None:
    array = np.array(values)
    assert judge(Comparison("x", "", array, array.copy(), 0.0)).verdict == "pass"
    other = array.copy()
    other[place % len(other)] += step
    check = judge(Comparison("x", "", array, other, 0.0))
    assert (check.verdict, check.differing, check.difference) == ("fail", 1, step)


@given(values=st.lists(st.floats(-100, 100), min_size=2, max_size=30), place=st.integers(0, 29), share=st.floats(0, 3))
def test_floats_are_compared_relative_to_the_largest_magnitude(values: list[float], place: int, share: float) -> None:
    array = np.array([*values, 100.0])
    other = array.copy()
    other[place % len(values)] += 1e-3 * share * 100
    check = judge(Comparison("x", "", other, array, 1e-3))
    if abs(share - 1) > 1e-6:
        assert check.verdict == ("pass" if share < 1 else "fail")
    assert check.relative == pytest.approx(1e-3 * share, abs=1e-12)


@pytest.mark.parametrize(
    ("ours", "stored"),
    [([1.0, np.nan], [1.0, 2.0]), ([1.0, 2.0], [1.0, np.nan]), ([1.0, np.inf], [1.0, 2.0]), ([1.0], [1.0, 1.0])],
)
def test_nan_or_another_shape_fails(ours: list[float], stored: list[float]) -> None:
    assert judge(Comparison("x", "", np.array(ours), np.array(stored), 1e-3)).verdict == "fail"
    both = np.array([np.nan, 1.0])
    assert judge(Comparison("x", "", both, both, 1e-3)).verdict == "pass"


def test_columns_and_entries_have_their_own_size() -> None:
    stored = np.array([[1.0, 1000.0], [0.5, 900.0]])
    ours = stored + np.array([[0.01, 0.0], [0.0, 0.0]])
    limits = {"array": "pass", "column": "fail", "entry": "fail"}
    for scale, verdict in limits.items():
        assert judge(Comparison("x", "", ours, stored, 1e-3, scale)).verdict == verdict  # type: ignore[arg-type]


def test_an_excuse_is_named_and_half_precision_may_flip_a_few_choices() -> None:
    stored = np.arange(100)
    few, many = stored.copy(), stored.copy()
    few[:5] += 1
    many[:50] += 1
    assert judge(Comparison("x", "", few, stored, 0.0, excuse="because")).remark == "because"
    assert judge(Comparison("x", "", few, stored, 0.0, rounded=0.1)).verdict == "flips"
    assert judge(Comparison("x", "", many, stored, 0.0, rounded=0.1)).verdict == "fail"


@pytest.mark.parametrize(("dtype", "verdict"), [("float32", "fail"), ("float64", "fail"), ("bf16", "flips")])
def test_only_half_precision_may_decide_differently(dtype: str, verdict: str) -> None:
    arrays = {"tokens": np.arange(10), "canvas": np.ones(3)}
    ledger = Ledger(Fixture("f", {}, arrays), Arithmetic(CPU, dtype), 1e-4)  # type: ignore[arg-type]
    ledger.equal("tokens", np.arange(10)[::-1].copy(), rounded=1.0)
    ledger.close("canvas", np.zeros(3), follows=["tokens"])
    assert [check.verdict for check in ledger.checks] == [verdict, verdict]


@pytest.mark.parametrize(("dtype", "verdicts"), [("float32", ["fail", "fail"]), ("bf16", ["flips", "fail"])])
def test_a_sharp_softmax_may_move_a_few_entries_in_half_precision_only(dtype: str, verdicts: list[str]) -> None:
    canvas = np.ones(100)
    few, many = canvas.copy(), canvas.copy()
    few[:5] += 0.5
    many[:20] += 0.5
    ledger = Ledger(Fixture("f", {}, {"few": canvas, "many": canvas}), Arithmetic(CPU, dtype), 1e-4)  # type: ignore[arg-type]
    ledger.close("few", few, rounded=0.1)
    ledger.close("many", many, rounded=0.1)
    assert [check.verdict for check in ledger.checks] == verdicts


def test_unchecked_arrays_are_an_error() -> None:
    fixture = Fixture("f.json", {"arrays": {"a": ["int64", [1]], "gone": ["int64", [1]]}}, {"a": np.ones(1), "b": np.ones(1)})
    ledger = Ledger(fixture, Arithmetic(CPU), 1e-4)
    ledger.inputs("a")
    with pytest.raises(InputError, match="recomputes b"):
        ledger.finish()
    ledger.close("b", np.ones(1))
    assert [(check.name, check.verdict) for check in ledger.finish()] == [("a", "input"), ("b", "pass"), ("gone", "absent")]


@pytest.mark.parametrize(("intact", "verdicts"), [(None, []), (True, ["pass"]), (False, ["fail"])])
def test_an_archive_of_the_package_must_be_as_it_was_made(intact: bool | None, verdicts: list[str]) -> None:
    ledger = Ledger(Fixture("f.json", {}, {}, intact), Arithmetic(CPU), 1e-4)
    assert [check.verdict for check in ledger.finish()] == verdicts


@pytest.mark.parametrize("family", ["var", "nvg"])
def test_an_altered_archive_is_noticed_by_its_hash(family: str, tmp_path: Path) -> None:
    source, sha256 = next(iter(get_family(family).verification.shipped.items()))
    for suffix in (".json", ".npz"):
        shutil.copy(source.with_suffix(suffix), tmp_path)
    copied = tmp_path / source.name
    assert read_fixture(copied, sha256).intact is True
    with np.load(copied.with_suffix(".npz")) as archive:
        np.savez(copied.with_suffix(".npz"), **{key: archive[key] for key in archive.files})
    assert read_fixture(copied, sha256).intact is False
    assert read_fixture(copied).intact is None


def test_named_numbers_are_compared_relative_to_their_own_size() -> None:
    ledger = Ledger(Fixture("f", {}, {}), Arithmetic(CPU), 1e-4)
    stored = {"large": 100.0, "small": 0.01, "nothing": 1e-6}
    assert ledger.numbers("norms", {"large": 100.001, "small": 0.01, "nothing": 3e-6}, stored)
    assert not ledger.numbers("norms", {"large": 100.0, "small": 0.0101, "nothing": 1e-6}, stored)
    assert not ledger.numbers("norms", {"large": 100.0, "small": 0.01, "nothing": 1.0}, stored)
    assert not ledger.numbers("norms", {"large": 100.0, "small": 0.01}, stored)


def test_float64_replaces_explicit_float32() -> None:
    arithmetic = Arithmetic(CPU, "float64")
    layer = arithmetic.place(nn.Linear(3, 3))
    with arithmetic.active():
        values = layer(arithmetic.tensor(np.ones((2, 3), dtype=np.float32)))
        assert values.float().dtype == torch.float64
        assert values.to(torch.float32).dtype == torch.float64
        assert torch.zeros(2, dtype=torch.float32).dtype == torch.float64
        assert torch.rand(2).dtype == torch.float64
        assert torch.ones(2, dtype=torch.int64).dtype == torch.int64
    assert torch.rand(2).float().dtype == torch.float32
    assert torch.get_default_dtype() == torch.float32


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'float32'"):
        Arithmetic(CPU, "flaot32")  # type: ignore[arg-type]
