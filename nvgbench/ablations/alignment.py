"""The study ``alignment``: whether structure maps follow what people see.

Shape letters: B batch, N images, L positions, h and w the latent grid, H and W pixels, G regions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvgbench.ablations.annotations import Annotated, Labels, annotated_images
from nvgbench.ablations.clusterings import FAST, balanced_k_means, slic
from nvgbench.ablations.study import Conclusion, Context, Row, StudiedRun, Study, Tables
from nvgbench.ablations.subject import Subject, open_subject
from nvgbench.data.images import to_float
from nvgbench.metrics import segmentation as seg
from nvgbench.metrics.uncertainty import mean_interval
from nvgbench.nvg.clustering import build_structure
from nvgbench.results.study import Chart, Finding, Verdict

Floats = NDArray[np.float64]
Key = tuple[str, str, int, str]
"""Clustering, level, tokens, measure."""

TOLERANCE = 1
"""Pixels by which a boundary may be off."""
LEADING = ("covering", "boundary recall", "PRI", "VoI")
LOWER_IS_BETTER = frozenset({"VoI", "undersegmentation error"})
_OVERLAPS = {
    "covering": seg.covering,
    "PRI": seg.rand_index,
    "VoI": seg.variation_of_information,
    "achievable accuracy": seg.achievable_accuracy,
    "undersegmentation error": seg.undersegmentation_error,
    "Hungarian mIoU": seg.hungarian_iou,
}
_BATCH = 16
_REPLICATES = 1000
_BASE = "quadtree"
_ORACLE = "oracle"
_DRAWN = (*FAST, "k-means", "SLIC of pixels", _ORACLE)
"""In figures; the others are in the tables."""


class Alignment(Study):
    """Structure maps against masks and annotations, at equal numbers of clusters."""

    name = "alignment"
    version = 3
    question = "Do structure maps follow what people see, beyond what a fixed grid does?"
    varies: ClassVar = {
        "clustering": "greedy (the method's), quadtree (a fixed grid), random balanced, balanced k-means and SLIC of the "
        "features, SLIC of the pixels (compactness 10), and an oracle: greedy maps of the annotation, equally balanced",
        "parts": "maps as they are, and split into connected components, since clusters may be scattered",
        "level": "shapes: semantic, object, part; BSDS500 and ADE20K: several people, whose scores are averaged",
    }
    reports: ClassVar = {
        "alignment": "segmentation measures at every inner stage, with 95 % intervals over images",
        "alignment_best": "covering, PRI and VoI with one stage for all images (ODS) and with the best stage of each (OIS)",
    }
    limits = (
        "Achievable accuracy and undersegmentation error hardly tell SLIC from a grid; covering, boundary recall, PRI and VoI "
        "lead. Scattered maps have many boundaries and so a high recall by chance: compare it with that of random maps. SLIC "
        "takes the number of clusters as a wish; the column of segments has what it made. The oracle is clustered greedily as "
        "well, so it is no strict upper bound. Connected components are more segments than the stage has tokens. Maps are made "
        f"of the latent grid's cells, so boundaries cannot be finer than a cell; they may be off by {TOLERANCE} pixel."
    )

    def measure(self, run: StudiedRun, context: Context) -> Tables:
        subject = open_subject(run.folder, context.device)
        subject.tokens()
        count, images = annotated_images(run.folder, context)
        scores: dict[Key, list[float]] = {}
        rng = torch.Generator().manual_seed(context.seed)
        done = 0
        with context.report("annotated images") as progress:
            for batch in _batches(images):
                maps = all_maps(subject, batch, rng)
                for place, one in enumerate(batch):
                    truths = {level: [_Truth.of(regions_HW) for regions_HW in found] for level, found in one.levels.items()}
                    for clustering, found in maps.items():
                        own = {tokens: labels[place] for tokens, labels in found.items()}
                        _score(scores, clustering, own, one.image_HW3, truths)
                done += len(batch)
                progress(done, count)
        arrays = {key: np.array(values) for key, values in scores.items()}
        return {"alignment": _rows(arrays), "alignment_best": best_stages(arrays)}

    def conclude(self, tables: Mapping[str, list[Row]]) -> Conclusion:
        rows, best = tables["alignment"], tables["alignment_best"]
        findings = [_finding(row) for row in best if (row["clustering"], row["measure"]) == ("greedy", "covering")]
        several = ("run",) if len({row["run"] for row in rows}) > 1 else ()
        charts = [
            Chart(
                table="alignment", y=f"{measure}_mean", x="tokens", series="clustering", only=_DRAWN, panel=(*several, "level"),
                label=measure, log_x=True,
                caption=f"{measure} by number of tokens in the stage"
                f"{', lower is better' if measure in LOWER_IS_BETTER else ''}; bands are 95 % intervals over images.",
            )
            for measure in LEADING
        ]  # fmt: skip
        return Conclusion(findings=findings, charts=charts)


def all_maps(subject: Subject, batch: Sequence[Annotated], rng: torch.Generator) -> dict[str, dict[int, NDArray[np.int64]]]:
    """Label maps in pixels ``[B, H, W]`` by clustering and tokens.

    The oracle is clustered for each level, under the name ``oracle LEVEL``; a clustering named ``…, connected`` is that split
    into connected components.
    """
    images_B3HW = torch.from_numpy(np.stack([one.image_HW3 for one in batch])).permute(0, 3, 1, 2)
    latent_BChw = subject.latent(to_float(images_B3HW))
    clusterings = FAST | {"k-means": balanced_k_means, "SLIC": slic}
    size, tokens = images_B3HW.shape[-1], subject.tokens()[1:-1]
    found = {
        name: {n: _pixels(labels_BL, subject.grid, size) for n, labels_BL in cluster(subject, latent_BChw, rng).items()}
        for name, cluster in clusterings.items()
    }
    found["greedy, connected"] = {n: np.stack([_components(one) for one in maps]) for n, maps in found["greedy"].items()}
    found["SLIC of pixels"] = {n: np.stack([_slic_of_pixels(one.image_HW3, n) for one in batch]) for n in tokens}
    for level in batch[0].levels:
        shares_BLG = _cell_shares([one.levels[level] for one in batch], subject.grid)
        structure_BSL = build_structure(shares_BLG, group_size=subject.group_size)
        found[f"{_ORACLE} {level}"] = {
            n: _pixels(structure_BSL[:, stage], subject.grid, size) for stage, n in enumerate(tokens, start=1)
        }
    return found


def best_stages(scores: Mapping[Key, Floats]) -> list[Row]:
    """Covering, PRI and VoI with one stage for all images (ODS) and the best of each image (OIS), and the gain over a grid.

    ``gain`` is the mean over images of OIS minus that of the quadtree, with a 95 % interval over images.
    """
    rows = []
    for measure in ("covering", "PRI", "VoI"):
        better = np.min if measure in LOWER_IS_BETTER else np.max
        places = dict.fromkeys((clustering, level) for clustering, level, _, name in scores if name == measure)
        stacked = {
            place: np.stack([values for key, values in scores.items() if (*key[:2], key[3]) == (*place, measure)])
            for place in places
        }
        for (clustering, level), scores_SN in stacked.items():
            own_N = better(scores_SN, axis=0)
            gain_N = own_N - better(stacked[_BASE, level], axis=0)
            interval = mean_interval(gain_N, _REPLICATES, seed=0) if len(gain_N) > 1 else None
            rows.append(
                {
                    "clustering": clustering, "level": level, "measure": measure,
                    "ods": float(better(scores_SN.mean(1))), "ois": float(own_N.mean()), "gain_mean": float(gain_N.mean()),
                    "gain_low": None if interval is None else interval.low,
                    "gain_high": None if interval is None else interval.high, "n": len(own_N),
                }
            )  # fmt: skip
    return rows


class _Truth(NamedTuple):
    """One annotator's regions, their boundaries, and what lies within the tolerance of these."""

    regions_HW: Labels
    edges_HW: seg.Masks
    reached_HW: seg.Masks

    @classmethod
    def of(cls, regions_HW: Labels) -> _Truth:
        edges_HW = seg.boundaries(regions_HW)
        return cls(regions_HW, edges_HW, seg.reached(edges_HW, TOLERANCE))


