"""Group commit: changes that are asked for at the same time share a transaction."""

from collections.abc import Callable
from typing import Any, TypeVar

import anyio
from anyio.lowlevel import checkpoint
from sqlalchemy import Connection

from mcp_hub.adapters.database.port import Database

T = TypeVar("T")

_MOST = 100


class _Change:
    """One change; `turn` is set when it is done, or when its caller is to run those that wait."""

    def __init__(self, work: Callable[[Connection], Any]) -> None:
        self.work = work
        self.turn = anyio.Event()
        self.done = False
        self.result: Any = None
        self.error: Exception | None = None


class CombinedWrites:
    """Runs changes of one statement each; those asked for during one transaction share the next.

    A commit costs far more than a small statement does. PostgreSQL lets commits that come at the
    same time share their cost by itself, so there each is alone. A change must raise nothing of
    its own: the transaction would take the others with it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[_Change] = []
        self._running = False

    async def run(self, work: Callable[[Connection], T]) -> T:
        """The result of `work`, once it is committed. Raises as `Database.write` does."""
        if self._database.dialect == "postgresql":
            return await self._database.write(work, one_statement=True)
        change = _Change(work)
        self._waiting.append(change)
        try:
            if self._running:
                await change.turn.wait()
            if not change.done:
                await self._run_waiting()
        except anyio.get_cancelled_exc_class():
            if change in self._waiting:
                self._waiting.remove(change)
                if change.turn.is_set():
                    self._pass_on()
            raise
        if change.error is not None:
            raise change.error
        result: T = change.result
        return result

    async def _run_waiting(self) -> None:
        self._running = True
        # Whoever runs the batch must not take the others along when it is cancelled.
        with anyio.CancelScope(shield=True):
            # Tasks that became ready together ask together: let them.
            await checkpoint()
            batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]

            def run_all(connection: Connection) -> None:
                for change in batch:
                    change.result = change.work(connection)

            try:
                await self._database.write(run_all)
            except Exception as error:  # noqa: BLE001 - each caller raises it
                for change in batch:
                    change.error = error
        for change in batch:
            change.done = True
            change.turn.set()
        self._pass_on()

    def _pass_on(self) -> None:
        """Let the first that waits run the next batch."""
        self._running = bool(self._waiting)
        if self._waiting:
            self._waiting[0].turn.set()
