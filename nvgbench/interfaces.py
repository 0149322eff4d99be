"""What a tokenizer, a generator, a metric or a probe has to offer. Importing this file does not import torch.

`Objective` and `ModelFamily` are base classes, whose defaults keep a small family short; the others are protocols.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from nvgbench.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from nvgbench.config.schema import RunConfig
    from nvgbench.parity.ledger import Check, Ledger
    from nvgbench.types import ModelSpec, SampleRequest, SampleResult, Tokens, TokenSequence


@runtime_checkable
class Tokenizer(Protocol):
    """Images to tokens and back; usually an ``nn.Module`` too. Images are float ``[B, 3, H, W]`` in [-1, 1].

    Tokens are whatever the family works on: codebook indices (`TokenSequence`), or a tensor ``[B, …]`` of continuous latents.
    """

    def encode(self, images_B3HW: Tensor) -> Tokens: ...
    def decode(self, tokens: Any) -> Tensor: ...


@runtime_checkable
class CodebookTokenizer(Tokenizer, Protocol):
    """A tokenizer with stages of codebook indices; its codebook use is measured.

    `decode` takes a canvas ``[B, C, h, w]`` too.
    """

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the latent grid."""
        ...

    @property
    def codebook_size(self) -> int: ...

    @property
    def stage_tokens(self) -> tuple[int, ...]:
        """Number of unique tokens of each stage."""
        ...

    def encode(self, images_B3HW: Tensor) -> TokenSequence: ...


@runtime_checkable
class CompilableBlocks(Protocol):
    """A generator that says how its blocks are compiled, for training and sampling."""

    def compile_blocks(self) -> None:
        """Compile what all blocks share, with torch.compile."""
        ...