def _score(
    scores: dict[Key, list[float]],
    clustering: str,
    maps: Mapping[int, Labels],
    image_HW3: NDArray[np.uint8],
    truths: Mapping[str, Sequence[_Truth]],
) -> None:
    """All measures of one image's maps, averaged over annotators."""
    for tokens, labels_HW in maps.items():
        edges_HW = seg.boundaries(labels_HW)
        reached_HW = seg.reached(edges_HW, TOLERANCE)
        colours = seg.explained_variation(labels_HW, image_HW3)
        for level, annotators in truths.items():
            if clustering.startswith(_ORACLE) and clustering != f"{_ORACLE} {level}":
                continue
            name = _ORACLE if clustering.startswith(_ORACLE) else clustering
            tables = [seg.overlaps(labels_HW, one.regions_HW) for one in annotators]
            found = {measure: np.mean([compute(table) for table in tables]) for measure, compute in _OVERLAPS.items()}
            found["boundary recall"] = np.mean([seg.share_reached(reached_HW, one.edges_HW) for one in annotators])
            found["boundary precision"] = np.mean([seg.share_reached(one.reached_HW, edges_HW) for one in annotators])
            found["explained variation"] = np.float64(colours)
            found["segments"] = np.float64(len(np.unique(labels_HW)))
            for measure, value in found.items():
                scores.setdefault((name, level, tokens, measure), []).append(float(value))


