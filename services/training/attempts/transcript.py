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
    LOST_EVENTS,
    READ_BYTES,
    CheckpointEvent,
    Fault,
    FileTail,
    ProgressEvent,
    Report,
    is_event,
)
from mcp_hub.services.training.attempts.patience import patiently
from mcp_hub.services.training.attempts.recording import MAX_LOG_LINE, Record, write_record
from mcp_hub.services.training.jobs import Job
from mcp_hub.services.training.processes.attempt import EVENTS_FILE, STDERR_FILE, STDOUT_FILE

_MAX_EVENT_BYTES = 100_000_000
_TAIL_LINES = 40
FILES = (EVENTS_FILE, STDOUT_FILE, STDERR_FILE)
"""What a transcript is read from."""
_PRINT_LESS = "Print less, such as a line an epoch, or have training.max_log_bytes raised."


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
        remedy: Callable[[], Awaitable[None]],
    ) -> None:
        """`remedy` is what may help where nothing can be written down."""
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
        self._reported_bytes = 0
        self._announce = announce
        self._remedy = remedy
        self._seq = 1
        self._tails = {name: FileTail(folder / name) for name in FILES}

    async def read(self, *, final: bool = False, failed: bool = False) -> Fault | None:
        """Take in what was written since the last time, all of it if `final`; what is wrong with
        it, or that it is more than may be written, whether or not all of it was read.

        The last event of an attempt that `failed` may be half of one, and says nothing then.

        Raises:
            Unavailable: the database does not answer, for long.
        """
        more = True
        while more:
            record, checkpoints = Record(), list[CheckpointEvent]()
            chunks = await to_thread.run_sync(
                lambda: {name: tail.read() for name, tail in self._tails.items()}
            )
            unread = any(len(chunk) == READ_BYTES for chunk in chunks.values())
            for name, chunk in chunks.items():
                tail = self._tails[name].lines
                lines = tail.feed(chunk)
                rest = tail.end() if final and not unread else b""
                if rest and not (name == EVENTS_FILE and failed and not is_event(rest)):
                    lines.append(rest)
                if name == EVENTS_FILE:
                    batch = self.report.take(lines)
                    record.metrics = batch.metrics
                    record.progress = batch.progress
                    checkpoints = batch.checkpoints
                    self.progress = batch.progress or self.progress
                    record.log += [("hub", text) for text in batch.log]
                else:
                    stream = name.removesuffix(".log")
                    texts = [line.decode(errors="replace") for line in lines if line.strip()]
                    self.last_lines.extend(text[:MAX_LOG_LINE] for text in texts)
                    record.log += [(stream, text) for text in texts]
            if record:
                await self._record(self._within_limits(record))
            # Behind their steps' metrics, which the next attempt does not report again.
            if checkpoints:
                await self._offer_checkpoint(checkpoints)
            more = final and unread and self._too_much() is None
        lost = LOST_EVENTS if self._tails[EVENTS_FILE].is_lost else None
        return self._too_much() or self.report.fault or lost

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

    def _too_much(self) -> Fault | None:
        output = self._reported_bytes + sum(
            self._tails[name].size for name in (STDOUT_FILE, STDERR_FILE)
        )
        events = self._tails[EVENTS_FILE].size
        for size, limit, what, hint in (
            (events, _MAX_EVENT_BYTES, "events", "Report less, such as a metric an epoch."),
            (output, self._most_log_bytes, "output", _PRINT_LESS),
        ):
            if size > limit:
                error = LimitExceeded(f"It wrote over {limit:,} bytes of {what}.", hint)
                return Fault(error, "too_much_output")
        return None

    def _within_limits(self, record: Record) -> Record:
        """Without the lines that are past what an attempt may write: `_too_much` tells of them."""
        kept: list[tuple[str, str]] = []
        for stream, text in record.log:
            # Of output, bytes that are no text have become longer ones.
            size = len(text.encode()) if stream == "hub" else len(text)
            if stream == "hub":
                self._reported_bytes += size + 1
            if self._log_bytes + size <= self._most_log_bytes:
                kept.append((stream, text))
            self._log_bytes += size + 1
        record.log = kept
        return record

    async def _record(self, record: Record) -> None:
        newest = dict(self.report.metrics)
        first_seq = self._seq
        self._seq += len(record.log)
        await patiently(
            lambda: self._database.write(
                lambda c: write_record(c, self._job, record, newest=newest, first_seq=first_seq)
            ),
            self._remedy,
        )
        await self._announce(self._job.id)
