"""One container's life in the process that holds it: made, started, spoken to, ended, removed."""

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any

import anyio
from sqlalchemy import Connection

import mcp_hub
from mcp_hub.adapters.errors import HubError, NotFound, TimedOut, Unavailable
from mcp_hub.services.background import first, in_background
from mcp_hub.services.containers.egress.networks import gate_url
from mcp_hub.services.containers.instances import failures, rows
from mcp_hub.services.containers.instances.answering import Answering
from mcp_hub.services.containers.instances.clearing import clear_away, surely
from mcp_hub.services.containers.instances.endings import (
    Ending,
    Stderr,
    exit_reason,
    failure,
    hint_of,
    last_stderr,
)
from mcp_hub.services.containers.instances.health import check, until_sick
from mcp_hub.services.containers.instances.labels import engine_name, labels_of
from mcp_hub.services.containers.instances.means import Means
from mcp_hub.services.containers.instances.measuring import measure
from mcp_hub.services.containers.instances.rows import Instance, Revision
from mcp_hub.services.containers.instances.selecting import is_kept
from mcp_hub.services.containers.instances.standard_io import StandardIo
from mcp_hub.services.containers.wire.channel import Channel
from mcp_hub.services.containers.wire.http import http_stream
from mcp_hub.services.containers.wire.negotiating import open_session
from mcp_hub.services.containers.wire.sessions import ServerInfo, Session
from mcp_hub.services.containers.wire.streams import ByteStream
from mcp_hub.services.telemetry.own.tracing import within

logger = logging.getLogger(__name__)

CLIENT = {"name": "mcp-hub", "version": mcp_hub.__version__}
STEADY_S = 30.0
"""Who has run for so long did not fail to start."""
_ENGINE_S = 1.0
"""Between two looks whether an engine that broke off is back."""
_AGAIN_S = 0.1
_IDLE_LOOK_S = 1.0
_MESSAGE = 500
_LOST = Ending("lost", Unavailable("Another process holds the container now.", "Call again."))


