"""Counts for `hub_info`."""

import os

from sqlalchemy import Connection, insert

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.schema import datasets, jobs, model_versions, models, workers
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.services.counting import count
from mcp_hub.services.health import Counts
from mcp_hub.services.training.liveness import this_host


def _fill(connection: Connection) -> None:
    for name, version in (("a", 1), ("a", 2), ("b", 1)):
        connection.execute(
            insert(datasets).values(
                name=name, version=version, id=f"ds_{name}{version}", sha256="0" * 64, size=1,
                format="csv", options={}, source="", row_count=1, columns=[], created_at=now_ms(),
            )
        )  # fmt: skip
    for number, status in enumerate(["queued", "succeeded", "succeeded"]):
        connection.execute(
            insert(jobs).values(
                id=f"job_{number}", name="m", type="t", framework="f", dataset_name="a",
                dataset_version=1, config={}, priority=0, timeout_s=1, max_retries=0,
                submitted_by="", status=status, attempt=0, failures=0, losses=0,
                cancel_requested=False, enqueued=True, metrics={}, created_at=now_ms(),
                updated_at=now_ms(),
            )
        )  # fmt: skip
    for name in ("m", "n"):
        connection.execute(insert(models).values(name=name, last_version=2, created_at=now_ms()))
    for name, version, deleted in (("m", 1, None), ("m", 2, None), ("n", 1, now_ms())):
        connection.execute(
            insert(model_versions).values(
                name=name, version=version, description="", flavor="onnx", signature={},
                metrics={}, params={}, tags={}, artifacts=[], created_by="", created_at=now_ms(),
                deleted_at=deleted,
            )
        )  # fmt: skip
    for id_, pid, heard in (("alive", os.getpid(), now_ms()), ("silent", os.getpid(), 0)):
        connection.execute(
            insert(workers).values(
                id=id_, host=this_host(), pid=pid, concurrency=1, started_at=0, heartbeat_at=heard
            )
        )


async def test_an_empty_hub_has_nothing(database: SqliteDatabase) -> None:
    assert await count(database, worker_silence_s=10) == Counts(
        datasets=0, models=0, model_versions=0, jobs={}, workers_alive=0
    )


async def test_what_is_there_is_counted_once(database: SqliteDatabase) -> None:
    await database.write(_fill)
    assert await count(database, worker_silence_s=10) == Counts(
        datasets=2, models=1, model_versions=2, jobs={"queued": 1, "succeeded": 2}, workers_alive=1
    )
