"""Telemetry from files: JSON Lines of records, or of OTLP as the Collector's file exporter writes.

A record without an id is given one by its line and the line's number, and one without a time that
of the file, so that importing a file again, or what was added to it, keeps each record once.
"""

import gzip
import os
import zlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from anyio import to_thread

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.telemetry.intake import accepting
from mcp_hub.services.telemetry.intake.accepting import Batch, Rejected
from mcp_hub.services.telemetry.intake.ingest import Ingest
from mcp_hub.services.telemetry.protocols import otlp, otlp_logs, otlp_metrics, otlp_traces
from mcp_hub.services.telemetry.protocols.otlp import Origin, Signal

MAX_LINE = 10 * 1024 * 1024
_LINES = 1_000
_BYTES = 4 * 1024 * 1024
_SHOWN = 10
_GZIP = b"\x1f\x8b"
_SIGNALS: dict[bytes, Signal] = {
    b'"resourceSpans"': "traces", b'"resourceMetrics"': "metrics", b'"resourceLogs"': "logs",
}  # fmt: skip

OnProgress = Callable[[str, int, int], Awaitable[None]]
"""Told of a step's name, and how many of its bytes are done of how many."""


@dataclass(slots=True)
class Imported:
    """What became of a file's records; the lines of the first that were rejected, from 1."""

    accepted: int = 0
    repeated: int = 0
    rejected: int = 0
    problems: list[Rejected] = field(default_factory=list)


async def import_file(ingest: Ingest, path: Path, told: OnProgress) -> Imported:
    """Commit the records of the file, packed with gzip or not.

    Raises:
        InvalidArgument: it cannot be read, or is damaged; what came before is committed.
        Overloaded, Unavailable: as `Ingest.record`; import it again.
    """
    result = Imported()
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            batches = _batches(file, about.st_mtime_ns)
            while (batch := await to_thread.run_sync(next, batches, None)) is not None:
                done = await ingest.record(batch)
                result.accepted += done.accepted
                result.repeated += done.repeated
                result.rejected += len(done.rejected)
                result.problems += done.rejected[: _SHOWN - len(result.problems)]
                await told(path.name, file.tell(), about.st_size)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidArgument(
            f"{path} cannot be read: {error}.", "What came before in it is kept; import it again."
        ) from error
    return result


def _batches(file: BinaryIO, time_ns: int) -> Iterator[Batch]:
    """The file's records, some at a time; a place is a line's number."""
    packed = file.read(2) == _GZIP
    file.seek(0)
    lines = gzip.GzipFile(fileobj=file) if packed else file
    batch = Batch()
    size = 0
    for number, line in enumerate(_lines(lines), 1):
        if line.strip():
            _add(batch, line, number, time_ns)
            size += len(line)
        if len(batch.records) + len(batch.rejected) >= _LINES or size > _BYTES:
            yield batch
            batch = Batch()
            size = 0
    yield batch


def _lines(file: "BinaryIO | gzip.GzipFile") -> Iterator[bytes]:
    """The lines of a file. One that is too long is cut, so that it is no JSON."""
    while line := file.readline(MAX_LINE):
        rest = line
        while len(rest) == MAX_LINE and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE)
        yield line


def _add(batch: Batch, line: bytes, number: int, time_ns: int) -> None:
    if len(line) == MAX_LINE:
        batch.rejected.append(Rejected(number, f"the line is longer than {MAX_LINE:,} bytes"))
        return
    origin = Origin(b"%d:%b" % (number, line))
    signal = next((name for key, name in _SIGNALS.items() if key in line[:100]), None)
    try:
        if signal is None:
            said = accepting.said_in(line)
            if said.time is None:
                said.time = time_ns
            if said.id is None:
                said.id = str(UUID(bytes=origin.id(accepting.parse_time(said.time), 0)))
            batch.records.append(accepting.record_of(said, "event"))
            batch.places.append(number)
            return
        found = _otlp_batch(line, signal, origin)
    except (ValueError, RecursionError) as error:
        batch.rejected.append(Rejected(number, accepting.complaint_of(error)))
        return
    batch.records += found.records
    batch.places += [number] * len(found.places)
    batch.rejected += [Rejected(number, f"{one.index}: {one.message}") for one in found.rejected]


def _otlp_batch(line: bytes, signal: Signal, origin: Origin) -> Batch:
    request = otlp.parse_json(line, signal)
    if signal == "traces":
        return otlp_traces.batch_of(request)
    if signal == "metrics":
        return otlp_metrics.batch_of(request, origin)
    return otlp_logs.batch_of(request, origin)
