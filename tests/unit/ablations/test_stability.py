"""Stability of a training from made-up logs."""

from __future__ import annotations

import math

import pytest

from nvgbench.ablations.cost import settings
from nvgbench.ablations.stability import training_stability
from nvgbench.config.load import load_preset


def log(losses: list[float], norms: list[float]) -> list[dict]:
    return [
        {"phase": "generator", "step": step, "losses": {"content": loss, "content/term": 9.0}, "grad_norm": {"content": norm}}
        for step, (loss, norm) in enumerate(zip(losses, norms, strict=True), start=1)
    ]


def test_a_jump_of_the_loss_is_a_spike_and_a_slow_rise_is_none() -> None:
    config = load_preset("nvg-tiny")
    limit = config.train.generator.clip_norm
    (row,) = training_stability(log([5, 4, 3, 2.5, 2, 2.5, 8, 2], [limit / 2] * 6 + [limit * 3] * 2), config)
    assert (row["module"], row["logged"], row["spikes"], row["not_finite"]) == ("content", 8, 1, 0)
    assert row["largest_rise"] == pytest.approx(8 / 2.5)
    assert (row["grad_norm"], row["grad_norm_max"], row["clipped"]) == (limit / 2, limit * 3, 0.25)


def test_values_that_are_not_finite_are_counted() -> None:
    (row,) = training_stability(log([1.0, math.nan, 1.0], [1.0, 2.0, math.inf]), load_preset("nvg-tiny"))
    assert (row["not_finite"], row["largest_rise"], row["grad_norm"]) == (2, None, 1.5)
    assert training_stability([], load_preset("nvg-tiny")) == []


def test_what_is_timed_for_each_family() -> None:
    for preset, modes, varied in (
        ("nvg-tiny", {"usual", "given structure"}, {"batch", "flow steps", "grid", "depth"}),
        ("var-tiny", {"usual", "without KV cache"}, {"batch", "grid", "depth"}),
        ("ar-tiny", {"usual"}, {"batch", "grid", "depth"}),
    ):
        found = list(settings(load_preset(preset)))
        assert {one.mode for one in found} == modes
        assert {one.varied for one in found} == varied
        assert [one.value for one in found if one.varied == "grid"] == [4, 16, 64]
