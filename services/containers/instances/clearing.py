"""Removing what is not to be there any more, however long what that needs is away."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from mcp_hub.adapters.errors import HubError, NotFound
from mcp_hub.services.containers.egress.networks import Egress
from mcp_hub.services.containers.instances import rows
from mcp_hub.services.containers.instances.labels import engine_name
from mcp_hub.services.containers.instances.means import Means

logger = logging.getLogger(__name__)

T = TypeVar("T")

_RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0)


async def surely(what: str, work: Callable[[], Awaitable[T]]) -> T:
    """Do it, again and again while what it needs is away; `what` is for the log."""
    tries = 0
    while True:
        try:
            return await work()
        except HubError as error:
            if tries == 0:
                logger.warning("%s has to wait: %s", what, error)
        await anyio.sleep(_RETRY_S[min(tries, len(_RETRY_S) - 1)])
        tries += 1


async def clear_networks(means: Means) -> None:
    """Remove the networks and gates of revisions without instances. Raises HubErrors."""
    egress = Egress(means.engine, hub=means.hub, image=None)
    found = await egress.revisions()
    if found:
        _, instances = await means.database.read(rows.everything)
        await egress.remove_unused(found, {(one.name, one.revision) for one in instances})


async def clear_away(means: Means, holder: str, id_: str, *, grace_s: float | None) -> None:
    """Remove an instance's container and then its row, however long the engine is away.

    With `grace_s`, it is asked to end first, and has so long to do so.
    """
    container = engine_name(means.hub, id_)

    async def remove() -> None:
        try:
            if grace_s:
                await means.engine.stop(container, grace_s=grace_s)
        except NotFound:
            return
        await means.engine.remove(container)

    async def forget() -> None:
        await means.database.write(lambda c: rows.forget(c, id_, holder), one_statement=True)

    await surely(f"Removing {container}", remove)
    await surely(f"Forgetting {container}", forget)
