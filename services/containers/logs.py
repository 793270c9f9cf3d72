"""What the servers of a deployment wrote, as the engine keeps it while their containers exist."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from mcp_hub.adapters.containers.port import Container, ContainerEngine, LogLine
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import InvalidArgument, NotFound
from mcp_hub.services.containers import store
from mcp_hub.services.containers.instances.labels import INSTANCE
from mcp_hub.services.containers.showing import Showing
from mcp_hub.services.containers.store import Deployment
from mcp_hub.services.containers.tailing import (
    Position,
    Positions,
    Streams,
    Tailing,
    after,
    shown,
    wanted_of,
)
from mcp_hub.services.containers.views import ContainerLogs

MAX_TAIL = 1_000
_PARTS = 64
"""Of one line, that are looked for before the last: a MiB."""


class Logs:
    def __init__(self, database: Database, engine: ContainerEngine, showing: Showing) -> None:
        self._database = database
        self._engine = engine
        self._showing = showing

    async def read(
        self,
        name: str,
        *,
        tail: int = 100,
        cursor: str | None = None,
        stream: Streams | None = None,
    ) -> ContainerLogs:
        """The last `tail` lines of all its containers by time, or up to `tail` after `cursor`.

        Without `stream`, standard output is left out where it is the protocol's.

        Raises:
            NotFound: there is no such deployment.
            InvalidArgument: `tail` or `cursor` is malformed.
        """
        _check_tail(tail)
        positions = Positions(cursor)
        deployment = await self._database.read(partial(store.get, name=name))
        wanted = stream or _told_by(deployment)
        there = await self._showing.containers(name)
        found: list[tuple[Container, LogLine]] = []
        truncated = False
        for container in there or ():
            if cursor:
                lines, more = await self._next(container, positions.of(container.id), tail, wanted)
            else:
                lines, more = await self._newest(container, tail, wanted)
            found += [(container, line) for line in lines]
            truncated |= more
        found.sort(key=lambda one: one[1].time_ns)
        told = found[:tail] if cursor else found[-tail:]
        for container, line in told if cursor else found:
            positions.tell(container.id, line)
        if there is not None:
            positions.keep(container.id for container in there)
        several = len(there or ()) > 1
        return ContainerLogs(
            name=name,
            lines=[shown(line, one.labels.get(INSTANCE, ""), several) for one, line in told],
            next_cursor=positions.cursor(),
            truncated=truncated or len(told) < len(found),
            note=_note(there),
        )

    async def following(
        self,
        name: str,
        *,
        tail: int = 100,
        cursor: str | None = None,
        stream: Streams | None = None,
    ) -> Tailing:
        """What tells the lines of all its containers, and of those to come, as they are written:
        from the last `tail` of each on, or from after `cursor`, which is a line's or a page's.

        Raises:
            NotFound, InvalidArgument: as `read`.
        """
        _check_tail(tail)
        positions = Positions(cursor)
        deployment = await self._database.read(partial(store.get, name=name))
        wanted = stream or _told_by(deployment)
        begun: list[tuple[str, LogLine, str]] = []
        if cursor is None:
            for container in await self._showing.containers(name) or ():
                lines, _ = await self._newest(container, tail, wanted)
                instance = container.labels.get(INSTANCE, "")
                begun += [(container.id, line, instance) for line in lines]
                if lines:
                    positions.begin_at(container.id, lines[0].time_ns)
            begun.sort(key=lambda one: one[1].time_ns)
        return Tailing(
            name, wanted, positions, begun,
            database=self._database, engine=self._engine, showing=self._showing,
        )  # fmt: skip

    async def _next(
        self, container: Container, position: Position, most: int, wanted: Streams
    ) -> tuple[list[LogLine], bool]:
        """Up to `most` lines of a container from `position` on, and whether there are more."""
        lines: list[LogLine] = []
        log = self._engine.logs(container.id, since_ns=position.since_ns)
        with suppress(NotFound):  # it was removed meanwhile
            async for line in after(wanted_of(log, wanted), position):
                if len(lines) == most:
                    return lines, True
                lines.append(line)
        return lines, False

    async def _newest(
        self, container: Container, most: int, wanted: Streams
    ) -> tuple[list[LogLine], bool]:
        """The last `most` lines of a container, with all of the first one's moment, and whether
        there are more."""
        lines: list[LogLine] = []
        more = False
        log = self._engine.logs(container.id, tail=most + _PARTS if wanted == "both" else None)
        with suppress(NotFound):  # it was removed meanwhile
            async for line in wanted_of(log, wanted):
                lines.append(line)
                if len(lines) > 2 * most:
                    lines, more = _last(lines, most), True
        return _last(lines, most), more or len(lines) > most


def _last(lines: list[LogLine], most: int) -> list[LogLine]:
    """The last `most`, and those of the same moment as the first of them."""
    start = max(0, len(lines) - most)
    while start and lines[start - 1].time_ns == lines[start].time_ns:
        start -= 1
    return lines[start:]


def _check_tail(tail: int) -> None:
    if not 1 <= tail <= MAX_TAIL:
        raise InvalidArgument(f"tail is {tail}; it must be from 1 to {MAX_TAIL:,}.")


def _told_by(deployment: Deployment) -> Streams:
    """The streams that are no protocol's."""
    return "stderr" if deployment.spec.transport == "stdio" else "both"


def _note(there: Sequence[Container] | None) -> str | None:
    if there is None:
        return "The engine does not answer."
    if not there:
        return "No container of it exists now: the engine's lines went with the last."
    return None