def _rows(scores: Mapping[Key, Floats]) -> list[Row]:
    """A row per clustering, level and tokens: mean and interval of every measure over the images where it is defined."""
    rows: dict[tuple[str, str, int], Row] = {}
    for (clustering, level, tokens, measure), values_N in scores.items():
        finite_N = values_N[np.isfinite(values_N)]
        place = {"clustering": clustering, "level": level, "tokens": tokens, "n": len(values_N)}
        row = rows.setdefault((clustering, level, tokens), place)
        interval = mean_interval(finite_N, _REPLICATES, seed=0) if len(finite_N) > 1 and measure != "segments" else None
        row[f"{measure}_mean"] = float(finite_N.mean()) if len(finite_N) else None
        row[f"{measure}_low"] = None if interval is None else interval.low
        row[f"{measure}_high"] = None if interval is None else interval.high
    return list(rows.values())


def _finding(row: Row) -> Finding:
    low, high, gain = row["gain_low"], row["gain_high"], row["gain_mean"]
    verdict: Verdict = "inconclusive"
    if gain == 0 and low is None:
        verdict = "no difference"
    elif low is not None and (low > 0 or high < 0):
        verdict = "better" if low > 0 else "worse"
    interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
    return Finding(
        text=f"{row['run']}, {row['level']}: greedy maps cover the annotated regions with {row['ois']:.3f} at each image's "
        f"best stage, {gain:+.3f}{interval} against a quadtree ({row['n']} images).",
        verdict=verdict, subject=row["run"], metric="covering", value=gain, low=low, high=high, level=0.95, n=row["n"],
    )  # fmt: skip


def _pixels(labels_BL: Tensor, grid: tuple[int, int], size: int) -> NDArray[np.int64]:
    """Labels of cells as labels of their pixels."""
    cells_Bhw = labels_BL.cpu().numpy().reshape(-1, *grid)
    return cells_Bhw.repeat(size // grid[0], axis=1).repeat(size // grid[1], axis=2)


def _cell_shares(annotations: Sequence[Sequence[Labels]], grid: tuple[int, int]) -> Tensor:
    """Share of every region of every annotator in every cell, float32 ``[B, L, G]``; the oracle clusters these."""
    shares: list[NDArray[Any]] = []
    for maps in annotations:
        parts = []
        for regions_HW in maps:
            member_GHW = regions_HW[None] == np.unique(regions_HW)[:, None, None]
            cells = member_GHW.reshape(len(member_GHW), grid[0], regions_HW.shape[0] // grid[0], grid[1], -1).mean((2, 4))
            parts.append(cells.reshape(len(member_GHW), -1).T)
        shares.append(np.concatenate(parts, axis=1))
    widest = max(one.shape[1] for one in shares)
    padded = [np.pad(one, ((0, 0), (0, widest - one.shape[1]))) for one in shares]
    return torch.from_numpy(np.stack(padded)).float()


def _components(labels_HW: Labels) -> Labels:
    from skimage.measure import label

    return np.asarray(label(labels_HW, background=-1, connectivity=1), np.int64)


def _slic_of_pixels(image_HW3: NDArray[np.uint8], segments: int) -> Labels:
    from skimage.segmentation import slic as segment

    return np.asarray(segment(image_HW3, n_segments=segments, compactness=10, start_label=0), np.int64)


def _batches(images: Iterator[Annotated]) -> Iterator[list[Annotated]]:
    batch: list[Annotated] = []
    for one in images:
        batch.append(one)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
