"""The NVG family: what `nvgbench.registry` finds. Importing this file does not import torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from nvgbench.config.schema import RunConfig
from nvgbench.errors import InputError
from nvgbench.interfaces import CostCard, ImageGenerator, ModelFamily, Objective
from nvgbench.nvg.config import GranularityConfig, NvgModelConfig, NvgSamplingConfig
from nvgbench.types import ModelSpec, Tokens, TokenSequence

if TYPE_CHECKING:
    from torch import nn

    from nvgbench.autoencoder.quantization import Quantizer
    from nvgbench.autoencoder.tokenizer import ConvTokenizer
    from nvgbench.nvg.generator import NvgGenerator
    from nvgbench.nvg.image_generator import NvgImageGenerator
    from nvgbench.nvg.objective import NvgObjective
    from nvgbench.nvg.original import NvgOriginal
    from nvgbench.nvg.verification import NvgVerification


class NvgFamily(ModelFamily):
    """Next Visual Granularity generation."""

    name = "nvg"
    summary = "NVG: structure and content in turn, from one cluster to single positions"
    unconditional = True
    quantizer_config = GranularityConfig
    model_config = NvgModelConfig
    sampling_config = NvgSamplingConfig
    presets = "nvgbench.nvg.presets"
    tokenizers = "nvgbench.nvg.tokenizers"
    teacher_settings: Mapping[str, Any] = MappingProxyType(
        {"model.structure_target": "teacher", "train.generator.frozen": ["content.*"]}
    )

    @property
    def original(self) -> NvgOriginal:
        """Names and shapes of the published files."""
        from nvgbench.nvg.original import NvgOriginal

        return NvgOriginal()

    @property
    def verification(self) -> NvgVerification:
        """Golden numbers of the original code, and how to recompute them."""
        from nvgbench.nvg.verification import NvgVerification

        return NvgVerification()

    def build_tokenizer(self, config: RunConfig) -> ConvTokenizer:
        """An untrained multi-granularity tokenizer.

        Raises:
            InputError: the grid's positions cannot be grouped down to one cluster.
        """
        from nvgbench.nvg.tokenizer import build_tokenizer

        return build_tokenizer(config)

    def build_generator(self, config: RunConfig, tokenizer: nn.Module, num_classes: int) -> NvgGenerator:
        """Untrained content and structure generators for that tokenizer's grid and codebook.

        Raises:
            InputError: the stages are not a balanced hierarchy, or the head size has no room for the rotary axes.
        """
        from nvgbench.nvg.generator import NvgGenerator
        from nvgbench.nvg.stages import StageLayout

        tokenizer = cast("ConvTokenizer", tokenizer)
        return NvgGenerator(
            config.model,
            StageLayout.of_stages(tokenizer.grid, tokenizer.stage_tokens),
            channels=tokenizer.latent_channels,
            codebook_size=tokenizer.codebook_size,
            num_classes=num_classes,
        )

    def prepare(self, generator: nn.Module, tokenizer: nn.Module, tokens: Tokens) -> None:
        """Measure the scale of each stage's canvas; initialise the token logits at the codes if configured."""
        from nvgbench.nvg.objective import measure_code_variance, measure_scale_factors

        assert isinstance(tokens, TokenSequence)
        tokenizer, generator = cast("ConvTokenizer", tokenizer), cast("NvgGenerator", generator)
        generator.content.scale_factors.copy_(measure_scale_factors(tokenizer, tokens))
        if generator.starts_at_codes:
            codebook_VC = cast("Quantizer", tokenizer.quantizer).codebook_VC
            generator.content.start_at_codes(codebook_VC, measure_code_variance(codebook_VC, tokens))

    def check_training(self, config: RunConfig) -> None:
        """See `nvgbench.interfaces.ModelFamily.check_training`.

        Raises:
            InputError: the feature alignment is required but its weights or images are not available.
        """
        from nvgbench.nvg.alignment_target import find_target

        find_target(config)

    def objective(self, config: RunConfig, tokenizer: nn.Module, generator: nn.Module) -> NvgObjective:
        """Final canvas, tokens and structure flow at all stages; feature alignment if configured.

        Raises:
            InputError: see `check_training`; or the weights of the alignment's target are damaged.
        """
        from nvgbench.nvg.alignment_target import load_target
        from nvgbench.nvg.objective import NvgObjective

        tokenizer = cast("ConvTokenizer", tokenizer)
        target, notes = load_target(config, tokenizer.grid)
        return NvgObjective(config.model, tokenizer, cast("NvgGenerator", generator), target, notes)

    def taken_from_teacher(self, config: RunConfig) -> Sequence[str]:
        """The content generator; the structure generator too, if it is to follow the teacher's flow."""
        return ("content.*", "structure.*") if config.model.structure_target == "teacher" else ("content.*",)

    def teach(self, config: RunConfig, objective: Objective, teacher: ImageGenerator | None) -> None:
        """Let the structure generator follow the flow of a trained one, if configured.

        Raises:
            InputError: no teacher, one without a flow, or an objective that cannot be distilled.
        """
        if config.model.structure_target != "teacher":
            return
        from nvgbench.nvg.image_generator import NvgImageGenerator
        from nvgbench.nvg.objective import NvgObjective
        from nvgbench.nvg.structure_flow.flow import StructureFlow
        from nvgbench.nvg.structure_flow.registry import OBJECTIVES

        name = config.model.structure_objective
        if not OBJECTIVES[name].distils:
            able = ", ".join(key for key, found in OBJECTIVES.items() if found.distils)
            raise InputError(f"model.structure_objective = {name!r} cannot follow a teacher's flow; use one of {able}")
        if not isinstance(teacher, NvgImageGenerator):
            raise InputError("model.structure_target = 'teacher' needs a trained run as `teacher=`")
        if not isinstance(teacher.generator.flow, StructureFlow):
            raise InputError(f"`teacher={teacher.spec.name}` has no flow; use a run with model.structure_objective = 'flow'")
        assert isinstance(objective, NvgObjective)
        objective.teacher = teacher.generator.structure

    def image_generator(
        self, config: RunConfig, tokenizer: nn.Module, generator: nn.Module, spec: ModelSpec
    ) -> NvgImageGenerator:
        """Tokenizer and generators joined."""
        from nvgbench.nvg.image_generator import NvgImageGenerator

        return NvgImageGenerator(cast("ConvTokenizer", tokenizer), cast("NvgGenerator", generator), config.sampling, spec)

    def cost(self, config: RunConfig, num_classes: int) -> CostCard:
        """Parameters and FLOPs from the configuration alone, without memory for the weights.

        The feature alignment is left out: the paper's sizes do not count its projector, and ``auto`` may train without.
        """
        import torch

        from nvgbench.nvg.cost import cost_card

        with torch.device("meta"):
            tokenizer = self.build_tokenizer(config)
            generator = self.build_generator(config, tokenizer, num_classes)
        return cost_card(config, tokenizer, generator)
