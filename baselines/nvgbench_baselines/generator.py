"""What the image generators of both baselines share: requests, batches that fit, graphs. B batch, H and W pixels."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from nvgbench.autoencoder.tokenizer import ConvTokenizer
from nvgbench.config.load import override_dataclass
from nvgbench.config.schema import ExecutionConfig
from nvgbench.device import resolve_precision
from nvgbench.sampling.batches import FittingBatches
from nvgbench.sampling.capture import GraphCache
from nvgbench.types import ModelSpec, SampleRequest, SampleResult, TokenSequence
from nvgbench_baselines.conditioning import checked_labels, has_classes
from nvgbench_baselines.inference import SampledTransformer


class BaselineGenerator(ABC):
    """Implements `nvgbench.interfaces.TokenGenerator` but for the sampling itself.

    Args:
        tokenizer, transformer: in evaluation mode, on the same device.
        settings: sampling settings, unless a request overrides them.
        spec: see `nvgbench.types.ModelSpec`.

    Attributes:
        graphs: how the functions of a sample are called; as CUDA graphs where ``graphs.enabled``.
        unguided: the value of ``guidance`` without an unconditional pass.
    """

    unguided: ClassVar[float]

    def __init__(
        self, tokenizer: ConvTokenizer, transformer: SampledTransformer, settings: ExecutionConfig, spec: ModelSpec
    ) -> None:
        self.tokenizer, self.transformer, self.settings = tokenizer, transformer, settings
        if resolve_precision(settings.precision, self.device) == "bf16":
            spec = dataclasses.replace(spec, provenance={**spec.provenance, "precision": "bf16"})
        self.spec = spec
        self.graphs = GraphCache(True, (tokenizer, transformer))
        self._batches = FittingBatches(self.graphs.clear)

    @property
    def device(self) -> torch.device:
        """Where the transformer is."""
        return next(self.transformer.parameters()).device

    @torch.no_grad()
    def generate(self, request: SampleRequest) -> SampleResult:
        """Images for the labels and seeds of ``request``.

        Raises:
            InputError: a label that is not a class, a different number of seeds, an unknown or invalid setting.
        """
        settings, labels_B, seeds_B = self._checked(request)

        def draw(rows: Tensor) -> SampleResult:
            return self._images(settings, labels_B[rows.to(self.device)], seeds_B[rows], trace=request.trace)

        captured = self.graphs.enabled and self.device.type == "cuda"
        return self._batches.draw(len(labels_B), draw, request.batch_size if captured else None)

    @torch.no_grad()
    def tokens(self, request: SampleRequest) -> TokenSequence:
        """The tokens of those images, in one batch and without decoding them."""
        return self._tokens(*self._checked(request))

    @abstractmethod
    def _images(self, settings: Any, labels_B: Tensor, seeds_B: Tensor, *, trace: bool) -> SampleResult: ...

    @abstractmethod
    def _tokens(self, settings: Any, labels_B: Tensor, seeds_B: Tensor) -> TokenSequence: ...

    def _checked(self, request: SampleRequest) -> tuple[Any, Tensor, Tensor]:
        """Settings, labels on the device, seeds. Without any class there is no guidance: both branches would be the same."""
        settings = override_dataclass(self.settings, request.settings, "sampling")
        labels_B = checked_labels(request, self.transformer.num_classes, self.device)
        if not has_classes(request, self.transformer.num_classes):
            settings = dataclasses.replace(settings, guidance=self.unguided)
        self.graphs.check_weights()
        return settings, labels_B, torch.as_tensor(request.seeds_B)
