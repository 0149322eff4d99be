"""Graphs are replayed only for the same function, shapes, settings and weights (with a recording stand-in for CUDA graphs)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nvgbench.sampling.capture import GraphCache
from tests.helpers.fake_graphs import FakeGraphs


def _cache(*modules: nn.Module, **options: Any) -> tuple[GraphCache, FakeGraphs]:
    graphs = FakeGraphs()
    return GraphCache(True, modules, graphs=graphs, **options), graphs


def _double(x: Tensor) -> tuple[Tensor]:
    return (2 * x,)


def test_a_second_call_replays_with_the_new_inputs() -> None:
    cache, graphs = _cache()
    for value in (1.0, 5.0, -2.0):
        (result,) = cache.call("double", _double, torch.full((3,), value))
        assert torch.equal(result, torch.full((3,), 2 * value))
    assert (graphs.captures, graphs.replays, cache.captures) == (1, 3, 1)
    assert cache.preparation_s > 0


def test_results_are_not_overwritten_by_later_calls() -> None:
    cache, _ = _cache()
    (first,) = cache.call("double", _double, torch.ones(2))
    cache.call("double", _double, torch.zeros(2))
    assert torch.equal(first, torch.full((2,), 2.0))


def test_an_input_changed_in_place_is_copied_again() -> None:
    cache, _ = _cache()
    x = torch.ones(2)
    cache.call("double", _double, x)
    x.fill_(3)
    assert cache.call("double", _double, x)[0].tolist() == [6, 6]


def test_an_unchanged_input_is_not_copied_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, _ = _cache()
    x, copies = torch.ones(2), []
    copy = Tensor.copy_
    monkeypatch.setattr(Tensor, "copy_", lambda self, *args: (copies.append(self), copy(self, *args))[1])
    for _ in range(3):
        cache.call("double", _double, x)
    assert sum(bool((buffer == 1).all()) for buffer in copies) == 1  # the others are the fake's outputs


@pytest.mark.parametrize(
    "change",
    [
        lambda cache, x: cache.call("other", _double, x),
        lambda cache, x: cache.call("double", _double, x, key=("guidance", 2.0)),
        lambda cache, x: cache.call("double", _double, x[:1]),
        lambda cache, x: cache.call("double", _double, x.bfloat16()),
    ],
    ids=["function", "settings", "batch size", "dtype"],
)
def test_another_call_is_captured_anew(change: Callable[[GraphCache, Tensor], Any]) -> None:
    cache, graphs = _cache()
    cache.call("double", _double, torch.ones(4))
    change(cache, torch.ones(4))
    assert graphs.captures == 2


def test_autocast_and_matmul_precision_are_part_of_the_key() -> None:
    cache, graphs = _cache()
    cache.call("double", _double, torch.ones(4))
    with torch.autocast("cpu", torch.bfloat16):
        cache.call("double", _double, torch.ones(4))
    assert graphs.captures == 2
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        cache.call("double", _double, torch.ones(4))
    finally:
        torch.set_float32_matmul_precision(before)
    assert graphs.captures == 3


def _fill(layer: nn.Linear) -> None:
    with torch.no_grad():
        layer.weight.fill_(3)


def _replace(layer: nn.Linear) -> None:
    layer.weight = nn.Parameter(torch.full((1, 1), 3.0))


def _assign(layer: nn.Linear) -> None:
    layer.load_state_dict({"weight": torch.full((1, 1), 3.0)}, assign=True)


@pytest.mark.parametrize("change", [_fill, _replace, _assign])
def test_changed_weights_are_captured_anew(change: Callable[[nn.Linear], None]) -> None:
    layer = nn.Linear(1, 1, bias=False)
    cache, graphs = _cache(layer)
    cache.call("layer", lambda x: (layer(x),), torch.ones(1, 1))
    cache.check_weights()
    cache.call("layer", lambda x: (layer(x),), torch.ones(1, 1))
    assert graphs.captures == 1
    change(layer)
    cache.check_weights()
    (result,) = cache.call("layer", lambda x: (layer(x),), torch.ones(1, 1))
    assert graphs.captures == 2
    assert result.item() == 3


def test_the_least_recently_used_graph_is_dropped() -> None:
    cache, graphs = _cache(capacity=2)
    for size in (1, 2, 1, 3, 1, 2):
        cache.call("double", _double, torch.ones(size))
    assert graphs.captures == 4  # sizes 1, 2 and 3, and 2 again


def test_a_capture_out_of_memory_drops_the_other_graphs_and_tries_again() -> None:
    cache, graphs = _cache()
    cache.call("double", _double, torch.ones(1))
    graphs.fail_next = True
    assert cache.call("double", _double, torch.ones(2))[0].tolist() == [2, 2]
    cache.call("double", _double, torch.ones(1))
    assert graphs.captures == 3


def test_disabled_or_on_the_cpu_functions_run_as_they_are() -> None:
    graphs = FakeGraphs()
    x = torch.ones(2)
    assert GraphCache(False, graphs=graphs).call("same", lambda x: (x,), x)[0] is x
    assert GraphCache(True).call("same", lambda x: (x,), x)[0] is x
    assert graphs.captures == 0
