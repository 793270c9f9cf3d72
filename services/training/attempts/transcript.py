"""What an attempt writes while it runs, taken in and written down: reports, output, checkpoints."""

from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
from anyio import to_thread

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import HubError, LimitExceeded
from mcp_hub.services.training.attempts.checkpoints import Checkpoints
from mcp_hub.services.training.attempts.collecting import inside
from mcp_hub.services.training.attempts.events import (
    READ_BYTES,
    CheckpointEvent,
    FileTail,
    ProgressEvent,
    Report,
)
from mcp_hub.services.training.attempts.patience import patiently
from mcp_hub.services.training.attempts.recording import MAX_LOG_LINE, Record, write_record
from mcp_hub.services.training.jobs import Job
from mcp_hub.services.training.processes.attempt import EVENTS_FILE, STDERR_FILE, STDOUT_FILE

_MAX_EVENT_BYTES = 100_000_000
_TAIL_LINES = 40


class Transcript:
    """The reports and the output of one attempt, as far as they were read."""

    def __init__(
        self,
        job: Job,
        folder: Path,
        checkpoints: Checkpoints,
        *,
        database: Database,
        log_bytes: int,
        announce: Callable[[str], Awaitable[None]],
    ) -> None:
        self.report = Report()
        self.progress: ProgressEvent | None = None
        self.last_lines: deque[str] = deque(maxlen=_TAIL_LINES)
        self._job = job
        self._folder = folder
        self._checkpoints = checkpoints
        self._checkpoint_offered = anyio.Event()
        self._database = database
        self._most_log_bytes = log_bytes
        self._log_bytes = 0
        self._announce = announce
        self._seq = 1
        self._tails = {
            name: FileTail(folder / name) for name in (EVENTS_FILE, STDOUT_FILE, STDERR_FILE)
        }

    async def read(self, *, final: bool = False) -> HubError | None:
        """Take in what was written since the last time, all of it if `final`; an error where it is
        more than may be written, whether or not all of it was read.

        Raises:
            Unavailable: the database does not answer, for long.
        """
        error: HubError | None = None
        more = True
        while more:
            record, checkpoints = Record(), list[CheckpointEvent]()
            chunks = await to_thread.run_sync(
                lambda: {name: tail.read() for name, tail in self._tails.items()}
            )
            error = self._too_much()
            unread = any(len(chunk) == READ_BYTES for chunk in chunks.values())
            more = final and unread and error is None
            for name, chunk in chunks.items():
                lines = self._tails[name].lines.feed(chunk, final=final and not more)
                if name == EVENTS_FILE:
                    batch = self.report.take(lines)
                    record.metrics = batch.metrics
                    record.progress = batch.progress
                    checkpoints = batch.checkpoints
                    self.progress = batch.progress or self.progress
                    record.log += [("hub", text) for text in batch.log]
                else:
                    stream = name.removesuffix(".log")
                    texts = [line.decode(errors="replace") for line in lines]
                    self.last_lines.extend(text[:MAX_LOG_LINE] for text in texts)
                    record.log += [(stream, text) for text in texts]
            if record:
                await self._record(self._within_limits(record))
            # Behind their steps' metrics, which the next attempt does not report again.
            if checkpoints:
                await self._offer_checkpoint(checkpoints)
        return error

    async def note(self, text: str) -> None:
        """Add a line of the hub's own to the log."""
        await self._record(Record(log=[("hub", text)]))

    async def keep_checkpoints(self) -> None:
        """Store the newest checkpoint whenever there is another, beside the reports."""
        while True:
            await self._checkpoint_offered.wait()
            self._checkpoint_offered = anyio.Event()
            await self.keep_checkpoint()

    async def keep_checkpoint(self) -> None:
        """Store the newest checkpoint that was reported, if it is not stored yet."""
        try:
            await patiently(self._checkpoints.keep)
        except HubError as error:
            await self.note(f"A checkpoint is not kept: {error.message}")

    async def _offer_checkpoint(self, events: list[CheckpointEvent]) -> None:
        try:
            files = await to_thread.run_sync(
                lambda: [inside(self._folder, one.path) for one in events]
            )
            await self._checkpoints.offer(files, events[-1].step)
            self._checkpoint_offered.set()
        except HubError as error:
            await self.note(f"A checkpoint is not kept: {error.message}")

    def _too_much(self) -> HubError | None:
        for name, tail in self._tails.items():
            limit = _MAX_EVENT_BYTES if name == EVENTS_FILE else self._most_log_bytes
            if tail.size > limit:
                return LimitExceeded(f"It wrote over {limit:,} bytes of output.", "Print less.")
        return None

    def _within_limits(self, record: Record) -> Record:
        kept: list[tuple[str, str]] = []
        for stream, text in record.log:
            self._log_bytes += len(text) + 1
            if self._log_bytes > self._most_log_bytes:
                break
            kept.append((stream, text))
        record.log = kept
        return record

    async def _record(self, record: Record) -> None:
        newest = dict(self.report.metrics)
        first_seq = self._seq
        self._seq += len(record.log)
        await patiently(
            lambda: self._database.write(
                lambda c: write_record(c, self._job, record, newest=newest, first_seq=first_seq)
            )
        )
        await self._announce(self._job.id)
