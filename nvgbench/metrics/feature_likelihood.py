"""Feature likelihood divergence, a diagnostic of memorisation (Jiralerspong et al. 2023, arXiv 2302.04440).

The samples are turned into a density: the mean of isotropic Gaussians around them, p(x) = 1/N sum_j N(x; x_j, s_j I), whose
variances s maximise the likelihood of the training images, sum_i log(p(x_i) + b(x_i)). The base likelihood b bounds what a
training image far from all samples can do to them. Around a copy of a training image the variance shrinks to nothing.

FLD = -100 / D · (mean over held-out images of log p - the same of a density around half of the training images, fitted to the
other half): about 0 for new images of the distribution, somewhat less if there are more samples than half of the training
images, and larger for worse samples and for copies alone.
FLD-gap = 100 / D · (mean log p of held-out images - mean log p of training images): slightly below 0 for new images, as the
variances are fitted to the training images, and far below for copies, be they few.

Features are standardised by the held-out images. Deviations from the authors' program: variances by expectation maximisation to
convergence instead of 50 gradient steps, b a Gaussian around the mean of the training images with a fitted variance, variances
at least `FLOOR`. Published numbers are therefore not comparable with these.
Shape letters: N samples, M images, D features, n a part of the samples, m a part or block of images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nvgbench.metrics.arrays import as_features
from nvgbench.metrics.metric import MetricInputs
from nvgbench.metrics.uncertainty import Contributions, leave_one_out
from nvgbench.results.scores import SCORES

FLOOR = 1e-6
"""Least variance of a Gaussian, in variances of a feature: exact copies would have none."""
PART = 10_000
"""Of larger sets a random part of this size is used, of samples as in the authors' program. So many of both take 20 seconds."""
_FEWEST_TRAINING = 4
_CONVERGED = 1e-5
"""Least gain of the mean log-likelihood per feature for another step: a thousandth of the score."""
_STEPS = 50
_BLOCK = 64
"""Images at once: their distances to 10,000 samples stay in the processor's cache, which takes two thirds of the time."""
METHOD = "jackknife over generated images, variances as fitted to all"


class FeatureLikelihoodMetric:
    """FLD and FLD-gap; needs training images."""

    scores = (SCORES["FLD"], SCORES["FLD-gap"])
    fewest_images = 2

    def compute(self, inputs: MetricInputs) -> Mapping[str, Contributions]:
        training = inputs.training
        if training is None or len(training) < _FEWEST_TRAINING:
            return {}
        sets = (inputs.generated.features_ND, training.features_ND, inputs.reference.features_ND)
        divergence, gap = feature_likelihood(*sets, seed=inputs.seed, device=inputs.device)
        return {"FLD": divergence, "FLD-gap": gap}


