"""Compares recomputed with stored arrays: at least one check per array, and an error for arrays without one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.parity.arithmetic import Arithmetic
from nvgbench.parity.fixture import Fixture
from nvgbench.parity.rounding import FACTOR, NOISE, Gradients, norms, roundings

Verdict = Literal["pass", "fail", "excepted", "flips", "input", "absent"]
Scale = Literal["array", "column", "entry", "unit"]
_NOISE_LOW = 1e-2
"""`NOISE` in half precision."""
# Shares of entries that half precision may decide differently: if all inputs are given (measured: 1.3 %), and if each choice
# is an input of the next ones.
SINGLE_CHOICES, CHAINED_CHOICES = 0.1, 1.0


@dataclass(frozen=True)
class Check:
    """The verdict on an array, or on a part of one.

    Attributes:
        name: of the array or JSON entry.
        part: the part, or the way of computing it, if there are several.
        verdict: ``pass``; ``fail``; ``excepted``: differs for a reason that the fixture states; ``flips``: rounding in half
            precision decided it differently, or decided something it was computed from; ``input``: others are computed from
            it; ``absent``: listed but not in the archive.
        difference: largest absolute difference; None if nothing was compared.
        relative: largest difference relative to the largest magnitude (of the array, the column or the entry itself).
        limit: of ``relative``; 0 demands equality.
        differing, entries: number of entries beyond the limit, and of all entries.
        remark: an explanation.
    """

    name: str
    verdict: Verdict
    part: str = ""
    difference: float | None = None
    relative: float | None = None
    limit: float | None = None
    differing: int = 0
    entries: int = 0
    remark: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two arrays of the same shape, and the requirement.

    Attributes:
        limit: largest allowed difference relative to ``scale``; 0 demands equality.
        scale: largest magnitude of the array, of each column, each entry's own size, or 1.
        excuse: why a difference is not a failure, if the fixture states a reason.
        rounded: share of entries that half precision may decide differently (an argmax or a split).
        follows: names of such results that this was computed from.
    """

    name: str
    part: str
    ours: np.ndarray
    reference: np.ndarray
    limit: float
    scale: Scale = "array"
    excuse: str = ""
    rounded: float = 0.0
    follows: tuple[str, ...] = ()


