"""What a record of an evaluation holds beside its scores: where they come from, and pictures."""

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

PRECISION = "float32"
"""In which models, tokenizers and extractors are run for scores; nothing here casts them."""


def provenance(
    protocol: str, device: torch.device | str, config_hash: str | None = None, *, seeds: Mapping[str, int], **extra: Any
) -> dict[str, Any]:
    """Provenance of scores.

    Args:
        protocol: id of the rules.
        device: where models and extractors ran.
        config_hash: of the model's configuration, where it is known.
        seeds: what was drawn by which seed; ``sampling`` only where the images were drawn here.
        extra: the number of images scored (``n``), the sampling settings in full (``settings``, as for ``sampling``),
            extractor, reference, samples …
    """
    identity, described = named_protocol(protocol), describe_device(torch.device(device))
    return collect(
        config_hash,
        gpu=described.get("gpu"),
        protocol={"id": identity.id, "version": identity.version, "summary": identity.summary, "library": identity.library},
        seeds=dict(seeds),
        device=described,
        precision=PRECISION,
        **extra,
    )


def pictures(images: ImageSet, reference: ImageSet, folder: Path, record_id: str) -> list[Artifact]:
    """Galleries of the first samples and of the first reference images, by class."""
    return [
        write_gallery(shown, folder, Path("pictures") / f"{record_id}-{kind}.png", kind, reference.classes)
        for kind, shown in (("samples", images), ("reference", reference))
    ]


def trace(generator: ImageGenerator, folder: Path, record_id: str, *, seed: int, settings: Mapping[str, Any]) -> list[Artifact]:
    """A picture of the stages of the first samples, for models that have stages."""
    path = Path("pictures") / f"{record_id}-trace.png"
    try:
        write_trace(generator, folder / path, range(generator.spec.num_classes), seed, settings)
    except InputError:  # this model offers no trace
        return []
    return [Artifact(kind="trace", path=str(path), caption="canvases stage by stage, below structure maps where there are any")]
