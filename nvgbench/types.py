"""Value objects shared by all rooms. Importing this file does not import torch.

Shape letters: B batch, S stages, L positions of the latent grid (h·w), C latent channels, V codebook size, H and W pixels.
"""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True)
class ImageBatch:
    """Training images and their classes.

    Attributes:
        images_B3HW: float32 in [-1, 1].
        labels_B: int64 class of each image.
    """

    images_B3HW: Tensor
    labels_B: Tensor


@dataclass(frozen=True)
class TokenSequence:
    """Images as codebook indices, stage after stage, with the structure map that places them.

    Attributes:
        indices: one int64 tensor ``[B, n_i]`` per stage; n_i is the number of unique tokens of stage i.
        structure_BL: int64 ``[B, L]``, the structure map of the last stage (0 … n_K - 1), for hierarchies built from the
            image; coarser maps follow from it. None if the layout is the same for every image.
    """

    indices: tuple[Tensor, ...]
    structure_BL: Tensor | None = None

    @classmethod
    def join(cls, parts: Sequence[TokenSequence]) -> TokenSequence:
        """The images of several sequences, in order."""
        import torch

        structures = [part.structure_BL for part in parts if part.structure_BL is not None]
        indices = zip(*(part.indices for part in parts), strict=True)
        return cls(tuple(torch.cat(stage) for stage in indices), torch.cat(structures) if structures else None)

    def __len__(self) -> int:
        """Number of images B."""
        return len(self.indices[0])

    @property
    def stages(self) -> int:
        return len(self.indices)

    def to(self, device: torch.device | str) -> TokenSequence:
        structure_BL = None if self.structure_BL is None else self.structure_BL.to(device)
        return TokenSequence(tuple(index.to(device) for index in self.indices), structure_BL)

    def __getitem__(self, rows: Any) -> TokenSequence:
        """Select images (slice, mask or index tensor)."""
        structure_BL = None if self.structure_BL is None else self.structure_BL[rows]
        return TokenSequence(tuple(index[rows] for index in self.indices), structure_BL)


Tokens: TypeAlias = "TokenSequence | Tensor"
"""What a tokenizer makes of images: codebook indices, or a tensor ``[B, …]`` of continuous latents."""


