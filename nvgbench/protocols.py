"""The borders: what a tokenizer, a generator, a metric or a probe has to offer. Importing this file does not import torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from nvgbench.config.schema import RunConfig
    from nvgbench.types import ImageBatch, ModelSpec, SampleRequest, SampleResult, TokenBatch, TokenSequence


@runtime_checkable
class Tokenizer(Protocol):
    """Images to stages of tokens and back. Images are float in [-1, 1], latents float ``[B, C, h, w]``."""

    @property
    def grid(self) -> tuple[int, int]: ...
    @property
    def codebook_size(self) -> int: ...
    @property
    def stage_tokens(self) -> tuple[int, ...]: ...

    def encode(self, images_B3HW: Tensor) -> TokenSequence: ...
    def decode(self, source: TokenSequence | Tensor) -> Tensor: ...
    def canvas(self, tokens: TokenSequence, stage: int) -> Tensor: ...


@runtime_checkable
class ImageGenerator(Protocol):
    """The only thing that metrics and profiling see of a model."""

    spec: ModelSpec

    def generate(self, request: SampleRequest) -> SampleResult: ...


class Objective(Protocol):
    """What the training loop optimises.

    Attributes:
        modules: the trained modules by name; the loop gives each an optimizer of its own, saves and restores all of them.
            The first is "the model": it alone gets an exponential moving average.
    """

    modules: Mapping[str, nn.Module]

    def losses(self, batch: Any, rng: torch.Generator, step: int) -> Iterator[tuple[str, Tensor, Mapping[str, Tensor | float]]]:
        """Yield ``(module name, loss, scalars to log)``; the loop steps that module's optimizer before asking for the next.

        ``batch`` is an ImageBatch for tokenizers, a TokenBatch for generators. ``rng`` is seeded from (seed, rank, step);
        whatever is drawn must come from it (or from torch's global generators, which the loop reseeds likewise).
        Gradients of a yielded loss reach the parameters of the named module only.
        """
        ...


class ModelFamily(Protocol):
    """A way of making images: registered under the entry-point group ``nvgbench.models``.

    The module that holds it must import quickly (no torch at its top level): look-ups of names and presets go through it.

    Attributes:
        name: the family's name in presets.
        summary: one line for listings.
        quantizer_config, model_config, sampling_config: keyword-only frozen dataclasses, the types of the preset's sections
            ``[tokenizer.quantizer]``, ``[model]`` and ``[sampling]``.
        presets: importable package whose ``*.toml`` files are the family's presets.
    """

    name: str
    summary: str
    quantizer_config: type
    model_config: type
    sampling_config: type
    presets: str

    def build_tokenizer(self, config: RunConfig) -> nn.Module:
        """An untrained tokenizer: a `nvgbench.autoencoder.tokenizer.ConvTokenizer` or any module with the same methods."""
        ...

    def build_generator(self, config: RunConfig, tokenizer: nn.Module, num_classes: int) -> nn.Module:
        """An untrained generator for that tokenizer; all of it is trained (split inside as the family likes)."""
        ...

    def prepare(self, generator: nn.Module, tokenizer: nn.Module, tokens: TokenSequence) -> None:
        """Called once before the first training step with some hundred tokenized images, to measure constants."""
        ...

    def objective(self, config: RunConfig, tokenizer: nn.Module, generator: nn.Module) -> Objective:
        """The training objective of the generator, fed with TokenBatch."""
        ...

    def image_generator(self, config: RunConfig, tokenizer: nn.Module, generator: nn.Module, spec: ModelSpec) -> ImageGenerator:
        """Join tokenizer and generator (in evaluation mode) into something that makes images."""
        ...

    def cost(self, config: RunConfig, num_classes: int) -> Mapping[str, Any]:
        """Analytic cost card from the configuration alone.

        ``parameters``: dict part -> count; ``sampling_flops``: dict part -> FLOPs (2 x MACs) for one guided image at the
        configured settings; ``training_flops``: FLOPs of forward and backward for one image of generator training.
        """
        ...


class FeatureExtractor(Protocol):
    """Images to feature vectors for the metrics.

    Attributes:
        name: ``inception`` or ``classifier`` …, the word in ``FD[name]``.
        fingerprint: changes with the weights, the preprocessing or the code (SHA-256, hex).
        provenance: weights' SHA-256, preprocessing, training data …
    """

    name: str
    fingerprint: str
    provenance: Mapping[str, Any]

    def __call__(self, images_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images to ``(features_BD, logits_BK)``, float32 on the CPU."""
        ...


__all__ = ["FeatureExtractor", "ImageBatch", "ImageGenerator", "ModelFamily", "Objective", "TokenBatch", "Tokenizer"]

# The loop is told what to do with progress by a callable, so that it knows nothing of terminals.
Progress = Callable[[Mapping[str, Any]], None]
