"""The transformer that a sampler runs: in the precision of the settings, compiled or not."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from nvgbench.config.schema import ExecutionConfig
from nvgbench.device import resolve_compile, resolve_precision
from nvgbench.sampling.capture import weights_version
from nvgbench.sampling.precision import bf16_copy


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """A linear layer in the precision of its weights; the residual stream beside it may have a wider one."""
    return layer(x.to(layer.weight.dtype))


class SampledTransformer(nn.Module):
    """A transformer that says what sampling may change in a copy of it.

    Attributes:
        num_classes: the label that means "no class".
    """

    num_classes: int

    def half_precision_layers(self) -> list[nn.Linear]:
        """The layers that sampling in bf16 runs in bf16."""
        raise NotImplementedError

    def compile_blocks(self) -> None:
        """Compile what all blocks share."""
        raise NotImplementedError


T = TypeVar("T", bound=SampledTransformer)


class InferenceModels(Generic[T]):
    """Copies of a transformer by precision and compilation; they share all tensors but those in another precision.

    Args:
        original: the transformer as it was trained or loaded.
    """

    def __init__(self, original: T) -> None:
        self.original = original
        self._weights: Hashable = None
        self._copies: dict[Hashable, T] = {}

    def get(self, settings: ExecutionConfig, device: torch.device) -> T:
        """The model for these settings, with the present weights of the original."""
        weights = weights_version((self.original,))
        if weights != self._weights:
            self._copies, self._weights = {}, weights
        variant = resolve_precision(settings.precision, device), resolve_compile(settings.compile, device)
        if variant == ("fp32", False):
            return self.original
        if variant not in self._copies:
            self._copies[variant] = self._make(*variant)
        return self._copies[variant]

    def _make(self, precision: str, compiled: bool) -> T:
        model = bf16_copy(self.original, self.original.half_precision_layers() if precision == "bf16" else ())
        if compiled:
            model.compile_blocks()
        return model
