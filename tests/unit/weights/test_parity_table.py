"""The table of differences between papers and reference code names settings that exist, and presets that hold them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from nvgbench.config.load import load_preset

TEXT = (Path(__file__).parents[3] / "docs" / "parity.md").read_text(encoding="utf-8")


def keys(config: Any, prefix: str = "") -> set[str]:
    found = set()
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        found |= {prefix + field.name} | (keys(value, f"{prefix}{field.name}.") if dataclasses.is_dataclass(value) else set())
    return found


@pytest.mark.parametrize(("heading", "preset"), [("NVG's paper", "nvg-d16"), ("VAR's paper", "var-d16")])
def test_every_setting_of_the_table_exists(heading: str, preset: str) -> None:
    section = next(part for part in TEXT.split("## ") if part.startswith("Where ") and heading in part)
    named = re.findall(r"`((?:tokenizer|model|sampling|train|data)\.[a-z_.]+)`", section)
    assert len(named) > 8
    assert set(named) - keys(load_preset(preset)) == set()


def test_presets_follow_the_reference() -> None:
    nvg, var = load_preset("nvg-d16"), load_preset("var-d16")
    quantizer = nvg.tokenizer.quantizer
    assert (quantizer.phi_sharing, quantizer.child_order, quantizer.group_size) == ("none", "matched", 2)
    assert (nvg.sampling.flow_schedule, nvg.sampling.gumbel, nvg.sampling.flow_steps) == ("shifted", False, 25)
    assert nvg.tokenizer.losses.entropy_weight == 0
    assert load_preset("nvg-d24").train.generator.final_fraction == 0.01
    assert [load_preset(f"nvg-d{depth}").train.generator.batch_size for depth in (16, 20, 24)] == [768, 720, 864]
    assert (var.tokenizer.quantizer.phi_convs, var.tokenizer.quantizer.phi_strength) == (4, 0.5)
    assert (var.sampling.guidance, var.sampling.top_k, var.sampling.top_p) == (1.5, 900, 0.96)
    assert [load_preset(f"var-d{depth}").model.gate_init for depth in (16, 20, 24, 30)] == [1e-3, 1e-3, 1e-4, 1e-5]
    assert var.train.generator.ema_decay == 0