@dataclass
class Ledger:
    """Collects the comparisons of one fixture.

    Args:
        fixture: the stored numbers.
        arithmetic: device and precision.
        tolerance: of the family, for float32 on a CPU.
        report: called with every check as soon as it is made.
    """

    fixture: Fixture
    arithmetic: Arithmetic
    tolerance: float
    report: Callable[[Check], None] = lambda check: None
    checks: list[Check] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def has(self, *names: str) -> bool:
        """Whether any of these arrays is in the archive."""
        return any(name in self.fixture.arrays for name in names)

    def named(self, prefix: str) -> list[str]:
        """The arrays whose names start with ``prefix``."""
        return [name for name in self.fixture.arrays if name.startswith(prefix)]

    def given(self, name: str) -> Tensor:
        """A stored array to compute others from.

        Raises:
            InputError: it is not there.
        """
        return self.arithmetic.tensor(self.fixture.array(name))

    def inputs(self, *names: str) -> None:
        """Declare arrays as inputs, which cannot be recomputed."""
        for name in names:
            if name in self.fixture.arrays and name not in self._seen:
                self._seen.add(name)
                self._add(Check(name, "input", entries=self.fixture.arrays[name].size, remark="others are computed from it"))

    def equal(
        self,
        name: str,
        ours: Tensor | np.ndarray,
        part: str = "",
        *,
        stored: Any = None,
        excuse: str = "",
        rounded: float = 0.0,
    ) -> bool:
        """Demand equality; returns whether it holds (also if the array is absent and nothing is compared).

        Args:
            name: of the array, or of a JSON entry given as ``stored``.
            ours: recomputed, any numeric type.
            stored: compare with this instead of the whole array.
            excuse, rounded: see `Comparison`.
        """
        return self._compare(name, ours, part, stored, limit=0.0, excuse=excuse, rounded=rounded)

    def close(
        self,
        name: str,
        ours: Tensor | np.ndarray | float,
        part: str = "",
        *,
        stored: Any = None,
        scale: Scale = "array",
        excuse: str = "",
        follows: Iterable[str] = (),
        tolerance: float | None = None,
    ) -> bool:
        """Demand equality up to rounding; arguments as for `equal`.

        Args:
            tolerance: of this array, instead of the family's.
        """
        limit = self.arithmetic.tolerance(self.tolerance if tolerance is None else tolerance)
        return self._compare(name, ours, part, stored, limit=limit, scale=scale, excuse=excuse, follows=tuple(follows))

    def numbers(
        self,
        name: str,
        ours: Mapping[str, float],
        stored: Mapping[str, float],
        tolerance: float | None = None,
        follows: Iterable[str] = (),
        part: str = "",
    ) -> bool:
        """Compare named scalars of the JSON file, each relative to its own size."""
        if ours.keys() != stored.keys():
            unmatched = sorted(ours.keys() ^ stored.keys())
            self._add(Check(name, "fail", remark=f"the names differ, e.g. {unmatched[0]!r}", differing=len(unmatched)))
            return False
        values = np.array([float(ours[key]) for key in stored])
        reference = np.array([float(value) for value in stored.values()])
        floor = (_NOISE_LOW if self.arithmetic.low else NOISE) * np.abs(reference).max(initial=0.0)
        rounding = (np.abs(values) <= floor) & (np.abs(reference) <= floor)
        parts = [part, f"{len(reference)} numbers, each by its own size" if len(reference) > 1 else ""]
        parts.append(f"{rounding.sum()} are rounding alone" if rounding.any() else "")
        values = np.where(rounding, reference, values)
        part = "; ".join(filter(None, parts))
        return self.close(name, values, part, stored=reference, scale="entry", tolerance=tolerance, follows=follows)

    def gradients(self, compute: Callable[[Ledger], Gradients], follows: Iterable[str] = ()) -> None:
        """Compare gradients. In float32 their rounding depends on the CPU, so there are two comparisons: of a recomputation in
        float64 with the stored values, and of float32 with float64, whose limit is measured (see `nvgbench.parity.rounding`).

        Args:
            compute: returns them for a ledger of any arithmetic: those of the archive by name, and groups of which the JSON
                file has the norms.
            follows: see `close`.
        """
        ours = compute(self)
        if self.arithmetic.dtype != "float32":
            self._compare_gradients(ours, follows)
            return
        exactly = replace(self, arithmetic=Arithmetic(torch.device("cpu"), "float64"), report=lambda check: None, checks=[])
        with exactly.arithmetic.active():
            exact = compute(exactly)
            steps = roundings(ours, exact, lambda: compute(exactly))
        self._compare_gradients(exact, follows, "in float64")
        for name in filter(self._holds, steps):
            zeros = np.zeros_like(steps[name])
            part = "float32 against float64, in roundings"
            self._add(self.settle(Comparison(name, part, steps[name], zeros, FACTOR, "unit")))

    def _holds(self, name: str) -> bool:
        return name in self.fixture.arrays or name in self.fixture.facts

    def _compare_gradients(self, gradients: Gradients, follows: Iterable[str], part: str = "") -> None:
        for name, values in gradients.items():
            stored = self.fixture.facts.get(name)
            if not isinstance(values, Mapping):
                self.close(name, values, part, follows=follows)
            elif stored is not None:
                if isinstance(stored, list):
                    stored = {str(place): value for place, value in enumerate(stored)}
                self.numbers(
                    name, norms(values), stored if isinstance(stored, Mapping) else {name: stored}, None, follows, part
                )

    def number(self, name: str, ours: Tensor | float, follows: Iterable[str] = ()) -> bool:
        """Compare a scalar of the JSON file, if present, relative to its own size."""
        stored = self.fixture.facts.get(name)
        value = float(ours.detach()) if isinstance(ours, Tensor) else ours
        return stored is None or self.numbers(name, {name: value}, {name: stored}, follows=follows)

    def finish(self) -> list[Check]:
        """All checks, with those of the archive's SHA-256 and of absent arrays.

        Raises:
            InputError: an array of the archive was not checked, because nothing recomputes it.
        """
        unknown = sorted(set(self.fixture.arrays) - self._seen)
        if unknown:
            more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
            raise InputError(f"{self.fixture.name} has an unknown layout: nothing recomputes {', '.join(unknown[:3])}{more}")
        if self.fixture.intact is not None:
            remark = "unchanged" if self.fixture.intact else "the archive was changed, maybe its inputs too; install again"
            self._add(Check("SHA-256 of the archive", "pass" if self.fixture.intact else "fail", remark=remark))
        for name in self.fixture.absent:
            self._add(Check(name, "absent", remark="listed but not in the archive; not checked"))
        return self.checks

    def _compare(
        self,
        name: str,
        ours: Tensor | np.ndarray | float,
        part: str,
        stored: Any,
        *,
        limit: float,
        scale: Scale = "array",
        excuse: str = "",
        rounded: float = 0.0,
        follows: tuple[str, ...] = (),
    ) -> bool:
        if stored is None:
            if name not in self.fixture.arrays:
                return True
            stored = self.fixture.arrays[name]
        if name in self.fixture.arrays:
            self._seen.add(name)
        if isinstance(ours, Tensor):
            ours = ours.detach().cpu().double().numpy() if ours.is_floating_point() else ours.detach().cpu().numpy()
        flipped = {check.name for check in self.checks if check.verdict == "flips"} if self.arithmetic.low else set()
        comparison = Comparison(
            name, part, np.asarray(ours), np.asarray(stored), limit, scale, excuse,
            rounded=rounded if self.arithmetic.low else 0.0, follows=tuple(sorted(flipped & set(follows))),
        )  # fmt: skip
        check = self.settle(comparison)
        self._add(check)
        return check.verdict == "pass"

    def settle(self, comparison: Comparison) -> Check:
        """The verdict on one comparison."""
        return judge(comparison)

    def _add(self, check: Check) -> None:
        self.checks.append(check)
        self.report(check)


