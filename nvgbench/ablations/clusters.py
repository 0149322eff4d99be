"""The study ``clusters``: how stable structure maps are, how much of the features they explain, and what other maps cost.

Stages with one cluster, or with one position per cluster, are the same in every map and left out. The clusterings without
features are the controls: a fixed quadtree never changes unless the image moves, a random split agrees with nothing.

Shape letters: B batch, N images, L positions, C latent channels, h and w the latent grid.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from nvgbench.ablations.clusterings import FAST, Clustering, Maps, nested, slow_clusterings
from nvgbench.ablations.numbering import numbering
from nvgbench.ablations.requantization import ALL_STAGES, requantize, summary
from nvgbench.ablations.scoring import extractor_or_none
from nvgbench.ablations.study import Conclusion, Context, Row, StudiedRun, Study, Tables
from nvgbench.ablations.subject import Subject, held_out, open_subject
from nvgbench.ablations.views import CROP_CELLS, NOISE_LEVELS, SHIFT_CELLS, View, same_place, views
from nvgbench.data.dataset import ImageDataset
from nvgbench.data.loader import sequential_batches
from nvgbench.errors import InputError
from nvgbench.metrics.stability import adjusted_rand_index, normalized_mutual_information
from nvgbench.progress import Report, quiet
from nvgbench.results.study import Chart, Finding, Verdict

Floats = np.ndarray[Any, np.dtype[np.float64]]

_BATCH = 32
_SLOW_IMAGES = 16
"""Images for the clusterings that take a second per image and view."""
_DRAWN = (*FAST, "matching", "k-means", "Ward")
"""In figures; the others are in the tables."""
_STRENGTH = "0.01"
"""The noise level of the finding's sentence."""


class Clusters(Study):
    """Stability of structure maps under changes of the features, the image and the tokenizer; loss with other clusters."""

    name = "clusters"
    version = 5
    question = "How stable is the hierarchy of structure maps, and how sensitive is the tokenizer to clusters and their number?"
    varies: ClassVar = {
        "clustering": "greedy (the method's), quadtree (fixed, ignores features), random (drawn anew for every view); "
        f"on the first {_SLOW_IMAGES} images other group sizes, optimal matching (up to 64 positions), balanced k-means, Ward "
        "and SLIC",
        "seed": "tokenizers trained with different seeds, every pair of runs",
        "noise": f"on the features, {', '.join(f'{level:g}' for level in NOISE_LEVELS)} of their standard deviation",
        "flip": "the image mirrored left to right",
        "shift": f"the image shifted right by {' and '.join(map(str, SHIFT_CELLS))} cells of the latent grid",
        "crop": f"{' and '.join(map(str, CROP_CELLS))} cells cropped from every side, the rest enlarged to full size",
        "bf16": "features rounded to bfloat16",
        "ties": "equal distances resolved by raster index instead of by exclusive or",
        "chance": "maps of other images",
        "child order": "which child of a cluster gets the lower number: the closer pair (the method's), raster order, random",
        "stages": "all; groups of 4 or 16 instead of 2; growing or shrinking groups, with one size per stage",
    }
    reports: ClassVar = {
        "cluster_stability": "adjusted Rand index (95 % interval over images) and mutual information at every inner stage",
        "cluster_quality": "share of the features' sum of squares that the cluster means explain, at every inner stage",
        "reconstruction": "quantization error (share of the latent's sum of squares), PSNR and rFD when the trained tokenizer "
        "uses other clusters or fewer stages; difference: error minus that of the method's own, on the same images",
        "quantization_error": "the error after every stage, by clustering",
        "cluster_numbering": "share of positions whose cluster keeps its number, by the order of the children",
    }
    limits = (
        "Agreement with a perturbed copy of itself does not make a map right or useful; the study alignment compares maps with "
        "what people mark. Reconstructions are those of a tokenizer that was trained with one clustering and all its stages, "
        "which favours these; the studies hierarchies and levels train a tokenizer for each."
    )

    def check(self, runs: Sequence[StudiedRun], context: Context) -> None:
        folders = [run.folder for run in runs]
        seen: dict[str, str] = {}
        for folder in folders:
            fingerprint = folder.tokenizer_fingerprint()
            if fingerprint in seen:
                raise InputError(
                    f"{folder.name} and {seen[fingerprint]} have the same tokenizer: nothing to compare; "
                    "name each tokenizer once, or train one with another seed"
                )
            seen[fingerprint] = folder.name
            sizes = [one.config.data.image_size for one in (folder, folders[0])]
            if sizes[0] != sizes[1]:
                raise InputError(
                    f"{folder.name} has images of {sizes[0]} px, {folders[0].name} of {sizes[1]} px; "
                    "compare runs with the same image size"
                )
        check_subjects([open_subject(folder, context.device) for folder in folders])

    def measure(self, run: StudiedRun, context: Context) -> Tables:
        subject, dataset = open_subject(run.folder, context.device), held_out(run.folder, context)
        tables = study_clusters(subject, dataset, seed=context.seed, report=context.report)
        tables["cluster_numbering"] = numbering(subject, dataset, seed=context.seed)
        if subject.tokenizer is not None:
            extractor = extractor_or_none(run.folder, context)
            tables |= requantize(subject, dataset, extractor, seed=context.seed, report=context.report)
        return tables

    def measure_together(self, runs: Sequence[StudiedRun], context: Context) -> Tables:
        if len(runs) < 2:
            return {}
        subjects = [open_subject(run.folder, context.device) for run in runs]
        rows = compare_tokenizers(subjects, held_out(runs[0].folder, context), seed=context.seed, report=context.report)
        return {"cluster_stability": rows}

    def conclude(self, tables: Mapping[str, list[Row]]) -> Conclusion:
        stability = tables.get("cluster_stability", [])
        runs = list(dict.fromkeys(row["run"] for row in stability if row["run"]))
        findings = [_finding(run, [row for row in stability if row["run"] == run]) for run in runs]
        findings += [one for run in runs for one in _sensitivity(run, tables.get("reconstruction", []))]
        several = ("run",) if len(runs) > 1 else ()
        images = max((row["n"] for row in stability), default=0)
        agreement = Chart(
            table="cluster_stability", y="ari_mean", x="tokens", series="clustering", only=_DRAWN,
            panel=(*several, "perturbation", "level"),
            label="ARI", log_x=True, limits=(-0.05, 1.05),
            caption="Agreement of structure maps before and after a change of the image or its features, as adjusted Rand "
            f"index (1: the same map, 0: chance), by number of tokens in the stage. Up to {images:,} images; bands are 95 % "
            "intervals over images.",
        )  # fmt: skip
        explained = Chart(
            table="cluster_quality", y="explained_mean", x="tokens", series="clustering", only=_DRAWN, panel=several,
            label="share", log_x=True, limits=(0, 1.05),
            caption="Share of the features' sum of squares that the cluster means explain, by number of tokens in the stage.",
        )  # fmt: skip
        error = Chart(
            table="quantization_error", y="error_mean", x="tokens", series="clustering", only=_DRAWN, panel=several,
            label="error", log_x=True,
            caption="Quantization error after each stage, as a share of the latent's sum of squares, when the trained "
            "tokenizer uses these clusters. Bands are 95 % intervals over images.",
        )  # fmt: skip
        return Conclusion(findings=findings, charts=[agreement, explained, error])


