"""What the sources share: which parts of a query each takes, and batches of bounded size."""

import math
from collections.abc import Collection, Iterable
from dataclasses import fields

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.adapters.sources.port import Cell, Query, Row

BATCH_ROWS = 5_000
BATCH_BYTES = 4 * 1024 * 1024
_FIRST = 16
_GROWTH = 8
_CELL_BYTES = 32


def check_parts(query: Query, taken: Collection[str], what: str) -> None:
    """Raise InvalidArgument where `query` says something that `what` has no use for."""
    for part in fields(query):
        if getattr(query, part.name) is not None and part.name not in taken:
            raise InvalidArgument(
                f"query.{part.name} is not for {what}.",
                f"It takes {', '.join(taken)}.",
            )


def weight(row: Row) -> int:
    """About how many bytes a row takes."""
    return sum(
        _CELL_BYTES + (len(cell) if isinstance(cell, str | bytes) else 0) for cell in row.values()
    )


class Pace:
    """How many rows to ask for next, so that a batch stays near `BATCH_BYTES`.

    The first batch is small, and each is at most so many times larger: rows are not measured
    before they are there.
    """

    def __init__(self) -> None:
        self.rows = _FIRST

    def measure(self, rows: Iterable[Row]) -> None:
        """Take the rows that came as a measure of those to come."""
        weights = [weight(row) for row in rows]
        mean = sum(weights) / len(weights) if weights else 1
        fitting = BATCH_BYTES / max(mean, 1)
        self.rows = max(1, math.floor(min(fitting, self.rows * _GROWTH, BATCH_ROWS)))


def number_cell(value: float) -> Cell:
    """A float as a cell: NaN is missing."""
    return None if math.isnan(value) else value
