"""The training objective of tokenizers: reconstruction, perceptual, quantization, entropy and adversarial terms.

Shape letters: B batch, H and W pixels, V codebook size, N tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvgbench.autoencoder.augment import augment
from nvgbench.autoencoder.discriminator import Adversary, build_adversary
from nvgbench.autoencoder.losses import generator_loss, hinge_loss
from nvgbench.autoencoder.perceptual import load_perceptual
from nvgbench.autoencoder.tokenizer import ConvTokenizer, TokenizerOutput
from nvgbench.config.schema import RunConfig
from nvgbench.errors import InputError
from nvgbench.interfaces import Objective
from nvgbench.types import ImageBatch, TokenSequence

Scalars = Mapping[str, Tensor | float]


class TokenizerObjective(Objective):
    """Trains a tokenizer and, if configured, a discriminator.

    Yields "tokenizer" and, once the adversarial terms have begun, "discriminator". The frozen loss networks (VGG, DINO) are in
    neither ``modules`` nor checkpoints.

    Args:
        config: the run's configuration.
        tokenizer: what is trained.
        total_steps: length of the training, to which ``soft_fraction`` refers.

    Attributes:
        modules: "tokenizer" and, if any, "discriminator".
        notes: the loss networks in use, one line each, for the record.

    Raises:
        InputError: weights of a required loss network are not available, or the quantizer has no entropy term to weight.
    """

    def __init__(self, config: RunConfig, tokenizer: ConvTokenizer, total_steps: int) -> None:
        self._weights = config.tokenizer.losses
        self._tokenizer = tokenizer
        self._soft_steps = self._weights.soft_fraction * total_steps
        self._perceptual, perceptual_note = load_perceptual(self._weights.perceptual)
        self._adversary, self._features, adversarial_note = build_adversary(self._weights.adversarial, config.data.image_size)
        modules: dict[str, nn.Module] = {"tokenizer": tokenizer}
        if self._adversary is not None:
            modules["discriminator"] = self._adversary
        self.modules = modules
        self.notes = (perceptual_note, adversarial_note)

    def losses(self, batch: ImageBatch, rng: torch.Generator, step: int) -> Iterator[tuple[str, Tensor, Scalars]]:
        """See `nvgbench.interfaces.Objective.losses`."""
        images_B3HW = batch.images_B3HW
        output = self._tokenizer(images_B3HW, soft=step < self._soft_steps)
        # As in the reference, saturated pixels get no gradient.
        fake_B3HW = output.reconstruction_B3HW.clamp(-1.0, 1.0)
        terms = self._reconstruction_terms(images_B3HW, fake_B3HW) | self._quantization_terms(output)
        adversary = self._adversary if step >= self._weights.adversarial_start else None
        if adversary is not None:
            with _frozen(adversary):
                logits_BN = adversary(self._discriminator_input(fake_B3HW, rng))
            terms["adversarial"] = self._weights.adversarial_weight, generator_loss(logits_BN)
        total = torch.stack([weight * term for weight, term in terms.values() if weight > 0]).sum()
        logged = {name: term.detach() for name, (_, term) in terms.items()}
        yield "tokenizer", total, logged | codebook_use(output.quantized.tokens, self._tokenizer.codebook_size)
        if adversary is not None:
            yield "discriminator", *self._discriminator_loss(adversary, images_B3HW, fake_B3HW.detach(), rng)

    def _reconstruction_terms(self, real_B3HW: Tensor, fake_B3HW: Tensor) -> dict[str, tuple[float, Tensor]]:
        weights = self._weights
        terms = {"l1": (weights.l1, F.l1_loss(fake_B3HW, real_B3HW)), "l2": (weights.l2, F.mse_loss(fake_B3HW, real_B3HW))}
        if self._perceptual is not None:
            network = self._perceptual.to(real_B3HW.device)
            terms["perceptual"] = weights.perceptual_weight, network(fake_B3HW, real_B3HW).mean()
        return terms

    def _quantization_terms(self, output: TokenizerOutput) -> dict[str, tuple[float, Tensor]]:
        terms = {"codebook": (self._weights.codebook_weight, output.quantized.codebook_loss)}
        if self._weights.entropy_weight > 0:
            if output.quantized.entropy_loss is None:
                raise InputError("this family's quantizer has no entropy term; use `tokenizer.losses.entropy_weight=0`")
            terms["entropy"] = self._weights.entropy_weight, output.quantized.entropy_loss
        return terms

    def _discriminator_loss(
        self, adversary: Adversary, real_B3HW: Tensor, fake_B3HW: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, Scalars]:
        real_BN, fake_BN = adversary(self._discriminator_input(torch.cat((real_B3HW, fake_B3HW)), rng)).chunk(2)
        hinge, lecam = hinge_loss(real_BN, fake_BN), adversary.lecam(real_BN, fake_BN)
        logged = {"hinge": hinge, "lecam": lecam, "real_logit": real_BN.mean(), "fake_logit": fake_BN.mean()}
        return hinge + self._weights.lecam_weight * lecam, {name: value.detach() for name, value in logged.items()}

    def _discriminator_input(self, images_B3HW: Tensor, rng: torch.Generator) -> Tensor | list[Tensor]:
        """The discriminator's input: augmented images, or frozen features of them."""
        return self._features.to(images_B3HW.device)(augment(images_B3HW, rng))


@torch.no_grad()
def codebook_use(tokens: TokenSequence, codebook_size: int) -> dict[str, Tensor]:
    """Codebook use in a batch over all stages: fraction of codes that occur, and perplexity of their frequencies.

    The perplexity is between 1 (a single code) and the codebook size (all codes equally often).
    """
    counts_V = torch.cat([indices_Bn.flatten() for indices_Bn in tokens.indices]).bincount(minlength=codebook_size).float()
    frequencies_V = counts_V / counts_V.sum()
    entropy = -(frequencies_V * frequencies_V.clamp_min(1e-12).log()).sum()
    return {"codes_used": (counts_V > 0).float().mean(), "perplexity": entropy.exp()}


@contextlib.contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Pass gradients through a module without computing those of its parameters."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
