"""Lines of a deployment's containers told as they are written, and gone on with where one broke
off."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import anyio

from mcp_hub.adapters.containers.port import Container, ContainerEngine, LogLine
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import InvalidArgument, NotFound, Unavailable
from mcp_hub.services.containers import store
from mcp_hub.services.containers.instances.labels import INSTANCE
from mcp_hub.services.containers.showing import Showing
from mcp_hub.services.containers.views import ContainerLine
from mcp_hub.services.pages import decode_cursor, encode_cursor
from mcp_hub.services.views import iso

logger = logging.getLogger(__name__)

Streams = Literal["stderr", "stdout", "both"]

LINE_SHOWN = 2_000
"""Characters; servers write lines of megabytes."""
_LOOK_S = 1.0
"""Between looks for containers that are new. Lines of known ones are told at once."""
_ID_KEPT = 12

Told = Callable[[str, ContainerLine], Awaitable[None]]
"""Takes a line with the cursor from which lines go on after it."""


class Position(NamedTuple):
    """How far a container's lines have been told: so many of those of a moment, and all before."""

    time_ns: int = 0
    told: int = 0

    @property
    def since_ns(self) -> int:
        """After which its lines are to be read, to see all of its moment."""
        return max(0, self.time_ns - 1)


class Positions:
    """How far the lines of each container have been told; of one that is not known, none."""

    def __init__(self, cursor: str | None = None) -> None:
        """Raises InvalidArgument: `cursor` is none that `cursor` gave."""
        known = decode_cursor(cursor, dict)[0] if cursor else {}
        self._known = {id: _position(cursor, at) for id, at in known.items()}

    def of(self, container: str) -> Position:
        return self._known.get(container[:_ID_KEPT], Position())

    def begin_at(self, container: str, time_ns: int) -> None:
        """Take all before a moment for told."""
        self._known[container[:_ID_KEPT]] = Position(time_ns)

    def tell(self, container: str, line: LogLine) -> None:
        """Note that the container's next line is told."""
        before = self.of(container)
        count = before.told if before.time_ns == line.time_ns else 0
        self._known[container[:_ID_KEPT]] = Position(line.time_ns, count + 1)

    def keep(self, containers: Iterable[str]) -> None:
        """Forget all but these, whose lines are gone."""
        kept = {id[:_ID_KEPT] for id in containers}
        self._known = {id: at for id, at in self._known.items() if id in kept}

    def cursor(self) -> str:
        """From which lines go on."""
        return encode_cursor(self._known)


async def after(lines: AsyncIterator[LogLine], position: Position) -> AsyncIterator[LogLine]:
    """The lines that have not been told, of a log from `position` on."""
    skipped = 0
    async for line in lines:
        if line.time_ns == position.time_ns and skipped < position.told:
            skipped += 1
        elif line.time_ns >= position.time_ns:
            yield line


class Tailing:
    """The lines of one deployment. They are read no faster than they are taken."""

    def __init__(
        self,
        name: str,
        wanted: Streams,
        positions: Positions,
        begun: Sequence[tuple[str, LogLine, str]],
        *,
        database: Database,
        engine: ContainerEngine,
        showing: Showing,
    ) -> None:
        """It goes on after `positions`. `begun` are the first lines, with their containers' ids and
        instances'."""
        self._name = name
        self._wanted = wanted
        self._positions = positions
        self._begun = begun
        self._database = database
        self._engine = engine
        self._showing = showing
        self._followed: set[str] = set()
        self._ended: set[str] = set()
        self._telling = anyio.Lock()

    async def run(self, told: Told) -> None:
        """Tell lines until the deployment is removed. An engine that does not answer is waited
        for."""
        for id, line, instance in self._begun:
            await self._tell(id, line, instance, told)
        async with anyio.create_task_group() as tasks:
            while (there := await self._containers()) is not None:
                for container in there:
                    if self._is_due(container):
                        self._followed.add(container.id)
                        tasks.start_soon(self._follow, container, told)
                await anyio.sleep(_LOOK_S)
            tasks.cancel_scope.cancel()

    async def _containers(self) -> Sequence[Container] | None:
        """The containers there are; None once the deployment is gone."""
        try:
            if await self._database.read(partial(store.find, name=self._name)) is None:
                return None
            there = await self._showing.containers(self._name)
        except Unavailable as error:
            logger.debug("The containers of %s are not known: %s", self._name, error)
            return ()
        if there is not None:
            known = {one.id for one in there}
            self._ended &= known
            self._positions.keep(known | self._followed)
        return there or ()

    def _is_due(self, container: Container) -> bool:
        if container.id in self._followed:
            return False
        return container.status == "running" or container.id not in self._ended

    async def _follow(self, container: Container, told: Told) -> None:
        position = self._positions.of(container.id)
        instance = container.labels.get(INSTANCE, "")
        try:
            log = self._engine.logs(container.id, since_ns=position.since_ns, follow=True)
            async for line in after(wanted_of(log, self._wanted), position):
                await self._tell(container.id, line, instance, told)
            self._ended.add(container.id)
        except NotFound:
            self._ended.add(container.id)
        except Unavailable as error:
            logger.debug("The log of %s broke off: %s", container.id, error)
        finally:
            self._followed.discard(container.id)

    async def _tell(self, container: str, line: LogLine, instance: str, told: Told) -> None:
        async with self._telling:
            self._positions.tell(container, line)
            await told(self._positions.cursor(), shown(line, instance, several=True))


async def wanted_of(lines: AsyncIterator[LogLine], wanted: Streams) -> AsyncIterator[LogLine]:
    async for line in lines:
        if wanted in ("both", line.stream):
            yield line


def _position(cursor: str | None, at: Any) -> Position:
    if not isinstance(at, list) or [type(part) for part in at] != [int, int]:
        raise InvalidArgument(f"{cursor!r} is no cursor of a log.")
    return Position(*at)


def shown(line: LogLine, instance: str, several: bool) -> ContainerLine:
    """A line as it is told, with its instance where there are several."""
    text = line.text
    if len(text) > LINE_SHOWN:
        text = f"{text[:LINE_SHOWN]}… ({len(text) - LINE_SHOWN:,} characters more)"
    return ContainerLine(
        time=iso(line.time_ns // 1_000_000) or "",
        stream=line.stream,
        text=text,
        instance=instance if several else None,
    )
