"""Images from tokenizer and generator.

Shape letters: B batch, L positions, C latent channels, H and W pixels, h and w the latent grid.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from torch import Tensor

from nvgbench.autoencoder.tokenizer import ConvTokenizer
from nvgbench.config.load import override_dataclass
from nvgbench.data.images import to_uint8
from nvgbench.device import resolve_compile, resolve_precision
from nvgbench.errors import InputError
from nvgbench.nvg.config import NvgSamplingConfig
from nvgbench.nvg.generator import NvgGenerator
from nvgbench.nvg.quantizer import GranularityQuantizer
from nvgbench.nvg.sampler import GivenStructure, NvgSampler, Sample, StageState
from nvgbench.sampling.batches import FittingBatches
from nvgbench.sampling.capture import Calls, GraphCache
from nvgbench.sampling.noise import SeededNoise
from nvgbench.sampling.parts import part
from nvgbench.sampling.precision import bf16_copy
from nvgbench.types import ModelSpec, SampleRequest, SampleResult, StageTrace, TokenSequence


class NvgImageGenerator:
    """Implements `nvgbench.interfaces.ImageGenerator`.

    Args:
        tokenizer, generator: in evaluation mode, on the same device.
        settings: sampling settings, unless a request overrides them.
        spec: see `nvgbench.types.ModelSpec`.

    Attributes:
        graphs: how the parts of a sample are called; CUDA graphs where ``graphs.enabled`` (on by default).
    """

    def __init__(self, tokenizer: ConvTokenizer, generator: NvgGenerator, settings: NvgSamplingConfig, spec: ModelSpec) -> None:
        assert isinstance(tokenizer.quantizer, GranularityQuantizer)
        self.tokenizer, self.quantizer, self.generator = tokenizer, tokenizer.quantizer, generator
        self.settings, self.spec = settings, spec
        if resolve_precision(settings.precision, generator.content.scale_factors.device) == "bf16":
            self.spec = dataclasses.replace(spec, provenance={**spec.provenance, "precision": "bf16"})
        self.graphs = GraphCache(True, (generator, tokenizer))
        self._variants: dict[tuple[str, bool], NvgGenerator] = {}
        self._batches = FittingBatches(lambda: self.graphs.clear())

    @torch.no_grad()
    def generate(self, request: SampleRequest, structure: GivenStructure | None = None) -> SampleResult:
        """Images for the labels and seeds of ``request``.

        Args:
            request: an image depends only on its own seed, its label and the settings, up to rounding of batched kernels.
                Without any class there is no guidance: both of its branches would be the same.
            structure: given maps of the first stages, see `nvgbench.nvg.structure_control`; later ones are generated.

        Raises:
            InputError: labels that are not classes, a different number of seeds, unknown settings, or a structure of another
                grid.
        """
        sampler, labels_B, given = self._prepared(request, structure)
        seeds_B, device = torch.as_tensor(request.seeds_B), labels_B.device

        def draw(rows: Tensor) -> SampleResult:
            maps = None if given is None else given.rows(rows.to(device))
            return self._draw(sampler, labels_B[rows.to(device)], seeds_B[rows], maps, trace=request.trace)

        captured = self.graphs.enabled and device.type == "cuda" and not request.trace
        return self._batches.draw(len(labels_B), draw, request.batch_size if captured else None)

    @torch.no_grad()
    def tokens(self, request: SampleRequest, structure: GivenStructure | None = None) -> TokenSequence:
        """The tokens of those images, in one batch and without decoding them."""
        sampler, labels_B, given = self._prepared(request, structure)
        return self._sample(sampler, labels_B, request.seeds_B, given).tokens

    def _prepared(
        self, request: SampleRequest, structure: GivenStructure | None
    ) -> tuple[NvgSampler, Tensor, GivenStructure | None]:
        """The sampler for a request, and its labels and given structure on the device."""
        settings = override_dataclass(self.settings, request.settings, "sampling")
        device = self.generator.content.scale_factors.device
        labels_B = self._labels(request)
        if (labels_B == self.generator.num_classes).all():
            settings = dataclasses.replace(settings, content_guidance=(1.0, 1.0), structure_guidance=(1.0, 1.0))
        labels_B = labels_B.to(device)
        given = None if structure is None else structure.for_batch(labels_B, self.generator.layout)
        if self.graphs.check_weights():
            self._variants.clear()
        variant = resolve_precision(settings.precision, device), resolve_compile(settings.compile, device)
        # A trace is drawn once; its graphs would only hold memory.
        graphs: Calls = GraphCache(enabled=False) if request.trace else self.graphs.scoped(variant)
        return NvgSampler(self._variant(*variant), self.quantizer, settings, graphs), labels_B, given

    def _draw(
        self, sampler: NvgSampler, labels_B: Tensor, seeds_B: Tensor, given: GivenStructure | None, *, trace: bool
    ) -> SampleResult:
        sample = self._sample(sampler, labels_B, seeds_B, given, keep_stages=trace)
        stages = tuple(self._trace(state) for state in sample.stages) if trace else None
        with part("decoder"):
            decoded = sampler.graphs.call("decode", lambda canvas_BLC: (self._image(canvas_BLC),), sample.canvas_BLC)
        return SampleResult(decoded[0], stages)

    def _sample(
        self,
        sampler: NvgSampler,
        labels_B: Tensor,
        seeds_B: Tensor,
        given: GivenStructure | None,
        keep_stages: bool = False,
    ) -> Sample:
        noise, layout = SeededNoise(seeds_B, labels_B.device), self.generator.layout
        noise_BLK = noise.normal(layout.positions, layout.channels)
        content = self.generator.content
        canvas_noise_BLC = noise.normal(*content.start_1LC.shape[1:]) if content.takes_noise else None
        return sampler.sample(
            labels_B, noise_BLK, noise.uniform, canvas_noise_BLC=canvas_noise_BLC, given=given, keep_stages=keep_stages
        )

    def _variant(self, precision: Literal["fp32", "bf16"], compiles: bool) -> NvgGenerator:
        """The generator in this precision, with compiled blocks or not; it shares its other weights with the original."""
        if (precision, compiles) == ("fp32", False):
            return self.generator
        if (precision, compiles) not in self._variants:
            half = self.generator.half_precision_layers() if precision == "bf16" else ()
            variant = bf16_copy(self.generator, half)
            if compiles:
                variant.compile_blocks()
            self._variants[precision, compiles] = variant
        return self._variants[precision, compiles]

    def _image(self, canvas_BLC: Tensor) -> Tensor:
        return to_uint8(self.tokenizer.decode(canvas_BLC.transpose(1, 2).unflatten(2, self.generator.layout.grid)))

    def _trace(self, state: StageState) -> StageTrace:
        tokens = state.logits_BnV.shape[1]
        return StageTrace(tokens, self._image(state.canvas_BLC), state.structure_BL.unflatten(1, self.generator.layout.grid))

    def _labels(self, request: SampleRequest) -> Tensor:
        labels_B, classes = torch.as_tensor(request.labels_B), self.generator.num_classes
        if labels_B.ndim != 1 or labels_B.is_floating_point() or labels_B.shape != torch.as_tensor(request.seeds_B).shape:
            raise InputError(
                f"labels {labels_B.dtype} {list(labels_B.shape)} and seeds {list(torch.as_tensor(request.seeds_B).shape)}: "
                "give integer labels [B] and one seed per label"
            )
        wrong = labels_B[(labels_B < 0) | (labels_B > classes)]
        if len(wrong):
            raise InputError(
                f"label {int(wrong[0])} is not a class of this model; give labels from 0 to {classes - 1}, "
                f"or {classes} for none"
            )
        return labels_B.long()
