"""A model family in one file: a rectified flow on continuous latents, without a codebook. Its tokenizer is not trained."""

from __future__ import annotations

from dataclasses import dataclass

import nvgbench.interfaces as nb


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The preset's section ``[model]``."""

    width: int = 16


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """The preset's section ``[sampling]``."""

    steps: int = 4


class LatentFlow(nb.ModelFamily):
    """Velocities of 4x4-pooled images."""

    name = "latent-flow"
    summary = "rectified flow on pooled images"
    presets = "latent_flow"
    model_config = ModelConfig
    sampling_config = SamplingConfig

    def build_tokenizer(self, config):
        import torch.nn.functional as F
        from torch import nn

        class Pooling(nn.Module):
            def encode(self, images_B3HW):
                return F.avg_pool2d(images_B3HW, 4)

            def decode(self, latent_B3hw):
                return F.interpolate(latent_B3hw, scale_factor=4, mode="bilinear").clamp(-1, 1)

        return Pooling()

    def build_generator(self, config, tokenizer, num_classes):
        import torch
        from torch import nn

        class Velocity(nn.Module):
            def __init__(self):
                super().__init__()
                width = config.model.width
                self.label = nn.Embedding(num_classes, width)
                self.time = nn.Linear(1, width)
                self.inward = nn.Conv2d(3, width, 3, padding=1)
                self.outward = nn.Conv2d(width, 3, 3, padding=1)
                self.register_buffer("scale", torch.ones(()))

            def forward(self, z_B3hw, t_B, labels_B):
                condition_BW = self.label(labels_B) + self.time(t_B[:, None])
                return self.outward(torch.relu(self.inward(z_B3hw) + condition_BW[:, :, None, None]))

        return Velocity()

    def prepare(self, generator, tokenizer, tokens):
        generator.scale.copy_(1 / tokens.std())

    def objective(self, config, tokenizer, generator):
        import torch

        class Matching(nb.Objective):
            modules = {"generator": generator}  # noqa: RUF012 - one per call
            notes = (f"latents scaled by {float(generator.scale):.2f}",)

            def losses(self, batch, rng, step):
                data_B3hw = batch.tokens * generator.scale
                noise_B3hw = torch.randn(data_B3hw.shape, generator=rng)
                t_B = torch.rand(len(data_B3hw), generator=rng)
                z_B3hw = torch.lerp(data_B3hw, noise_B3hw, t_B[:, None, None, None])
                velocity_B3hw = generator(z_B3hw, t_B, batch.labels_B)
                yield "generator", (velocity_B3hw - noise_B3hw + data_B3hw).square().mean(), {}

        return Matching()

    def image_generator(self, config, tokenizer, generator, spec):
        import torch

        from nvgbench.config.load import override_dataclass
        from nvgbench.data.images import to_uint8
        from nvgbench.sampling.noise import SeededNoise
        from nvgbench.types import SampleResult

        class Sampler:
            @torch.no_grad()
            def generate(self, request):
                steps = override_dataclass(config.sampling, request.settings, "sampling").steps
                z_B3hw = SeededNoise(request.seeds_B).normal(3, config.data.image_size // 4, config.data.image_size // 4)
                for step in range(steps):
                    t_B = torch.full((len(z_B3hw),), 1 - step / steps)
                    z_B3hw = z_B3hw - generator(z_B3hw, t_B, request.labels_B) / steps
                return SampleResult(to_uint8(tokenizer.decode(z_B3hw / generator.scale)))

        Sampler.spec = spec
        return Sampler()


FAMILY = LatentFlow()
