"""Provenance and pictures of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nvgbench.data.image_set import ImageSet
from nvgbench.device import describe_device
from nvgbench.errors import InputError
from nvgbench.evaluation.gallery import write_gallery
from nvgbench.interfaces import ImageGenerator
from nvgbench.results.protocols import named_protocol
from nvgbench.results.provenance import collect
from nvgbench.results.schema import Artifact
from nvgbench.sampling.export import write_trace
from nvgbench.sampling.job import check_classes

PRECISION = "float32"
"""Precision of tokenizers and extractors when scores are computed; that of the sampled model is in the settings."""


def provenance(
    protocol: str,
    device: torch.device | str,
    config_hash: str | None = None,
    *,
    seeds: Mapping[str, int],
    choices: Mapping[str, Any] | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """Provenance of scores.

    Args:
        protocol: id of the rules.
        device: where models and extractors ran.
        config_hash: of the model's configuration, if known.
        seeds: what was drawn with which seed; ``sampling`` only if the images were sampled here.
        choices: what was chosen within the protocol: preprocessing, subsets, splits.
        extra: the number of images scored (``n``), the sampling settings in full (``settings``, as for ``sampling``),
            extractor, reference, samples …
    """
    identity, described = named_protocol(protocol), describe_device(torch.device(device))
    rules = {"id": identity.id, "version": identity.version, "summary": identity.summary, "library": identity.library}
    return collect(
        config_hash,
        gpu=described.get("gpu"),
        protocol={**rules, "choices": dict(choices)} if choices else rules,
        seeds=dict(seeds),
        device=described,
        precision=PRECISION,
        **extra,
    )


def pictures(images: ImageSet, reference: ImageSet, folder: Path, record_id: str) -> list[Artifact]:
    """Galleries of the first samples and of the first reference images (if any), by class."""
    return [
        write_gallery(shown, folder, Path("pictures") / f"{record_id}-{kind}.png", kind, reference.classes)
        for kind, shown in (("samples", images), ("reference", reference))
        if shown.count
    ]


def trace(generator: ImageGenerator, folder: Path, record_id: str, *, seed: int, settings: Mapping[str, Any]) -> list[Artifact]:
    """A picture of the stages of the first samples, for models that offer a trace."""
    path = Path("pictures") / f"{record_id}-trace.png"
    try:
        write_trace(generator, folder / path, check_classes(None, generator.spec), seed, settings)
    except InputError:  # no trace
        return []
    return [Artifact(kind="trace", path=str(path), caption="canvases stage by stage, below structure maps if there are any")]
