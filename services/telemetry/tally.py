"""What is counted of the records of a table's cells: a group and a bucket of time each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcp_hub.adapters.errors import LimitExceeded
from mcp_hub.services.telemetry.cells import Cells, Extremes, Floats, Numbers, Sums, compacted
from mcp_hub.services.telemetry.columns import Coded, key_of
from mcp_hub.services.telemetry.measures import Measure, Number

MAX_GROUPS = 200_000
MAX_UNIQUE = 5_000_000


class Groups:
    """Numbers for the combinations of values that records are grouped by."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self._known: dict[Any, int] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def of(self, columns: Sequence[Coded], length: int) -> NDArray[np.int64]:
        """The group [n] of each row of the columns, one for each field.

        Raises:
            LimitExceeded: there are more than `MAX_GROUPS`.
        """
        combined = np.zeros(length, np.int64)
        # Of each combination seen here, the place of each field's value.
        places: list[tuple[int, ...]] = [()]
        for column in columns:
            mixed = combined * (len(column.values) + 1) + column.codes
            whole, combined = compacted(mixed)
            pairs = zip(*divmod(whole, len(column.values) + 1), strict=True)
            places = [(*places[before], int(place)) for before, place in pairs]
        lists = [column.values for column in columns]
        rows = (tuple(v[p] for v, p in zip(lists, one, strict=True)) for one in places)
        return np.array([self.number(row) for row in rows], np.int64)[combined]

    def order(self) -> NDArray[np.intp]:
        """Of each group its place among all, sorted by their texts."""
        texts = [*map(repr, self.rows)]
        places = np.empty(len(texts), np.intp)
        places[sorted(range(len(texts)), key=texts.__getitem__)] = np.arange(len(texts))
        return places

    def number(self, row: tuple[Any, ...]) -> int:
        """The number of the group with these values."""
        number = self._known.setdefault(tuple(map(key_of, row)), len(self.rows))
        if number == len(self.rows):
            if number >= MAX_GROUPS:
                raise LimitExceeded(
                    f"There are more than {MAX_GROUPS:,} groups.",
                    "Group by less, or narrow the question with where or the window.",
                )
            self.rows.append(row)
        return number


@dataclass(slots=True)
class NumberTally:
    """Of one number: how many there are, their sum, extremes and, if asked for, quantiles."""

    sums: Sums = field(default_factory=lambda: Sums(2))
    extremes: Extremes = field(default_factory=Extremes)
    numbers: Numbers = field(default_factory=Numbers)

    def add(self, cells: Cells, values: Floats, *, quantiles: bool) -> None:
        """Add `values` [n], of which NaN are none, of `cells` [n]."""
        there = ~np.isnan(values)
        if not there.all():
            cells, values = cells[there], values[there]
        self.sums.add_each(cells, values)
        self.extremes.add_each(cells, values)
        if quantiles:
            self.numbers.add(cells, values)


@dataclass(slots=True)
class UniqueTally:
    """Of one field: which values each cell has."""

    _known: dict[Any, int] = field(default_factory=dict)
    _pairs: list[NDArray[np.int64]] = field(default_factory=list)
    _held: int = 0

    def add(self, cells: Cells, column: Coded) -> None:
        used = np.unique(column.codes)
        numbers = np.zeros(len(column.values), np.int64)
        values = column.values
        for code in used.tolist():
            if code:
                numbers[code] = self._known.setdefault(key_of(values[code]), len(self._known))
        present = column.codes != 0
        pairs = (cells[present] << 32) | numbers[column.codes[present]]
        self._pairs.append(compacted(pairs)[0])
        self._held += len(self._pairs[-1])
        if self._held > MAX_UNIQUE:
            self._pairs = [np.unique(np.concatenate(self._pairs))]
            self._held = len(self._pairs[0])
            if self._held > MAX_UNIQUE:
                raise LimitExceeded(
                    f"There are more than {MAX_UNIQUE:,} unique values.",
                    "Narrow the question with where or the window.",
                )

    def result(self) -> tuple[Cells, Floats]:
        """The cells, sorted, and how many distinct values each has."""
        if not self._pairs:
            return np.empty(0, np.int64), np.empty(0)
        pairs = np.unique(np.concatenate(self._pairs))
        cells, counts = np.unique(pairs >> 32, return_counts=True)
        return cells, counts.astype(np.float64)


class Tally:
    """The records counted, and of the measures what each needs."""

    def __init__(self, measures: Sequence[Measure]) -> None:
        self.measures = measures
        self.records = Sums(2)
        self.numbers: dict[Number, NumberTally] = {
            one.number: NumberTally() for one in measures if one.number is not None
        }
        self.uniques = {one.unique: UniqueTally() for one in measures if one.unique is not None}

    def ranks(self, number: Number) -> list[float]:
        """The quantiles asked for of a number."""
        return [m.rank for m in self.measures if m.function == "quantile" and m.number == number]

    def figures(self, seconds: Floats, buckets: int) -> tuple[Cells, list[Floats]]:
        """The cells, sorted, and the figures [cells] of each measure; NaN where there is none.

        `seconds` are those of each of the `buckets`, for rates.
        """
        cells, (count, errors) = self.records.result()
        filled = count > 0
        cells, count, errors = cells[filled], count[filled], errors[filled]
        of_numbers = {n: self._of_number(n, one, cells) for n, one in self.numbers.items()}
        found: list[Floats] = []
        for measure in self.measures:
            if measure.unique is not None:
                found.append(_spread(cells, *self.uniques[measure.unique].result(), 0.0))
            elif measure.number is not None:
                found.append(of_numbers[measure.number][measure.function, measure.rank])
            else:
                found.append(
                    {
                        "count": count,
                        "errors": errors,
                        "rate": count / seconds[cells % buckets],
                        "error_rate": errors / count,
                    }[measure.function]
                )
        return cells, found

    def _of_number(
        self, number: Number, tally: NumberTally, cells: Cells
    ) -> dict[tuple[str, float], Floats]:
        where, (count, total) = tally.sums.result()
        where, count, total = where[count > 0], count[count > 0], total[count > 0]
        at, least, most = tally.extremes.result()
        found = {
            ("sum", 0.0): _spread(cells, where, total),
            ("avg", 0.0): _spread(cells, where, total / count),
            ("min", 0.0): _spread(cells, at, np.where(np.isinf(least), np.nan, least)),
            ("max", 0.0): _spread(cells, at, np.where(np.isinf(most), np.nan, most)),
        }
        ranks = self.ranks(number)
        if ranks:
            owners, quantiles = tally.numbers.quantiles(ranks)
            for column, rank in enumerate(ranks):
                found["quantile", rank] = _spread(cells, owners, quantiles[:, column])
        return found


def _spread(cells: Cells, where: Cells, values: Floats, missing: float = np.nan) -> Floats:
    """`values` of the cells `where`, sorted, as those of all `cells`, sorted."""
    found = np.full(len(cells), missing)
    if len(where):
        places = np.minimum(np.searchsorted(where, cells), len(where) - 1)
        there = where[places] == cells
        found[there] = values[places[there]]
    return found
