"""What is counted of the records of a table's cells: a group and a bucket of time each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcp_hub.adapters.errors import LimitExceeded
from mcp_hub.services.telemetry.aggregates.measures import Measure, Number
from mcp_hub.services.telemetry.storage.cells import (
    Cells,
    Extremes,
    Floats,
    Numbers,
    Sums,
    compacted,
    distinct,
)
from mcp_hub.services.telemetry.storage.columns import Coded, Dictionary

MAX_GROUPS = 200_000
MAX_UNIQUE = 5_000_000

_VALUE_BITS = 32


class Groups:
    """Numbers for the combinations of values that records are grouped by."""

    def __init__(self, fields: int) -> None:
        self._dictionaries = [Dictionary() for _ in range(fields)]
        # Of two fields or more: for each further field, the pairs of what was before and it.
        self._pairs: list[dict[int, int]] = [{} for _ in range(fields - 1)]

    def of(self, columns: Sequence[Coded], length: int) -> NDArray[np.int64]:
        """The group [n] of each row of the columns, one for each field.

        Raises:
            LimitExceeded: there are more than `MAX_GROUPS`.
        """
        groups = np.zeros(length, np.int64)
        for place, (column, dictionary) in enumerate(zip(columns, self._dictionaries, strict=True)):
            numbers = dictionary.numbers(column)
            if not place:
                groups = numbers
                self._check(len(dictionary))
                continue
            known = self._pairs[place - 1]
            whole, places = compacted(groups << _VALUE_BITS | numbers)
            ids = [known.setdefault(pair, len(known)) for pair in whole.tolist()]
            self._check(len(known))
            groups = np.array(ids, np.int64)[places]
        return groups

    def values(self, groups: NDArray[np.int64]) -> list[list[Any]]:
        """For each field, its value in each of the groups [n]."""
        found = []
        for place in range(len(self._dictionaries) - 1, -1, -1):
            numbers = groups
            if place:
                pairs = np.fromiter(self._pairs[place - 1], np.int64)[groups]
                groups, numbers = pairs >> _VALUE_BITS, pairs & ((1 << _VALUE_BITS) - 1)
            values = self._dictionaries[place].values
            found.append([values[number] for number in numbers.tolist()])
        return found[::-1]

    def _check(self, count: int) -> None:
        if count > MAX_GROUPS:
            raise LimitExceeded(
                f"There are more than {MAX_GROUPS:,} groups.",
                "Group by less, or narrow the question with where or the window.",
            )


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

    _values: Dictionary = field(default_factory=Dictionary)
    _pairs: list[NDArray[np.int64]] = field(default_factory=list)
    _held: int = 0

    def add(self, cells: Cells, column: Coded) -> None:
        numbers = self._values.numbers(column)
        present = numbers != 0
        pairs = (cells[present] << _VALUE_BITS) | numbers[present]
        self._pairs.append(distinct(pairs))
        self._held += len(self._pairs[-1])
        if self._held > MAX_UNIQUE:
            self._pairs = [distinct(np.concatenate(self._pairs))]
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
        owners = distinct(np.concatenate(self._pairs)) >> _VALUE_BITS
        cells, places = compacted(owners)
        return cells, np.bincount(places, minlength=len(cells)).astype(np.float64)


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
