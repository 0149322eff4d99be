"""Runs and their samples, as a notebook uses them."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvgbench.config.schema import DataConfig, RunConfig
from nvgbench.data.images import grid_image, to_float, to_uint8
from nvgbench.device import resolve_device
from nvgbench.errors import InputError
from nvgbench.files import StrPath
from nvgbench.interfaces import CodebookTokenizer, ImageGenerator, Tokenizer
from nvgbench.registry import get_family
from nvgbench.results.schema import RunRecord
from nvgbench.results.store import ResultStore
from nvgbench.runs.find import find_run
from nvgbench.runs.folder import RunFolder, Weights
from nvgbench.sampling.classes import class_name, select_classes
from nvgbench.sampling.job import image_seed, labels_of
from nvgbench.sampling.pictures import trace_image
from nvgbench.types import ModelSpec, SampleRequest, StageTrace, TokenSequence

if TYPE_CHECKING:
    from PIL.Image import Image

Images = NDArray[np.uint8] | Tensor
"""uint8 images: an array ``[N, H, W, 3]`` or a tensor ``[N, 3, H, W]``."""


def load_run(
    path: StrPath, *, runs: StrPath = "runs", device: str = "auto", weights: Weights = "averaged", step: int | None = None
) -> Run:
    """A trained (or imported) run.

    Args:
        path: its folder, or its name below ``runs``.
        runs: the folder of runs.
        device: where its models run: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        weights: the moving average of the generator's weights, if any (``averaged``), or the weights themselves (``plain``).
        step: of the generator's checkpoint; the last one if None.

    Raises:
        InputError: no such run, or no such device.
    """
    return Run(find_run(os.fspath(path), Path(runs)), resolve_device(device), weights=weights, step=step)


class Run:
    """A run on disk, and what can be done with it. Nothing is read before it is needed.

    Attributes:
        folder: the run's folder and what it contains.
        device: where its models run.
    """

    def __init__(
        self, folder: RunFolder, device: torch.device, *, weights: Weights = "averaged", step: int | None = None
    ) -> None:
        self.folder = folder
        self.device = device
        self._weights: Weights = weights
        self._step = step

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.name

    @property
    def path(self) -> Path:
        return self.folder.path

    @cached_property
    def config(self) -> RunConfig:
        """The resolved configuration that it was trained with."""
        return self.folder.config

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of its classes; a label is an index into them."""
        return self.folder.dataset.classes

    @cached_property
    def generator(self) -> ImageGenerator:
        """The trained model.

        Raises:
            InputError: not trained yet, or damaged.
        """
        return self.folder.load_generator(self.device, weights=self._weights, step=self._step)

    @cached_property
    def tokenizer(self) -> RunTokenizer:
        """The trained tokenizer, between uint8 images and tokens.

        Raises:
            InputError: not trained yet, or damaged.
        """
        module: Any = self.folder.load_tokenizer(self.device)
        return RunTokenizer(module, self.config.data.image_size, self.device)

    def records(self) -> list[RunRecord]:
        """What was measured of it so far, oldest first."""
        return ResultStore(self.folder.records_path).records()

    def sample(
        self,
        n: int = 16,
        classes: Iterable[str | int] | None = None,
        seed: int = 0,
        *,
        trace: bool = False,
        batch_size: int = 64,
        **settings: Any,
    ) -> Samples:
        """Draw images into memory; image i is the same for every ``n`` and batch size, as in ``nvgbench sample``.

        Args:
            n: number of images.
            classes: names or numbers of the classes, taken in turn; a word selects every class whose name contains it, and
                ``["none"]`` samples without class. All classes if None.
            seed: of all images.
            trace: also keep what every stage looked like.
            batch_size: images per call of the model.
            settings: overrides of the sampling settings, e.g. ``top_k=5``.

        Raises:
            InputError: not trained yet, an unknown class or setting, n < 1.
        """
        if n < 1 or batch_size < 1:
            raise InputError(f"`n={n}` images in batches of {batch_size}; expected at least 1 of each")
        chosen = select_classes(classes, self.classes, unconditional=get_family(self.config.family).unconditional)
        parts = []
        for start in range(0, n, batch_size):
            indices = range(start, min(start + batch_size, n))
            request = SampleRequest(
                labels_B=torch.from_numpy(labels_of(indices, chosen)),
                seeds_B=torch.tensor([image_seed(seed, index) for index in indices]),
                settings=settings,
                trace=trace,
            )
            parts.append(self.generator.generate(request))
        traces = [part.trace for part in parts if part.trace is not None]
        return Samples(
            images=torch.cat([part.images_B3HW for part in parts]).permute(0, 2, 3, 1).contiguous().cpu().numpy(),
            labels=labels_of(range(n), chosen),
            classes=self.classes,
            spec=self.generator.spec,
            data=self.config.data,
            trace=_joined(traces) if len(traces) == len(parts) else None,
            provenance={
                "seeds": {"sampling": seed},
                "settings": dict(settings),
                "classes": list(chosen),
                "model": dict(self.generator.spec.provenance),
            },
        )

    def structure_maps(self, images: Images) -> NDArray[np.int64]:
        """The hierarchy that NVG's tokenizer builds on images: int64 ``[N, S, h, w]``, one map per stage.

        Raises:
            InputError: images of another type or size, or a tokenizer without structure maps.
        """
        tokens = self.tokenizer.encode(images)
        if not isinstance(tokens, TokenSequence) or tokens.structure_BL is None:
            raise InputError(f"{self.name} is a {self.config.family} run and has no structure maps; use an NVG run")
        from nvgbench.nvg.structure import finest_to_stages

        maps_BSL = finest_to_stages(tokens.structure_BL, self.tokenizer.stage_tokens)
        return maps_BSL.unflatten(2, self.tokenizer.grid).cpu().numpy()

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.config.family}, device={str(self.device)!r})"


