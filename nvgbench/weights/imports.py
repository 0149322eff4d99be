"""Imports published files as a run, which is sampled, scored and profiled like one that was trained here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nvgbench.config.load import load_preset
from nvgbench.config.schema import RunConfig
from nvgbench.errors import InputError
from nvgbench.files import StrPath
from nvgbench.interfaces import OriginalProject, OriginalSizes
from nvgbench.registry import get_family
from nvgbench.runs import checkpoint as ckpt
from nvgbench.runs.folder import CONFIG, PHASES, DatasetInfo, Phase, RunFolder
from nvgbench.weights.families import original_project, recognise
from nvgbench.weights.files import PublishedFile, read_published

# Tensors of the file that our model does not need; they are kept so that an export reproduces the file.
KEPT = "published.safetensors"
# The position of every tensor in the file, in alphabetical order of their names: safetensors does not keep the order.
POSITIONS = "published-places.safetensors"
_ROLE_FILES = {"weights": ckpt.WEIGHTS, "ema": ckpt.EMA}


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One part of a model as stored in its file.

    Attributes:
        prefixes: role (``weights``, ``ema``) -> prefix of the tensors' names.
        tensors: role -> original name -> tensor.
        unused: every other tensor of the file, with its prefix.
    """

    file: PublishedFile
    prefixes: Mapping[str, str]
    tensors: Mapping[str, Mapping[str, Tensor]]
    unused: Mapping[str, Tensor]


def import_run(
    folder: StrPath,
    weights: StrPath,
    tokenizer: StrPath | None = None,
    *,
    config: RunConfig | None = None,
    settings: Sequence[str] = (),
    data: str | None = None,
    ema: bool | None = None,
    tokenizer_ema: bool = False,
) -> RunFolder:
    """Make a run from published files; does nothing if the folder already holds them.

    Args:
        folder: the run's folder, created if needed.
        weights: file of a generator, or of a tokenizer alone.
        tokenizer: file of the generator's tokenizer; not needed if the generator's file includes one.
        config: configuration that the files must fit; inferred from the tensors if not given.
        settings: ``key=value``, applied to the inferred configuration.
        data: data source of the inferred configuration; the published models' own if not given.
        ema: whether to use the generator's averaged weights; if None, they are used when the file has them.
        tokenizer_ema: the same for the tokenizer. The original projects use the plain weights.

    Raises:
        InputError: a file that cannot be read or does not fit, parts of different projects, a folder with another run.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    tokenizer = None if tokenizer is None else Path(tokenizer)
    family, parts = _read(Path(weights), tokenizer, {"generator": ema, "tokenizer": tokenizer_ema})
    if config is not None and config.family != family:
        raise InputError(
            f"{weights} is a file of {original_project(family).title}, family {family!r}, but {config.name} is of family "
            f"{config.family!r}; use a preset of that family, or none"
        )
    project = original_project(family)
    plain: dict[str, Mapping[str, Tensor]] = {phase: part.tensors["weights"] for phase, part in parts.items()}
    sizes = project.sizes(plain.get("generator"), plain.get("tokenizer"))
    config = config or _configuration(sizes, settings, data)
    states = _translate(project, parts, config, sizes.classes)
    _check_free(folder, parts)
    run = RunFolder.create(folder, config)
    if sizes.classes is not None:
        run.note_dataset(
            DatasetInfo(
                name="not known: published weights",
                classes=tuple(f"class {label}" for label in range(sizes.classes)),
                images=0,
                fingerprint=f"published weights, SHA-256 {parts['generator'].file.sha256}",
            )
        )
    for phase in PHASES:
        if phase in parts:
            _store(run, phase, parts[phase], states[phase])
    return run


def _read(weights: Path, tokenizer: Path | None, ema: Mapping[str, bool | None]) -> tuple[str, dict[Phase, _Part]]:
    """The family and the parts in the files."""
    file = read_published(weights)
    family, part = _recognise(file)
    project = original_project(family)
    if part == "tokenizer":
        if tokenizer is not None:
            raise InputError(f"{weights} is a tokenizer itself; give the generator's file as weights")
        return family, {"tokenizer": _split(project, part, file, ema[part])}
    inside = project.tokenizer_inside
    if tokenizer is not None:
        second = read_published(tokenizer)
        found = _recognise(second)
        if found != (family, "tokenizer"):
            raise InputError(
                f"{tokenizer} is a {found[1]} of {original_project(found[0]).title}; {weights} needs one of {project.title}"
            )
    elif inside is not None and any(key.startswith(inside) for key in file.tensors):
        own = {key.removeprefix(inside): value for key, value in file.tensors.items() if key.startswith(inside)}
        second = PublishedFile(name=file.name, sha256=file.sha256, tensors=own)
    else:
        names = ", ".join(name for name, known in project.hub.items() if known.part == "tokenizer")
        raise InputError(f"{weights} holds a generator and no tokenizer; add `tokenizer=FILE` (published: {names})")
    return family, {
        "tokenizer": _split(project, "tokenizer", second, ema["tokenizer"]),
        "generator": _split(project, "generator", file, ema["generator"]),
    }


def _recognise(file: PublishedFile) -> tuple[str, str]:
    try:
        return recognise(file.tensors.keys())
    except InputError as error:
        raise InputError(f"{file.name}: {error}") from None


def _split(project: OriginalProject, part: str, file: PublishedFile, ema: bool | None) -> _Part:
    """Sort the file's tensors by their role."""
    prefixes = _roles(project, part, file, ema)
    tensors: dict[str, dict[str, Tensor]] = {role: {} for role in prefixes}
    unused = {}
    # Longest prefix first: the plain weights may have none at all.
    ordered = sorted(prefixes.items(), key=lambda item: -len(item[1]))
    for key, tensor in file.tensors.items():
        role, prefix = next(((role, prefix) for role, prefix in ordered if key.startswith(prefix)), ("weights", ""))
        name = key.removeprefix(prefix)
        if project.is_unused(part, name):
            unused[key] = tensor
        else:
            tensors[role][name] = tensor
    return _Part(file=file, prefixes=prefixes, tensors=tensors, unused=unused)


