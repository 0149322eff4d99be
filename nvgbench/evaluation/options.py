"""What an evaluation is asked to do, checked before it begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nvgbench.errors import InputError
from nvgbench.evaluation.scores import FEWEST_IMAGES
from nvgbench.extractors.registry import check_extractor
from nvgbench.results.protocols import OWN, named_protocol
from nvgbench.results.scores import INCEPTION


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """What an evaluation does.

    Attributes:
        n: number of samples.
        seed: of the sampling job and of everything drawn in the scores.
        batch_size: images at once in sampling and extraction.
        protocol: a key of `nvgbench.results.protocols.PROTOCOLS`.
        extractor: a name in `nvgbench.extractors.registry.EXTRACTORS`, or ``module:callable``.
        extractor_weights: file or folder of the extractor's weights; the published ones if not given.
        bootstrap: replicates of the intervals.
        settings: overrides of the model's sampling settings.
        reference: data source or file; the held-out images of the run's own data where not given.
        per_class: also the Fréchet distance of every class.
        nearest_training: also the distance of samples to their nearest training image.
        fid_infinity: also FID∞ above 512 features.
        keep_samples: keep the samples of a run; otherwise they go straight into the features.
        force: score against a reference with other classes all the same; the record says so.
    """

    n: int = 2000
    seed: int = 0
    batch_size: int = 64
    protocol: str = "nvgbench"
    extractor: str = "inception"
    extractor_weights: Path | None = None
    bootstrap: int = 200
    settings: Mapping[str, Any] = field(default_factory=dict)
    reference: str | None = None
    per_class: bool = False
    nearest_training: bool = False
    fid_infinity: bool = False
    keep_samples: bool = True
    force: bool = False

    def __post_init__(self) -> None:
        check_extractor(self.extractor, self.extractor_weights)
        if named_protocol(self.protocol).inception_only and self.extractor != INCEPTION:
            raise InputError(
                f"the protocol {self.protocol} is defined for Inception features, got --extractor {self.extractor}; "
                "leave the extractor out, or use --protocol nvgbench"
            )
        if self.fid_infinity and self.protocol != OWN:
            raise InputError(
                f"--fid-infinity is a score of --protocol {OWN}, got --protocol {self.protocol}; leave one of them out"
            )
        if self.n < FEWEST_IMAGES:
            raise InputError(f"-n {self.n} is too few for nearest neighbours; use at least {FEWEST_IMAGES}, better thousands")
        if self.bootstrap < 2 or self.batch_size < 1:
            raise InputError(f"bootstrap {self.bootstrap} and batch size {self.batch_size}; expected at least 2 and 1")