def judge(comparison: Comparison) -> Check:
    """The check of one comparison."""
    ours, reference = comparison.ours, comparison.reference
    if ours.shape != reference.shape:
        remark = f"recomputed as {list(ours.shape)}, stored as {list(reference.shape)}"
        return Check(comparison.name, "fail", comparison.part, limit=comparison.limit, entries=reference.size, remark=remark)
    ours, reference = ours.astype(np.float64), reference.astype(np.float64)
    same = (ours == reference) | (np.isnan(ours) & np.isnan(reference))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(ours - reference))
    # A NaN or infinity on one side only is an infinite difference.
    difference = np.where(np.isnan(difference), np.inf, difference)
    relative = difference / _magnitude(reference, comparison.scale)
    beyond = relative > comparison.limit
    verdict, remark = _decide(comparison, bool(beyond.any()), int(beyond.sum()), beyond.size)
    return Check(
        comparison.name,
        verdict,
        comparison.part,
        difference=float(difference.max(initial=0.0)),
        relative=float(relative.max(initial=0.0)),
        limit=comparison.limit,
        differing=int(beyond.sum()),
        entries=reference.size,
        remark=remark,
    )


def _magnitude(reference: np.ndarray, scale: Scale) -> np.ndarray:
    size = np.nan_to_num(np.abs(reference), nan=0.0, posinf=0.0)
    largest = size.max(initial=0.0)
    if scale == "unit":
        return np.ones_like(size)
    if scale == "entry":
        return np.maximum(size, 1e-12)
    if scale == "column":
        return np.maximum(size.max(axis=0, keepdims=True), 1e-12)
    return np.maximum(largest, 1e-12)


def _decide(comparison: Comparison, differs: bool, differing: int, entries: int) -> tuple[Verdict, str]:
    if not differs:
        return "pass", ""
    if comparison.excuse:
        return "excepted", comparison.excuse
    if comparison.rounded and differing <= comparison.rounded * entries:
        return "flips", f"{differing:,} of {entries:,} decided differently: half precision rounds near ties away"
    if comparison.follows:
        return "flips", f"computed from {', '.join(comparison.follows)}, which half precision decided differently"
    return "fail", ""
