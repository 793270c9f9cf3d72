"""What the servers of a deployment wrote, as the engine keeps it while their containers exist."""

from collections.abc import Sequence
from functools import partial

from mcp_hub.adapters.containers.port import Container, ContainerEngine, LogLine
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import InvalidArgument, NotFound
from mcp_hub.services.containers import store
from mcp_hub.services.containers.instances.labels import INSTANCE
from mcp_hub.services.containers.showing import Showing
from mcp_hub.services.containers.store import Deployment
from mcp_hub.services.containers.tailing import Position, Streams, Tailing, shown, start_of
from mcp_hub.services.containers.views import ContainerLogs
from mcp_hub.services.pages import decode_cursor, encode_cursor

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
        since = decode_cursor(cursor, int)[0] if cursor else 0
        deployment = await self._database.read(partial(store.get, name=name))
        wanted = stream or _told_by(deployment)
        there = await self._showing.containers(name)
        found: list[tuple[LogLine, str]] = []
        truncated = False
        for container in there or ():
            lines, more = await self._lines(container, since, tail, wanted, from_end=not cursor)
            found += [(line, container.labels.get(INSTANCE, "")) for line in lines]
            truncated |= more
        found.sort(key=lambda one: one[0].time_ns)
        if len(found) > tail:
            found, truncated = (found[:tail] if cursor else found[-tail:]), True
        last = found[-1][0].time_ns if found else since
        return ContainerLogs(
            name=name,
            lines=[shown(line, instance, len(there or ()) > 1) for line, instance in found],
            next_cursor=encode_cursor(last) if last else None,
            truncated=truncated,
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
        since, positions = start_of(cursor)
        deployment = await self._database.read(partial(store.get, name=name))
        wanted = stream or _told_by(deployment)
        begun: list[tuple[str, LogLine, str]] = []
        if cursor is None:
            for container in await self._showing.containers(name) or ():
                lines, _ = await self._lines(container, 0, tail, wanted, from_end=True)
                instance = container.labels.get(INSTANCE, "")
                begun += [(container.id, line, instance) for line in lines]
                if lines:
                    positions[container.id] = Position(lines[0].time_ns, 0)
            begun.sort(key=lambda one: one[1].time_ns)
        return Tailing(
            name, wanted, since, positions, begun,
            database=self._database, engine=self._engine, showing=self._showing,
        )  # fmt: skip

    async def _lines(
        self, container: Container, since: int, most: int, wanted: Streams, *, from_end: bool
    ) -> tuple[list[LogLine], bool]:
        """Up to `most` lines of a container, the first or the last after `since`, and whether
        there are more."""
        lines: list[LogLine] = []
        more = False
        tail = most + _PARTS if from_end and wanted == "both" else None
        try:
            async for line in self._engine.logs(container.id, tail=tail, since_ns=since):
                if line.time_ns <= since or (wanted != "both" and line.stream != wanted):
                    continue
                # Lines of one moment stay together: a cursor is a moment.
                if not from_end and len(lines) >= most and line.time_ns > lines[-1].time_ns:
                    return lines, True
                lines.append(line)
                if from_end and len(lines) > 2 * most:
                    lines, more = _last(lines, most), True
        except NotFound:  # it was removed meanwhile
            return lines, more
        return (_last(lines, most), more or len(lines) > most) if from_end else (lines, more)


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
