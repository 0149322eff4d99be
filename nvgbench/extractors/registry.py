"""Extractors by name: a file and a line each, entry points of other packages, or any ``module:callable``.

A built-in extractor is a module with an `ExtractorEntry` and its line in `EXTRACTORS`. Other packages register such an entry,
or just a callable that makes a `nvgbench.interfaces.FeatureExtractor` from an `ExtractorRequest`, under the entry-point group
``nvgbench.extractors``. Importing this file does not import torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nvgbench.errors import InputError
from nvgbench.files import StrPath
from nvgbench.progress import Report, quiet
from nvgbench.registry import Registry

if TYPE_CHECKING:
    import torch

    from nvgbench.config.schema import DataConfig
    from nvgbench.interfaces import FeatureExtractor


CLASSIFIER = "classifier"
"""The extractor that is trained on the data set itself, so that its logits are of the data set's classes."""


@dataclass(frozen=True, kw_only=True)
class ExtractorRequest:
    """What an extractor is made from.

    Attributes:
        device: where it runs.
        weights: file or folder of its weights; the published ones if None.
        data: the data set that is scored, for extractors that learn from its training images; None if it is no data source.
        folder: where extractors that learn are kept.
        report: opens a progress display.
    """

    device: torch.device | str = "cpu"
    weights: StrPath | None = None
    data: DataConfig | None = None
    folder: StrPath = "runs/_extractors"
    report: Report = quiet


@dataclass(frozen=True, kw_only=True)
class ExtractorEntry:
    """An extractor in the registry.

    Attributes:
        make: makes it; raises InputError if weights or data are missing or do not fit.
        summary: one line for listings.
        weights: what `ExtractorRequest.weights` is for this extractor; empty if it takes none.
    """

    make: Callable[[ExtractorRequest], FeatureExtractor]
    summary: str = ""
    weights: str = ""


_BUILT_IN = {
    "inception": "nvgbench.extractors.inception:EXTRACTOR",
    CLASSIFIER: "nvgbench.extractors.classifier:EXTRACTOR",
    "efficientnet-lite0": "nvgbench.extractors.efficientnet:LITE0",
    "efficientnet-lite1": "nvgbench.extractors.efficientnet:LITE1",
    "efficientnet-lite2": "nvgbench.extractors.efficientnet:LITE2",
    "dinov2": "nvgbench.extractors.dinov2:EXTRACTOR",
    "clip": "nvgbench.extractors.clip:EXTRACTOR",
    "convnext": "nvgbench.extractors.convnext:EXTRACTOR",
    "mae": "nvgbench.extractors.mae:EXTRACTOR",
    "siglip2": "nvgbench.extractors.siglip2:EXTRACTOR",
}
EXTRACTORS: Registry[ExtractorEntry | Callable[[ExtractorRequest], FeatureExtractor]] = Registry(
    "extractor", "nvgbench.extractors", _BUILT_IN, importable=True
)


def find_extractor(name: str) -> ExtractorEntry:
    """The entry of an extractor.

    Raises:
        InputError: there is no such extractor, or it is not callable.
    """
    found = EXTRACTORS.get(name)
    if isinstance(found, ExtractorEntry):
        return found
    if not callable(found):
        raise InputError(f"extractor {name!r} is a {type(found).__name__}; expected an ExtractorEntry or a callable")
    summary = (inspect.getdoc(found) or "").partition("\n")[0]
    return ExtractorEntry(make=found, summary=summary, weights="a file or folder")


def check_extractor(name: str, weights: StrPath | None = None) -> None:
    """Refuse an extractor that does not exist, or weights for one that takes none.

    Raises:
        InputError: says which.
    """
    entry = find_extractor(name)
    if weights is not None and not entry.weights:
        owners = [known for known in _BUILT_IN if find_extractor(known).weights]
        raise InputError(f"`extractor_weights={weights}` goes with {', '.join(owners)}; the extractor {name} takes none")


def open_extractor(name: str, request: ExtractorRequest) -> FeatureExtractor:
    """The extractor ``name`` with its weights, or trained on the request's data.

    Raises:
        InputError: unknown name, no weights, data that do not fit, or an object that is no extractor.
    """
    check_extractor(name, request.weights)
    made = find_extractor(name).make(request)
    missing = [attribute for attribute in ("name", "fingerprint", "provenance") if not hasattr(made, attribute)]
    if missing or not callable(made):
        lacks = ", ".join(missing) or "__call__"
        raise InputError(f"extractor {name!r} made a {type(made).__name__} without {lacks}; see nvgbench.interfaces")
    if name not in _BUILT_IN and made.name in _BUILT_IN:
        raise InputError(f"extractor {name!r} calls itself {made.name!r}, which is a built-in one; give it a name of its own")
    return made