class RunTokenizer:
    """A trained tokenizer between uint8 images and tokens.

    Attributes:
        module: the tokenizer itself, in evaluation mode.
    """

    def __init__(self, module: Tokenizer, image_size: int, device: torch.device) -> None:
        self.module = module
        self._side = image_size
        self._device = device

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the latent grid."""
        return self._with_codebook().grid

    @property
    def stage_tokens(self) -> tuple[int, ...]:
        """Number of unique tokens of each stage."""
        return self._with_codebook().stage_tokens

    def _with_codebook(self) -> CodebookTokenizer:
        if not isinstance(self.module, CodebookTokenizer):
            raise InputError("this tokenizer gives continuous latents, without a codebook and its stages")
        return self.module

    @torch.no_grad()
    def encode(self, images: Images) -> Any:
        """Tokens of uint8 images (``[N, H, W, 3]``, or a tensor ``[N, 3, H, W]``).

        Raises:
            InputError: another type, shape or size.
        """
        tensor = images if isinstance(images, Tensor) else torch.from_numpy(np.asarray(images)).permute(0, 3, 1, 2)
        if tensor.dtype != torch.uint8 or tuple(tensor.shape[1:]) != (3, self._side, self._side):
            raise InputError(
                f"images are {tensor.dtype} {list(np.shape(images))}; expected uint8 [N, {self._side}, {self._side}, 3]"
            )
        return self.module.encode(to_float(tensor.to(self._device)))

    @torch.no_grad()
    def decode(self, tokens: Any) -> NDArray[np.uint8]:
        """uint8 images ``[N, H, W, 3]`` of tokens (or of a latent ``[N, C, h, w]``)."""
        return to_uint8(self.module.decode(tokens)).permute(0, 2, 3, 1).contiguous().cpu().numpy()


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Samples:
    """Generated images in memory.

    Attributes:
        images: uint8 ``[N, H, W, 3]``.
        labels: int64 requested class of each image.
        classes: names of the model's classes.
        spec: the model.
        data: the data that it was trained on.
        trace: every stage of every image, if asked for.
        provenance: seeds, settings and model.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    spec: ModelSpec
    data: DataConfig
    trace: tuple[StageTrace, ...] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    def pil(self) -> list[Image]:
        """The images for PIL."""
        from PIL import Image

        return [Image.fromarray(image) for image in self.images]

    def grid(self, columns: int | None = None, *, captions: bool = False, scale: int = 1) -> Image:
        """All images side by side.

        Args:
            columns: images per row; nearly square if None.
            captions: write the class above each image.
            scale: enlarge every pixel this many times.
        """
        names = [class_name(label, self.classes) for label in self.labels] if captions else None
        return grid_image(torch.from_numpy(self.images).permute(0, 3, 1, 2), columns=columns, captions=names, scale=scale)

    def stages(self, images: int = 4) -> Image:
        """A picture of the stages of the first images: structure maps (if any) above canvases.

        Raises:
            InputError: sampled without ``trace=True``.
        """
        if self.trace is None:
            raise InputError("these samples have no trace; sample with `trace=True`")
        return trace_image(self.trace, images=images)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.grid().save(buffer, format="PNG")
        return buffer.getvalue()

    def __repr__(self) -> str:
        return f"Samples({len(self)} images of {self.spec.name}, {self.spec.image_size} px)"


def _joined(traces: Sequence[tuple[StageTrace, ...]]) -> tuple[StageTrace, ...]:
    """The traces of several batches as one."""

    def join(stages: tuple[StageTrace, ...]) -> StageTrace:
        maps = [stage.structure_BHW for stage in stages if stage.structure_BHW is not None]
        canvases = torch.cat([stage.canvas_B3HW for stage in stages])
        return dataclasses.replace(stages[0], canvas_B3HW=canvases, structure_BHW=torch.cat(maps) if maps else None)

    return tuple(join(stages) for stages in zip(*traces, strict=True))
