"""clean-fid's FID and KID, computed by the library's own functions in one of its three modes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from nvgbench.evaluation.reference import Reference
from nvgbench.evaluation.rules.base import moved
from nvgbench.extractors.clean_fid import CleanFidExtractor, replaced
from nvgbench.extractors.registry import ExtractorRequest
from nvgbench.metrics.frechet import small_sample_note
from nvgbench.results.protocols import PROTOCOLS
from nvgbench.types import Features, MetricValue


class CleanFidRules:
    """See the head of this file; implements `nvgbench.evaluation.rules.base.Rules`.

    Args:
        id: ``clean-fid``, ``clean-fid:legacy_pytorch`` or ``clean-fid:legacy_tensorflow``.
    """

    def __init__(self, id: str) -> None:
        self.identity = PROTOCOLS[id]
        self.mode = id.partition(":")[2] or "clean"

    def extractor(self, request: ExtractorRequest) -> CleanFidExtractor:
        return CleanFidExtractor(self.mode, request.weights, request.device)

    def pool(self, features_NF: NDArray[np.float32]) -> NDArray[np.float32]:
        return features_NF

    def frechet(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
        from cleanfid import fid

        with replaced(fid, "linalg", SimpleNamespace(sqrtm=_sqrtm)):
            return float(fid.fid_from_feats(x, y))

    def scores(
        self, exact: Sequence[MetricValue], generated: Features, real: Features, reference: Reference, seed: int
    ) -> list[MetricValue]:
        from cleanfid import fid

        named = {metric.name: metric for metric in exact}
        x, y = generated.features_ND, real.features_ND
        with _global_seed(seed):
            distance = fid.kernel_distance(x, y)
        note = f"100 subsets of {min(1000, len(x), len(y))}, drawn with seed {seed}"
        return [
            moved(named["FID"], self.frechet(x, y), self.identity, note=small_sample_note(*x.shape) or ""),
            moved(named["KID"], distance, self.identity, note=note),
        ]


def _sqrtm(matrix: Any, disp: bool = True) -> Any:
    """scipy's root with the argument that clean-fid gives and newer versions of scipy do not take."""
    root = scipy.linalg.sqrtm(matrix)
    return root if disp else (root, 0.0)


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """clean-fid draws from numpy's global generator, which is put back afterwards."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
