"""What a gate tolerates: rules from a TOML file, one for each kind of metric."""

from __future__ import annotations

import fnmatch
import importlib.resources
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from nvgbench.config.schema import STRICT
from nvgbench.errors import InputError

_DEFAULT = "default_rules.toml"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Rule:
    """How far a metric may move.

    Attributes:
        match: the metric's exact name, or a pattern with ``*`` and ``?``.
        kind: ``interval`` fails only where the interval of the difference lies wholly outside the margin; ``tolerance``
            fails as soon as the difference itself does.
        relative, absolute: the margin, as a share of the baseline's value and in the metric's unit; the larger one counts.
        two_sided: a change for the better fails as well.
        blocking: a failure fails the gate; otherwise it is only reported.
    """

    match: str = Field(min_length=1)
    kind: Literal["interval", "tolerance"] = "interval"
    relative: float = Field(default=0.0, ge=0)
    absolute: float = Field(default=0.0, ge=0)
    two_sided: bool = True
    blocking: bool = True

    def fits(self, name: str) -> bool:
        """Whether the rule is meant for the metric ``name``; brackets, as in ``FD[classifier]``, stand for themselves."""
        return name == self.match or fnmatch.fnmatchcase(name, self.match.replace("[", "[[]"))

    def margin(self, baseline: float) -> float:
        """How far the metric may move from ``baseline``, in its unit."""
        return max(self.absolute, self.relative * abs(baseline))


def load_rules(path: Path | None = None) -> tuple[Rule, ...]:
    """Rules of a TOML file with ``[[rule]]`` tables, or the built-in ones.

    Raises:
        InputError: no such file, no TOML, an unknown key or a wrong value, or no rule at all.
    """
    origin = "the built-in rules" if path is None else str(path)
    source = importlib.resources.files("nvgbench.gates").joinpath(_DEFAULT) if path is None else path
    try:
        tree = tomllib.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"no rules at {origin}; leave --rules out for the built-in ones") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{origin} is not valid TOML: {error}") from None
    unknown = set(tree) - {"rule"}
    if unknown or not tree.get("rule"):
        found = f"unknown key {sorted(unknown)[0]!r}" if unknown else "it holds none"
        raise InputError(f"{origin}: expected [[rule]] tables, {found}")
    try:
        return TypeAdapter(tuple[Rule, ...]).validate_python(tree["rule"])
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise InputError(f"{origin}: rule.{where} = {problem.get('input')!r}: {problem['msg']}") from None


def rule_for(name: str, rules: Sequence[Rule]) -> Rule | None:
    """The first rule that fits a metric, or None: then the metric is not gated."""
    return next((rule for rule in rules if rule.fits(name)), None)