def _roles(project: OriginalProject, part: str, file: PublishedFile, ema: bool | None) -> dict[str, str]:
    """Role -> prefix of its tensors.

    Raises:
        InputError: averaged (or plain) weights are requested, and the file has none.
    """
    plain, average = project.prefixes(part)
    has_average = average is not None and any(key.startswith(average) for key in file.tensors)
    if average is not None and plain and not has_average and not any(key.startswith(plain) for key in file.tensors):
        plain = ""  # a state dict of the module alone
    has_plain = any(key.startswith(plain) and not (average and key.startswith(average)) for key in file.tensors)
    if ema and not has_average:
        raise InputError(f"{file.name} holds no averaged weights (EMA) of a {part}; leave the option out to use the plain ones")
    if ema is False and not has_plain:
        raise InputError(f"{file.name} holds only averaged weights (EMA) of a {part}; leave the option out to use them")
    if not has_average or ema is False:
        return {"weights": plain}
    assert average is not None
    return {"weights": plain, "ema": average} if has_plain else {"weights": average}


def _configuration(sizes: OriginalSizes, settings: Sequence[str], data: str | None) -> RunConfig:
    """The preset with these sizes, or one adapted to them under another name, as its scores are not the preset's."""
    inferred = [f"{key}={json.dumps(value)}" for key, value in sizes.settings.items()]
    config = load_preset(sizes.preset, [*inferred, *settings], data)
    if load_preset(sizes.preset, inferred) == load_preset(sizes.preset):
        return config
    description = f"sizes of published weights, everything else as in {sizes.preset}"
    return dataclasses.replace(config, name=f"{config.family}-imported", description=description)


def _translate(
    project: OriginalProject, parts: Mapping[Phase, _Part], config: RunConfig, classes: int | None
) -> dict[Phase, dict[str, dict[str, Tensor]]]:
    """Phase -> role -> state dict of our module."""
    family = get_family(config.family)
    with torch.device("meta"):
        tokenizer = family.build_tokenizer(config)
        modules: dict[Phase, nn.Module] = {"tokenizer": tokenizer}
        if classes is not None:
            modules["generator"] = family.build_generator(config, tokenizer, classes)
    found: dict[Phase, dict[str, dict[str, Tensor]]] = {}
    # The generator first: a misfit there (its depth …) says more than one in the tokenizer.
    for phase, part in sorted(parts.items()):
        own = modules[phase].state_dict()
        try:
            found[phase] = {role: project.from_original(phase, given, own, config) for role, given in part.tensors.items()}
        except InputError as error:
            raise InputError(f"{part.file.name} does not fit {config.name}: {error}") from None
    return found


def _check_free(folder: Path, parts: Mapping[Phase, _Part]) -> None:
    """Refuse to write into a run that was trained here or holds other weights.

    Raises:
        InputError: the folder holds such a run.
    """
    if not (folder / CONFIG).exists():
        return
    run = RunFolder(folder)
    for phase in PHASES:
        state = run.state(phase)
        if state is not None and (phase not in parts or state.source != _source(parts[phase])):
            raise InputError(
                f"{folder} already holds a {phase} of another origin; give the run another name, or remove that folder"
            )


def _source(part: _Part) -> dict[str, object]:
    return {**part.file.mark, "prefixes": dict(part.prefixes)}


def _store(run: RunFolder, phase: Phase, part: _Part, states: Mapping[str, Mapping[str, Tensor]]) -> None:
    if run.state(phase) is not None:
        return
    state = ckpt.CheckpointState(
        phase=phase,
        step=0,
        total_steps=0,
        final=True,
        parameters={phase: sum(tensor.numel() for tensor in states["weights"].values())},
        source=_source(part),
    )
    files: dict[str, Mapping[str, Tensor]] = {_ROLE_FILES[role]: tensors for role, tensors in states.items()}
    ckpt.save_checkpoint(run.checkpoints(phase), state, {**files, KEPT: part.unused, POSITIONS: {"places": _positions(part)}})


def _positions(part: _Part) -> Tensor:
    """int64, one per tensor of the file, see `POSITIONS`."""
    position = {name: index for index, name in enumerate(part.file.tensors)}
    return torch.tensor([position[name] for name in sorted(position)])