def feature_likelihood(
    generated: Any, training: Any, held_out: Any, *, seed: int = 0, device: torch.device | str = "cpu"
) -> tuple[Contributions, Contributions]:
    """FLD and FLD-gap, with what each generated image contributes while the fitted variances stay.

    Args:
        generated: features ``[N, D]``, at least two rows.
        training: features of training images, at least four rows.
        held_out: features of images that the model was not trained on.
        seed: of the halves of the training images, and of the parts of large sets.
        device: where likelihoods are computed.

    Raises:
        InputError: not matrices, too few rows, different widths, NaN or infinity.
    """
    first = as_features(generated, "generated features", rows=2)
    width = first.shape[1]
    second = as_features(training, "training features", rows=_FEWEST_TRAINING, columns=width)
    third = as_features(held_out, "reference features", columns=width)
    mean, spread = third.mean(axis=0, dtype=np.float64), third.std(axis=0, dtype=np.float64)
    spread[spread == 0] = 1.0
    rng = np.random.default_rng(seed)
    chosen_n, order_m = (rng.permutation(len(part))[:PART] for part in (first, second))
    parts = (first[chosen_n], second[order_m], third)
    samples, seen, real = (torch.from_numpy((part - mean) / spread).to(device) for part in parts)
    scale = 100 / width
    size = min(len(samples), len(seen) // 2)
    usual = float(_fit(seen[:size], seen[size:]).likelihoods(real)[0])
    density = _fit(samples, seen)
    of_real, of_seen = density.likelihoods(real), density.likelihoods(seen)
    note = f"{len(seen)} of {len(second)} training images" if len(seen) < len(second) else f"{len(second)} training images"

    def score(value: float, without_n: Tensor) -> Contributions:
        parts_N = np.zeros(len(first))
        parts_N[chosen_n] = leave_one_out(scale * without_n.cpu().numpy())
        return Contributions(value=scale * value, parts=parts_N, method=METHOD, note=note)

    divergence = score(usual - float(of_real[0]), -of_real[1])
    return divergence, score(float(of_real[0] - of_seen[0]), of_real[1] - of_seen[1])


@dataclass(frozen=True)
class Density:
    """Equally weighted isotropic Gaussians.

    Attributes:
        centres_ND: float64.
        variances_N: float64.
    """

    centres_ND: Tensor
    variances_N: Tensor

    def likelihoods(self, images_MD: Tensor) -> tuple[Tensor, Tensor]:
        """Mean log-density of images, and the same without each Gaussian ``[N]``."""
        n = len(self.centres_ND)
        total = self.centres_ND.new_zeros(())
        changes_N = torch.zeros_like(self.variances_N)
        for _, terms_mN in self.terms(images_MD):
            whole_m = terms_mN.logsumexp(dim=1)
            # 1 - share loses all digits where one Gaussian is the whole density, so that one is taken from the others' sum.
            nearest_m1 = terms_mN.argmax(dim=1, keepdim=True)
            rest_m1 = terms_mN.scatter(1, nearest_m1, -math.inf).logsumexp(dim=1, keepdim=True) - whole_m[:, None]
            left_mN = terms_mN.sub_(whole_m[:, None]).exp_().clamp_(max=0.5).neg_().log1p_()
            changes_N += left_mN.scatter_(1, nearest_m1, rest_m1).sum(dim=0)
            total += whole_m.sum()
        mean = total / len(images_MD)
        return mean, mean + changes_N / len(images_MD) + math.log(n / (n - 1))

    def terms(self, images_MD: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """By block of images: squared distances to the centres, and log(N(x; x_j, s_j I) / N), both ``[m, N]``."""
        n, width = self.centres_ND.shape
        square_N = self.centres_ND.square().sum(dim=1)
        height_N = -width / 2 * torch.log(2 * math.pi * self.variances_N) - math.log(n)
        for block_mD in images_MD.split(_BLOCK):
            squares_mN = block_mD.square().sum(dim=1)[:, None] + square_N
            squares_mN.addmm_(block_mD, self.centres_ND.T, alpha=-2).clamp_(min=0)
            yield squares_mN, (squares_mN / (-2 * self.variances_N)).add_(height_N)


def _fit(centres_ND: Tensor, images_MD: Tensor) -> Density:
    """The variances that maximise the likelihood of images, by expectation maximisation from each centre's nearest image."""
    m, width = images_MD.shape
    density = Density(centres_ND, torch.ones(len(centres_ND), dtype=centres_ND.dtype, device=centres_ND.device))
    nearest = torch.stack([squares.amin(dim=0) for squares, _ in density.terms(images_MD)]).amin(dim=0)
    density = Density(centres_ND, (nearest / width).clamp(min=FLOOR))
    base_M = (images_MD - images_MD.mean(dim=0)).square().sum(dim=1)
    spread = base_M.mean() / width
    before = -math.inf
    for _ in range(_STEPS):
        weight_N, moment_N = torch.zeros_like(density.variances_N), torch.zeros_like(density.variances_N)
        base_weight, base_moment, found = (centres_ND.new_zeros(()) for _ in range(3))
        spread = spread.clamp(min=FLOOR)
        for base_m, (squares_mN, terms_mN) in zip(base_M.split(_BLOCK), density.terms(images_MD), strict=True):
            base_term_m = -base_m / (2 * spread) - width / 2 * torch.log(2 * math.pi * spread)
            peak_m = torch.maximum(terms_mN.amax(dim=1), base_term_m)
            ratios_mN, base_ratio_m = terms_mN.sub_(peak_m[:, None]).exp_(), (base_term_m - peak_m).exp()
            whole_m = ratios_mN.sum(dim=1) + base_ratio_m
            weight_N += (1 / whole_m) @ ratios_mN
            moment_N += (1 / whole_m) @ ratios_mN.mul_(squares_mN)
            base_weight += (base_ratio_m / whole_m).sum()
            base_moment += (base_ratio_m / whole_m) @ base_m
            found += (peak_m + whole_m.log()).sum()
        # Gaussians that no image belongs to stay as they are.
        variances_N = torch.where(weight_N > 0, moment_N / (width * weight_N), density.variances_N)
        density = Density(centres_ND, variances_N.clamp(min=FLOOR))
        spread = torch.where(base_weight > 0, base_moment / (width * base_weight), spread)
        gain, before = float(found) / (m * width) - before, float(found) / (m * width)
        if gain < _CONVERGED:
            break
    return density
