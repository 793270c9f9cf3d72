"""Making what is missing of what the settings choose: `mcp-hub up`."""

from collections.abc import AsyncIterator
from typing import Literal, Protocol, runtime_checkable

from mcp_hub import migrations
from mcp_hub.adapters.blobs.port import BlobStore, Provisioned
from mcp_hub.adapters.urls import without_secret
from mcp_hub.server.adapters import choose_blobs, choose_database, open_adapters, provision_database
from mcp_hub.server.settings import Settings
from mcp_hub.services.views import View


class Step(View):
    """One thing that a hub stands on, and whether it was made just now or found."""

    what: Literal["data folder", "database", "schema", "blobs", "queue"]
    name: str
    done: Literal["made", "found"]
    detail: str


@runtime_checkable
class _Provisioned(Provisioned, Protocol):
    """The same, told apart from other stores when it runs."""


async def provision(settings: Settings) -> AsyncIterator[Step]:
    """Make what is missing and may be made; each thing once it is there.

    Safe to repeat, and to run in any number of processes at once.

    Raises:
        Denied: something is missing, and the user may not make it.
        Unavailable: a server does not answer, or refuses the user.
        Conflict: the database is newer than this program.
    """
    new = not settings.data_dir.exists()
    settings.ensure_folders()
    yield _step("data folder", str(settings.data_dir), made=new)
    async for step in provision_storage(settings):
        yield step
    async with open_adapters(settings) as adapters:
        url = settings.redis_url
        waiting = await adapters.queue.depth()
        where = without_secret(url) if url else "in the database"
        yield _step("queue", where, made=False, detail=f"{waiting} waiting")


async def provision_storage(settings: Settings) -> AsyncIterator[Step]:
    """As `provision`, for what keeps the hub's data: the database, its schema and the blobs."""
    name = without_secret(settings.database_url or f"sqlite:///{settings.database_path}")
    made = await provision_database(settings)
    database = choose_database(settings)
    try:
        applied = await database.upgrade()
        yield _step("database", name, made=made, detail=await database.check())
        revisions = f"applied {', '.join(applied)}" if applied else ""
        yield _step("schema", migrations.HEAD, made=bool(applied), detail=revisions)
    finally:
        await database.close()
    new = settings.blobs_url is None and not settings.blobs_dir.exists()
    blobs = choose_blobs(settings)
    try:
        made = await _provision_blobs(blobs) or new
        where = without_secret(settings.blobs_url or str(settings.blobs_dir))
        yield _step("blobs", where, made=made, detail=await blobs.check())
    finally:
        await blobs.close()


async def _provision_blobs(blobs: BlobStore) -> bool:
    return bool(await blobs.provision()) if isinstance(blobs, _Provisioned) else False


def _step(
    what: Literal["data folder", "database", "schema", "blobs", "queue"],
    name: str,
    *,
    made: bool,
    detail: str = "",
) -> Step:
    return Step(what=what, name=name, done="made" if made else "found", detail=detail)
