"""Calls, parts, traffic and ceilings of a profile."""

from __future__ import annotations

import types
from typing import Any, cast

import pytest
import torch
from torch.nn import functional as F

from nvgbench.config.load import load_preset
from nvgbench.interfaces import TokenGenerator
from nvgbench.profiling.ceilings import measure_ceilings
from nvgbench.profiling.details import Computation, Details, without_graphs
from nvgbench.profiling.profile import ProfilePlan, profile_generator
from nvgbench.profiling.traffic import count_traffic
from nvgbench.runs.models import untrained_generator
from tests.helpers.small_models import build_small

CPU = torch.device("cpu")


def test_traffic_of_products_is_read_once_and_written_once() -> None:
    a, b = torch.randn(4, 8), torch.randn(8, 5, dtype=torch.float32)
    assert count_traffic(lambda: a @ b) == 4 * (4 * 8 + 8 * 5 + 4 * 5)
    assert count_traffic(lambda: (a @ b).exp() + 1) == 4 * (4 * 8 + 8 * 5 + 4 * 5), "the rest can be fused"
    image, kernel = torch.randn(1, 3, 8, 8), torch.randn(2, 3, 3, 3)
    with torch.no_grad():
        assert count_traffic(lambda: F.conv2d(image, kernel, padding=1)) == 4 * (3 * 64 + 2 * 27 + 2 * 64)
        query = torch.randn(1, 2, 16, 8)
        assert count_traffic(lambda: F.scaled_dot_product_attention(query, query, query)) == 4 * 4 * query.numel()


def test_ceilings_are_measured_once() -> None:
    found = measure_ceilings(CPU)
    assert found is measure_ceilings(CPU)
    assert set(found.products) == {"fp32"}
    assert found.products["fp32"] > 1e8, "a tenth of a GFLOP/s is below any machine"
    assert found.copy > 1e7


@pytest.fixture(scope="module")
def tables() -> dict[str, list[dict[str, Any]]]:
    model = build_small("var")
    generator = model.images()
    flops = {part: float(value) for part, value in model.family.cost(model.config, 5).sampling_flops.items()}
    computation = Computation(precision="fp32", compiled=False, eager={"compile": False}, flops=flops)
    measured = profile_generator(generator, ProfilePlan(batch_sizes=(1, 3), repeats=2, warmup=1), CPU)
    return Details(generator, computation, 2, {}, CPU).tables(measured)


def test_tokens_are_timed_beside_whole_images(tables: dict[str, list[dict[str, Any]]]) -> None:
    assert [(row["call"], row["how"], row["batch_size"]) for row in tables["calls"]] == [
        ("images", "eager", 1),
        ("tokens", "eager", 1),
        ("images", "eager", 3),
        ("tokens", "eager", 3),
    ]
    for row in tables["calls"]:
        assert len(row["seconds"]) == 2
        assert row["images_per_s"] == pytest.approx(row["batch_size"] / row["median_s"])
        assert row["mfu"] > 0
        assert row["bandwidth_share"] > 0
        assert ("first_call_s" in row) == (row["call"] == "images")
    # FLOPs of whole images hold the decoder's: per second of the same length, their share of the ceiling is larger.
    images, tokens = tables["calls"][:2]
    assert images["mfu"] * images["median_s"] > tokens["mfu"] * tokens["median_s"]
    assert images["bandwidth_share"] * images["median_s"] > tokens["bandwidth_share"] * tokens["median_s"]


def test_parts_add_up(tables: dict[str, list[dict[str, Any]]]) -> None:
    for batch in (1, 3):
        rows = [row for row in tables["parts"] if row["batch_size"] == batch]
        assert {row["part"] for row in rows} == {"transformer", "quantizer", "decoder", "overhead"}
        assert sum(row["share"] for row in rows) == pytest.approx(1)


@pytest.mark.parametrize(
    ("family", "parts"), [("nvg", {"content", "structure", "quantizer", "decoder"}), ("ar", {"transformer", "decoder"})]
)
def test_every_family_names_its_parts(family: str, parts: set[str]) -> None:
    generator = untrained_generator(load_preset(f"{family}-tiny", ["model.depth=1"]), 10, seed=0)
    assert isinstance(generator, TokenGenerator)
    computation = Computation(precision="fp32", compiled=False, eager={}, flops={})
    rows = Details(generator, computation, 1, {}, CPU)._parts(2)
    assert {row["part"] for row in rows} == {*parts, "overhead"}


def test_graphs_are_on_again_after_counting() -> None:
    generator: Any = types.SimpleNamespace(graphs=types.SimpleNamespace(enabled=True))
    with pytest.raises(KeyError), without_graphs(generator):
        assert not generator.graphs.enabled
        raise KeyError
    assert generator.graphs.enabled
    with without_graphs(cast(Any, types.SimpleNamespace())):
        pass