@dataclass(frozen=True)
class TokenBatch:
    """Tokenized training images and their classes.

    Attributes:
        tokens: what the tokenizer made of the images.
        labels_B: int64 class of each image.
        images_B3HW: the images, float32 in [-1, 1], for objectives with ``needs_images``.
    """

    tokens: Tokens
    labels_B: Tensor
    images_B3HW: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What metrics and profiling know about a model.

    Attributes:
        name: name of the preset or run, shown in tables.
        family: registered family (``nvg``, ``var``, ``ar``), or ``external``.
        image_size: side of the square images, pixels.
        num_classes: number of classes; 0 for a model that was trained without.
        parameters: number of parameters by part, e.g. ``{"tokenizer": …, "content": …}``.
        provenance: origin of the weights: run, step, configuration hash …
    """

    name: str
    family: str
    image_size: int
    num_classes: int
    parameters: Mapping[str, int] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """A request for one image per label.

    Attributes:
        labels_B: int64 classes; the number of classes stands for "no class".
        seeds_B: int64; image i depends only on its own seed, its label and the settings, not on its neighbours in the batch.
        settings: overrides of the model's sampling settings by name (guidance scale, top-p …); unknown names are refused.
        trace: also return every stage.
        batch_size: images of the other requests of the same job; a model that is prepared for one size may pad to it.
    """

    labels_B: Tensor
    seeds_B: Tensor
    settings: Mapping[str, Any] = field(default_factory=dict)
    trace: bool = False
    batch_size: int | None = None


@dataclass(frozen=True)
class StageTrace:
    """One stage of a sample: the decoded canvas (uint8) and, if any, the structure map (int64 ``[B, h, w]``)."""

    tokens: int
    canvas_B3HW: Tensor
    structure_BHW: Tensor | None = None


@dataclass(frozen=True)
class SampleResult:
    """Generated images, uint8 ``[B, 3, H, W]``, and their stages if requested."""

    images_B3HW: Tensor
    trace: tuple[StageTrace, ...] | None = None


@dataclass(frozen=True)
class Features:
    """What an extractor made of N images.

    Attributes:
        features_ND: float32.
        logits_NK: float32; K = 0 for extractors without logits.
        fingerprint: SHA-256 of the images; empty if they are unknown.
    """

    features_ND: NDArray[np.float32]
    logits_NK: NDArray[np.float32]
    fingerprint: str = ""

    def __len__(self) -> int:
        return len(self.features_ND)


@dataclass(frozen=True)
class Interval:
    """An uncertainty interval and what it covers.

    Attributes:
        low, high: its ends, in the unit of the value.
        level: coverage, e.g. 0.95.
        source: what varies: ``sampling`` (other images from the same model) or ``training`` (other trained models).
        method: how it was computed, e.g. ``jackknife over generated images``.
        n: number of repetitions (trainings, sampling seeds) behind it; None for intervals of one evaluation.
        df: degrees of freedom, if it is Student's t.
    """

    low: float
    high: float
    level: float
    source: str
    method: str
    n: int | None = None
    df: int | None = None

    def __str__(self) -> str:
        return f"[{self.low:.4g}, {self.high:.4g}] ({100 * self.level:g} %, {self.source})"


@dataclass(frozen=True, kw_only=True, repr=False)
class MetricValue:
    """A score with everything that makes it comparable; ``float(x)`` is its value, NaN if it has none.

    Attributes:
        name: with its extractor, e.g. ``FD[classifier]``, ``precision[classifier]``, ``FID``, ``PSNR``.
        value: the number; ``None`` only if it could not be computed, and then ``note`` says why.
        n: number of generated (or reconstructed) images behind it.
        n_reference: number of reference images, if there is a reference.
        higher_is_better: ``None`` if neither direction is better.
        protocol: id and version of the rules it follows, e.g. ``nvgbench/2``.
        stderr: standard error, in the unit of the value.
    """

    name: str
    value: float | None
    n: int
    unit: str = ""
    higher_is_better: bool | None = None
    protocol: str = "nvgbench/2"
    n_reference: int | None = None
    interval: Interval | None = None
    stderr: float | None = None
    note: str = ""

    def __float__(self) -> float:
        return math.nan if self.value is None else self.value

    def __repr__(self) -> str:
        return f"{self.name} = {'; '.join(self._parts())}"

    def _repr_html_(self) -> str:
        value, *rest = map(html.escape, self._parts())
        return f"<b>{html.escape(self.name)}</b> = {value} <small>{'; '.join(rest)}</small>"

    def _parts(self) -> list[str]:
        """Value with interval, numbers of images, protocol, note."""
        shown = "not available" if self.value is None else f"{self.value:.5g} {self.unit}".strip()
        reference = "" if self.n_reference is None else f" against {self.n_reference:,} reference images"
        parts = [f"{shown} {self.interval or ''}".strip(), f"n = {self.n:,}{reference}", self.protocol, self.note]
        return [part for part in parts if part]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Raw samples of a measured quantity (time, memory, energy); summaries are derived.

    Attributes:
        name: e.g. ``latency``, ``throughput``, ``peak_memory_cuda``, ``energy``.
        unit: SI: ``s``, ``B``, ``J``, ``FLOP``, ``images/s``.
        samples: one value per repetition; empty if the quantity is not available, and then ``note`` says why.
        conditions: batch size, device, dtype, warm-up …
    """

    name: str
    unit: str
    samples: tuple[float, ...]
    higher_is_better: bool | None = False
    conditions: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def median(self) -> float:
        """Median of the samples; at least one is needed."""
        return statistics.median(self.samples)


def _alone(value: Any) -> list[Any]:
    return [value]


@dataclass(frozen=True)
class Share:
    """One process's part of work that several do together; without arguments, the whole work.

    Attributes:
        rank: number of this process.
        count: how many there are.
        gather: called by every process with a value, gives every process all values by rank; it waits for the last one.
    """

    rank: int = 0
    count: int = 1
    gather: Callable[[Any], list[Any]] = _alone

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes records and talks."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait for all processes."""
        self.gather(None)
