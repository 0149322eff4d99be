"""Galleries of the page: the newest pictures of every kind and subject, each picture once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from nvgbench.reporting.pictures import Picture, load_pictures
from nvgbench.reporting.scores import ANCHOR
from nvgbench.reporting.sheets import STRUCTURE
from nvgbench.results.schema import Artifact, RunRecord
from nvgbench.results.store import LocatedRecord

_HEADINGS = {
    "samples": "Samples",
    "trace": "Generation stage by stage: structure maps and canvases",
    "reference": "Reference images",
}


@dataclass(frozen=True)
class Gallery:
    """Pictures under one heading; ``folded`` ones are shown on demand."""

    heading: str
    pictures: Sequence[Picture]
    folded: bool = False


def galleries(located: Sequence[LocatedRecord], budget: int) -> list[Gallery]:
    """One gallery per kind, with anchors in their own; all pictures together have at most ``budget`` bytes."""
    anchors = {one.record.subject for one in located if one.record.family == ANCHOR}
    pictures = load_pictures(_chosen(located), budget)
    found = []
    for kind in dict.fromkeys([*_HEADINGS, *(picture.kind for picture in pictures)]):
        heading = _HEADINGS.get(kind, kind.capitalize())
        own = [picture for picture in pictures if picture.kind == kind]
        scale = min((picture.scale for picture in own if picture.uri), default=1)
        own = [dataclasses.replace(picture, scale=scale) for picture in own]
        folded = [picture for picture in own if picture.subject in anchors and kind != "reference"]
        shown = [picture for picture in own if picture not in folded]
        found += [Gallery(heading, shown)] if shown else []
        found += [Gallery(f"{heading} of the anchors", folded, folded=True)] if folded else []
    return found


def without_data_pictures(located: Sequence[LocatedRecord]) -> list[LocatedRecord]:
    """The records without pictures of the data set itself: reference images, and anchors made of training images."""

    def kept(record: RunRecord) -> RunRecord:
        of_data = record.family == ANCHOR and not record.preset
        artifacts = () if of_data else tuple(one for one in record.artifacts if one.kind != "reference")
        return dataclasses.replace(record, artifacts=artifacts)

    return [dataclasses.replace(one, record=kept(one.record)) for one in located]


def artifact_count(located: Sequence[LocatedRecord]) -> int:
    """Largest number of pictures in the galleries."""
    return len(_chosen(located))


def _chosen(located: Sequence[LocatedRecord]) -> list[tuple[LocatedRecord, Artifact]]:
    """For each subject and kind, the pictures of the newest record that has any."""
    newest: dict[tuple[str, str], tuple[LocatedRecord, list[Artifact]]] = {}
    for one in located:
        # Structure maps tile by tile are shown side by side, below the images.
        for kind in dict.fromkeys(artifact.kind for artifact in one.record.artifacts if artifact.kind != STRUCTURE):
            known = newest.get((kind, one.record.subject))
            if known is None or one.record.created >= known[0].record.created:
                own = [artifact for artifact in one.record.artifacts if artifact.kind == kind]
                newest[kind, one.record.subject] = (one, own)
    return [(one, artifact) for one, artifacts in newest.values() for artifact in artifacts]