def study_clusters(
    subject: Subject, dataset: ImageDataset, *, seed: int, slow_images: int = _SLOW_IMAGES, report: Report = quiet
) -> Tables:
    """Agreement of one tokenizer's maps under every view, and explained variance.

    Args:
        subject: the tokenizer.
        dataset: images of its size.
        seed: of noise and random splits.
        slow_images: how many of the images the slow clusterings get.
        report: opens a progress display.

    Returns:
        ``cluster_stability``: rows of perturbation, level, clustering, tokens, ari_mean, ari_low, ari_high (95 % bootstrap over
        images), nmi_mean, n. ``cluster_quality``: rows of clustering, tokens, explained_mean, explained_low, explained_high, n
        (flat images, which have nothing to explain, are left out).

    Raises:
        InputError: a subject without inner stages, or fewer than two images.
    """
    _check_images(dataset)
    subject.tokens()
    slow, count = slow_clusterings(subject), len(dataset)
    work, draws, scores = views(subject.grid, dataset.image_size), _Draws(seed), _Scores()
    plain_maps: dict[str, list[Maps]] = {}
    with report("structure maps") as progress:
        for done, images_B3HW in _batches(dataset):
            few = slice(0, max(0, min(len(images_B3HW), slow_images - done)))
            plain_BChw = subject.latent(images_B3HW)
            first = _all_maps(subject, plain_BChw, few, slow, draws, subject.name)
            for name, maps in first.items():
                plain_maps.setdefault(name, []).append(maps)
                rows = few if name in slow else slice(None)
                scores.add("explained", "", name, "explained", explained_variance(plain_BChw[rows], maps))
            other = nested("greedy", tie_break="index")(subject, plain_BChw, draws["ties"])
            scores.compare("ties", "", "greedy", first["greedy"], other, same_place, subject.grid)
            for view in work:
                viewed_BChw = _viewed(subject, view, images_B3HW, plain_BChw, draws)
                viewed = _all_maps(subject, viewed_BChw, few, slow, draws, f"{view.perturbation} {view.level}")
                for name, maps in viewed.items():
                    scores.compare(view.perturbation, view.level, name, first[name], maps, view.align, subject.grid)
            progress(min(done + len(images_B3HW), count), count)
    for name, parts in plain_maps.items():
        maps = {tokens: torch.cat([part[tokens].cpu() for part in parts]) for tokens in parts[0]}
        rolled = {tokens: labels_NL.roll(1, 0) for tokens, labels_NL in maps.items()}
        scores.compare("chance", "", name, maps, rolled, same_place, subject.grid)
    return {"cluster_stability": scores.stability(), "cluster_quality": scores.quality()}


