"""Training, profiling, studies, records, reports and gates."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nvgbench.errors import InputError, did_you_mean
from nvgbench.files import StrPath
from nvgbench.gates.baseline import read_baseline
from nvgbench.gates.rules import load_rules
from nvgbench.gates.schema import Outcome, Verdict, overall
from nvgbench.gates.verdicts import evaluate_gates
from nvgbench.interfaces import Progress
from nvgbench.reporting.build import DEFAULT_TITLE, render_report
from nvgbench.reporting.galleries import without_data_pictures
from nvgbench.results.records import Records
from nvgbench.results.schema import RunRecord
from nvgbench.results.store import LocatedRecord, ResultStore, records_of

if TYPE_CHECKING:
    import pandas

    from nvgbench.api.runs import Run
    from nvgbench.runs.folder import Weights

Phase = Literal["tokenizer", "generator"]


def train(
    preset: str,
    *,
    data: str | None = None,
    set: Mapping[str, Any] | None = None,
    name: str | None = None,
    runs: StrPath = "runs",
    device: str = "auto",
    tokenizer: StrPath | None = None,
    init: StrPath | None = None,
    teacher: StrPath | None = None,
    phases: Sequence[Phase] = ("tokenizer", "generator"),
    continue_with: Mapping[str, Any] | None = None,
    rewind: int | None = None,
    accept_data: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Train a preset, or resume its training; a finished run is returned as it is.

    Args:
        preset: a name from ``nvgbench presets``.
        data: another data source, e.g. ``cifar10`` or ``imagefolder:PATH``.
        set: settings by key, e.g. ``{"train.generator.steps": 500}``.
        name: of the run; the preset's if None.
        runs: the folder of runs.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        tokenizer: run (folder, or name below ``runs``) or published file whose tokenizer is used instead of training one; or
            the name of a trained one that comes with nvgbench, e.g. ``nvg-tiny-tokenizer``.
        init: run or published file whose weights the training starts from: fine-tuning, also with other classes. Its tokenizer
            is used as it is, unless ``phases=["tokenizer"]`` trains that alone.
        teacher: run to learn from: its tokenizer and content generator are kept, and the structure generator is fitted to its
            flow, unless ``set`` says otherwise.
        phases: what to train.
        continue_with: settings of a started run to change from its last checkpoint on, e.g. ``{"train.generator.steps": 600}``.
        rewind: first return to the newest checkpoint at or before this step; 0 starts the phase in training anew.
        accept_data: resume although images were repaired, removed or replaced.
        progress: called with what happens: ``phase, done, total`` (and ``losses`` now and then), or ``message``.

    Raises:
        InputError: an unknown preset or setting, data that cannot be used, or a run of that name with another configuration.
    """
    from nvgbench.api.runs import Run
    from nvgbench.config.load import load_preset
    from nvgbench.device import resolve_device
    from nvgbench.registry import get_family
    from nvgbench.training.run import train_run
    from nvgbench.weights.source import source_run

    taught = {} if teacher is None else get_family(load_preset(preset).family).teacher_settings
    place, config = resolve_device(device), load_preset(preset, {**taught, **(set or {})}, data)
    with (
        source_run(tokenizer, runs, config) as coder,
        source_run(init, runs, config, tokenizer=tokenizer) as start,
        source_run(teacher, runs, config) as known,
    ):
        folder = train_run(
            config,
            Path(runs, name or preset),
            device=place,
            progress=progress or (lambda _: None),
            tokenizer=coder,
            init=start,
            teacher=known,
            phases=phases,
            continue_with=continue_with,
            rewind=rewind,
            accept_data=accept_data,
        )
    return Run(folder, place)


