"""Samples of the baselines' smallest presets, and the weights that they were drawn with.

``python -m tests.helpers.golden_sampling`` writes the file again; only a change of results on purpose needs that.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nvgbench.config.load import load_preset
from nvgbench.runs.models import untrained_generator
from nvgbench.types import SampleRequest, SampleResult

GOLDEN = Path(__file__).parents[1] / "unit" / "baselines" / "golden_samples.npz"
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "var": ("var-tiny", {}),
    "var unguided": ("var-tiny", {"guidance": 0.0, "top_k": 20, "top_p": 0.9}),
    "var smooth": ("var-tiny", {"more_smooth": True}),
    "ar": ("ar-tiny", {}),
    "ar unguided": ("ar-tiny", {"guidance": 1.0, "top_k": 20, "top_p": 0.9, "temperature": 0.8}),
}


def golden_model(preset: str, device: str = "cpu") -> Any:
    """A model whose random weights are large enough that every part of it affects the image."""
    generator: Any = untrained_generator(load_preset(preset), 10, seed=0, device=device)
    random = torch.Generator().manual_seed(0)
    for name, weight in generator.transformer.named_parameters():
        weight.copy_(torch.empty(weight.shape).normal_(std=0.5 if "scale" in name else 0.1, generator=random))
    codebook_VC = generator.tokenizer.quantizer.codebook.weight
    codebook_VC.copy_(torch.empty(codebook_VC.shape).normal_(std=1.0, generator=random))
    return generator


def draw(generator: Any, settings: dict[str, Any], images: int = 3) -> SampleResult:
    """The first images of a fixed job."""
    order = torch.arange(images)
    return generator.generate(SampleRequest(labels_B=order % 10, seeds_B=order + 7, settings=settings, trace=True))


def all_cases() -> Iterator[tuple[str, np.ndarray]]:
    """uint8 images after every stage, ``[S, B, 3, H, W]``, by case."""
    for name, (preset, settings) in CASES.items():
        trace = draw(golden_model(preset), settings).trace
        assert trace is not None
        yield name, np.stack([stage.canvas_B3HW.numpy() for stage in trace])


if __name__ == "__main__":
    np.savez_compressed(GOLDEN, **dict(all_cases()))
