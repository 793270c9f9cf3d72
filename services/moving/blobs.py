"""Moving the blobs that a hub's rows name."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from mcp_hub.adapters.blobs.port import BlobStore
from mcp_hub.adapters.database.checkpoints_schema import job_checkpoints
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.schema import datasets, model_versions
from mcp_hub.adapters.errors import NotFound
from mcp_hub.services.moving.tables import key_in, page_after
from mcp_hub.services.moving.views import BlobComparison

_AT_ONCE = 4
_PAGE = 500

OnBlob = Callable[[int, int], Awaitable[None]]
"""Told of each blob: how many are done, and the bytes of this one."""


async def referenced(database: Database) -> list[str]:
    """The blobs that data sets, model versions and checkpoints name: their addresses, sorted."""
    found: set[str] = set()
    for table in (datasets, model_versions, job_checkpoints):
        key = None
        while rows := await database.read(
            lambda c, table=table, key=key: page_after(c, table, key, _PAGE)  # type: ignore[misc]
        ):
            key = key_in(table, rows[-1])
            for row in rows:
                if table is model_versions:
                    found.update(artifact["sha256"] for artifact in row.artifacts)
                elif row.sha256:  # empty of a data set that was deleted
                    found.add(row.sha256)
    return sorted(found)


@dataclass(slots=True)
class Copied:
    """What was written, and what the source should have and has not."""

    blobs: int = 0
    bytes: int = 0
    absent: list[str] = field(default_factory=list)


async def copy_blobs(
    source: BlobStore, target: BlobStore, addresses: Iterable[str], told: OnBlob
) -> Copied:
    """Write what `target` lacks, streamed; both stores verify what passes through them.

    Raises:
        Unavailable: a store does not answer or is full, or a blob of the source is damaged.
    """
    copied = Copied()
    seen = 0

    async def copy(address: str) -> None:
        nonlocal seen
        size = 0
        if not await target.exists(address):
            try:
                size = (await target.put(source.stream(address))).size
                copied.blobs += 1
                copied.bytes += size
            except NotFound:
                copied.absent.append(address)
        seen += 1
        await told(seen, size)

    await _for_each(addresses, copy)
    return copied


async def verify_blobs(target: BlobStore, addresses: list[str], told: OnBlob) -> BlobComparison:
    """Read every blob at `target` whole, against its address.

    Raises:
        Unavailable: the store does not answer, or a blob in it is damaged.
    """
    comparison = BlobComparison(referenced=len(addresses), verified=0, bytes=0, missing=[])

    async def verify(address: str) -> None:
        size = 0
        try:
            async for part in target.stream(address):
                size += len(part)
            comparison.verified += 1
            comparison.bytes += size
        except NotFound:
            comparison.missing.append(address)
        await told(comparison.verified, size)

    await _for_each(addresses, verify)
    comparison.missing.sort()
    return comparison


async def _for_each(addresses: Iterable[str], work: Callable[[str], Awaitable[None]]) -> None:
    """Run `work` on every address, some at a time; the first error ends all and is raised."""
    waiting = iter(addresses)

    async def take() -> None:
        for address in waiting:
            await work(address)

    errors: list[Exception] = []

    async def run(tasks: TaskGroup) -> None:
        try:
            await take()
        except Exception as error:  # noqa: BLE001 - raised below, without the task group's wrapping
            errors.append(error)
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for _ in range(_AT_ONCE):
            tasks.start_soon(run, tasks)
    if errors:
        raise errors[0]