def profile(
    target: StrPath,
    *,
    batch_sizes: Sequence[int] = (1, 8),
    repeats: int = 10,
    warmup: int = 2,
    energy_seconds: float = 3.0,
    set: Mapping[str, Any] | None = None,
    classes: int | None = None,
    seed: int = 0,
    device: str = "auto",
    runs: StrPath = "runs",
    weights: Weights = "averaged",
    step: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RunRecord:
    """Measure parameters, FLOPs, latency, throughput, memory and energy of a run, or of a preset with random weights.

    Args:
        target: a run (folder, or name below ``runs``) or a preset.
        batch_sizes: images per call; latency is measured at 1, throughput above.
        repeats, warmup: timed calls per batch size, and calls before them that are not timed.
        energy_seconds: shortest window over which energy is read.
        set: settings by key; for a run, of its sampling alone.
        classes: number of classes of a preset whose data set is not known.
        seed: of a preset's random weights.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        runs: the folder of runs.
        weights, step: of a run's generator, as for `nvgbench.load_run`.
        progress: called with (steps done, steps).

    Returns:
        The record; `nvgbench profile` also appends it to the run's records.

    Raises:
        InputError: neither a run nor a preset, or settings that do not exist.
    """
    plan = _plan(batch_sizes=tuple(batch_sizes), repeats=repeats, warmup=warmup, energy_seconds=energy_seconds)
    model = profiled_model(target, set=set, classes=classes, seed=seed, device=device, runs=runs, weights=weights, step=step)
    return model.measure(plan, progress)


def _plan(**choices: Any) -> Any:
    from nvgbench.profiling.profile import ProfilePlan

    return ProfilePlan(**choices)


@dataclass(frozen=True)
class ProfiledModel:
    """A model that is about to be measured: checked, but not loaded yet.

    Attributes:
        name: of the run or preset.
        records: where `nvgbench profile` appends its record.
        measure: called with a `nvgbench.profiling.profile.ProfilePlan` and a progress callback; returns the record.
    """

    name: str
    records: Path
    measure: Callable[[Any, Callable[[int, int], None] | None], RunRecord]


def profiled_model(
    target: StrPath,
    *,
    set: Mapping[str, Any] | None = None,
    classes: int | None = None,
    seed: int = 0,
    device: str = "auto",
    runs: StrPath = "runs",
    weights: Weights = "averaged",
    step: int | None = None,
) -> ProfiledModel:
    """Check what `profile` was given, so that a misspelt name stops before anything is measured."""
    from nvgbench.config.load import load_preset
    from nvgbench.device import resolve_device
    from nvgbench.profiling.record import profile_record
    from nvgbench.registry import preset_files
    from nvgbench.runs.find import find_run, find_runs, is_run
    from nvgbench.runs.models import untrained_generator

    text, root, place = os.fspath(target), Path(runs), resolve_device(device)
    if is_run(text, root):
        run = find_run(text, root)
        settings = {key.removeprefix("sampling."): value for key, value in (set or {}).items()}
        config = run.config
        return ProfiledModel(
            run.name,
            run.records_path,
            lambda plan, progress: profile_record(
                run.load_generator(place, weights=weights, step=step), config, plan, place, settings=settings, progress=progress
            ),
        )
    if text not in preset_files():
        known = [*preset_files(), *(run.name for run in find_runs(root))]
        raise InputError(
            f"{text!r} is neither a preset nor a run in {root}{did_you_mean(text, known)}; 'nvgbench presets' lists presets"
        )
    if step is not None or weights != "averaged":
        raise InputError(f"`step=` and `weights=` choose among the weights of a run, and {text!r} is a preset; leave them out")
    config = load_preset(text, set or {})
    number = 0 if config.data.classes == "none" else classes or known_classes(config.data.source)
    return ProfiledModel(
        text,
        root / "records.jsonl",
        lambda plan, progress: profile_record(
            untrained_generator(config, number, seed, place), config, plan, place, progress=progress
        ),
    )


def known_classes(source: str) -> int:
    """Number of classes of a data source.

    Raises:
        InputError: only the data themselves would tell.
    """
    from nvgbench.data.catalog import SOURCES

    number = SOURCES.get(source.partition(":")[0]).num_classes
    if number is None:
        raise InputError(f"the number of classes of {source!r} is not known beforehand; give it as `classes=`")
    return number


def ablate(
    study: str,
    targets: Sequence[StrPath] = (),
    *,
    budget: str = "standard",
    preset: str | None = None,
    variants: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    set: Mapping[str, Any] | None = None,
    images: int | None = None,
    samples: int | None = None,
    seed: int = 0,
    data: str | Sequence[str] | None = None,
    extractor: str = "classifier",
    jobs: int = 1,
    device: str = "auto",
    runs: StrPath = "runs",
    progress: Callable[[int, int], None] | None = None,
) -> RunRecord:
    """Run a study: on trained runs (``clusters`` …), or on variants that it trains with several seeds (``components`` …).

    Called again, it resumes: finished trainings and measurements are used as they are, failed ones are tried again. What failed
    is in the record's table ``runs``.

    Args:
        study: see ``nvgbench ablate list``, or an entry point of the group ``nvgbench.studies``.
        targets: runs with a trained tokenizer, for studies that probe runs.
        budget: ``quick``, ``standard`` or ``paper``: number of seeds, images and samples, length of trainings.
        preset: of the trainings; the study's own for the budget if None.
        variants: names of the variants to compare, with their baselines; all if empty.
        seeds: training seeds; the first of the budget's number if None.
        set: settings of every training by key.
        images, samples: number of held-out and of generated images; the budget's if None.
        seed: of noise, random splits and samples.
        data: other data than the run's or the preset's own; several sources for studies that compare them.
        extractor: feature extractor of the scores.
        jobs: processes that train and measure at once.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        runs: the folder of runs; trainings go to its ``studies``.
        progress: called with (done, total) by every measurement in turn.

    Raises:
        InputError: no such study or setting, runs that cannot be studied, or nothing that could be measured.
    """
    from contextlib import nullcontext

    from nvgbench.ablations.runner import StudyRequest, plan_study, run_study
    from nvgbench.device import resolve_device
    from nvgbench.progress import quiet
    from nvgbench.runs.find import find_run

    root = Path(runs)
    request = StudyRequest(
        study=study,
        root=root,
        device=resolve_device(device),
        targets=[find_run(os.fspath(target), root) for target in targets],
        budget=budget,
        preset=preset,
        variants=variants,
        seeds=seeds,
        settings=set or {},
        images=images,
        samples=samples,
        seed=seed,
        sources=(data,) if isinstance(data, str) else data or (),
        extractor=extractor,
        jobs=jobs,
    )
    return run_study(plan_study(request, quiet if progress is None else lambda _: nullcontext(progress)))


def records(*places: StrPath, runs: StrPath = "runs") -> Records:
    """The records of runs, of record files, or of everything in a folder.

    Args:
        places: folders, record files, or names of runs below ``runs``; all of ``runs`` if none is given.
        runs: the folder of runs.

    Raises:
        InputError: no such place, or a broken file.
    """
    return Records(located.record for located in _located(places, runs))


def report(
    *places: StrPath,
    out: StrPath = "reports/index.html",
    title: str = DEFAULT_TITLE,
    baseline: StrPath | None = None,
    rules: StrPath | None = None,
    force: bool = False,
    data_pictures: bool = True,
    history: Sequence[StrPath] = (),
    runs: StrPath = "runs",
) -> Path:
    """Build one self-contained HTML page from records and their pictures, and return its path.

    Args:
        places: as for `records`.
        out: HTML file to write; the numbers go to a ``.json`` and a ``.csv`` beside it.
        title: heading of the page.
        baseline: also show what a gate says against this baseline.
        rules: rules of that gate; the built-in ones if None.
        force: compare scores that are not comparable, and mark them.
        data_pictures: show images of the data set.
        history: JSON files beside earlier reports, whose scores are part of the history.
        runs: the folder of runs.

    Raises:
        InputError: nothing to report on, or a broken file.
    """
    if not Path(out).name:
        raise InputError(f"`out={os.fspath(out)!r}` is not a file name; give one such as reports/index.html")
    located = _located(places, runs)
    if not data_pictures:
        located = without_data_pictures(located)
    verdicts: Sequence[Verdict] = ()
    if baseline is not None:
        verdicts = gate(baseline, [one.record for one in located], rules=rules, whole=not places)
    return render_report(located, Path(out), title=title, verdicts=verdicts, force=force, earlier=history)


@dataclass(frozen=True, repr=False)
class GateResult(Sequence[Verdict]):
    """What a gate decided: the verdict on every gated metric.

    Attributes:
        verdicts: in the order of the baseline.
    """

    verdicts: tuple[Verdict, ...]

    @property
    def outcome(self) -> Outcome:
        """``pass``, ``fail`` (a blocking rule failed) or ``inconclusive`` (none failed, but one is undecided)."""
        return overall(self.verdicts)

    @property
    def passed(self) -> bool:
        return self.outcome == "pass"

    def to_frame(self) -> pandas.DataFrame:
        """One row per verdict."""
        import dataclasses

        import pandas

        return pandas.DataFrame([dataclasses.asdict(verdict) for verdict in self.verdicts])

    def __getitem__(self, index: Any) -> Any:
        return self.verdicts[index]

    def __len__(self) -> int:
        return len(self.verdicts)

    def __iter__(self) -> Iterator[Verdict]:
        return iter(self.verdicts)

    def __repr__(self) -> str:
        from nvgbench.gates.outputs import as_text

        return as_text(self.verdicts)

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html())