class Running:
    """An instance that this process holds as `holder`, from when it did until it is gone."""

    def __init__(
        self,
        means: Means,
        holder: str,
        instance: Instance,
        revision: Revision,
        *,
        is_trial: bool = False,
    ) -> None:
        """An instance that is `starting` is made; one that is `ready` is gone on with."""
        self.instance = instance
        self.revision = revision
        self.is_trial = is_trial
        """Whether it runs although it is not in force."""
        self._means = means
        self._holder = holder
        self._shown = f"The server {instance.name!r}"
        self.answering = Answering(self._shown, revision.spec.max_calls)
        self._container = engine_name(means.hub, instance.id)
        self._server = ServerInfo.from_dict(instance.server) if instance.server else None
        self._stderr = Stderr()
        self._noise: list[str] = []
        self._scope = anyio.CancelScope()
        self.removed = anyio.Event()
        """Set when nothing of it is left, or it is this process's no more."""
        self._stop = anyio.Event()
        self._at_once = anyio.Event()
        self._grace_s = revision.spec.stop_grace_s
        self._stopping: Ending | None = None

    @property
    def is_ready(self) -> bool:
        """Whether its server has been greeted."""
        return self._server is not None

    @property
    def is_closing(self) -> bool:
        return self.answering.is_closing

    @property
    def is_ending(self) -> bool:
        """Whether it is being stopped, and not for its calls' sake later."""
        return self._at_once.is_set()

    def saw(self, instance: Instance) -> None:
        """Note how its row is now."""
        if instance.session != self.instance.session:
            self.answering.used_at = monotonic()
        self.instance = instance

    def stop(
        self,
        reason: str,
        hint: str | None = "Call it again.",
        *,
        drain: bool = False,
        grace_s: float = math.inf,
    ) -> None:
        """Have it ended and removed; with `drain`, once the calls in flight are answered, unless
        it is stopped without meanwhile.

        It has the spec's time to end by itself when it is asked to, but at most `grace_s`. Calls
        that it cuts off are told the reason and the hint.
        """
        self._grace_s = min(self._grace_s, grace_s)
        if self._stopping is None or not (drain or self.is_ending):
            error = Unavailable(f"{self._shown} was stopped: {reason}.", hint)
            self._stopping = Ending("stopped", error)
        self.answering.is_closing = True
        self._stop.set()
        if not drain:
            self._at_once.set()

    def let_go(self) -> None:
        """Leave the container as it is, for another process."""
        self.answering.close(_LOST)
        self._scope.cancel()

    async def run(self) -> None:
        """Live; returns when it is removed, or another process's."""
        try:
            with self._scope:
                ending = await first(self._live, self._until_stopped)
                self.answering.close(ending)
                await self._clear_away(ending)
        finally:
            self.answering.close(_LOST)
            self.removed.set()

    async def _until_stopped(self) -> Ending:
        await self._stop.wait()
        if not self.is_ending:
            await first(self._drain, self._at_once.wait)
        assert self._stopping is not None
        return self._stopping

    async def _drain(self) -> None:
        """Return once no call is in flight, or the longest has had its time."""

        async def give_way() -> None:
            mark = partial(rows.mark_stopping, id_=self.instance.id, holder=self._holder)
            await self._means.database.write(mark, one_statement=True)

        await surely(f"Giving way for {self._container}", give_way)
        with anyio.move_on_after(self.revision.spec.call_timeout_s):
            await self.answering.quiet()

    async def _live(self) -> Ending:
        """Until it ends by itself."""
        until = monotonic() + self.revision.spec.start_timeout_s
        try:
            with ExitStack() as starting:
                if self._server is None:
                    span = self._means.own.span("container.start", self._attributes())
                    starting.enter_context(span)
                    with _within(until):
                        await self._create()
                else:
                    self._means.own.event("container.takeover", self._attributes())
                while True:
                    ending = await self._speak(until, starting)
                    if ending is not None:
                        return ending
        except HubError as error:
            return await self._start_failed(error)

    async def _create(self) -> None:
        config = await self._means.configure(self.revision)
        labels = {**config.labels, **labels_of(self._means.hub, self.instance)}
        # A request that is taken back may be carried out all the same, after it is cleared away.
        with anyio.CancelScope(shield=True):
            await self._means.engine.create(replace(config, name=self._container, labels=labels))

    async def _speak(self, until: float, starting: ExitStack) -> Ending | None:
        """Until the container has ended; None if it may not have: the engine broke off.

        Raises:
            HubError: it could not be started.
        """
        try:
            async with self._means.engine.attach(self._container) as attachment:
                io = StandardIo(attachment, self._stderr.take)
                if self._server is None:
                    with _within(until):
                        await self._means.engine.start(self._container)
                async with self._channel(io, until) as (channel, ended):
                    try:
                        # An HTTP session is the process's that opened it.
                        if self._server is None or self.revision.spec.transport == "http":
                            self._server = await self._greet(channel, until)
                            starting.close()
                        ending = await self._serve(Session(channel, self._server, CLIENT), ended)
                    finally:
                        self._noise = channel.noise
        except (Unavailable, NotFound):
            if self._server is None:
                raise
            ending = None
        return ending or await self._look()

    @asynccontextmanager
    async def _channel(
        self, io: StandardIo, until: float
    ) -> AsyncIterator[tuple[Channel, anyio.Event]]:
        """What speaks to the server, and what is set when there is nobody to speak to."""
        ended = anyio.Event()

        def notified(method: str, params: dict[str, Any]) -> None:
            self._means.notified(self.instance, method, params)

        async def run(work: Callable[[], Awaitable[None]]) -> None:
            await work()
            ended.set()

        async with AsyncExitStack() as stack:
            stream: ByteStream = io
            if self.revision.spec.transport == "http":
                await stack.enter_async_context(in_background(partial(run, io.drain)))
                left = max(0.0, until - monotonic())
                url, proxy = await self._url()
                http = http_stream(url, start_timeout_s=left, proxy=proxy)
                stream = await stack.enter_async_context(http)
            channel = Channel(stream, name=self._shown, notified=notified)
            await stack.enter_async_context(in_background(partial(run, channel.run)))
            yield channel, ended

    async def _url(self) -> tuple[str, str]:
        """Where an HTTP server is in its network, and the proxy by which that is reached."""
        spec = self.revision.spec
        container = await self._means.engine.inspect(self._container)
        address = next(iter(container.addresses.values()), None)
        if address is None:
            raise Unavailable(f"it {exit_reason(container)}, and has no address.")
        proxy = await gate_url(
            self._means.engine,
            hub=self._means.hub,
            name=self.instance.name,
            revision=self.instance.revision,
        )
        return f"http://{address}:{spec.port}{spec.path}", proxy

    async def _greet(self, channel: Channel, until: float) -> ServerInfo:
        spec = self.revision.spec
        try:
            left = max(0.001, until - monotonic())
            server = await open_session(channel, spec.protocol, client=CLIENT, timeout_s=left)
        except TimedOut as error:
            raise TimedOut(
                f"it did not greet the hub within {spec.start_timeout_s:g} s.",
                error.hint or "If it needs longer, deploy it with a larger start_timeout_s.",
            ) from None
        health = self.revision.spec.health
        if health.tool is not None:
            with _within(until):
                await check(Session(channel, server, CLIENT), health, timeout_s=None)
        engine_id = (await self._means.engine.inspect(self._container)).id

        def mark(connection: Connection) -> bool:
            name, revision = self.instance.name, self.instance.revision
            failures.note_start(connection, name, revision)
            return rows.mark_ready(
                connection, self.instance.id, self._holder, engine_id, server.as_dict()
            )

        if await self._means.database.write(mark):
            self._means.changed(self.instance.name)
        else:
            self.let_go()
        return server

    async def _serve(self, session: Session, ended: anyio.Event) -> Ending | None:
        """Until it is to end, or nobody is there to speak to."""

        async def until_ended() -> None:
            await ended.wait()

        self.answering.open(session)
        # Whoever had it started has gone on: what follows is no part of that.
        with within(None):
            async with (
                in_background(session.listen),
                in_background(self._be_steady),
                in_background(self._measure),
            ):
                return await first(
                    until_ended, self._until_idle, partial(self._until_sick, session)
                )

    async def _until_sick(self, session: Session) -> Ending:
        health = self.revision.spec.health
        error = await until_sick(session, health, lambda: self.answering.count)
        reason = f"{self._shown} did not pass {health.failures} health checks in a row"
        return Ending(
            "unhealthy", Unavailable(f"{reason}, and is started anew: {error.message}", error.hint)
        )

    async def _be_steady(self) -> None:
        await anyio.sleep(STEADY_S)
        name, revision = self.instance.name, self.instance.revision

        async def note() -> None:
            work = partial(failures.note_steady, name=name, revision=revision)
            await self._means.database.write(work, one_statement=True)

        await surely(f"Noting that {name} lasts", note)

    async def _measure(self) -> None:
        await measure(
            self._means.engine, self._container, self._means.own, service=self.instance.name,
            attributes=self._attributes(), every_s=self._means.stats_s,
        )  # fmt: skip

    async def _until_idle(self) -> Ending:
        idle_s = self.revision.spec.idle_s
        while True:
            left = self.answering.used_at + idle_s - monotonic()
            is_kept_so = self.is_trial or is_kept(self.revision.spec, self.instance)
            if left <= 0 and not is_kept_so and self.answering.in_flight == 0:
                self.answering.is_closing = True
                reason = f"nobody called it for {idle_s:g} s"
                return Ending("idle", Unavailable(f"{self._shown} was stopped: {reason}."))
            await anyio.sleep(min(max(left, 0.05), _IDLE_LOOK_S))

    async def _look(self) -> Ending | None:
        """What became of a container that is spoken to no more; None if it is to be tried again."""
        try:
            container = await self._means.engine.inspect(self._container)
        except NotFound:
            gone = Unavailable(f"{self._shown} is gone: its container was removed.", "Call again.")
            return Ending("gone", gone)
        except Unavailable as away:
            self.answering.break_off(away)
            await anyio.sleep(_ENGINE_S)
            return None
        if container.status == "running":
            await anyio.sleep(_AGAIN_S)
            return None
        stderr = await last_stderr(self._means.engine, self._container, self._stderr)
        message = f"{self._shown} {exit_reason(container)}."
        error = Unavailable(message, hint_of(stderr, self._noise))
        return Ending("exited", error, container.out_of_memory)

    async def _start_failed(self, error: HubError) -> Ending:
        reason: HubError = error
        out_of_memory = False
        try:
            container = await self._means.engine.inspect(self._container)
            if container.status in ("exited", "dead"):
                out_of_memory = container.out_of_memory
                reason = Unavailable(f"it {exit_reason(container)}.")
        except HubError:
            pass
        stderr = await last_stderr(self._means.engine, self._container, self._stderr)
        failed = failure(self._shown, reason, stderr, self._noise)
        return Ending("failed", failed, out_of_memory)

    async def _clear_away(self, ending: Ending) -> None:
        """Remove the container and then its row, however long the engine is away."""
        if ending.kind == "lost":
            return
        name, revision, id_ = self.instance.name, self.instance.revision, self.instance.id

        def end(connection: Connection) -> bool:
            is_mine = rows.mark_stopping(connection, id_, self._holder)
            if is_mine and ending.is_failure and not self.is_trial:
                error = ending.error.as_dict()
                started = ending.kind != "failed"
                failures.note_failure(connection, name, revision, error, started=started)
            return is_mine

        if not await surely(f"Ending {self._container}", lambda: self._means.database.write(end)):
            return
        self._record(ending)
        # A trial's server has done nothing that it would have to bring to an end.
        asks = self.is_ready and not self.is_trial and ending.kind not in ("exited", "gone")
        await clear_away(self._means, self._holder, id_, grace_s=self._grace_s if asks else None)

    def _record(self, ending: Ending) -> None:
        attributes = {**self._attributes(), "mcp_hub.container.reason": ending.kind}
        if ending.is_failure:
            attributes["mcp_hub.container.error"] = ending.error.message[:_MESSAGE]
        error = ending.error.code if ending.is_failure else None
        self._means.own.event("container.stop", attributes, error=error)
        if ending.out_of_memory:
            self._means.own.event("container.oom", self._attributes(), error=error)
        if ending.is_failure:
            logger.warning("%s", ending.error.message)

    def _attributes(self) -> Mapping[str, Any]:
        return {
            "mcp_hub.container.name": self.instance.name,
            "mcp_hub.container.revision": self.instance.revision,
            "mcp_hub.container.instance": self.instance.id,
        }


@contextmanager
def _within(until: float) -> Iterator[None]:
    """Raises TimedOut for what takes longer than until then, by `monotonic`."""
    try:
        with anyio.fail_after(max(0.0, until - monotonic())):
            yield
    except TimeoutError:
        raise TimedOut("it took too long.") from None
