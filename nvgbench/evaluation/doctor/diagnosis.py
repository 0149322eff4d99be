"""What the doctor found: the score under each variant, the causes ranked, and the variants nearest to the expected score."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

_SHOWN = 5
"""Causes listed in the text."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The score under one variant.

    Attributes:
        variant: what was changed.
        of: what it was done to: ``samples``, ``reference``, ``statistics``, ``number``, ``order`` or ``protocol``.
        cause: the mistake it stands for.
        score: name of the score.
        value: the score.
        change: its difference from the score without the change.
        error: standard error of the change, image by image; None if it has none.
        speaks: whether a better score is evidence for the cause.
    """

    variant: str
    of: str
    cause: str
    score: str
    value: float
    change: float
    error: float | None = None
    speaks: bool = False


@dataclass(frozen=True, kw_only=True)
class Cause:
    """A mistake and what speaks for it; each of the three parts is from 0 to 1.

    Attributes:
        name: the mistake.
        clue: how clearly the images themselves show it.
        gain: by which share the score improves if the mistake is undone or done to the reference as well.
        match: which share of the difference from the expected score it explains; 0 without an expected score.
        reasons: one line each.
    """

    name: str
    clue: float
    gain: float
    match: float
    reasons: tuple[str, ...]

    @property
    def weight(self) -> float:
        """By which causes are ranked: the sum of the three parts."""
        return self.clue + self.gain + self.match


@dataclass(frozen=True, kw_only=True)
class Combination:
    """Some variants together, and the score under them."""

    variants: tuple[str, ...]
    value: float


@dataclass(frozen=True, kw_only=True, repr=False)
class Diagnosis:
    """The findings about one score.

    Attributes:
        score: its recorded name, such as ``FID`` or ``FD[classifier]``.
        value, stderr: the score without any change, and its standard error.
        n, n_reference: numbers of samples and of reference images.
        samples, reference: names of both sets.
        expected: the score it should be, if known.
        rows: the score under each variant.
        causes: the most likely first; empty if nothing was found.
        nearest: the variants, alone or together, that come nearest to the expected score, the nearest first.
        notes: what limits these findings.
    """

    score: str
    value: float
    stderr: float | None
    n: int
    n_reference: int | None
    samples: str
    reference: str
    expected: float | None
    rows: tuple[Row, ...]
    causes: tuple[Cause, ...]
    nearest: tuple[Combination, ...] = ()
    notes: tuple[str, ...] = ()

    def to_frame(self) -> pandas.DataFrame:
        """One row per variant."""
        import pandas

        return pandas.DataFrame([dataclasses.asdict(row) for row in self.rows])

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return dataclasses.asdict(self) | {
            "causes": [dataclasses.asdict(cause) | {"weight": cause.weight} for cause in self.causes]
        }

    def __str__(self) -> str:
        return "\n".join([self._headline(), *self._table(), "", *self._causes(), *self._nearest(), *self._notes()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html())

    def _headline(self) -> str:
        reference = "" if self.n_reference is None else f" against {self.n_reference:,}"
        expected = "" if self.expected is None else f", expected {self.expected:.5g}"
        error = "" if self.stderr is None else f" ± {self.stderr:.2g}"
        return (
            f"{self.samples} against {self.reference}: {self.score} = {self.value:.5g}{error} "
            f"(n = {self.n:,}{reference}){expected}"
        )

    def _table(self) -> list[str]:
        cells = [("variant", "of", "cause", "score", "value", "change", "±")]
        for row in self.rows:
            error = "" if row.error is None else f"{row.error:.2g}"
            numbers = f"{row.value:.5g}", f"{row.change:+.4g}", error
            cells.append((row.variant, row.of, row.cause, row.score, *numbers))
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return ["  ".join(_aligned(row, widths)).rstrip() for row in cells]

    def _causes(self) -> list[str]:
        if not self.causes:
            return ["Nothing found that would explain another score."]
        lines = ["Most likely causes:"]
        for number, cause in enumerate(self.causes[:_SHOWN], start=1):
            lines.append(f"{number}. {cause.name} (weight {cause.weight:.2f})")
            lines += [f"   - {reason}" for reason in cause.reasons]
        return lines

    def _nearest(self) -> list[str]:
        if not self.nearest:
            return []
        lines = ["", f"Nearest to the expected {self.expected:.5g}:"]
        return lines + [f"- {one.value:.5g} with {' + '.join(one.variants) or 'no change'}" for one in self.nearest]

    def _notes(self) -> list[str]:
        return [f"note: {note}" for note in self.notes]


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Words to the left, numbers to the right."""
    words = 4
    return [
        cell.ljust(width) if place < words else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