def gate(
    baseline: StrPath,
    current: Sequence[RunRecord] | StrPath = "runs",
    *,
    rules: StrPath | None = None,
    whole: bool = True,
) -> GateResult:
    """Compare records with a baseline of the same environment, metric by metric.

    Args:
        baseline: file written by ``nvgbench gate --update``.
        current: records, or the folder that holds them.
        rules: TOML file of rules; the built-in ones if None.
        whole: whether everything that the baseline holds is expected among the records.

    Raises:
        InputError: a broken file, or scores that are not comparable.
    """
    found = records(current) if isinstance(current, str | os.PathLike) else current
    known = load_rules(None if rules is None else Path(rules))
    return GateResult(tuple(evaluate_gates(known, read_baseline(Path(baseline)), found, whole=whole)))


def append(record: RunRecord, path: StrPath) -> Path:
    """Append a record to a file of records (or to ``records.jsonl`` in a folder), and return the file's path."""
    store = ResultStore(Path(path))
    store.append(record)
    return store.path


def _located(places: Sequence[StrPath], runs: StrPath) -> list[LocatedRecord]:
    """The records of ``places``: names of runs, record files, or folders of such."""
    names: list[str] = []
    files: list[Path] = []
    for place in places:
        path = Path(place)
        if path.exists() or path.suffix == ".jsonl":
            files.append(path)
        else:
            names.append(os.fspath(place))
    return records_of(names, files, Path(runs))
