"""Checkpoints: what an attempt leaves for the next one, on any machine, to go on from.

Of each job the newest is kept, as a blob with a row in `job_checkpoints`. A row is written after
its blob, and removed after it, so that whoever is killed in between leaves nothing that nobody
knows of but, at worst, one blob.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from anyio import to_thread
from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, or_, select

from mcp_hub.adapters.blobs.port import BlobStore
from mcp_hub.adapters.database.checkpoints_schema import job_checkpoints
from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.schema import jobs
from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded, NotFound
from mcp_hub.services.blob_use import is_used
from mcp_hub.services.training.jobs import Job, holds
from mcp_hub.services.training.states import TERMINAL

logger = logging.getLogger(__name__)

RESTORED_FILE = "restored.checkpoint"
MAX_BYTES = 4 << 30
_KEPT_FOR_MS = 7 * 24 * 3600 * 1000
"""For so long after its end, a job that did not succeed can be retried from its checkpoint."""


@dataclass(frozen=True, slots=True)
class _Offered:
    snapshot: Path
    step: int | None


class Checkpoints:
    """The checkpoints of one attempt: those it begins with, and those it reports."""

    def __init__(self, job: Job, folder: Path, *, database: Database, blobs: BlobStore) -> None:
        self._job = job
        self._folder = folder
        self._database = database
        self._blobs = blobs
        self._offers = 0
        self._offered: _Offered | None = None
        self._storing: _Offered | None = None

    async def restore(self) -> Row[Any] | None:
        """Write the job's newest checkpoint to `RESTORED_FILE`; its row, or None without one.

        Raises:
            Unavailable: the database or the blob store does not answer.
        """
        row = await self._database.read(lambda c: _newest(c, self._job.id))
        if row is None:
            return None
        try:
            await self._blobs.fetch(row.sha256, self._folder / RESTORED_FILE)
        except NotFound:
            logger.warning("The checkpoint of %s is gone: it begins anew", self._job.id)
            return None
        return row

    async def offer(self, files: Sequence[Path], step: int | None) -> None:
        """Take the last of the files away to be the newest checkpoint, which `keep` will store.

        The others, which it supersedes, are removed.

        Raises:
            InvalidArgument: there is no such file.
            LimitExceeded: it is larger than `MAX_BYTES`.
        """
        self._offers += 1
        snapshot = self._folder / f"offered-{self._offers}.checkpoint"
        await to_thread.run_sync(_take, files, snapshot)
        replaced, self._offered = self._offered, _Offered(snapshot, step)
        if replaced is not None and replaced is not self._storing:
            await to_thread.run_sync(partial(replaced.snapshot.unlink, missing_ok=True))

    async def keep(self) -> None:
        """Store the newest offered checkpoint, if it is not stored yet, and remove older ones.

        Of an attempt that is not the running one any more, nothing is kept.

        Raises:
            Unavailable: the database or the blob store does not answer, or is full.
        """
        offered = self._offered
        if offered is None:
            return
        self._storing = offered
        try:
            blob = await self._blobs.put_file(offered.snapshot)
            values = {"step": offered.step, "sha256": blob.sha256, "size": blob.size}
            added = await self._database.write(lambda c: _add(c, self._job, values))
        finally:
            self._storing = None
        if self._offered is offered:
            self._offered = None
        await to_thread.run_sync(partial(offered.snapshot.unlink, missing_ok=True))
        if added is None:
            await _remove_blob(self._database, self._blobs, blob.sha256)
        else:
            older = and_(job_checkpoints.c.job_id == self._job.id, job_checkpoints.c.number < added)
            await _remove(self._database, self._blobs, older)

    async def remove(self) -> None:
        """Remove all of the job's. Raises Unavailable."""
        of_this_job = job_checkpoints.c.job_id == self._job.id
        await _remove(self._database, self._blobs, of_this_job)


async def remove_expired(database: Database, blobs: BlobStore) -> None:
    """Remove the checkpoints of jobs that succeeded, or that ended otherwise a week ago.

    Raises:
        Unavailable: the database or the blob store does not answer.
    """
    ended = select(jobs.c.id).where(
        or_(
            jobs.c.status == "succeeded",
            and_(jobs.c.status.in_(TERMINAL), jobs.c.finished_at < now_ms() - _KEPT_FOR_MS),
        )
    )
    await _remove(database, blobs, job_checkpoints.c.job_id.in_(ended))


async def _remove(database: Database, blobs: BlobStore, which: Any) -> None:
    rows = await database.read(lambda c: c.execute(select(job_checkpoints).where(which)).all())
    for row in rows:
        this = and_(job_checkpoints.c.job_id == row.job_id, job_checkpoints.c.number == row.number)
        await _remove_blob(database, blobs, row.sha256, but=this)
        await database.write(lambda c, this=this: c.execute(delete(job_checkpoints).where(this)))  # type: ignore[misc]


async def _remove_blob(
    database: Database, blobs: BlobStore, sha256: str, but: ColumnElement[bool] | None = None
) -> None:
    """Remove a blob that no row names, `but` that of `job_checkpoints` aside."""
    if not await database.read(lambda c: is_used(c, sha256, but)):
        await blobs.delete(sha256)


def _newest(connection: Connection, job_id: str) -> Row[Any] | None:
    return connection.execute(
        select(job_checkpoints)
        .where(job_checkpoints.c.job_id == job_id)
        .order_by(job_checkpoints.c.number.desc())
        .limit(1)
    ).first()


def _add(connection: Connection, job: Job, values: dict[str, Any]) -> int | None:
    """The number of the new checkpoint, or None if the attempt is not the running one."""
    if not holds(connection, job):
        return None
    numbers = select(func.max(job_checkpoints.c.number)).where(job_checkpoints.c.job_id == job.id)
    number: int = (connection.scalar(numbers) or 0) + 1
    connection.execute(
        job_checkpoints.insert().values(
            job_id=job.id, number=number, attempt=job.attempt, created_at=now_ms(), **values
        )
    )
    return number


def _take(files: Sequence[Path], snapshot: Path) -> None:
    *superseded, newest = files
    try:
        for file in superseded:
            file.unlink()
        size = newest.stat().st_size
        if size > MAX_BYTES:
            raise LimitExceeded(
                f"The checkpoint {newest.name!r} has {size:,} bytes; at most {MAX_BYTES:,} are "
                "kept.",
                "Train a smaller model, or keep less in the checkpoint.",
            )
        newest.rename(snapshot)
    except OSError as error:
        raise InvalidArgument(
            f"The checkpoint {newest.name!r} cannot be taken: {error.strerror}."
        ) from error
