"""Telemetry by way of a stream: accepted means appended, and any process of the hub writes it.

A burst is taken at the stream's speed and written at the database's; while the database is away,
records wait. Each entry is written at least once, and, since records are known by their ids, once.
"""

import logging
import os
import socket
import time
from collections.abc import Sequence
from functools import partial

import anyio
import msgspec
from anyio import to_thread

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import NotFound, Unavailable
from mcp_hub.adapters.records.port import RecordStore
from mcp_hub.adapters.stream.port import Entry, Stream
from mcp_hub.services.telemetry.envelope import Record
from mcp_hub.services.telemetry.intake.accepting import Batch, Rejected
from mcp_hub.services.telemetry.intake.ingest import (
    RETRY_AFTER_S,
    Accepted,
    Commit,
    Ingest,
    Overloaded,
)

logger = logging.getLogger(__name__)

GROUP = "writers"
MAX_BEHIND = 20_000
"""Entries that may wait on the stream; each has up to 500 records."""

_PER_ENTRY = 500
_AT_ONCE = 10
_WAIT_S = 1.0
_PAUSE_S = 1.0
_TRIES = 5
_LOOKED_FOR_S = 1.0

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Record]).decode


class StreamedIngest(Ingest):
    """An ingest whose records are on the stream when it accepts them. `consume` writes them."""

    def __init__(
        self, database: Database, store: RecordStore, stream: Stream, *, idle_s: float = 30.0
    ) -> None:
        """What a process took and did not finish in `idle_s`, another one does."""
        super().__init__(database, store)
        self._stream = stream
        self._idle_s = idle_s
        self._consumer = f"{socket.gethostname()}:{os.getpid()}"
        self._claimed_at = 0.0
        self._behind = 0
        self._looked_at = -_LOOKED_FOR_S

    async def record(self, batch: Batch) -> Accepted:
        """Append the batch's records to the stream. What was sent before is not known here, so
        that `repeated` is 0: it is found out, and left out, when it is written.

        Raises:
            Overloaded: too much waits on the stream.
            Unavailable: the stream does not answer.
        """
        if not batch.records:
            return Accepted(0, 0, batch.rejected)
        commit = await to_thread.run_sync(self.prepare, batch)
        return await commit()

    async def ready(self) -> None:
        """There is nothing to wait for: the names are of those that write."""

    def prepare(self, batch: Batch) -> Commit:
        bodies, rejected = _encoded(batch)
        every = sorted([*batch.rejected, *rejected], key=lambda one: one.index)
        return partial(self._append, bodies, len(batch.records) - len(rejected), every)

    async def _append(self, bodies: list[bytes], count: int, rejected: list[Rejected]) -> Accepted:
        if count:
            await self._check_stream(count)
            await self._stream.append(bodies)
        return Accepted(count, 0, rejected)

    async def consume(self) -> None:
        """Write what comes on the stream, until cancelled."""
        known = False
        while True:
            try:
                if not known:
                    await self._stream.create_group(GROUP)
                    known = True
                await self._write_next()
            except NotFound:
                # Somebody has emptied the server.
                known = False
            except Unavailable as error:
                logger.warning("Telemetry waits on the stream: %s", error.message)
                await anyio.sleep(_PAUSE_S)

    async def check(self) -> str:
        """How much waits. Raises Unavailable."""
        try:
            lag = await self._stream.lag(GROUP)
        except NotFound:
            return "nothing was ever streamed"
        return f"{lag.undelivered} entries wait, {lag.pending} are being written"

    async def _check_stream(self, records: int) -> None:
        now = time.monotonic()
        if now - self._looked_at >= _LOOKED_FOR_S:
            self._looked_at = now
            try:
                lag = await self._stream.lag(GROUP)
                self._behind = lag.undelivered + lag.pending
            except NotFound:
                await self._stream.create_group(GROUP)
                self._behind = 0
        if self._behind > MAX_BEHIND:
            self.counts.refused += records
            raise Overloaded(
                f"{self._behind:,} batches of telemetry wait on the stream to be written.",
                f"Send these again after {RETRY_AFTER_S} s; run more workers.",
            )

    async def _write_next(self) -> None:
        entries: list[Entry] = []
        if time.monotonic() - self._claimed_at > self._idle_s / 2:
            entries = await self._stream.claim_stale(
                GROUP, self._consumer, idle_s=self._idle_s, limit=_AT_ONCE
            )
            # Where there was much, there may be more.
            self._claimed_at = time.monotonic() if len(entries) < _AT_ONCE else 0.0
        if not entries:
            entries = await self._stream.read(GROUP, self._consumer, limit=_AT_ONCE, wait_s=_WAIT_S)
        while entries:
            done, again = await self._written(entries)
            if done:
                await self._stream.ack(GROUP, done)
                await self._stream.trim(0)
            if again:
                await anyio.sleep(_PAUSE_S)
            entries = again

    async def _written(self, entries: Sequence[Entry]) -> tuple[list[str], list[Entry]]:
        """Write the entries together: the ids of those that are done with, and those to try again
        when the database answers."""
        done: list[str] = []
        again: list[Entry] = []

        async def write(entry: Entry) -> None:
            try:
                records = await to_thread.run_sync(_records, entry.body)
                written = await super(StreamedIngest, self).record(
                    Batch(records, [*range(len(records))])
                )
            except Unavailable as error:
                logger.warning("Telemetry waits to be written: %s", error.message)
                again.append(entry)
                return
            except Exception:
                logger.exception("The entry %s of the telemetry stream was not written", entry.id)
                if entry.delivery < _TRIES:
                    return
            else:
                for one in written.rejected:
                    logger.warning("A streamed record was refused: %s", one.message)
            done.append(entry.id)

        async with anyio.create_task_group() as tasks:
            for entry in entries:
                tasks.start_soon(write, entry)
        return done, again


def _records(body: bytes) -> list[Record]:
    # New when they were accepted; an entry that comes again has brought them already.
    return [msgspec.structs.replace(record, is_new=False) for record in _decode(body)]


def _encoded(batch: Batch) -> tuple[list[bytes], list[Rejected]]:
    """The batch as entries, and the records that cannot be."""
    bodies = []
    rejected: list[Rejected] = []
    for start in range(0, len(batch.records), _PER_ENTRY):
        records = batch.records[start : start + _PER_ENTRY]
        try:
            bodies.append(_encode(records))
        except (ValueError, TypeError, OverflowError, RecursionError):
            places = batch.places[start : start + _PER_ENTRY]
            bodies.append(_encode(_encodable(records, places, rejected)))
    return bodies, rejected


def _encodable(
    records: Sequence[Record], places: Sequence[int], rejected: list[Rejected]
) -> list[Record]:
    kept = []
    for place, record in zip(places, records, strict=True):
        try:
            _encode(record)
            kept.append(record)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            rejected.append(Rejected(place, str(error)))
    return kept
