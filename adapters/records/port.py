"""The records port: what of keeping telemetry records differs between databases."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from sqlalchemy import Connection


class Row(NamedTuple):
    """A row of `telemetry_records`, in the order of its columns."""

    time: int
    id: bytes
    series: int
    severity: int | None
    trace_id: bytes | None
    span_id: bytes | None
    parent_id: bytes | None
    duration_ns: int | None
    value: float | None
    unit: str | None
    body: str | None
    attributes: str
    resource: int
    pattern: int | None


class RecordStore(Protocol):
    """The bulk work on telemetry records; each method is part of the caller's transaction."""

    def insert(self, connection: Connection, rows: Sequence[Row], *, all_new: bool) -> list[int]:
        """Add rows by the fastest way there is; the places of those that were there already.

        A row is there already when one of the same time and id is, in the table or before it in
        `rows`. `all_new` says that none can be, because all ids have just been made.
        """
        ...

    def delete_before(
        self, connection: Connection, time: int, limit: int, kind: str | None = None
    ) -> int:
        """Remove about `limit` of the records older than `time` (ns), or of those of one kind.

        Returns how many were removed; 0 where there are no such records any more.
        """
        ...
