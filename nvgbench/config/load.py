"""From presets and overrides to a validated `RunConfig`, and to and from TOML."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import importlib.resources
import json
import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nvgbench.config.forms import expected_form
from nvgbench.config.identity import FREE, differing, hashed_part
from nvgbench.config.schema import DataConfig, RunConfig, TokenizerConfig, TokenizerLossConfig, TrainConfig
from nvgbench.errors import InputError, did_you_mean
from nvgbench.files import StrPath
from nvgbench.registry import get_family, get_preset

_NOT_THE_MODEL = frozenset(
    {"name", "train.seed", "train.cpu_batch_size", "train.cache_tokens", "train.tokenizer.micro_batch_size",
     "train.generator.micro_batch_size", "model.alignment_folder"}
)  # fmt: skip
"""Settings that can differ between two trainings of one model, beside the free ones."""
_BUDGETS = importlib.resources.files("nvgbench.config") / "budgets"


def load_preset(name: str, overrides: Iterable[str] | Mapping[str, Any] = (), data: str | None = None) -> RunConfig:
    """Read preset ``name``, apply overrides (``section.key=value``, or values by key) and, if given, another data source.

    Raises:
        InputError: unknown preset or key, a value of the wrong type, settings that contradict each other.
    """
    tree = _read_preset(name)
    tree["name"] = name
    if data is not None:
        tree["data"]["source"] = data
    if not isinstance(overrides, Mapping):
        overrides = parse_overrides(overrides)
    return build_config(_override(tree, overrides), f"preset {name!r}")


def override_config(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """A configuration with some settings (by dotted key) replaced; None unsets a key.

    Raises:
        InputError: unknown key, a value of the wrong type, settings that contradict each other.
    """
    return build_config(_override(to_dict(config), settings), "settings")


def load_file(path: StrPath) -> RunConfig:
    """Read a resolved configuration written by `to_toml`.

    Raises:
        InputError: the file is missing, not valid TOML, or not a configuration.
    """
    path = Path(path)
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"no configuration at {path}; is {path.parent} the folder of a run?") from None
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is not valid TOML ({error}); restore that file, or remove the run and train it again"
        ) from None
    return build_config(tree, str(path))


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as nested dicts of plain values, without keys that are None."""
    plain = dataclasses.asdict(config)

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strip(item) for key, item in value.items() if item is not None}
        return [strip(item) for item in value] if isinstance(value, list | tuple) else value

    return strip(plain)


def to_toml(config: RunConfig) -> str:
    """The configuration as TOML; `load_file` reads it back to an equal object."""
    import tomli_w

    return tomli_w.dumps(to_dict(config))


def config_hash(config: RunConfig) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the configuration, independent of key order and formatting."""
    return _digest(to_dict(config))


def changed_settings(config: RunConfig) -> dict[str, Any]:
    """Settings by key that make this another model than its preset, for records; empty if none do.

    Left out are the training's seed, what does not determine the weights (`nvgbench.config.identity.FREE`) and the sampling
    settings, which records hold in full. Empty as well if the preset is not installed.
    """
    try:
        preset = load_preset(config.name)
    except InputError:
        return {}
    changes = differing(to_dict(preset), to_dict(config))
    return {
        key: value
        for key, (_, value) in changes.items()
        if key not in FREE | _NOT_THE_MODEL and not key.startswith("sampling.")
    }


def replicate_hash(config: RunConfig) -> str:
    """Like `config_hash`, without the training's seed: equal for the trainings of one configuration with several seeds."""
    tree = to_dict(config)
    del tree["train"]["seed"]
    return _digest(tree)


def _digest(tree: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(hashed_part(tree), sort_keys=True).encode()).hexdigest()[:16]


def build_config(tree: dict[str, Any], origin: str) -> RunConfig:
    """Validate a nested dict against the schema, including the family's own sections.

    Raises:
        InputError: names the path of the key, what is wrong and the closest valid key.
    """
    tree = copy.deepcopy(tree)
    family_name = tree.get("family")
    if not isinstance(family_name, str):
        raise InputError(f"{origin}: 'family' is missing; it names the model family, e.g. 'nvg'")
    family = get_family(family_name)
    tokenizer_tree = tree.get("tokenizer")
    quantizer = tokenizer_tree.pop("quantizer", {}) if isinstance(tokenizer_tree, dict) else {}
    model, sampling = tree.pop("model", {}), tree.pop("sampling", {})
    config = _validate(RunConfig, tree, origin, "")
    tokenizer = dataclasses.replace(
        config.tokenizer, quantizer=_validate(family.quantizer_config, quantizer, origin, "tokenizer.quantizer")
    )
    config = dataclasses.replace(
        config,
        tokenizer=tokenizer,
        model=_validate(family.model_config, model, origin, "model"),
        sampling=_validate(family.sampling_config, sampling, origin, "sampling"),
    )
    _check_consistency(config, origin)
    return config


def override_dataclass(config: Any, settings: Mapping[str, Any], section: str) -> Any:
    """A copy of a configuration dataclass with some fields replaced, validated like a file.

    Raises:
        InputError: unknown field, wrong type, or a number that is not finite.
    """
    return _validate(type(config), {**to_dict(config), **settings}, "settings", section)


