"""The hub's telemetry of itself: what it does becomes records like any other program's.

Recording never waits and never fails: a record goes into a bounded buffer, from which a task of
the hub's commits it within about a second. What is in the buffer when the process is killed is
lost. No record holds an argument's value or a secret, but names of the hub's own things only.
"""

import logging
import platform
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio

import mcp_hub
from mcp_hub.adapters.errors import HubError, Unavailable
from mcp_hub.services.background import in_background
from mcp_hub.services.telemetry import envelope
from mcp_hub.services.telemetry.envelope import Record
from mcp_hub.services.telemetry.intake.accepting import Batch, make_record
from mcp_hub.services.telemetry.own import tracing
from mcp_hub.services.telemetry.own.tracing import TraceContext

if TYPE_CHECKING:
    from mcp_hub.services.telemetry.intake.ingest import Ingest

logger = logging.getLogger(__name__)

MAX_BUFFERED = 10_000
FLUSH_S = 1.0
_AT_ONCE = 500
_CLOSING_S = 5.0
_MAX_BACK_OFF_S = 30.0


class Observer(Protocol):
    """Is told of each record, at once; must be quick and must not raise."""

    def __call__(self, record: Record, /) -> None: ...


AnObserver = TypeVar("AnObserver", bound=Observer)


@dataclass(frozen=True, slots=True)
class Collected:
    """What the hub records of itself."""

    usage: bool = True
    """What went well."""
    errors: bool = True
    """What failed."""


@dataclass(slots=True)
class Span:
    """Something under way; `attributes` may be added to until it ends."""

    name: str
    context: TraceContext
    attributes: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    def fail(self, error: str) -> None:
        """Say that it failed, by a code or the name of an error's type."""
        self.error = error