def compare_tokenizers(subjects: Sequence[Subject], dataset: ImageDataset, *, seed: int, report: Report = quiet) -> list[Row]:
    """Agreement of the maps of every pair of tokenizers: rows of perturbation ``seed`` as in `study_clusters`.

    Raises:
        InputError: subjects that cannot be compared, or fewer than two images.
    """
    check_subjects(subjects)
    _check_images(dataset)
    draws, scores = _Draws(seed), _Scores()
    with report("tokenizer seeds") as progress:
        for done, images_B3HW in _batches(dataset):
            maps = [_all_maps(each, each.latent(images_B3HW), slice(0), {}, draws, each.name) for each in subjects]
            for (a, maps_a), (b, maps_b) in itertools.combinations(zip(subjects, maps, strict=True), 2):
                for name in FAST:
                    scores.compare("seed", f"{a.name} / {b.name}", name, maps_a[name], maps_b[name], same_place, a.grid)
            progress(done + len(images_B3HW), len(dataset))
    return scores.stability()


def check_subjects(subjects: Sequence[Subject]) -> None:
    """Refuse tokenizers that have no inner stages or cannot be compared.

    Raises:
        InputError: says which and why.
    """
    names = [subject.name for subject in subjects]
    if len(set(names)) < len(names):
        raise InputError(f"two runs have the same name ({', '.join(sorted(names))}); rename one folder")
    for subject in subjects:
        subject.tokens()
        if (subject.grid, subject.group_size) != (subjects[0].grid, subjects[0].group_size):
            raise InputError(
                f"{subject.name} has grid {subject.grid} and group size {subject.group_size}, {subjects[0].name} has "
                f"{subjects[0].grid} and {subjects[0].group_size}; compare runs with the same grid and group size"
            )


def explained_variance(latent_BChw: Tensor, maps: Maps) -> dict[int, Floats]:
    """Share of the sum of squares around the image's mean that cluster means explain: tokens -> ``[B]``, NaN if flat."""
    values_BLC = latent_BChw.flatten(2).transpose(1, 2).double().cpu()
    values_BLC = values_BLC - values_BLC.mean(1, keepdim=True)
    total_B = values_BLC.square().sum((1, 2))
    shares = {}
    for tokens, labels_BL in maps.items():
        member_BLn = torch.nn.functional.one_hot(labels_BL.long().cpu()).double()
        sums_BnC = member_BLn.transpose(1, 2) @ values_BLC
        sizes_Bn = member_BLn.sum(1).clamp(min=1)
        shares[tokens] = ((sums_BnC.square().sum(2) / sizes_Bn).sum(1) / total_B).numpy()
    return shares


class _Draws:
    """One stream of random numbers per purpose, so that adding a view leaves the others unchanged."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._streams: dict[str, torch.Generator] = {}

    def __getitem__(self, purpose: str) -> torch.Generator:
        if purpose not in self._streams:
            words = np.random.SeedSequence([self._seed % 2**64, *purpose.encode()]).generate_state(1, np.uint64)
            self._streams[purpose] = torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))
        return self._streams[purpose]


class _Scores:
    """Scores per image, by what was compared."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str, str, str, int], list[Floats]] = {}

    def add(self, perturbation: str, level: str, clustering: str, measure: str, scores: Mapping[int, Floats]) -> None:
        for tokens, scores_B in scores.items():
            self._values.setdefault((perturbation, level, clustering, measure, tokens), []).append(scores_B)

    def compare(
        self,
        perturbation: str,
        level: str,
        clustering: str,
        first: Maps,
        other: Maps,
        align: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        grid: tuple[int, int],
    ) -> None:
        """Agreement of two sets of maps at every inner stage."""
        pairs = {tokens: align(first[tokens].unflatten(1, grid), other[tokens].unflatten(1, grid)) for tokens in first}
        for name, measure in (("ari", adjusted_rand_index), ("nmi", normalized_mutual_information)):
            self.add(perturbation, level, clustering, name, {tokens: measure(*pair) for tokens, pair in pairs.items()})

    def stability(self) -> list[Row]:
        """Agreement by what was changed, clustering and tokens."""
        return [
            {
                "perturbation": key[0], "level": key[1], "clustering": key[2], "tokens": key[4],
                **summary("ari", scores_N, highest=1.0),
                "nmi_mean": float(self._joined(*key[:3], "nmi", key[4]).mean()), "n": len(scores_N),
            }
            for key, scores_N in self._of("ari")
        ]  # fmt: skip

    def quality(self) -> list[Row]:
        """Explained variance by clustering and tokens."""
        rows = []
        for (_, _, clustering, _, tokens), scores_N in self._of("explained"):
            finite_N = scores_N[np.isfinite(scores_N)]
            rows.append(
                {"clustering": clustering, "tokens": tokens, **summary("explained", finite_N, highest=1.0), "n": len(finite_N)}
            )
        return rows

    def _of(self, measure: str) -> Iterable[tuple[tuple[str, str, str, str, int], Floats]]:
        return [(key, self._joined(*key)) for key in self._values if key[3] == measure]

    def _joined(self, *key: Any) -> Floats:
        return np.concatenate(self._values[key])


