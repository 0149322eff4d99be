"""Held-out losses and pictures during a training, which do not change it: not its weights, not its random numbers.

Shape letters: B batch, N images, H and W pixels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from nvgbench.config.schema import RunConfig
from nvgbench.data.dataset import ImageDataset
from nvgbench.data.images import save_grid, to_uint8
from nvgbench.data.loader import sequential_batches
from nvgbench.data.source import open_dataset
from nvgbench.interfaces import Objective, Tokenizer
from nvgbench.registry import get_family
from nvgbench.runs.folder import Phase
from nvgbench.runs.seeding import reseed
from nvgbench.training.batches import AnyBatch, to_device
from nvgbench.training.ema import Ema
from nvgbench.training.precision import Precision, autocast
from nvgbench.types import ImageBatch, ModelSpec, SampleRequest

# Enough for a curve that tells a trend from noise; the loss of all held-out images is a matter of evaluation.
_IMAGES = 256
_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The objective on fixed held-out batches, without augmentation and with the same random numbers every time.

    Attributes:
        every: steps between validations.
        phase: in training.
        batches: on the CPU.
        picture: images to show after the losses, uint8 ``[N, 3, H, W]``; called with the model in evaluation mode.
        folder: for pictures.
        show: called with phase, step and path of each picture.
        seed: of the objective's random numbers.
        device: of the modules.
        precision: as in training.
    """

    every: int
    phase: Phase
    batches: Sequence[AnyBatch]
    picture: Callable[[], Tensor]
    folder: Path
    show: Callable[[str, int, Path], None]
    seed: int
    device: torch.device
    precision: Precision = "auto"

    def run(self, objective: Objective, ema: Ema | None, step: int) -> dict[str, float]:
        """Losses of the model by name, ``heldout/…`` and, with averaged weights, ``heldout/averaged/…``; and a picture."""
        with undisturbed(objective.modules, self.device), torch.no_grad():
            found = self._losses(objective, step, "heldout")
            with contextlib.nullcontext() if ema is None else ema.applied():
                if ema is not None:
                    found |= self._losses(objective, step, "heldout/averaged")
                images = self.picture()
        path = save_grid(images, self.folder / f"{self.phase}-{step:08d}.png", columns=_SHOWN)
        self.show(self.phase, step, path)
        return found

    def _losses(self, objective: Objective, step: int, prefix: str) -> dict[str, float]:
        rng, sums, count = torch.Generator(self.device), dict[str, float](), 0
        for number, batch in enumerate(self.batches):
            reseed(rng, self.seed, "heldout", self.phase, number)
            with autocast(self.precision, self.device):
                # The first loss is the model's; those of a discriminator say nothing about it.
                name, loss, terms = next(objective.losses(to_device(batch, self.device), rng, step))
            size = len(batch.labels_B)
            for key, value in {name: loss, **{f"{name}/{term}": value for term, value in terms.items()}}.items():
                sums[f"{prefix}/{key}"] = sums.get(f"{prefix}/{key}", 0.0) + float(value) * size
            count += size
        return {key: value / count for key, value in sums.items()}


@contextlib.contextmanager
def undisturbed(modules: Mapping[str, nn.Module], device: torch.device) -> Iterator[None]:
    """Modules in evaluation mode; afterwards their modes, their buffers and torch's random numbers are what they were."""
    parts = [part for module in modules.values() for part in module.modules()]
    modes = [part.training for part in parts]
    buffers = [(buffer, buffer.clone()) for module in modules.values() for buffer in module.buffers()]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for module in modules.values():
            module.eval()
        try:
            yield
        finally:
            for part, mode in zip(parts, modes, strict=True):
                part.training = mode
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)


def held_out_images(config: RunConfig) -> ImageDataset:
    """The held-out images of a configuration.

    Raises:
        InputError: there are none, or they cannot be read.
    """
    data = config.data
    limit = min(_IMAGES, data.eval_images or _IMAGES)
    return open_dataset(
        data.source,
        image_size=data.image_size,
        split="eval",
        limit=limit,
        seed=data.seed,
        unconditional=data.classes == "none",
    )


def held_out_batches(dataset: ImageDataset, batch_size: int) -> list[ImageBatch]:
    """The first held-out images in batches of equal size, as far as they go."""
    return list(sequential_batches(dataset, batch_size, limit=_IMAGES))


def reconstructions(tokenizer: nn.Module, images_B3HW: Tensor, device: torch.device) -> Tensor:
    """Images in [-1, 1] and their reconstructions, uint8 ``[2N, 3, H, W]``."""
    real = images_B3HW[:_SHOWN].to(device)
    coder = cast(Tokenizer, tokenizer)
    return torch.cat([to_uint8(real), to_uint8(coder.decode(coder.encode(real)))]).cpu()


def samples(config: RunConfig, tokenizer: nn.Module, generator: nn.Module, num_classes: int) -> Tensor:
    """Two rows of samples, classes in turn and always with the same seeds, uint8 ``[N, 3, H, W]``."""
    spec = ModelSpec(name=config.name, family=config.family, image_size=config.data.image_size, num_classes=num_classes)
    model = get_family(config.family).image_generator(config, tokenizer, generator, spec)
    numbers = torch.arange(2 * _SHOWN)
    return model.generate(SampleRequest(labels_B=numbers % max(num_classes, 1), seeds_B=numbers)).images_B3HW.cpu()
