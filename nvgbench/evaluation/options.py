"""Options of an evaluation, checked before it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nvgbench.errors import InputError
from nvgbench.evaluation.scores import ScoreSettings
from nvgbench.extractors.registry import check_extractor
from nvgbench.extractors.sets import set_members
from nvgbench.results.protocols import OWN, named_protocol
from nvgbench.results.scores import INCEPTION
from nvgbench.runs.folder import Weights


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Options of an evaluation.

    Attributes:
        n: number of samples.
        seed: of the samples and of all random draws in the scores.
        batch_size: images per batch in sampling and extraction.
        protocol: a key of `nvgbench.results.protocols.PROTOCOLS`.
        extractor: name of a feature extractor, or ``module:callable``; see `nvgbench.extractors.registry`.
        extractors: a set of extractors instead, by name (``offline``, ``fdr6``) or separated by commas: one reading of the
            images, a record per extractor, and FDr of the set (`nvgbench.evaluation.ratio`).
        real: file or folder of real images for FDr; training images of the data source if None.
        extractor_weights: file or folder of the extractor's weights; the published ones if None.
        metrics: names of the scores or metrics to compute; all if None.
        settings: overrides of the model's sampling settings.
        reference: data source or file; the held-out images of the run's own data if None.
        weights: the moving average of the generator's weights, if any (``averaged``), or the weights themselves (``plain``).
        step: of the generator's checkpoint; the last one if None.
        data: where the run's own data are now, if they were moved.
        per_class: also the Fréchet distance of every class.
        nearest_training: also the distance of each sample to its nearest training image.
        fid_infinity: also FID∞ above 512 features.
        key: name of the images in an npz of third-party samples; ``arr_0`` if None.
        resize, crop: how third-party samples and a reference of files are brought to one size, see `nvgbench.data.crop.Fit`.
        kid_subsets, kid_subset_size: number and size of the subsets of the kernel distance.
        is_splits: splits of the Inception Score.
        keep_samples: keep the samples of a run on disk; otherwise they are removed once scored.
        force: score although the images or classes are not those of the run; the record says so.
    """

    n: int = 2000
    seed: int = 0
    batch_size: int = 64
    protocol: str = OWN
    extractor: str = INCEPTION
    extractors: str | None = None
    real: str | None = None
    metrics: Sequence[str] | None = None
    extractor_weights: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    reference: str | None = None
    weights: Weights = "averaged"
    step: int | None = None
    data: str | None = None
    per_class: bool = False
    nearest_training: bool = False
    fid_infinity: bool = False
    key: str | None = None
    resize: int | None = None
    crop: str | None = None
    kid_subsets: int = 100
    kid_subset_size: int = 1000
    is_splits: int = 10
    keep_samples: bool = True
    force: bool = False

    def __post_init__(self) -> None:
        for name in self.extractor_names:
            check_extractor(name, self.extractor_weights)
        if self.extractors is not None and (self.protocol != OWN or self.extractor_weights is not None):
            raise InputError(
                f"`extractors={self.extractors!r}` goes with `protocol={OWN!r}` and the published weights; for another "
                "protocol, or weights of your own, use `extractor=`"
            )
        if self.real is not None and self.extractors is None:
            raise InputError(
                f"`real={self.real}` serves FDr, the score of a set of extractors; add `extractors=`, or leave it out"
            )
        if named_protocol(self.protocol).inception_only and self.extractor != INCEPTION:
            raise InputError(
                f"the protocol {self.protocol} is defined for Inception features, got `extractor={self.extractor!r}`; "
                "leave the extractor out, or use `protocol='nvgbench'`"
            )
        if self.fid_infinity and self.protocol != OWN:
            raise InputError(
                f"`fid_infinity=True` goes with `protocol={OWN!r}`, got `protocol={self.protocol!r}`; leave one of them out"
            )
        settings = self.score_settings("cpu")
        if settings.choices and self.protocol != OWN:
            name, value = next(iter(settings.choices.items()))
            raise InputError(f"`{name}={value}` goes with `protocol={OWN!r}`; {self.protocol} has its own, so leave it out")
        if self.kid_subsets < 1 or self.kid_subset_size < 2 or self.is_splits < 1:
            raise InputError(
                f"`kid_subsets={self.kid_subsets}`, `kid_subset_size={self.kid_subset_size}` and `is_splits={self.is_splits}`: "
                "expected at least 1, 2 and 1"
            )
        fewest = settings.fewest_images
        if self.n < fewest:
            raise InputError(f"`n={self.n}` is too few for these scores; use at least {fewest}, better thousands")
        if self.batch_size < 1:
            raise InputError(f"`batch_size={self.batch_size}`: expected at least 1")

    @property
    def extractor_names(self) -> tuple[str, ...]:
        """The extractor, or those of the set."""
        return (self.extractor,) if self.extractors is None else set_members(self.extractors)

    def score_settings(self, device: torch.device | str) -> ScoreSettings:
        """The part that concerns the computation of scores."""
        return ScoreSettings(
            metrics=self.metrics,
            seed=self.seed,
            per_class=self.per_class,
            thorough=self.fid_infinity,
            protocol=self.protocol,
            kid_subsets=self.kid_subsets,
            kid_subset_size=self.kid_subset_size,
            is_splits=self.is_splits,
            device=device,
        )
