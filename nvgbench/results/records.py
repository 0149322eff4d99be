"""Records as a sequence that can be filtered and turned into a table. No torch."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from nvgbench.errors import InputError, did_you_mean
from nvgbench.files import StrPath
from nvgbench.results.compare import Scored, with_caution
from nvgbench.results.grouping import replicate_of
from nvgbench.results.numbers import NUMBER_FIELDS, of_measurement, of_metric
from nvgbench.results.schema import RunRecord
from nvgbench.results.store import read_records
from nvgbench.results.weights import newest_trainings

if TYPE_CHECKING:
    import pandas

_FIELDS = tuple(entry.name for entry in dataclasses.fields(RunRecord))
_ABOUT = ("kind", "subject", "family", "preset", "replicate_of", "training_seed")
_TYPES = {
    "value": "float",
    "low": "float",
    "high": "float",
    "level": "float",
    "higher_is_better": "boolean",
    "training_seed": "Int64",
    "n": "Int64",
    "n_reference": "Int64",
}


class Records(Sequence[RunRecord]):
    """Records, oldest first, as `nvgbench.results.store.read_records` returns them."""

    def __init__(self, records: Iterable[RunRecord] = ()) -> None:
        self._records = tuple(records)

    @classmethod
    def read(cls, path: StrPath) -> Records:
        """The records of a ``.jsonl`` file, or of every ``records.jsonl`` in and below a folder.

        Raises:
            InputError: nothing at ``path``, or a broken line (named by file and line number).
        """
        return cls(read_records(path))

    @overload
    def __getitem__(self, index: int) -> RunRecord: ...

    @overload
    def __getitem__(self, index: slice) -> Records: ...

    def __getitem__(self, index: int | slice) -> RunRecord | Records:
        return Records(self._records[index]) if isinstance(index, slice) else self._records[index]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[RunRecord]:
        return iter(self._records)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Records) and self._records == other._records

    __hash__ = None  # type: ignore[assignment]  # records hold dictionaries

    def __repr__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(record.kind for record in self).items())
        subjects = ", ".join(dict.fromkeys(record.subject for record in self))
        return f"<{len(self)} records: {kinds}; of {subjects}>" if self else "<0 records>"

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html(max_rows=60))

    def select(self, **wanted: Any) -> Records:
        """The records whose fields equal what is given, e.g. ``select(kind="eval", subject="nvg-tiny")``.

        Raises:
            InputError: a name that is no field of a record.
        """
        for key in wanted:
            if key not in _FIELDS:
                raise InputError(f"records have no field {key!r}{did_you_mean(key, _FIELDS)}; fields: {', '.join(_FIELDS)}")
        return Records(record for record in self if all(getattr(record, key) == value for key, value in wanted.items()))

    def to_frame(self) -> pandas.DataFrame:
        """One row per score or measurement; see `to_frame`."""
        return to_frame(self)


def to_frame(records: Iterable[RunRecord]) -> pandas.DataFrame:
    """Scores and measurements as a table: one row each, in the order of the records.

    Columns: kind, subject, family and preset of the record; ``replicate_of`` (equal for trainings of one configuration) and
    ``training_seed``; then the fields of `nvgbench.results.numbers.Number` but for the verdict: metric, value, low, high …
    A measurement is its median, with its smallest and largest sample as low and high.
    """
    records, rows = list(records), []
    trainings = newest_trainings(records)
    for record in records:
        trained = replicate_of(record)
        about = {
            **{name: getattr(record, name) for name in ("kind", "subject", "family", "preset")},
            "replicate_of": "" if trained is None else trained.of,
            "training_seed": None if trained is None else trained.seed,
        }
        numbers = [of_metric(with_caution(Scored(metric, record), trainings)) for metric in record.metrics]
        numbers += [of_measurement(measurement, record) for measurement in record.measurements]
        rows += [{**about, **dataclasses.asdict(number)} for number in numbers]
    return frame_of(rows, [*_ABOUT, *(name for name in NUMBER_FIELDS if name != "verdict")])


def frame_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pandas.DataFrame:
    """Rows that hold the fields of `Number` as a table of these columns, missing values as such."""
    import pandas

    types = {name: kind for name, kind in _TYPES.items() if name in columns}
    return pandas.DataFrame(rows, columns=list(columns)).astype(types)