class OwnTelemetry:
    """The records of one process about itself. Nothing is recorded if nothing is collected."""

    def __init__(
        self,
        collected: Collected | None = None,
        *,
        service: str = envelope.HUB_SERVICE,
        **resource: str,
    ) -> None:
        self._collected = collected or Collected()
        self._service = service
        self._resource = {
            "service.version": mcp_hub.__version__, "host.name": platform.node(), **resource,
        }  # fmt: skip
        self._buffer: deque[Record] = deque()
        self._observers: list[Observer] = []
        self._wanted = anyio.Event()
        self.dropped = 0
        """Records lost because the buffer was full."""

    def observe(self, observer: Observer) -> None:
        """Have `observer` told of each record from now on."""
        self._observers.append(observer)

    def observer(self, kind: type[AnObserver]) -> AnObserver:
        """The observer of a kind, which there is one of from now on."""
        for observer in self._observers:
            if isinstance(observer, kind):
                return observer
        made = kind()
        self.observe(made)
        return made

    @property
    def _is_silent(self) -> bool:
        return not (self._collected.usage or self._collected.errors)

    @property
    def buffered(self) -> int:
        return len(self._buffer)

    @contextmanager
    def span(
        self,
        name: str,
        attributes: Mapping[str, Any] | None = None,
        *,
        parent: TraceContext | None = None,
    ) -> Iterator[Span]:
        """Record what is done meanwhile as a span below `parent`, or below the current one.

        What it raises is the span's error, and is raised on.
        """
        above = parent or tracing.current()
        if self._is_silent:
            # No record will tell of a span here: the trace goes on with the one above.
            with tracing.within(above):
                yield Span(name, above or tracing.child_of(None))
            return
        span = Span(name, tracing.child_of(above), dict(attributes or {}))
        began, started = time.time_ns(), time.perf_counter_ns()
        try:
            with tracing.within(span.context):
                yield span
        except BaseException as error:
            if span.error is None:
                span.fail(error.code if isinstance(error, HubError) else type(error).__qualname__)
            raise
        finally:
            self._keep(
                "span",
                span.name,
                began,
                failed=span.error,
                attributes=span.attributes,
                context=span.context,
                parent=above,
                duration_ns=time.perf_counter_ns() - started,
            )

    def event(
        self, name: str, attributes: Mapping[str, Any] | None = None, *, error: str | None = None
    ) -> None:
        """Record that something happened, as part of the current span."""
        self._keep(
            "event",
            name,
            time.time_ns(),
            failed=error,
            attributes=dict(attributes or {}),
            context=tracing.current(),
        )

    def metric(
        self,
        name: str,
        value: float,
        unit: str,
        attributes: Mapping[str, Any] | None = None,
        *,
        service: str | None = None,
    ) -> None:
        """Record what was measured now, of the hub itself or of another `service`."""
        self._keep(
            "metric",
            name,
            time.time_ns(),
            failed=None,
            attributes=dict(attributes or {}),
            context=None,
            value=value,
            unit=unit,
            service=service,
        )

    def _keep(
        self,
        kind: envelope.Kind,
        name: str,
        time_ns: int,
        *,
        failed: str | None,
        attributes: dict[str, Any],
        context: TraceContext | None,
        parent: TraceContext | None = None,
        duration_ns: int | None = None,
        value: float | None = None,
        unit: str | None = None,
        service: str | None = None,
    ) -> None:
        if not (self._collected.errors if failed else self._collected.usage):
            return
        if failed:
            attributes["error.type"] = failed
        try:
            record = make_record(
                kind,
                name[: envelope.MAX_NAME],
                time_ns,
                service=service or self._service,
                severity=envelope.ERROR if failed else None,
                trace_id=context.trace_id if context else None,
                span_id=context.span_id if context else None,
                parent_id=parent.span_id if parent else None,
                duration_ns=duration_ns,
                value=value,
                unit=unit,
                attributes=attributes,
                resource=self._resource,
            )
        except ValueError as error:
            logger.warning("A record of the hub's own is none: %s", error)
            return
        for observer in self._observers:
            observer(record)
        if len(self._buffer) >= MAX_BUFFERED:
            self.dropped += 1
            return
        self._buffer.append(record)
        self._wanted.set()

    @asynccontextmanager
    async def kept_by(self, ingest: "Ingest") -> AsyncIterator[None]:
        """Commit through `ingest` what is recorded, while the context lasts and at its end."""
        if self._is_silent:
            yield
            return
        try:
            async with in_background(partial(self._flush_always, ingest)):
                yield
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(_CLOSING_S):
                await self._flush_rest(ingest)

    async def _flush_always(self, ingest: "Ingest") -> None:
        delay_s = FLUSH_S
        while True:
            await self._wanted.wait()
            await anyio.sleep(delay_s)
            try:
                await self._flush(ingest)
                delay_s = FLUSH_S
            except Unavailable as error:
                logger.warning("The hub's own telemetry waits: %s", error)
                delay_s = min(delay_s * 2, _MAX_BACK_OFF_S)
            except Exception:  # recording must not end what it records
                logger.exception("The hub's own telemetry is lost")

    async def _flush_rest(self, ingest: "Ingest") -> None:
        try:
            await self._flush(ingest)
        except Exception:  # the hub closes whatever happens
            logger.exception("The last records of the hub's own are lost")

    async def _flush(self, ingest: "Ingest") -> None:
        self._wanted = anyio.Event()
        try:
            while self._buffer:
                records = [self._buffer[at] for at in range(min(_AT_ONCE, len(self._buffer)))]
                await ingest.record(Batch(records, list(range(len(records)))))
                for _ in records:
                    self._buffer.popleft()
        except Unavailable:
            self._wanted.set()
            raise
        except Exception:
            # Not to be tried for ever: it may be these records that are at fault.
            self.dropped += len(self._buffer)
            self._buffer.clear()
            raise


SILENT = OwnTelemetry(Collected(usage=False, errors=False))
"""Records nothing; traces are passed on all the same."""
