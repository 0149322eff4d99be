"""The NVG paper's Table 4 on this machine: time and memory of one image, and of the largest batch that pays."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvgbench.api.jobs import ProfiledModel, append, known_classes
from nvgbench.files import StrPath
from nvgbench.reporting.published import Published, published_results
from nvgbench.results.schema import RunRecord

if TYPE_CHECKING:
    import pandas

TABLE_4 = ("nvg-d16", "nvg-d20", "nvg-d24", "var-d16", "var-d20", "var-d24", "var-d30", "ar-l", "ar-xl")
"""The presets of the table, with more depths of VAR, and LlamaGen's sizes for its autoregressive row."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A row of the table.

    Attributes:
        preset: the model, with random weights.
        variant: what is different from plain sampling; empty if nothing.
        settings: sampling settings of the variant.
        skipped: parts of the sampler that the variant leaves out.
    """

    preset: str
    variant: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.preset} ({self.variant})" if self.variant else self.preset


def cases(presets: Sequence[str] = TABLE_4) -> Iterator[Case]:
    """The rows for these presets: NVG with generated and given structure, VAR with and without its key-value cache.

    Raises:
        InputError: an unknown preset.
    """
    from nvgbench.config.load import load_preset

    for preset in presets:
        family = load_preset(preset).family
        yield Case(preset=preset)
        if family == "nvg":
            yield Case(preset=preset, variant="given structure", skipped=("structure",))
        if family == "var":
            yield Case(preset=preset, variant="without KV cache", settings={"kv_cache": False})


def paper_models(
    presets: Sequence[str] = (),
    *,
    largest_batch: int | None = None,
    set: Mapping[str, Any] | None = None,
    classes: int | None = None,
    seed: int = 0,
    device: str = "auto",
    runs: StrPath = "runs",
) -> list[ProfiledModel]:
    """Every row of the table, checked but not measured; one model at a time is in memory.

    Args:
        presets: instead of `TABLE_4`.
        largest_batch: where the search for the batch that pays ends; 64 on a GPU and 16 on the CPU if None.
        set, classes, seed, device, runs: as for `nvgbench.api.jobs.profile`.

    Raises:
        InputError: an unknown preset or setting, or no such device.
    """
    from nvgbench.config.load import load_preset
    from nvgbench.device import resolve_device

    place = resolve_device(device)
    limit = largest_batch or (64 if place.type == "cuda" else 16)
    found = []
    for case in cases(presets or TABLE_4):
        config = load_preset(case.preset, set or {})
        number = classes or known_classes(config.data.source)
        measure = _measure(case, config, number, seed, place, limit)
        found.append(ProfiledModel(case.name, Path(runs) / "records.jsonl", measure))
    return found


def _measure(case: Case, config: Any, classes: int, seed: int, device: Any, limit: int) -> Callable[..., RunRecord]:
    def measure(plan: Any, progress: Callable[[int, int], None] | None) -> RunRecord:
        from nvgbench.profiling.batches import batch_that_pays
        from nvgbench.profiling.record import profile_record
        from nvgbench.runs.models import untrained_generator

        gc.collect()  # the last model's graphs refer to each other, and hold its memory
        generator = untrained_generator(config, classes, seed, device)
        if "structure" in case.skipped:
            from nvgbench.nvg.structure_control import with_own_structure

            generator = with_own_structure(generator)
        largest = batch_that_pays(generator, limit, case.settings, device)
        plan = dataclasses.replace(plan, batch_sizes=tuple(dict.fromkeys((1, largest))))
        record = profile_record(
            generator, config, plan, device, settings=case.settings, skipped=case.skipped, progress=progress
        )
        return dataclasses.replace(record, subject=case.name)

    return measure


def profile_paper(
    presets: Sequence[str] = (),
    *,
    largest_batch: int | None = None,
    repeats: int = 10,
    warmup: int = 2,
    energy_seconds: float = 3.0,
    set: Mapping[str, Any] | None = None,
    classes: int | None = None,
    seed: int = 0,
    device: str = "auto",
    runs: StrPath = "runs",
    progress: Callable[[int, int], None] | None = None,
) -> PaperTable:
    """Measure the NVG paper's Table 4 on this machine, with random weights, beside the published figures.

    NVG with generated and with given structure, VAR with and without its key-value cache, the raster baseline: one image, and
    the largest batch that pays, as ``nvgbench profile --paper``.

    Args:
        presets: rows for these presets instead of `TABLE_4`, which needs a GPU of 24 GB or patience.
        largest_batch: where the search for the batch that pays ends; 64 on a GPU and 16 on the CPU if None.
        repeats, warmup: timed calls per batch size, and calls before them that are not timed.
        energy_seconds: shortest window over which energy is read.
        set, classes, seed, device: as for `nvgbench.profile`.
        runs: the folder whose ``records.jsonl`` gets the record of a row as soon as it is measured.
        progress: called with (rows done, rows).

    Raises:
        InputError: an unknown preset or setting, or no such device.
    """
    from nvgbench.profiling.profile import ProfilePlan

    plan = ProfilePlan(repeats=repeats, warmup=warmup, energy_seconds=energy_seconds)
    chosen: dict[str, Any] = {"set": set, "classes": classes, "seed": seed, "device": device, "runs": runs}
    models = paper_models(presets, largest_batch=largest_batch, **chosen)
    found = []
    for done, model in enumerate(models, start=1):
        found.append(model.measure(plan, None))
        append(found[-1], model.records)
        if progress is not None:
            progress(done, len(models))
    return PaperTable(tuple(found))


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """A measured row beside the published one.

    Attributes:
        name: the model and its variant.
        parameters: of the generator.
        image_s, tokens_s: median of one image, and of its tokens alone.
        memory: peak of the GPU (of the process on the CPU) for one image, bytes.
        batch, images_per_s, mfu: the largest batch that pays.
        published: the paper's row, if it has one.
    """

    name: str
    parameters: int
    image_s: float | None
    tokens_s: float | None
    memory: float | None
    batch: int
    images_per_s: float | None
    mfu: float | None
    published: Published | None


@dataclass(frozen=True, repr=False)
class PaperTable(Sequence[PaperRow]):
    """The rows that were measured, each beside the published one.

    Attributes:
        records: of the rows, in their order.
    """

    records: tuple[RunRecord, ...]

    @property
    def rows(self) -> list[PaperRow]:
        return paper_rows(self.records)

    def to_frame(self) -> pandas.DataFrame:
        """One row per model: seconds, bytes, images/s, and the paper's seconds and bytes."""
        import pandas

        own = [{key: value for key, value in vars(row).items() if key != "published"} for row in self]
        theirs = [{} if row.published is None else _published(row.published) for row in self]
        return pandas.DataFrame([one | other for one, other in zip(own, theirs, strict=True)]).set_index("name")

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[PaperRow]:
        return iter(self.rows)

    def __repr__(self) -> str:
        return str(self.to_frame())

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html())