def _finding(run: str, rows: Sequence[Row]) -> Finding:
    """Greedy maps under 1 % noise at the coarsest and the finest inner stage."""
    own = [row for row in rows if (row["perturbation"], row["level"], row["clustering"]) == ("noise", _STRENGTH, "greedy")]
    own.sort(key=lambda row: row["tokens"])
    coarse, fine = own[0], own[-1]
    ends = [f"{row['ari_mean']:.2f}{_brackets(row)} at {row['tokens']} tokens" for row in (coarse, fine)]
    return Finding(
        text=f"{run}: after noise of 1 % of the features' standard deviation, greedy maps agree with themselves by an adjusted "
        f"Rand index of {' and '.join(ends if len(own) > 1 else ends[:1])} (1: the same map, 0: chance; {coarse['n']} images).",
        subject=run, metric="ARI", value=coarse["ari_mean"], low=coarse["ari_low"], high=coarse["ari_high"], level=0.95,
        n=coarse["n"],
    )  # fmt: skip


def _sensitivity(run: str, rows: Sequence[Row]) -> list[Finding]:
    """What fewer stages, and clusters that ignore the features, cost the trained tokenizer."""
    own = {(row["clustering"], row["stages"]): row for row in rows if row["run"] == run}
    base = own.get(("greedy", ALL_STAGES))
    findings = []
    for (clustering, stages), row in own.items():
        if row is base or base is None or (clustering != "greedy" and clustering not in FAST):
            continue
        low, high, change = (row[f"difference_{end}"] for end in ("low", "high", "mean"))
        verdict: Verdict = "inconclusive" if change else "no difference"
        if low is not None and (low > 0 or high < 0):
            verdict = "worse" if low > 0 else "better"
        interval = "" if low is None else f" [{low:+.3f}, {high:+.3f}]"
        what = f"greedy clusters in {stages} ({row['tokens']} tokens)" if clustering == "greedy" else f"{clustering} clusters"
        findings.append(
            Finding(
                text=f"{run}: with {what}, the trained tokenizer's quantization error is {row['error_mean']:.3f} instead of "
                f"{base['error_mean']:.3f} ({base['tokens']} tokens): {change:+.3f}{interval} ({row['n']} images).",
                verdict=verdict,
                subject=run,
                metric="quantization error",
                value=change,
                low=low,
                high=high,
                level=None if low is None else 0.95,
                n=row["n"],
            )
        )
    return findings


def _brackets(row: Row) -> str:
    return "" if row["ari_low"] is None else f" [{row['ari_low']:.2f}, {row['ari_high']:.2f}]"


def _batches(dataset: ImageDataset) -> Iterable[tuple[int, Tensor]]:
    """Images done before, and the next batch."""
    done = 0
    for batch in sequential_batches(dataset, _BATCH):
        yield done, batch.images_B3HW
        done += len(batch.labels_B)


def _all_maps(
    subject: Subject,
    latent_BChw: Tensor,
    few: slice,
    slow: Mapping[str, Clustering],
    draws: _Draws,
    purpose: str,
) -> dict[str, Maps]:
    """Maps by every clustering; by the slow ones of the ``few`` first images alone."""
    found = {name: cluster(subject, latent_BChw, draws[f"split {purpose}"]) for name, cluster in FAST.items()}
    if few.stop:
        found |= {name: cluster(subject, latent_BChw[few], draws[f"{name} {purpose}"]) for name, cluster in slow.items()}
    return found


def _viewed(subject: Subject, view: View, images_B3HW: Tensor, latent_BChw: Tensor, draws: _Draws) -> Tensor:
    if view.image is not None:
        latent_BChw = subject.latent(view.image(images_B3HW))
    if view.features is not None:
        latent_BChw = view.features(latent_BChw, draws[f"features {view.perturbation} {view.level}"])
    return latent_BChw


def _check_images(dataset: ImageDataset) -> None:
    if len(dataset) < 2:
        raise InputError(f"{len(dataset)} images: chance agreement compares different images; use 2 or more")
