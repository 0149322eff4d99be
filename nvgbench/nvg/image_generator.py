"""Images from tokenizer and generator.

Shape letters: B batch, L positions, C latent channels, H and W pixels, h and w the latent grid.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from nvgbench.autoencoder.tokenizer import ConvTokenizer
from nvgbench.config.load import override_dataclass
from nvgbench.data.images import to_uint8
from nvgbench.errors import InputError
from nvgbench.nvg.config import NvgSamplingConfig
from nvgbench.nvg.generator import NvgGenerator
from nvgbench.nvg.quantizer import GranularityQuantizer
from nvgbench.nvg.sampler import GivenStructure, NvgSampler, StageState
from nvgbench.sampling.noise import SeededNoise
from nvgbench.types import ModelSpec, SampleRequest, SampleResult, StageTrace


class NvgImageGenerator:
    """Implements `nvgbench.interfaces.ImageGenerator`.

    Args:
        tokenizer, generator: in evaluation mode, on the same device.
        settings: sampling settings, unless a request overrides them.
        spec: see `nvgbench.types.ModelSpec`.
    """

    def __init__(self, tokenizer: ConvTokenizer, generator: NvgGenerator, settings: NvgSamplingConfig, spec: ModelSpec) -> None:
        assert isinstance(tokenizer.quantizer, GranularityQuantizer)
        self.tokenizer, self.quantizer, self.generator = tokenizer, tokenizer.quantizer, generator
        self.settings, self.spec = settings, spec

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
        settings = override_dataclass(self.settings, request.settings, "sampling")
        layout = self.generator.layout
        device = self.generator.content.scale_factors.device
        labels_B = self._labels(request).to(device)
        if (labels_B == self.generator.num_classes).all():
            settings = dataclasses.replace(settings, content_guidance=(1.0, 1.0), structure_guidance=(1.0, 1.0))
        given = None if structure is None else structure.for_batch(labels_B, layout)
        noise = SeededNoise(request.seeds_B, device)
        noise_BLK = noise.normal(layout.positions, layout.channels)
        sampler = NvgSampler(self.generator, self.quantizer, settings)
        sample = sampler.sample(labels_B, noise_BLK, noise.uniform, given=given, keep_stages=request.trace)
        trace = tuple(self._trace(state) for state in sample.stages) if request.trace else None
        return SampleResult(self._image(sample.canvas_BLC), trace)

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
