"""The trained tokenizers that studies probe: images to latents, and the hierarchy built on them.

Shape letters: B batch, C latent channels, h and w the latent grid.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nvgbench.ablations.execute import Showing
from nvgbench.ablations.study import Context
from nvgbench.autoencoder.tokenizer import ConvTokenizer
from nvgbench.data.dataset import ImageDataset
from nvgbench.data.source import open_dataset
from nvgbench.errors import InputError
from nvgbench.interfaces import LatentTokenizer
from nvgbench.nvg.config import GranularityConfig, GroupSize
from nvgbench.nvg.quantizer import GranularityQuantizer
from nvgbench.nvg.stages import stage_tokens
from nvgbench.runs.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a study of structure maps measures: an encoder and the hierarchy built on it.

    Attributes:
        name: of the run, for tables.
        encode: float images ``[B, 3, H, W]`` in [-1, 1] to float latents ``[B, C, h, w]``.
        grid: height and width of the latent grid.
        group_size: clusters of a stage merged into one of the stage before.
        device: where the encoder is.
        tokenizer: the whole tokenizer, for what is quantized and decoded again; None if there is only an encoder.
    """

    name: str
    encode: Callable[[Tensor], Tensor]
    grid: tuple[int, int]
    group_size: GroupSize = 2
    device: torch.device | str = "cpu"
    tokenizer: ConvTokenizer | None = None

    def latent(self, images_B3HW: Tensor) -> Tensor:
        """Latents in full float32: TF32 rounds inputs to 10 bits of mantissa, which changes hierarchies."""
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            return self.encode(images_B3HW.to(self.device)).float()

    @property
    def positions(self) -> int:
        return self.grid[0] * self.grid[1]

    def tokens(self) -> tuple[int, ...]:
        """Clusters of every stage.

        Raises:
            InputError: the grid's positions cannot be grouped down to one cluster, or there is no inner stage.
        """
        try:
            tokens = stage_tokens(self.positions, self.group_size)
        except InputError as error:
            raise InputError(f"{self.name} has no hierarchy of structure maps: {error}") from None
        if len(tokens) < 3:
            raise InputError(f"{self.name} has {len(tokens)} stages, all of them trivial; use a larger grid or smaller groups")
        return tokens


def open_subject(run: RunFolder, device: torch.device) -> Subject:
    """The trained tokenizer of a run.

    Raises:
        InputError: not trained yet, or the tokenizer has no continuous latent.
    """
    tokenizer = run.load_tokenizer(device)
    if not isinstance(tokenizer, LatentTokenizer):
        raise InputError(
            f"the tokenizer of {run.name} has no continuous latents ('latent' and 'grid'), which the study clusters"
        )
    quantizer = run.config.tokenizer.quantizer
    group_size = quantizer.group_size if isinstance(quantizer, GranularityConfig) else 2
    whole = (
        tokenizer if isinstance(tokenizer, ConvTokenizer) and isinstance(tokenizer.quantizer, GranularityQuantizer) else None
    )
    return Subject(
        name=run.name, encode=tokenizer.latent, grid=tokenizer.grid, group_size=group_size, device=device, tokenizer=whole
    )


def held_out(run: RunFolder, context: Context) -> ImageDataset:
    """The images of a probe: held-out ones of the run's own source, or of the source in the context."""
    data = run.config.data
    return open_dataset(
        context.data or data.source, image_size=data.image_size, split="eval", limit=context.images, seed=data.seed
    )


def retrained_tokenizers(
    run: RunFolder, count: int, *, root: Path, device: torch.device, showing: Showing
) -> Iterator[RunFolder]:
    """Train ``count`` more tokenizers configured as ``run``'s, with the seeds after its own, in ``root``/NAME-seedN.

    Finished ones are used as they are, interrupted ones are resumed.

    Raises:
        InputError: a folder of that name holds another run.
        Interrupted: SIGINT or SIGTERM; the same call resumes.
    """
    from nvgbench.training.run import train_run

    config = run.config
    for seed in range(config.train.seed + 1, config.train.seed + 1 + count):
        name = f"{run.name}-seed{seed}"
        other = dataclasses.replace(config, train=dataclasses.replace(config.train, seed=seed))
        with showing(name) as progress:
            yield train_run(other, root / name, device=device, progress=progress, phases=("tokenizer",))
