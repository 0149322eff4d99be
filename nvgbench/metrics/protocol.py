"""Names of the scores and the rules behind them. A number is compared only with numbers of the same name and protocol."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nvgbench.errors import InputError, did_you_mean


@dataclass(frozen=True)
class Protocol:
    """Rules by which images become numbers.

    Attributes:
        id: its name.
        version: raised whenever the same images would get another number.
        summary: one line.
        library: the package that computes the numbers; empty where it is this one.
        inception_only: whether it is defined for the Inception network alone.
    """

    id: str
    version: int
    summary: str
    library: str = ""
    inception_only: bool = True

    @property
    def tag(self) -> str:
        """Id and version, as they stand on every number."""
        return f"{self.id}/{self.version}"


PROTOCOLS: dict[str, Protocol] = {
    protocol.id: protocol
    for protocol in (
        Protocol("nvgbench", 2, "moments and distances in float64, exact; any extractor", inception_only=False),
        Protocol("adm", 1, "OpenAI's guided-diffusion evaluator: stored moments, float32 means, float16 distances"),
        Protocol("torch-fidelity", 1, "torch-fidelity's own metrics at its defaults", "torch-fidelity"),
        Protocol("clean-fid", 1, "clean-fid's own FID and KID, mode clean (PIL bicubic)", "clean-fid"),
        Protocol("clean-fid:legacy_pytorch", 1, "clean-fid, mode legacy_pytorch (no antialiasing)", "clean-fid"),
        Protocol("clean-fid:legacy_tensorflow", 1, "clean-fid, mode legacy_tensorflow (TF1 resize)", "clean-fid"),
    )
}
PROTOCOL = PROTOCOLS["nvgbench"].tag
INCEPTION = "inception"
"""Name of the extractor whose scores go by their bare names."""


@dataclass(frozen=True)
class Score:
    """A score's definition.

    Attributes:
        name: the name with the Inception-v3 of the original papers.
        other: its stem with any other extractor, which follows in brackets.
        higher_is_better: ``None`` where neither direction is better.
        definition: one line with its source.
        unit: empty where the number has none.
        lowest, highest: between which it lies; intervals are cut there.
    """

    name: str
    other: str
    higher_is_better: bool | None
    definition: str
    unit: str = ""
    lowest: float = 0.0
    highest: float = math.inf


SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score("FID", "FD", False, "squared Fréchet distance of Gaussians fitted to the features, ddof 1 (Heusel et al. 2017)"),
        Score(
            "FID∞",
            "FD∞",
            False,
            "FID at infinitely many samples: line over 1 / N through 1 to 4 equal parts (Chong and Forsyth 2020)",
            lowest=-math.inf,
        ),
        Score("sFID", "sFD", False, "FID of 7 channels of Mixed_6d.branch1x1 at every place (Nash et al. 2021)"),
        Score(
            "CMMD", "CMMD", False, "1,000 x squared MMD of CLIP embeddings, Gaussian kernel, sigma 10 (Jayasumana et al. 2024)"
        ),
        Score("rFID", "rFD", False, "the same between held-out images and their reconstructions"),
        Score(
            "KID",
            "KD",
            False,
            "unbiased squared MMD, kernel (x·y/D + 1)³, 100 subsets of 1,000 (Bińkowski et al. 2018)",
            lowest=-math.inf,
        ),
        Score(
            "IS",
            "IS",
            True,
            "exp of the mean KL of posteriors to their marginal, mean over splits (Salimans et al. 2016); ten shuffled splits, "
            "under the adm protocol splits of 5,000 in the order given",
        ),
        Score("IS-shuffled", "IS-shuffled", True, "IS as the adm protocol splits it, after a shuffle with the seed"),
        Score(
            "IS-ordered",
            "IS-ordered",
            True,
            "IS, splits of 5,000 in the order given (guided-diffusion's evaluator)",
        ),
        Score(
            "precision",
            "precision",
            True,
            "share of samples in the reference's balls, k = 3 (Kynkäänniemi et al. 2019)",
            highest=1,
        ),
        Score(
            "recall",
            "recall",
            True,
            "share of reference images in the samples' balls, k = 3 (Kynkäänniemi et al. 2019)",
            highest=1,
        ),
        Score("density", "density", True, "reference balls around a sample, divided by k = 5 (Naeem et al. 2020)"),
        Score(
            "coverage", "coverage", True, "share of reference balls with a sample inside, k = 5 (Naeem et al. 2020)", highest=1
        ),
        Score(
            "accuracy", "accuracy", True, "share of samples that the classifier gives the class that was asked for", highest=1
        ),
        Score(
            "nearest-training-ratio",
            "nearest-training-ratio",
            None,
            "median distance of samples to the nearest training image over that of held-out images; well below 1: memorised",
        ),
        Score("PSNR", "PSNR", True, "peak signal-to-noise ratio a reconstruction, mean; exact copies count 100 dB", "dB"),
        Score(
            "SSIM",
            "SSIM",
            True,
            "structural similarity, Gaussian window 11, sigma 1.5 (Wang et al. 2004)",
            lowest=-1,
            highest=1,
        ),
        Score("LPIPS", "LPIPS", False, "learned perceptual distance, VGG (Zhang et al. 2018)"),
        Score("codebook-use", "codebook-use", None, "share of the codebook used over all stages", highest=1),
        Score("codebook-perplexity", "codebook-perplexity", None, "exp of the entropy of the codes over all stages"),
    )
}


_OWN_EXTRACTOR = {"CMMD": "clip"}
"""Scores that are defined for one extractor and carry it in their name already."""


def named_protocol(id: str) -> Protocol:
    """The protocol of that id.

    Raises:
        InputError: there is none.
    """
    if id not in PROTOCOLS:
        raise InputError(f"no protocol {id!r}{did_you_mean(id, PROTOCOLS)}; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[id]


def score_name(score: str, extractor: str | None) -> str:
    """The name under which a score is recorded: ``FID`` with Inception, ``FD[classifier]`` with another extractor.

    Args:
        score: a key of `SCORES`.
        extractor: the extractor's name; ``None`` for scores that need no features.

    Raises:
        InputError: no such score.
    """
    if score not in SCORES:
        raise InputError(f"no score {score!r}{did_you_mean(score, SCORES)}; known: {', '.join(SCORES)}")
    if extractor is None or extractor == INCEPTION or score in _OWN_EXTRACTOR:
        return SCORES[score].name
    return f"{SCORES[score].other}[{extractor}]"
