"""The configuration of a run: frozen keyword-only dataclasses, checked by pydantic when they are loaded.

The sections that depend on the model family (``tokenizer.quantizer``, ``model``, ``sampling``) hold the family's own
dataclasses; see `nvgbench.interfaces.ModelFamily`. Importing this file does not import torch.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(extra="forbid", validate_default=True)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DataConfig:
    """Where the images come from and how they are cut to size."""

    source: str
    """``shapes``, ``cifar10[:PATH]``, ``cifar100[:PATH]``, ``imagefolder:PATH``, ``npz:PATH`` or ``imagenet:PATH``."""
    image_size: int = Field(ge=16, le=1024)
    """Side of the square images, pixels."""
    augment: Literal["none", "random-crop"] = "none"
    """``random-crop``: shorter side to 1.125 times the image size, then a random square (the recipe of both papers)."""
    train_images: int | None = Field(default=None, ge=1)
    """Use only the first so many training images; for ``shapes``, how many to draw (8,192 where not given)."""
    eval_images: int | None = Field(default=None, ge=1)
    """The same for the held-out images."""
    seed: int = 0
    """Seed of procedural data."""
    workers: int = Field(default=0, ge=0)
    """Loader processes; 0 loads in the training process."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TokenizerLossConfig:
    """Weights of the autoencoder's loss terms."""

    l1: float = Field(default=1.0, ge=0)
    l2: float = Field(default=0.0, ge=0)
    perceptual: Literal["lpips", "auto", "none"] = "none"
    """``lpips`` demands VGG weights; ``auto`` uses LPIPS where they can be had and says so where not."""
    perceptual_weight: float = Field(default=1.0, ge=0)
    adversarial: Literal["dino", "patch", "auto", "none"] = "none"
    """Discriminator on frozen DINO features, a small PatchGAN, ``auto``: DINO where its weights can be had, else PatchGAN."""
    adversarial_weight: float = Field(default=0.1, ge=0)
    adversarial_start: int = Field(default=0, ge=0)
    """Step at which the adversarial terms begin."""
    lecam_weight: float = Field(default=0.001, ge=0)
    codebook_weight: float = Field(default=1.0, ge=0)
    """Weight of the whole quantization loss."""
    commitment: float = Field(default=0.25, ge=0)
    """Share of the encoder's term in the quantization loss (the codebook's term counts 1)."""
    entropy_weight: float = Field(default=0.0, ge=0)
    """Open-MAGVIT2's entropy term, which the paper names and the reference code leaves out."""
    soft_fraction: float = Field(default=0.01, ge=0, le=1)
    """First part of training with index back-propagation (a straight-through softmax over the whole codebook)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TokenizerConfig:
    """The convolutional autoencoder and its quantizer."""

    base_channels: int = Field(default=128, ge=8)
    channel_multipliers: tuple[int, ...] = (1, 2, 4, 4, 4)
    """One a resolution; the grid is the image size divided by 2^(len - 1)."""
    encoder_blocks: int = Field(default=2, ge=1)
    decoder_blocks: int = Field(default=3, ge=1)
    norm_groups: int = Field(default=32, ge=1)
    """Groups of every GroupNorm (or the largest divisor of its channels below that). Both published tokenizers have 32;
    with few channels fewer groups are better: a group of one channel forgets its mean, and with it an image's colour."""
    attention: bool = False
    """Self-attention at the lowest resolution (VAR's tokenizer has it, NVG's has not)."""
    quant_convs: bool = False
    """3x3 convolutions before and after the quantizer (VAR's tokenizer has them)."""
    latent_channels: int = Field(default=32, ge=1)
    codebook_size: int = Field(default=4096, ge=2)
    codebook_std: float | None = Field(default=None, gt=0)
    """The codebook starts as N(0, std²); where not given as U(-1/V, 1/V), as in both references. That is far below the
    encoder's latents, so in a short training (hundreds of steps) a start at their scale, 0.1, reconstructs much better."""
    quantizer: Any = None
    losses: TokenizerLossConfig = Field(default_factory=TokenizerLossConfig)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PhaseConfig:
    """How long and with what one phase is trained. Exactly one of ``steps`` and ``epochs`` is set."""

    steps: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0)
    batch_size: int = Field(ge=1)
    """Images a step, over all processes."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Images a backward pass on one process; gradients are accumulated up to the batch size."""
    learning_rate: float = Field(gt=0)
    """Peak learning rate at this batch size."""
    schedule: Literal["wsd", "cosine", "linear", "bent", "exponential", "constant"] = "wsd"
    """See `nvgbench.training.schedule.learning_rate`."""
    warmup_steps: int = Field(default=0, ge=0)
    warmup_start: float = Field(default=0.005, ge=0, le=1)
    """Fraction of the peak at step 0."""
    decay_start: float = Field(default=0.8, ge=0, le=1)
    """wsd: fraction of the training after which the rate falls; linear, bent, exponential: of what follows the warm-up."""
    final_fraction: float = Field(default=0.1, ge=0, le=1)
    """Fraction of the peak at the last step."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Applied to tensors of two or more dimensions, but for those that the model exempts."""
    final_weight_decay: float | None = Field(default=None, ge=0)
    """Where given, the weight decay moves to this along half a cosine over the whole training."""
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = Field(default=1.0, gt=0)
    ema_decay: float = Field(default=0.9999, ge=0, lt=1)
    """The average warms up as min(decay, (1 + step) / (10 + step)); 0 switches it off."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainConfig:
    """The training of both phases."""

    tokenizer: PhaseConfig
    generator: PhaseConfig
    steps: int | None = Field(default=None, ge=1)
    """Train every phase for so many steps, whatever it says itself (short trials)."""
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 autocast on CUDA devices that have it, float32 elsewhere."""
    cpu_batch_size: int | None = Field(default=None, ge=1)
    """On a CPU, a larger batch is cut to this, with a warning; presets meant for GPUs set it so that they can be tried."""
    cache_tokens: bool = False
    """Tokenize the whole data set once before the generator is trained (needs ``data.augment = "none"``)."""
    log_every: int = Field(default=50, ge=1)
    checkpoint_every: int = Field(default=5000, ge=1)
    """Steps between checkpoints; one is also written on interruption and at the end of a phase."""
    tensorboard: bool = False
    compile: bool = False
    """torch.compile the generator."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RunConfig:
    """Everything that determines a run."""

    name: str
    """The preset's name."""
    family: str
    description: str = ""
    data: DataConfig
    tokenizer: TokenizerConfig
    model: Any = None
    sampling: Any = None
    train: TrainConfig

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the latent grid."""
        side = self.data.image_size // 2 ** (len(self.tokenizer.channel_multipliers) - 1)
        return side, side
