"""Lines of a deployment's containers told as they are written, and gone on with where one broke
off."""

import logging
from collections.abc import Awaitable, Callable, Sequence
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

    time_ns: int
    told: int


class Tailing:
    """The lines of one deployment. They are read no faster than they are taken."""

    def __init__(
        self,
        name: str,
        wanted: Streams,
        since: int,
        positions: dict[str, Position],
        begun: Sequence[tuple[str, LogLine, str]],
        *,
        database: Database,
        engine: ContainerEngine,
        showing: Showing,
    ) -> None:
        """It goes on after `positions`, by containers' ids; of all others after `since`, in
        nanoseconds. `begun` are the first lines, with their containers' ids and instances'."""
        self._name = name
        self._wanted = wanted
        self._since = since
        self._positions = {id[:_ID_KEPT]: position for id, position in positions.items()}
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
            kept = {id[:_ID_KEPT] for id in known | self._followed}
            self._positions = {id: at for id, at in self._positions.items() if id in kept}
        return there or ()

    def _is_due(self, container: Container) -> bool:
        if container.id in self._followed:
            return False
        return container.status == "running" or container.id not in self._ended

    async def _follow(self, container: Container, told: Told) -> None:
        key = container.id[:_ID_KEPT]
        position = self._positions.get(key, Position(self._since + 1, 0))
        skipped = 0
        instance = container.labels.get(INSTANCE, "")
        try:
            async for line in self._engine.logs(
                container.id, since_ns=position.time_ns - 1, follow=True
            ):
                if self._wanted not in ("both", line.stream):
                    continue
                if line.time_ns == position.time_ns and skipped < position.told:
                    skipped += 1
                    continue
                await self._tell(container.id, line, instance, told)
            self._ended.add(container.id)
        except NotFound:
            self._ended.add(container.id)
        except Unavailable as error:
            logger.debug("The log of %s broke off: %s", container.id, error)
        finally:
            self._followed.discard(container.id)

    async def _tell(self, container: str, line: LogLine, instance: str, told: Told) -> None:
        key = container[:_ID_KEPT]
        async with self._telling:
            before = self._positions.get(key)
            count = before.told if before and before.time_ns == line.time_ns else 0
            self._positions[key] = Position(line.time_ns, count + 1)
            cursor = encode_cursor(self._since, self._positions)
            await told(cursor, shown(line, instance, several=True))


def start_of(cursor: str | None) -> tuple[int, dict[str, Position]]:
    """Where a line's cursor, or a page's, says that lines go on. Raises InvalidArgument."""
    if cursor is None:
        return 0, {}
    try:
        return decode_cursor(cursor, int)[0], {}
    except InvalidArgument:
        since, positions = decode_cursor(cursor, int, dict)
    return since, {id: _position(cursor, at) for id, at in positions.items()}


def _position(cursor: str, at: Any) -> Position:
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
