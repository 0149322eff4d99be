"""Sets of extractors, for scores that no single network decides. Importing this file does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nvgbench.errors import InputError
from nvgbench.extractors.registry import CLASSIFIER, ExtractorRequest, open_extractor
from nvgbench.interfaces import FeatureExtractor

SETS: Mapping[str, tuple[str, ...]] = {
    "offline": (CLASSIFIER, "efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"),
    "fdr6": ("inception", "convnext", "dinov2", "mae", "siglip2", "clip"),
}
"""``offline`` needs no download; ``fdr6`` has the networks of arXiv 2604.28190, with the preprocessing of our extractors."""


@dataclass(frozen=True)
class ExtractorSet:
    """Extractors that score the same images.

    Attributes:
        name: of the set; empty for a single extractor, which has no scores as a set.
        members: at least one.
        missing: name of each member of a named set that is not available -> why.
    """

    name: str
    members: tuple[FeatureExtractor, ...]
    missing: Mapping[str, str] = field(default_factory=dict)


def set_members(choice: str) -> tuple[str, ...]:
    """The names in a named set, or in a list such as ``classifier,efficientnet-lite0``.

    Raises:
        InputError: a name occurs twice, or there is none.
    """
    names = SETS.get(choice) or tuple(name.strip() for name in choice.split(",") if name.strip())
    if not names or len(set(names)) < len(names):
        raise InputError(f"`extractors={choice!r}`: expected {', '.join(SETS)} or different names separated by commas")
    return names


def open_set(choice: str, request: ExtractorRequest) -> ExtractorSet:
    """The extractors of a named set that are available, or all of a list.

    Raises:
        InputError: none of a named set is available, or one of a list is not.
    """
    members, missing = [], {}
    for name in set_members(choice):
        try:
            members.append(open_extractor(name, request))
        except InputError as error:
            if choice not in SETS:
                raise
            missing[name] = str(error)
    if not members:
        raise InputError(f"`extractors={choice!r}`: none of {', '.join(missing)} is available ({next(iter(missing.values()))})")
    return ExtractorSet(choice if choice in SETS else "+".join(one.name for one in members), tuple(members), missing)
