"""The other hub processes that hold instances, as far as this one has something to ask of them."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup
from sqlalchemy.exc import DBAPIError

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import HubError, Unavailable
from mcp_hub.services.containers.instances import holders
from mcp_hub.services.containers.instances.rows import Holder
from mcp_hub.services.containers.wire.calls import Caller
from mcp_hub.services.containers.wire.peers.client import PeerClient, PeerGone

logger = logging.getLogger(__name__)

PING = "ping"
_PING_S = 1.0


class Peers:
    """One connection to each holder, as long as `run` runs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._clients: dict[str, PeerClient] = {}
        self._tasks: TaskGroup | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                async with anyio.create_task_group() as tasks:
                    self._tasks = tasks
                    await anyio.sleep_forever()
            except Exception:  # connections end here, and are made anew when they are needed
                logger.exception("The connections to other hub processes failed")
            self._clients.clear()

    async def request(
        self,
        holder: Holder,
        op: str,
        params: Mapping[str, Any],
        *,
        caller: Caller | None = None,
        timeout_s: float,
    ) -> dict[str, Any]:
        """As `PeerClient.request`; that a holder is dead is noted, so that others may follow it."""
        try:
            client = self._client(holder)
            return await client.request(op, params, caller=caller, timeout_s=timeout_s)
        except PeerGone:
            self._clients.pop(holder.id, None)
            if await to_thread.run_sync(_may_be_seen_from_here, holder.address):
                logger.info("The hub process %s is dead", holder.id)
                await self._database.write(lambda c: holders.bury(c, holder.id), one_statement=True)
            raise

    async def answers(self, holder: Holder) -> bool:
        """Whether it is alive."""
        try:
            await self.request(holder, PING, {}, timeout_s=_PING_S)
        except HubError:
            return False
        return True

    async def any_answers(self, but: str) -> bool:
        """Whether any holder is alive but the one of that id; False too if none can be found."""
        try:
            others = await self._database.read(
                partial(holders.others, holder=but), one_statement=True
            )
        except (HubError, DBAPIError) as error:
            logger.debug("No other hub process was found: %s", error)
            return False
        for other in others:
            if await self.answers(other):
                return True
        return False

    def _client(self, holder: Holder) -> PeerClient:
        if self._tasks is None:
            raise Unavailable("This hub process is closing.", "Call again.")
        client = self._clients.get(holder.id)
        if client is None:
            client = PeerClient(holder.address, holder.secret, self._tasks)
            self._clients[holder.id] = client
        return client


def _may_be_seen_from_here(address: str) -> bool:
    """Whether nobody listening there means that nobody does: a socket that is not on this machine
    at all may be on another."""
    kind, _, path = address.partition(":")
    return kind != "unix" or Path(path).exists()