def _published(row: Published) -> dict[str, float]:
    return {"published_s": float(row.time_s), "published_memory": float(row.memory_mib) * 2**20}


def paper_rows(records: Sequence[RunRecord]) -> list[PaperRow]:
    """The table of these records."""
    published = {row.model.lower(): row for row in published_results() if row.table == "4"}
    return [_row(record, published.get(record.subject)) for record in records]


def published_only(records: Sequence[RunRecord]) -> list[Published]:
    """The paper's rows of models that were not measured."""
    measured = {record.subject for record in records}
    return [row for row in published_results() if row.table == "4" and row.model.lower() not in measured]


def _row(record: RunRecord, published: Published | None) -> PaperRow:
    calls = {(row["call"], row["batch_size"]): row for row in reversed(record.tables.get("calls", []))}
    batch = max((size for _, size in calls), default=1)
    memory = {m.name: m.median for m in record.measurements if m.samples and m.conditions.get("batch_size") == 1}
    return PaperRow(
        name=record.subject,
        parameters=sum(row["count"] for row in record.tables["parameters"] if row["part"] != "tokenizer"),
        image_s=calls.get(("images", 1), {}).get("median_s"),
        tokens_s=calls.get(("tokens", 1), {}).get("median_s"),
        memory=memory.get("peak_memory_cuda", memory.get("peak_memory_process")),
        batch=batch,
        images_per_s=calls.get(("images", batch), {}).get("images_per_s"),
        mfu=calls.get(("images", batch), {}).get("mfu"),
        published=published,
    )
