"""The rules of a gate: how far metrics may move, from a TOML file."""

from __future__ import annotations

import dataclasses
import fnmatch
import importlib.resources
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from nvgbench.config.schema import STRICT
from nvgbench.errors import InputError, did_you_mean

_DEFAULT = "default_rules.toml"

Kind = Literal["interval", "tolerance", "exact"]
Direction = Literal["both", "worse"]
Weight = Literal["blocking", "advisory"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Rule:
    """How far a metric may move.

    Attributes:
        metric: the metric's exact name, or a pattern with ``*`` and ``?``; a score's name means that of every protocol.
        kind: ``interval`` fails if the change exceeds the margin and noise does not explain the excess; ``tolerance`` fails if
            the change exceeds the margin; ``exact`` fails at any change.
        direction: ``both`` also fails a suspicious change for the better; ``worse`` does not.
        relative, absolute: the margin, as a share of the baseline's value and in the metric's unit; the larger one counts.
        severity: a ``blocking`` verdict counts for the whole gate, an ``advisory`` one is only reported.
        new_environment: the severity if the baseline has only other environments, and nothing can be decided.
    """

    metric: str = Field(min_length=1)
    kind: Kind = "interval"
    direction: Direction = "both"
    relative: float = Field(default=0.0, ge=0, allow_inf_nan=False, strict=True)
    absolute: float = Field(default=0.0, ge=0, allow_inf_nan=False, strict=True)
    severity: Weight = "blocking"
    new_environment: Weight = "blocking"

    @property
    def blocking(self) -> bool:
        return self.severity == "blocking"

    @property
    def blocking_elsewhere(self) -> bool:
        """Whether a missing baseline for this environment leaves the gate undecided."""
        return self.blocking and self.new_environment == "blocking"

    def fits(self, name: str) -> bool:
        """Whether the rule applies to the metric ``name``; brackets, as in ``FD[classifier]``, are literal."""
        return name == self.metric or fnmatch.fnmatchcase(name, self.metric.replace("[", "[[]"))

    def margin(self, baseline: float) -> float:
        """How far the metric may move from ``baseline``, in its unit."""
        return max(self.absolute, self.relative * abs(baseline))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RuleSet:
    """The rules of a gate.

    Attributes:
        rules: the first that fits a metric's name applies.
        alpha: the promised rate of false alarms over all interval rules of one gate (see `nvgbench.gates.verdicts`).
        chosen: whether they come from a given file, so that each rule is expected to fit something.
    """

    rules: tuple[Rule, ...]
    alpha: float = Field(default=0.05, gt=0, lt=0.5, strict=True)
    chosen: bool = dataclasses.field(default=False, compare=False)

    def rule_for(self, *names: str) -> Rule | None:
        """The first rule that fits any of a metric's names; None if the metric is not gated."""
        return next((rule for rule in self.rules if any(rule.fits(name) for name in names)), None)


def load_rules(path: str | os.PathLike[str] | None = None) -> RuleSet:
    """The rules of a TOML file (``alpha`` and ``[[rule]]`` tables), or the built-in ones.

    Raises:
        InputError: no such file, invalid TOML, an unknown key or a wrong value (with its line), or no rule at all.
    """
    origin = "the built-in rules" if path is None else str(path)
    source = importlib.resources.files("nvgbench.gates").joinpath(_DEFAULT) if path is None else Path(path)
    try:
        text = source.read_text(encoding="utf-8")
        tree = tomllib.loads(text)
    except FileNotFoundError:
        raise InputError(f"no rules at {origin}; leave out `rules=` for the built-in rules") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{origin} is not valid TOML: {error}") from None
    for key in tree:
        if key not in ("alpha", "rule"):
            where = _where(origin, text, None, key)
            raise InputError(f"{where}: unknown key {key!r}{did_you_mean(key, ('alpha', 'rule'))}; expected alpha and [[rule]]")
    tables = tree.get("rule")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise InputError(f'{origin}: expected [[rule]] tables, found none; the simplest is [[rule]] with metric = "*"')
    rules = tuple(_rule(table, number, origin, text) for number, table in enumerate(tables, start=1))
    try:
        return RuleSet(rules=rules, chosen=path is not None, **{key: tree[key] for key in tree if key == "alpha"})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = _where(origin, text, None, "alpha")
        raise InputError(f"{where}: alpha = {tree['alpha']!r}: {problem['msg']}; 0.05 is usual") from None


def _rule(table: Mapping[str, Any], number: int, origin: str, text: str) -> Rule:
    """One table as a rule; ``number`` counts from 1."""
    known = [entry.name for entry in dataclasses.fields(Rule)]
    name = f"rule {number}" + (f" (metric = {table['metric']!r})" if isinstance(table.get("metric"), str) else "")
    for key in table:
        if key not in known:
            raise InputError(
                f"{_where(origin, text, number, key)}, {name}: unknown key {key!r}{did_you_mean(key, known)}; "
                f"valid here: {', '.join(known)}"
            )
    if "metric" not in table:
        raise InputError(f"{_where(origin, text, number, None)}, {name}: key 'metric' is missing, e.g. metric = \"FID*\"")
    try:
        rule = TypeAdapter(Rule).validate_python(table)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = str(problem["loc"][0])
        choices = {"kind": Kind, "direction": Direction, "severity": Weight, "new_environment": Weight}.get(key)
        near = did_you_mean(str(table[key]), get_args(choices)) if choices else ""
        raise InputError(
            f"{_where(origin, text, number, key)}, {name}: {key} = {table[key]!r}{near}: {problem['msg']}"
        ) from None
    given = [key for key in ("relative", "absolute") if key in table]
    if rule.kind == "exact" and given:
        where = _where(origin, text, number, given[0])
        raise InputError(f"{where}, {name}: {given[0]} has no effect with kind = 'exact'; remove it, or use kind = 'tolerance'")
    if rule.kind == "tolerance" and not given:
        where = _where(origin, text, number, "kind")
        raise InputError(
            f"{where}, {name}: kind = 'tolerance' needs relative or absolute; to allow no change use kind = 'exact'"
        )
    return rule


def _where(origin: str, text: str, number: int | None, key: str | None) -> str:
    """The file, and the line of the key or table if it is written in the usual way.

    tomllib keeps no positions, so the text is searched: ``number`` counts ``[[rule]]`` lines from 1, None means the part above
    the first table.
    """
    seen = 0
    header = ""
    for line_number, line in enumerate(text.splitlines(), start=1):
        if re.match(r"\s*\[", line):
            seen += bool(re.match(r"\s*\[\[\s*rule\s*\]\]", line))
            if seen == number:
                header = f"{origin}, line {line_number}"
                if key is None:
                    break
                continue
        if key is None or seen != (number or 0):
            continue
        if re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line) or re.match(rf"\s*\[+\s*{re.escape(key)}\s*\]", line):
            return f"{origin}, line {line_number}"
    return header or origin
