"""The table of scores: names, unit, direction, range, inputs, and the metric that computes each.

Evaluation, comparison, gates, claims and the report read this table; no other file defines a score. No torch.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from nvgbench.errors import InputError, did_you_mean
from nvgbench.results.protocols import OWN, PROTOCOLS
from nvgbench.types import Interval

INCEPTION = "inception"
"""The extractor whose scores go by the papers' names."""

HEADLINE = "FID"
"""The score by which models are ranked."""

Need = Literal["features", "logits", "spatial", "reference", "labels", "training", "reconstructions", "tokens"]
"""What a score is computed from: pooled features, class logits, sFID's spatial features, reference images, labels of the
samples, training images, images and their reconstructions, tokens."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a score is.

    Attributes:
        name: its name with the Inception-v3 of the original papers.
        stem: its name with any other extractor, which follows in brackets: ``FD`` in ``FD[classifier]``.
        metric: the metric that computes it (`nvgbench.metrics.registry`).
        higher_is_better: None if neither direction is better.
        definition: one line with its source.
        needs: what it is computed from.
        takes_moments: whether the moments of the reference's features serve in place of its images.
        choices: settings within the protocol that it depends on (`nvgbench.evaluation.scores.ScoreSettings`).
        unit: empty for plain numbers.
        lowest, highest: its range; intervals are clipped to it.
        extractor: the only extractor it is defined for, if there is one; its name then has no brackets.
        version: of nvgbench's own rules for this score, raised whenever the same images would get another score.
    """

    name: str
    metric: str
    higher_is_better: bool | None
    definition: str
    stem: str = ""
    needs: frozenset[Need] = frozenset({"features", "reference"})
    takes_moments: bool = False
    choices: tuple[str, ...] = ()
    unit: str = ""
    lowest: float = 0.0
    highest: float = math.inf
    extractor: str | None = None
    version: int = PROTOCOLS[OWN].version

    @property
    def of_reconstructions(self) -> bool:
        """Whether it judges a tokenizer's reconstructions rather than generated images."""
        return bool(self.needs & {"reconstructions", "tokens"})

    @property
    def needs_reference(self) -> bool:
        """Whether it compares generated images with reference images."""
        return "reference" in self.needs

    @property
    def uses_extractor(self) -> bool:
        """Whether it depends on the feature extractor."""
        return bool(self.needs & {"features", "logits", "spatial"})

    @property
    def tag(self) -> str:
        """Protocol and version recorded with values computed by nvgbench's own rules."""
        return f"{OWN}/{self.version}"

    def called(self, extractor: str | None) -> str:
        """The recorded name: ``FID`` with Inception, ``FD[classifier]`` with another extractor, ``PSNR`` without any."""
        if extractor in (None, INCEPTION) or self.extractor is not None or not self.uses_extractor:
            return self.name
        return f"{self.stem or self.name}[{extractor}]"

    def clip(self, interval: Interval) -> Interval:
        """The part of an interval within the score's range."""
        return dataclasses.replace(interval, low=max(interval.low, self.lowest), high=min(interval.high, self.highest))


_LOGITS: frozenset[Need] = frozenset({"logits"})
_PAIRS: frozenset[Need] = frozenset({"reconstructions"})

SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score(
            name="FID",
            stem="FD",
            metric="frechet",
            higher_is_better=False,
            definition="squared Fréchet distance of Gaussians fitted to the features, ddof 1 (Heusel et al. 2017)",
            takes_moments=True,
        ),
        Score(
            name="FDr",
            metric="frechet-ratio",
            higher_is_better=False,
            definition="FD of samples / FD of as many real images, mean over extractors; real images: 1 (arXiv 2604.28190)",
        ),
        Score(
            name="FID∞",
            stem="FD∞",
            metric="frechet-extrapolated",
            higher_is_better=False,
            definition="FID at infinitely many samples: line over 1 / N through 1 to 4 equal parts (Chong and Forsyth 2020)",
            takes_moments=True,
            lowest=-math.inf,
        ),
        Score(
            name="sFID",
            stem="sFD",
            metric="adm",
            higher_is_better=False,
            definition="FID of 7 channels of Mixed_6d.branch1x1 at every position (Nash et al. 2021)",
            needs=frozenset({"spatial", "reference"}),
        ),
        Score(
            name="IS",
            metric="inception-score",
            higher_is_better=True,
            definition="exp of the mean KL of posteriors to their marginal, mean over splits (Salimans et al. 2016); "
            "ten shuffled splits, under the adm protocol splits of 5,000 in the order given",
            needs=_LOGITS,
            choices=("is_splits",),
        ),
        Score(
            name="IS-ordered",
            metric="inception-score",
            higher_is_better=True,
            definition="IS, splits of 5,000 in the order given (guided-diffusion's evaluator)",
            needs=_LOGITS,
        ),
        Score(
            name="IS-shuffled",
            metric="adm",
            higher_is_better=True,
            definition="IS as the adm protocol splits it, after a shuffle with the seed",
            needs=_LOGITS,
        ),
        Score(
            name="precision",
            metric="neighbours",
            higher_is_better=True,
            definition="share of samples in the reference's balls, k = 3 (Kynkäänniemi et al. 2019)",
            highest=1,
        ),
        Score(
            name="recall",
            metric="neighbours",
            higher_is_better=True,
            definition="share of reference images in the samples' balls, k = 3 (Kynkäänniemi et al. 2019)",
            highest=1,
        ),
        Score(
            name="density",
            metric="neighbours",
            higher_is_better=True,
            definition="reference balls around a sample, divided by k = 5 (Naeem et al. 2020)",
        ),
        Score(
            name="coverage",
            metric="neighbours",
            higher_is_better=True,
            definition="share of reference balls with a sample inside, k = 5 (Naeem et al. 2020)",
            highest=1,
        ),
        Score(
            name="clipped-density",
            metric="neighbours",
            higher_is_better=True,
            definition="equivalent share of realistic samples: density with radii clipped to their median and terms to 1, over "
            "that of the reference, k = 5 (Salvy et al. 2025)",
            highest=1,
        ),
        Score(
            name="clipped-coverage",
            metric="neighbours",
            higher_is_better=True,
            definition="equivalent share of samples that cover: samples per reference ball over k = 5, clipped to 1 and "
            "calibrated (Salvy et al. 2025)",
            highest=1,
        ),
        Score(
            name="KID",
            stem="KD",
            metric="kernel",
            higher_is_better=False,
            definition="unbiased squared MMD, kernel (x·y/D + 1)³, 100 subsets of 1,000 (Bińkowski et al. 2018)",
            choices=("kid_subsets", "kid_subset_size"),
            lowest=-math.inf,
        ),
        Score(
            name="KID-RBF",
            stem="KD-RBF",
            metric="rbf-kernel",
            higher_is_better=False,
            definition="unbiased squared MMD, Gaussian kernel, bandwidth from the reference's variance (Gretton et al. 2012)",
            lowest=-math.inf,
        ),
        Score(
            name="MIND",
            metric="mind",
            higher_is_better=False,
            definition="3 D x squared sliced Wasserstein distance, at least 1,000 directions (Berthet et al. 2026)",
        ),
        Score(
            name="CMMD",
            metric="cmmd",
            higher_is_better=False,
            definition="1,000 x squared MMD of CLIP embeddings, Gaussian kernel, sigma 10 (Jayasumana et al. 2024)",
            extractor="clip",
        ),
        Score(
            name="Vendi",
            metric="vendi",
            higher_is_better=None,
            definition="effective number of different samples: exp of the entropy of the eigenvalues of their cosine "
            "similarities (Friedman and Dieng 2023); read beside that of real images",
            needs=frozenset({"features"}),
            lowest=1,
        ),
        Score(
            name="accuracy",
            metric="accuracy",
            higher_is_better=True,
            definition="share of samples that the classifier assigns to the requested class",
            needs=frozenset({"logits", "labels"}),
            highest=1,
        ),
        Score(
            name="nearest-training-ratio",
            metric="nearest-training",
            higher_is_better=None,
            definition="median distance of samples to the nearest training image over that of held-out images; well below 1: "
            "memorised",
            needs=frozenset({"features", "reference", "training"}),
        ),
        Score(
            name="novelty",
            metric="nearest-training",
            higher_is_better=None,
            definition="diagnostic: share of pairs in which the sample is further from the training images than the held-out "
            "image is; 0.5 for new images, 0 for copies (Meehan et al. 2020)",
            needs=frozenset({"features", "reference", "training"}),
            highest=1,
        ),
        Score(
            name="FLD",
            metric="feature-likelihood",
            higher_is_better=False,
            definition="diagnostic: how much less likely held-out images are under Gaussians around the samples than around "
            "training images; 0 for new images (Jiralerspong et al. 2023)",
            needs=frozenset({"features", "reference", "training"}),
            lowest=-math.inf,
        ),
        Score(
            name="FLD-gap",
            metric="feature-likelihood",
            higher_is_better=None,
            definition="diagnostic: FLD of training images minus FLD of held-out images; far below that of real images: some "
            "samples are copies (Jiralerspong et al. 2023)",
            needs=frozenset({"features", "reference", "training"}),
            lowest=-math.inf,
        ),
        Score(
            name="rFID",
            stem="rFD",
            metric="frechet",
            higher_is_better=False,
            definition="FID between held-out images and their reconstructions",
            needs=frozenset({"features", "reconstructions"}),
        ),
        Score(
            name="PSNR",
            metric="reconstruction",
            higher_is_better=True,
            definition="peak signal-to-noise ratio per reconstruction, mean; exact copies count 100 dB",
            needs=_PAIRS,
            unit="dB",
        ),
        Score(
            name="SSIM",
            metric="reconstruction",
            higher_is_better=True,
            definition="structural similarity, Gaussian window 11, sigma 1.5 (Wang et al. 2004)",
            needs=_PAIRS,
            lowest=-1,
            highest=1,
        ),
        Score(
            name="LPIPS",
            metric="reconstruction",
            higher_is_better=False,
            definition="learned perceptual distance, VGG (Zhang et al. 2018)",
            needs=_PAIRS,
        ),
        Score(
            name="codebook-use",
            metric="codebook",
            higher_is_better=None,
            definition="share of the codebook used over all stages",
            needs=frozenset({"tokens"}),
            highest=1,
        ),
        Score(
            name="codebook-perplexity",
            metric="codebook",
            higher_is_better=None,
            definition="exp of the entropy of the codes over all stages",
            needs=frozenset({"tokens"}),
        ),
    )
}