def parse_value(text: str) -> Any:
    """``text`` as a TOML value if it is one (``3``, ``1e-4``, ``true``, ``[1, 2]``), else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _read_preset(name: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """The preset's tree merged over the one that it ``extends``: another preset, or a budget shared by several families."""
    if name in seen:
        raise InputError(f"presets extend each other in a circle: {' -> '.join((*seen, name))}")
    is_budget = bool(seen) and name.startswith("budget:")  # budgets are not presets and cannot be requested by name
    file = _BUDGETS / f"{name.removeprefix('budget:')}.toml" if is_budget else get_preset(name)
    tree = tomllib.loads(file.read_text(encoding="utf-8"))
    base = tree.pop("extends", None)
    return tree if base is None else _merge(_read_preset(base, (*seen, name)), tree)


def _override(tree: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in settings.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        tree = _merge(tree, value)
    return tree


def _merge(base: dict[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    if "steps" in top and "epochs" in base and "epochs" not in top:
        merged.pop("epochs")
    if "epochs" in top and "steps" in base and "steps" not in top:
        merged.pop("steps")
    return merged


def parse_overrides(overrides: Iterable[str]) -> dict[str, Any]:
    """Values by key of ``section.key=value`` texts; ``null`` is None.

    Raises:
        InputError: a text of another form.
    """
    found = {}
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not all(path.strip().split(".")):
            raise InputError(f"setting {override!r} is not section.key=value, e.g. train.generator.learning_rate=1e-4")
        found[path.strip()] = None if text.strip() == "null" else parse_value(text.strip())
    return found


def _validate(schema: Any, tree: Any, origin: str, section: str) -> Any:
    try:
        found = TypeAdapter(schema).validate_python(tree)
    except ValidationError as error:
        raise InputError(f"{origin}: {_explain(error, schema, section)}") from None
    for key, value in _numbers(found, section):
        if not math.isfinite(value):
            raise InputError(f"{origin}: '{key}' = {value}: expected a finite number")
    return found


def _numbers(value: Any, key: str) -> Iterator[tuple[str, float]]:
    """Every float of a section with its key."""
    if isinstance(value, float):
        yield key, value
    elif dataclasses.is_dataclass(value):
        for entry in dataclasses.fields(value):
            yield from _numbers(getattr(value, entry.name), f"{key}.{entry.name}" if key else entry.name)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item, key)


def _explain(error: ValidationError, schema: Any, section: str) -> str:
    """One line about the first problem; for a misspelt key, with the closest valid one."""
    unknown = ("unexpected_keyword_argument", "extra_forbidden")
    # A misspelt key may also leave the correct one missing; report the misspelling, which is the cause.
    problem = min(error.errors(include_url=False), key=lambda found: found["type"] not in unknown)
    form = expected_form(schema, problem["loc"], problem["type"], section)
    loc = tuple(str(part) for part in problem["loc"])
    if problem["type"] not in unknown:  # where several types are allowed, pydantic adds their names to the location
        loc = tuple(part for part in loc if part.isdigit() or (part.isidentifier() and part not in _TYPES))
    where = ".".join(part for part in (section, *loc) if part)
    if problem["type"] in unknown:
        known = _known_keys(schema, loc[:-1])
        return f"unknown key '{where}'{did_you_mean(loc[-1], known)}; valid here: {', '.join(known)}"
    if form is not None and isinstance((section, *problem["loc"])[-1], int):  # within a list
        found = "is missing" if problem["type"] == "missing" else f"is {problem.get('input')!r}"
        return f"'{form[0]}': entry {int(loc[-1]) + 1} {found}; expected {form[1]}"
    if problem["type"] in ("missing", "missing_argument"):
        return f"key '{where}' is missing"
    return f"'{where}' = {problem.get('input')!r}: {problem['msg'] if form is None else f'expected {form[1]}'}"


_TYPES = ("int", "float", "bool", "str")
_NESTED: dict[tuple[str, ...], Any] = {
    ("data",): DataConfig,
    ("tokenizer",): TokenizerConfig,
    ("tokenizer", "losses"): TokenizerLossConfig,
    ("train",): TrainConfig,
}


def _known_keys(schema: Any, path: tuple[str, ...]) -> list[str]:
    from nvgbench.config.schema import PhaseConfig

    if path and schema is RunConfig:
        schema = _NESTED.get(path, PhaseConfig)
    return [entry.name for entry in dataclasses.fields(schema)]


def _check_consistency(config: RunConfig, origin: str) -> None:
    """Check rules that involve several keys."""
    downsampling = 2 ** (len(config.tokenizer.channel_multipliers) - 1)
    if config.data.image_size % downsampling:
        raise InputError(
            f"{origin}: data.image_size = {config.data.image_size} is not a multiple of {downsampling}, the downsampling "
            "of tokenizer.channel_multipliers; change one of them"
        )
    for name in ("tokenizer", "generator"):
        phase = getattr(config.train, name)
        if (phase.steps is None) == (phase.epochs is None):
            raise InputError(f"{origin}: train.{name} needs exactly one of 'steps' and 'epochs'")
        if phase.micro_batch_size and phase.batch_size % phase.micro_batch_size:
            raise InputError(
                f"{origin}: train.{name}.batch_size = {phase.batch_size} is not a multiple of its micro_batch_size "
                f"{phase.micro_batch_size}"
            )
    every, logged = config.train.validate_every, config.train.log_every
    if every is not None and every % logged:
        raise InputError(f"{origin}: train.validate_every = {every} is not a multiple of train.log_every = {logged}")
    if config.data.flip and config.data.augment == "ten-crop":
        raise InputError(f"{origin}: data.augment = 'ten-crop' includes mirror images; leave data.flip out")
    if config.train.cache_tokens and config.data.augment == "random-crop":
        raise InputError(f"{origin}: train.cache_tokens needs data.augment = 'none' or 'ten-crop' (got 'random-crop')")