@runtime_checkable
class LatentTokenizer(Protocol):
    """A tokenizer whose continuous latents can be studied."""

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the latent grid."""
        ...

    def latent(self, images_B3HW: Tensor) -> Tensor:
        """The continuous latent ``[B, C, h, w]`` of float images in [-1, 1]."""
        ...


@runtime_checkable
class ImageGenerator(Protocol):
    """All that metrics and profiling see of a model."""

    spec: ModelSpec

    def generate(self, request: SampleRequest) -> SampleResult: ...


@runtime_checkable
class TokenGenerator(ImageGenerator, Protocol):
    """A generator that can stop before its decoder; profiling then tells tokens from decoding."""

    def tokens(self, request: SampleRequest) -> TokenSequence: ...


@runtime_checkable
class ShardedUnits(Protocol):
    """A module with parts whose weights may be gathered one part at a time (``train.parallel = "fsdp"``)."""

    def sharded_units(self) -> Sequence[nn.Module]:
        """The parts, inner ones before those that contain them. Training uses the weights of each in its ``forward`` only."""
        ...


class Objective(ABC):
    """What the training loop optimises.

    Attributes:
        modules: the trained modules by name; the loop gives each an optimizer of its own, saves and restores all of them.
            The first is the model: it alone gets an exponential moving average.
        notes: lines for the record, e.g. what a setting ``auto`` became.
        needs_images: whether `losses` reads the images behind the tokens (``TokenBatch.images_B3HW``).
        no_weight_decay: `fnmatch` patterns for names of parameters within their module that weight decay leaves alone, beside
            those of one dimension (gains, biases).
        training_only: children of the modules that serve training alone; they are counted apart from the model.
    """

    modules: Mapping[str, nn.Module]
    notes: tuple[str, ...] = ()
    needs_images: bool = False
    no_weight_decay: tuple[str, ...] = ()
    training_only: tuple[str, ...] = ()

    @abstractmethod
    def losses(self, batch: Any, rng: torch.Generator, step: int) -> Iterator[tuple[str, Tensor, Mapping[str, Tensor | float]]]:
        """Yield ``(module name, loss, scalars to log)``; the loop steps that module's optimizer before asking for the next.

        ``batch`` is an ImageBatch for tokenizers, a TokenBatch for generators. ``rng`` is seeded from (seed, rank, step);
        whatever is drawn must come from it (or from torch's global generators, which the loop reseeds likewise).
        Gradients of a yielded loss reach the parameters of the named module only. Every micro-batch of a step yields the same
        losses. With ``train.parallel = "fsdp"``, the trained modules are used by calling them, not by their other methods or
        their weights, and what they return is not changed in place.
        """


@dataclass(frozen=True, kw_only=True)
class CostCard:
    """What a model costs, from its configuration alone. FLOPs are 2 x multiply-accumulates.

    Attributes:
        parameters: by part.
        sampling_flops: by part, for one guided image at the configured settings.
        training_flops: forward and backward for one image of generator training; None if unknown.
        layers: transformer blocks of the generator, from which the memory of activations is estimated; None if unknown.
        notes: what a part's FLOPs are made of, by part; of the training's, under ``training``.
    """

    parameters: Mapping[str, int]
    sampling_flops: Mapping[str, int] = field(default_factory=dict)
    training_flops: int | None = None
    layers: int | None = None
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NoSettings:
    """A section of the preset without keys."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}


class ModelFamily(ABC):
    """A way of making images. An instance is registered under the entry-point group ``nvgbench.models``.

    The module that holds it must import quickly (no torch at its top level): look-ups of names and presets go through it.

    Attributes:
        name: the family's name in presets.
        summary: one line for listings.
        presets: importable package whose ``*.toml`` files are the family's presets.
        tokenizers: importable package whose folders are runs with a trained tokenizer, for ``train --tokenizer NAME``; None for
            none.
        model_config, sampling_config, quantizer_config: keyword-only frozen dataclasses, the types of the preset's sections
            ``[model]``, ``[sampling]`` and ``[tokenizer.quantizer]``.
        unconditional: whether label ``num_classes`` means "no class" to its models, so that they can be trained and sampled
            without classes.
        teacher_settings: settings by key that learning from a teacher begins with, below those that are asked for.
    """

    name: str
    summary: str
    presets: str
    tokenizers: str | None = None
    model_config: type = NoSettings
    sampling_config: type = NoSettings
    quantizer_config: type = NoSettings
    unconditional: bool = False
    teacher_settings: Mapping[str, Any] = MappingProxyType({})

    @property
    def original(self) -> OriginalProject | None:
        """The project that publishes weights of this family; None: runs can be neither imported nor exported."""
        return None

    @property
    def verification(self) -> Verification | None:
        """Golden numbers of the family's original code; None: ``nvgbench verify`` does not know the family."""
        return None

    @abstractmethod
    def build_tokenizer(self, config: RunConfig) -> nn.Module:
        """An untrained `Tokenizer`, e.g. a `nvgbench.autoencoder.tokenizer.ConvTokenizer`."""

    def tokenizer_objective(self, config: RunConfig, tokenizer: nn.Module, steps: int) -> Objective | None:
        """The training objective of the tokenizer, fed with ImageBatch.

        None (the default): a ``ConvTokenizer`` is trained by `nvgbench.autoencoder.objective`, any other not at all.
        """
        return None

    @abstractmethod
    def build_generator(self, config: RunConfig, tokenizer: nn.Module, num_classes: int) -> nn.Module:
        """An untrained generator for that tokenizer; all of it is trained.

        Args:
            config: of the run.
            tokenizer: that it works with.
            num_classes: 0 for a training without classes.
        """

    def prepare(self, generator: nn.Module, tokenizer: nn.Module, tokens: Tokens) -> None:  # noqa: B027
        """Measure constants on some hundred tokenized images, once before the first training step."""

    def check_training(self, config: RunConfig) -> None:  # noqa: B027
        """Find problems that would otherwise only show once the tokenizer is trained.

        Raises:
            InputError: the generator cannot be trained as configured.
        """

    def taken_from_teacher(self, config: RunConfig) -> Sequence[str]:
        """The tensors of the generator that start from the teacher's: `fnmatch` patterns.

        Raises:
            InputError: the family's models do not learn from others.
        """
        raise InputError(f"models of family {self.name!r} do not learn from a teacher; leave `teacher=` out")

    def teach(self, config: RunConfig, objective: Objective, teacher: ImageGenerator | None) -> None:
        """Give an objective its teacher, if any, before the training starts.

        Raises:
            InputError: there is no teacher where the configuration needs one, or it does not fit.
        """
        assert teacher is None, "a family that takes something from a teacher overrides this"

    @abstractmethod
    def objective(self, config: RunConfig, tokenizer: nn.Module, generator: nn.Module) -> Objective:
        """The training objective of the generator, fed with TokenBatch."""

    @abstractmethod
    def image_generator(self, config: RunConfig, tokenizer: nn.Module, generator: nn.Module, spec: ModelSpec) -> ImageGenerator:
        """Join tokenizer and generator (in evaluation mode) into something that makes images."""

    def cost(self, config: RunConfig, num_classes: int) -> CostCard:
        """Cost without memory for the weights; the default counts parameters only."""
        import torch

        with torch.device("meta"):
            tokenizer = self.build_tokenizer(config)
            generator = self.build_generator(config, tokenizer, num_classes)
        parts = {"tokenizer": tokenizer, "generator": generator}
        return CostCard(parameters={name: sum(weight.numel() for weight in part.parameters()) for name, part in parts.items()})


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """A published file on the Hugging Face Hub.

    Attributes:
        repository: owner and name.
        part: what it contains.
        terms: licence, and whether access has to be requested.
    """

    repository: str
    part: Literal["tokenizer", "generator"]
    terms: str


@dataclass(frozen=True, kw_only=True)
class OriginalSizes:
    """The model that a published file belongs to.

    Attributes:
        preset: the preset with the closest sizes.
        settings: keys of the configuration (``model.depth`` …) in which the model differs from that preset.
        classes: number of classes; None if the file contains no generator.
    """

    preset: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    classes: int | None = None


class OriginalProject(Protocol):
    """The published weights of a family: names and shapes of the tensors in its files.

    A file contains one part, ``tokenizer`` or ``generator``. The names of that part's tensors are a prefix (`prefixes`) and the
    original name.

    Attributes:
        title: common name of the project.
        suffix: of its files, with the dot.
        container: key of the state dict in a file; None if the file is the state dict.
        hub: its published files by name.
        tokenizer_inside: prefix of the tokenizer's tensors in a generator's file; None if there are none.
    """

    title: str
    suffix: str
    container: str | None
    hub: Mapping[str, HubFile]
    tokenizer_inside: str | None

    def part(self, keys: Collection[str]) -> Literal["tokenizer", "generator"] | None:
        """The part that a state dict with these keys contains; None if it is not of this project."""
        ...

    def prefixes(self, part: str) -> tuple[str, str | None]:
        """Prefix of the trained weights, and of their moving average (None if the project has none)."""
        ...

    def is_unused(self, part: str, name: str) -> bool:
        """Whether our model does not use a tensor (prefix removed), because it can be computed or only serves training."""
        ...

    def sizes(self, generator: Mapping[str, Tensor] | None, tokenizer: Mapping[str, Tensor] | None) -> OriginalSizes:
        """The configuration of the model that these tensors (by original name) belong to.

        Raises:
            InputError: the two do not belong together, or a size cannot be inferred.
        """
        ...

    def from_original(
        self, part: str, given: Mapping[str, Tensor], own: Mapping[str, Tensor], config: RunConfig
    ) -> dict[str, Tensor]:
        """Tensors by original name as a state dict of our module; its state dict ``own`` defines names and shapes.

        Raises:
            InputError: tensors are missing, unexpected or of the wrong shape; the message names them.
        """
        ...

    def to_original(self, part: str, own: Mapping[str, Tensor], config: RunConfig) -> dict[str, Tensor]:
        """The inverse: our state dict with original names and shapes."""
        ...

    def derived(self, part: str, config: RunConfig) -> dict[str, Tensor]:
        """The original's tensors that are not learned, computed."""
        ...


class Verification(Protocol):
    """Golden numbers of a family's original code, and how to recompute them.

    Attributes:
        tolerance: largest difference of a float in float32 on a CPU, relative to the largest magnitude of its array.
        shipped: JSON files of the family's fixtures, each with the SHA-256 of the archive beside it (None without archive).
    """

    tolerance: float
    shipped: Mapping[Path, str | None]

    def verify(self, ledger: Ledger) -> list[Check]:
        """Recompute every array of the ledger's fixture; returns the checks in the order in which they were reported.

        Raises:
            InputError: the fixture is incomplete or has another layout.
        """
        ...


class FeatureExtractor(Protocol):
    """Images to feature vectors for the metrics.

    Attributes:
        name: ``inception`` or ``classifier`` …, the word in ``FD[name]``.
        fingerprint: SHA-256 (hex) that changes with the weights, the preprocessing or the code.
        provenance: SHA-256 of the weights, preprocessing, training data …

    An extractor whose logits are of named classes may have them as ``class_names``; samples of these classes get an accuracy.
    """

    name: str
    fingerprint: str
    provenance: Mapping[str, Any]

    def __call__(self, images_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images to ``(features_BD, logits_BK)``, float32 on the CPU."""
        ...


__all__ = [
    "CodebookTokenizer",
    "CostCard",
    "FeatureExtractor",
    "HubFile",
    "ImageGenerator",
    "LatentTokenizer",
    "ModelFamily",
    "NoSettings",
    "Objective",
    "OriginalProject",
    "OriginalSizes",
    "ShardedUnits",
    "TokenGenerator",
    "Tokenizer",
    "Verification",
]

Progress = Callable[[Mapping[str, Any]], None]
"""Called with the progress of a job; keeps terminals out of the library."""
