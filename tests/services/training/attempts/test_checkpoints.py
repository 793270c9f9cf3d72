"""What an attempt leaves for the next one to go on from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from sqlalchemy import select, update

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.database.checkpoints_schema import job_checkpoints
from mcp_hub.adapters.database.schema import job_metrics, jobs, model_versions
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded
from mcp_hub.services.registry.store import NewVersion, add_version
from mcp_hub.services.registry.views import Artifact, Signature
from mcp_hub.services.training.attempts import checkpoints
from mcp_hub.services.training.attempts.checkpoints import Checkpoints, remove_expired
from mcp_hub.services.training.jobs import get_job, start_attempt
from mcp_hub.services.training.service import TrainingService
from tests.services.training.conftest import OPTIONS, Finish, Submit, WorkerFactory
from tests.waiting import eventually


async def kept(database: SqliteDatabase) -> list[Any]:
    return list(await database.read(lambda c: c.execute(select(job_checkpoints)).all()))


async def test_a_killed_job_goes_on_from_its_newest_checkpoint(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish,
    database: SqliteDatabase, blobs: FileBlobStore,
) -> None:  # fmt: skip
    async with worker():
        job = await finish(await submit("keep_checkpoints", steps=4, max_retries=1))
    assert (job.status, job.attempt) == ("succeeded", 2)
    lines = [(line.stream, line.text) for line in (await training.logs(job.job_id)).lines]
    assert ("hub", "Restored the checkpoint of attempt 1, step 2.") in lines
    assert ("stdout", "begins after 2") in lines
    columns = job_metrics.c
    rows = await database.read(
        lambda c: c.execute(select(columns.step, columns.value).order_by(columns.step)).all()
    )
    # What the first attempt reported after its checkpoint is replaced.
    assert [tuple(row) for row in rows] == [(1, 101), (2, 102), (3, 203), (4, 204)]
    assert await kept(database) == []
    version = await database.read(lambda c: c.execute(select(model_versions)).one())
    assert version.metrics == {"score": 204.0, "of_the_best": 7.0}
    (artifact,) = [one for one in version.artifacts if one["name"] == "state"]
    # The last checkpoint is an artifact, too: as that it stays.
    assert await blobs.get(artifact["sha256"]) == f"4 {job.job_id}".encode()


async def test_a_job_that_failed_is_retried_from_its_checkpoint_for_a_week(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish,
    database: SqliteDatabase, blobs: FileBlobStore,
) -> None:  # fmt: skip
    async with worker():
        ids = [await submit("keep_checkpoints") for _ in range(2)]
        for job_id in ids:
            assert (await finish(job_id)).status == "failed"
        await remove_expired(database, blobs)
        assert {row.job_id for row in await kept(database)} == set(ids)
        await training.retry(ids[0])
        await eventually(lambda: _has_ended(training, ids[0], "succeeded"))
    (left,) = await kept(database)
    assert (left.job_id, left.step, left.attempt) == (ids[1], 2, 1)
    week_ago = jobs.c.finished_at - 8 * 24 * 3600 * 1000
    await database.write(lambda c: c.execute(update(jobs).values(finished_at=week_ago)).close())
    await remove_expired(database, blobs)
    assert await kept(database) == []
    assert not await blobs.exists(left.sha256)


async def test_a_checkpoint_goes_and_a_model_of_the_same_bytes_stays(
    worker: WorkerFactory, submit: Submit, finish: Finish, database: SqliteDatabase,
    blobs: FileBlobStore,
) -> None:  # fmt: skip
    async with worker():
        assert (await finish(await submit("keep_checkpoints"))).status == "failed"
    (left,) = await kept(database)
    registered = NewVersion(
        name="other", flavor="onnx", signature=Signature(inputs=[], outputs=[]), created_by="me",
        artifacts=[Artifact(name="model.onnx", sha256=left.sha256, bytes=left.size)],
    )  # fmt: skip
    await database.write(lambda c: add_version(c, registered))
    week_ago = jobs.c.finished_at - 8 * 24 * 3600 * 1000
    await database.write(lambda c: c.execute(update(jobs).values(finished_at=week_ago)).close())
    await remove_expired(database, blobs)
    assert await kept(database) == []
    assert await blobs.exists(left.sha256)


async def _has_ended(training: TrainingService, job_id: str, status: str) -> bool:
    return (await training.status(job_id)).status == status


async def test_what_cannot_be_kept_is_said_and_does_no_harm(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish
) -> None:
    async with worker(replace(OPTIONS, concurrency=1)):
        job = await finish(await submit("offer_no_checkpoint"))
    assert job.status == "succeeded"
    texts = [line.text for line in (await training.logs(job.job_id)).lines]
    assert any("A checkpoint is not kept: The job reported" in text for text in texts)


async def test_only_the_newest_is_kept_and_it_is_what_was_offered(
    submit: Submit, database: SqliteDatabase, blobs: FileBlobStore, tmp_path: Path
) -> None:
    kept_by = await _attempt(await submit(), database, blobs, tmp_path)
    for step in range(3):
        files = [tmp_path / f"superseded{step}", tmp_path / f"state{step}"]
        for file in files:
            file.write_text(file.name)
        await kept_by.offer(files, step)
        if step != 1:
            await kept_by.keep()
    (row,) = await kept(database)
    assert row.step == 2
    assert await blobs.get(row.sha256) == b"state2"
    left = {path.name.rstrip("0123") for path in await to_thread.run_sync(_files, tmp_path)}
    assert not left & {"state", "superseded"}
    assert not any("offered" in name for name in left)
    restored = await kept_by.restore()
    assert restored is not None
    assert (tmp_path / checkpoints.RESTORED_FILE).read_text() == "state2"


async def test_an_attempt_that_was_taken_away_keeps_nothing(
    submit: Submit, database: SqliteDatabase, blobs: FileBlobStore, tmp_path: Path
) -> None:
    job_id = await submit()
    late = await _attempt(job_id, database, blobs, tmp_path)
    await database.write(lambda c: c.execute(update(jobs).values(attempt=2)).close())
    (tmp_path / "state").write_text("late")
    await late.offer([tmp_path / "state"], 9)
    await late.keep()
    assert await kept(database) == []


async def test_a_checkpoint_whose_blob_is_gone_is_none(
    submit: Submit, database: SqliteDatabase, blobs: FileBlobStore, tmp_path: Path
) -> None:
    kept_by = await _attempt(await submit(), database, blobs, tmp_path)
    (tmp_path / "state").write_text("state")
    await kept_by.offer([tmp_path / "state"], None)
    await kept_by.keep()
    (row,) = await kept(database)
    await blobs.delete(row.sha256)
    assert await kept_by.restore() is None


async def test_what_is_no_checkpoint_is_refused(
    submit: Submit, database: SqliteDatabase, blobs: FileBlobStore, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    kept_by = await _attempt(await submit(), database, blobs, tmp_path)
    with pytest.raises(InvalidArgument, match="'none' cannot be taken"):
        await kept_by.offer([tmp_path / "none"], 1)
    monkeypatch.setattr(checkpoints, "MAX_BYTES", 3)
    (tmp_path / "state").write_text("four")
    with pytest.raises(LimitExceeded, match="has 4 bytes; at most 3"):
        await kept_by.offer([tmp_path / "state"], 1)


def _files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def _attempt(
    job_id: str, database: SqliteDatabase, blobs: FileBlobStore, folder: Path
) -> Checkpoints:
    await database.write(lambda c: start_attempt(c, job_id, "worker_a", 60_000) and None)
    job = await database.read(lambda c: get_job(c, job_id))
    return Checkpoints(job, folder, database=database, blobs=blobs)
