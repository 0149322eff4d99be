"""The study ``structure-steps``: whether the structure can be generated in one step."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, ClassVar

import numpy as np

from nvgbench.ablations.findings import compare_variants, difference_rows
from nvgbench.ablations.scoring import METRICS, sampled_scores
from nvgbench.ablations.structure_maps import DRAWS, map_rows, real_stages
from nvgbench.ablations.study import Conclusion, Context, Row, StudiedRun, Study, Tables, Variant
from nvgbench.config.load import override_config
from nvgbench.errors import InputError
from nvgbench.nvg.image_generator import NvgImageGenerator
from nvgbench.profiling.details import sample_request
from nvgbench.registry import get_family
from nvgbench.results.study import Chart, Finding

CONTENT = "content"
"""The variant whose tokenizer and content generator all others use."""
BASELINE, CONTROL = "flow, 25 steps", "bernoulli, 1 step"
_DIRECT = ("flow", "flow-map", "mean-flow", "split-mean-flow", "shortcut", "bernoulli", "masked", "grouped")
_DISTILLED = ("flow-map", "mean-flow")
_STEPS: Mapping[str, tuple[int, ...]] = {"flow": (1, 2, 4, 8, 25), "bernoulli": (1,), "masked": (4, 8), "grouped": (2, 4)}
_JUMP_STEPS = (1, 2, 4)
_HEUN_STEPS = (2, 4, 8)
_TIMED, _TIMED_BATCH = 5, 16
_SETTING = ("objective", "steps", "solver", "split")


class StructureSteps(Study):
    """Structure generators with several objectives on one content generator, sampled with several numbers of steps."""

    name = "structure-steps"
    question = "Can the structure be generated in one step, and what does that cost in quality and diversity?"
    varies: ClassVar = {
        "objective": f"{', '.join(_DIRECT)} from the data; {' and '.join(_DISTILLED)} from the trained flow. All have the "
        f"tokenizer and the frozen content generator of {CONTENT!r}, and train for the same steps",
        "steps": "1 to 25 with the flow (Euler, Heun), 1 to 4 with jumps, 1 pass with bernoulli, 4 and 8 with masked, 2 and 4 "
        "with grouped",
        "split": "top half of the scores, or Gumbel-top-k (at the fewest and the most steps)",
    }
    reports: ClassVar = {
        "differences": f"one step minus {BASELINE!r} and minus {CONTROL!r}, with intervals over training seeds",
        "front": "settings by mean distance, time and FLOPs; those that no other one beats in distance and time are the front",
        "maps": f"per stage: agreement of two of {DRAWS} splits of a real canvas, cross-entropy and calibration against real "
        "bits, entropy of 2 x 2 patterns beside that of real maps; without guidance",
        "costs": "time per image and FLOPs of every setting",
        "scores": "all scores of every setting",
    }
    limits = (
        "Equal training means equal steps and images, not equal FLOPs: objectives with jumps cost more per step. A few draws "
        "per canvas resolve probabilities coarsely, which raises cross-entropy and calibration error of all settings alike. "
        "Times are of this machine. Small grids have few structure bits, so a small model cannot show what 256 positions need."
    )
    presets: ClassVar = {"quick": "nvg-tiny", "standard": "nvg-tiny", "paper": "nvg-cifar10"}

    def variants(self, preset: str) -> Sequence[Variant]:
        shared = {"train.generator.frozen": ["content.*"]}
        return (
            Variant(name=CONTENT),
            *(Variant(name=name, settings={**shared, "model.structure_objective": name}, teacher=CONTENT) for name in _DIRECT),
            *(
                Variant(
                    name=f"{name} from flow",
                    settings={**shared, "model.structure_objective": name, "model.structure_target": "teacher"},
                    teacher="flow",
                )
                for name in _DISTILLED
            ),
        )

    def check(self, runs: Sequence[StudiedRun], context: Context) -> None:
        for run in runs:
            if run.folder.config.family != "nvg":
                raise InputError(f"{run.folder.name} is of family {run.folder.config.family!r}; this study needs NVG")

    def measure(self, run: StudiedRun, context: Context) -> Tables:
        generator = run.folder.load_generator(context.device)
        assert isinstance(generator, NvgImageGenerator)
        real = real_stages(run, context, generator)
        tables: Tables = {"scores": [], "maps": [], "costs": []}
        for setting in settings_of(run.variant, run.folder.config.model.structure_objective):
            place = dict(zip(_SETTING, dataclasses.astuple(setting), strict=True)) | {"setting": setting.label}
            scores = sampled_scores(
                run.folder, context, seed=context.seed, settings=setting.sampling, split="eval", generator=generator,
                metrics=(*METRICS, "accuracy"),
            )  # fmt: skip
            tables["scores"] += [place | row for row in scores]
            tables["maps"] += [place | row for row in map_rows(generator, real, setting.sampling, context.seed)]
            tables["costs"].append(place | _cost(run, generator, setting))
        return tables

    def conclude(self, tables: Mapping[str, list[Row]]) -> Conclusion:
        scores = tables["scores"]
        metric = str(scores[0]["metric"])
        findings: list[Finding] = []
        differences: list[Row] = []
        for name in (metric, next((str(row["metric"]) for row in scores if str(row["metric"]).startswith("recall")), "")):
            rows = [row | {"variant": row["setting"]} for row in scores if row["metric"] == name]
            for base in (BASELINE, CONTROL):
                compared = _compared(rows, base, name)
                findings += compared
                if name == metric:
                    found = difference_rows(compared)
                    differences += [row | {"baseline": base, "comparison": f"{row['variant']} minus {base}"} for row in found]
        front = _front(tables, metric)
        charts = [
            Chart(
                table="differences", kind="dots", y="value", series="comparison", zero=True, label=f"difference in {metric}",
                caption=f"One step minus the baseline in {metric}, mean over training seeds; lower is better. Bars are "
                "intervals over trainings that hold for all comparisons with a baseline together.",
            ),
            Chart(
                table="front", y="distance", x="seconds", series="series", label=metric,
                only=("front", *(name for name in ("flow", "flow-map", "mean-flow", "bernoulli", "masked"))),
                caption=f"Mean {metric} by seconds per image at batch {_TIMED_BATCH}. Settings on the front are the fastest at "
                "their distance.",
            ),
        ]  # fmt: skip
        return Conclusion(
            findings=[*findings, *_map_findings(tables["maps"])],
            charts=charts,
            tables={"differences": differences, "front": front},
        )


@dataclass(frozen=True)
class Setting:
    """How a trained structure generator is sampled."""

    objective: str
    steps: int
    solver: str = "euler"
    split: str = "top half"

    @property
    def label(self) -> str:
        parts = [self.objective, f"{self.steps} step{'s' * (self.steps > 1)}"]
        return ", ".join(parts + ["Heun"] * (self.solver == "heun") + ["Gumbel"] * (self.split == "gumbel"))

    @property
    def sampling(self) -> dict[str, Any]:
        return {"flow_steps": self.steps, "flow_solver": self.solver, "gumbel": self.split == "gumbel"}


def settings_of(variant: str, objective: str) -> list[Setting]:
    """The settings that a variant is measured with."""
    if variant == CONTENT:
        return [Setting(variant, 25)]
    steps = _STEPS.get(objective, _JUMP_STEPS)
    ends = dict.fromkeys((steps[0], steps[-1] if objective == "flow" else steps[0]))
    return [
        *(Setting(variant, one) for one in steps),
        *(Setting(variant, one, "heun") for one in _HEUN_STEPS if objective == "flow"),
        *(Setting(variant, one, split="gumbel") for one in ends),
    ]


def _cost(run: StudiedRun, generator: NvgImageGenerator, setting: Setting) -> Row:
    """Seconds per image, alone and in a batch (medians of a few calls), and FLOPs of one guided image."""
    config = override_config(run.folder.config, {f"sampling.{key}": value for key, value in setting.sampling.items()})
    flops = get_family("nvg").cost(config, generator.spec.num_classes).sampling_flops
    return {
        "latency": _seconds(generator, 1, setting),
        "seconds": _seconds(generator, _TIMED_BATCH, setting) / _TIMED_BATCH,
        "flops": sum(flops.values()),
        "structure_flops": flops["structure"],
    }


def _seconds(generator: NvgImageGenerator, batch: int, setting: Setting) -> float:
    request = sample_request(generator, batch, setting.sampling)
    found = []
    for _ in range(1 + _TIMED):
        start = time.perf_counter()
        generator.generate(request).images_B3HW.cpu()
        found.append(time.perf_counter() - start)
    return median(found[1:])


def _compared(rows: Sequence[Row], base: str, metric: str) -> list[Finding]:
    """Every setting of one step, with the top half, against a baseline."""
    ones = dict.fromkeys(str(row["variant"]) for row in rows if row["steps"] == 1 and row["split"] == "top half")
    if not any(row["variant"] == base for row in rows):
        return []
    variants = [Variant(name=base), *(Variant(name=name) for name in ones if name != base)]
    # Settings share trainings, and one step may vary more than 25: no pooled spread.
    return compare_variants(rows, variants, metric=metric, probes=ones.keys() - {base})


def _front(tables: Mapping[str, list[Row]], metric: str) -> list[Row]:
    """Means over seeds by setting, sorted by time; the settings on the front once more as the series ``front``."""
    found: list[Row] = []
    for label in dict.fromkeys(str(row["setting"]) for row in tables["costs"]):
        costs = [row for row in tables["costs"] if row["setting"] == label]
        scores = [row for row in tables["scores"] if (row["setting"], row["metric"]) == (label, metric)]
        values = [float(row["value"]) for row in scores if row["value"] is not None]
        if values:
            means = {key: float(np.mean([row[key] for row in costs])) for key in ("latency", "seconds", "flops")}
            found.append({"setting": label, "series": costs[0]["objective"], "distance": float(np.mean(values)), **means})
    found.sort(key=lambda row: row["seconds"])
    best = np.inf
    front = []
    for row in found:
        if row["distance"] < best:
            best = row["distance"]
            front.append(row | {"series": "front"})
    return [*found, *front]


def _map_findings(rows: Sequence[Row]) -> list[Finding]:
    """Diversity and faithfulness of the settings that matter, as descriptions."""
    found = []
    for label in dict.fromkeys(str(row["setting"]) for row in rows if row["steps"] == 1 or row["setting"] == BASELINE):
        own = [row for row in rows if row["setting"] == label]
        mean = {key: float(np.mean([row[key] for row in own])) for key in ("agreement", "cross_entropy", "calibration")}
        entropy, real = (float(np.mean([row[key] for row in own])) for key in ("entropy", "real_entropy"))
        found.append(
            Finding(
                text=f"{label}: two splits of a canvas agree in {mean['agreement']:.3f} of their bits; cross-entropy "
                f"{mean['cross_entropy']:.3f} bits per real bit, calibration error {mean['calibration']:.3f}; pattern entropy "
                f"{entropy:.2f} bits, {real:.2f} for real maps.",
                subject=label, metric="agreement", value=mean["agreement"], n=len({row["seed"] for row in own}),
            )
        )  # fmt: skip
    return found