def register_scores(*scores: Score) -> None:
    """Add the scores of a metric from elsewhere to the table; the same score may be added again.

    Raises:
        InputError: the table has another score of that name.
    """
    for score in scores:
        if SCORES.setdefault(score.name, score) != score:
            raise InputError(f"there is a score {score.name!r} already; give yours another name")


def named_score(name: str) -> Score:
    """The score with this key of the table.

    Raises:
        InputError: there is none.
    """
    if name not in SCORES:
        raise InputError(f"no score {name!r}{did_you_mean(name, SCORES)}; known: {', '.join(SCORES)}")
    return SCORES[name]


def score_name(score: str, extractor: str | None) -> str:
    """The name under which a score is recorded, see `Score.called`.

    Raises:
        InputError: no such score.
    """
    return named_score(score).called(extractor)


def score_rank(recorded: str) -> int:
    """Place of a recorded score in the table, which is its place in every list of scores; unknown names come last."""
    score = score_of(recorded)
    return len(SCORES) if score is None else list(SCORES).index(score.name)


def scores_with_choice(choice: str) -> list[str]:
    """Names of the scores that depend on a setting within the protocol; none for settings that concern all scores."""
    return [score.name for score in SCORES.values() if choice in score.choices]


def stem_of(recorded: str) -> str:
    """A recorded name without its extractor: ``FD`` of ``FD[classifier]``."""
    return recorded.partition("[")[0]


def score_of(recorded: str) -> Score | None:
    """The score behind a recorded name, with any extractor; None for names that are not in the table."""
    stem = stem_of(recorded)
    return next((score for score in SCORES.values() if stem in (score.name, score.stem)), None)
