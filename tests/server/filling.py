"""A hub as large as a test wants it, filled without training anything."""

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, insert

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.database.schema import (
    datasets,
    job_attempts,
    job_dependencies,
    job_logs,
    job_metrics,
    jobs,
    model_aliases,
    model_versions,
    models,
    promotions,
    queue_messages,
    workers,
)
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.database.telemetry_schema import telemetry_resources

_BATCH = 20_000
_TEXTS = ["plain", "ÄÖÜ ß é e\u0301", "日本語 🚀", "' \" ; -- \\ %", "", "line\r\n\t", "NUL \0",
          r'{"of": "\u0000"}']  # fmt: skip

Row = dict[str, Any]


async def fill_hub(folder: Path, *, runs: int, metrics: int, blobs: int, blob_bytes: int) -> None:
    """A hub in `folder` with `runs` jobs of `metrics` values each, and `blobs` blobs.

    The first blob is a data set, the others are models of the first jobs.
    """
    database = SqliteDatabase(folder / "hub.db")
    store = FileBlobStore(folder / "blobs")
    await database.upgrade()
    random_bytes = random.Random(7).randbytes
    stored = [await store.put(random_bytes(blob_bytes)) for _ in range(blobs)]

    async def add(table: Table, rows: Iterator[Row]) -> None:
        batch: list[Row] = []
        for row in rows:
            batch.append(row)
            if len(batch) == _BATCH:
                await database.write(_inserting(table, batch))
                batch = []
        if batch:
            await database.write(_inserting(table, batch))

    data, *artifacts = stored
    await add(datasets, iter([_dataset(data.sha256, data.size)]))
    await add(jobs, (_job(number, runs) for number in range(runs)))
    await add(job_dependencies, iter([{"job_id": _id(1), "depends_on": _id(0)}]))
    await add(job_attempts, (_attempt(number) for number in range(runs)))
    await add(job_logs, (_log(number) for number in range(0, runs, 10)))
    await add(job_metrics, (_metric(n, m) for n in range(runs) for m in range(metrics)))
    await add(models, iter([{"name": "m", "last_version": blobs, "created_at": 1}]))
    await add(
        model_versions,
        (_version(n, a.sha256, a.size) for n, a in enumerate(artifacts, 1)),
    )
    if artifacts:
        alias = {"name": "m", "alias": "champion", "version": 1, "updated_at": 3}
        await add(model_aliases, iter([alias]))
    await add(promotions, iter([_promotion()]))
    await add(queue_messages, iter([_message(_id(runs - 1))]))
    await add(workers, iter([_worker()]))
    await add(telemetry_resources, (_resource(number) for number in range(len(_TEXTS))))
    await database.close()


def _inserting(table: Table, rows: list[Row]) -> Callable[[Connection], None]:
    def insert_rows(connection: Connection) -> None:
        connection.execute(insert(table), rows)

    return insert_rows


def _id(number: int) -> str:
    """An id as random ones are: in no order."""
    return f"job_{hashlib.blake2s(str(number).encode(), digest_size=5).hexdigest()}"


def _dataset(sha256: str, size: int) -> Row:
    return {
        "name": "points", "version": 1, "id": "ds_1", "sha256": sha256, "size": size,
        "format": "csv", "options": {"separator": ";"}, "source": "ü/points.csv", "row_count": 3,
        "columns": [{"name": "x", "kind": "number"}], "created_at": 1_700_000_000_000,
    }  # fmt: skip


def _job(number: int, runs: int) -> Row:
    queued = number == runs - 1
    return {
        "id": _id(number), "name": f"job-{number}", "type": "classification",
        "framework": "sklearn", "dataset_name": "points", "dataset_version": 1, "target": "y",
        "config": {"cv": 3, "nested": {"ü": [1, 2.5, None]}}, "priority": number % 10,
        "timeout_s": 0.1 * number, "max_retries": 1, "idempotency_key": None,
        "submitted_by": "test", "status": "queued" if queued else "succeeded",
        "attempt": 0 if queued else 1, "failures": 0, "losses": 0, "cancel_requested": False,
        "enqueued": queued, "worker_id": None, "lease_expires_at": None, "progress_done": 1.0,
        "progress_total": None, "metrics": {"accuracy": number / 3}, "model_name": None,
        "model_version": None, "error": {"code": "x"} if number % 7 == 0 else None,
        "created_at": 1_700_000_000_000 + number, "started_at": None, "finished_at": None,
        "updated_at": 1_700_000_000_000 + number,
    }  # fmt: skip


def _attempt(number: int) -> Row:
    return {
        "job_id": _id(number), "attempt": 1, "worker_id": "w", "outcome": "succeeded",
        "error": None, "started_at": number, "finished_at": number + 1,
    }  # fmt: skip


def _log(number: int) -> Row:
    return {
        "job_id": _id(number), "attempt": 1, "seq": 1, "time": number, "stream": "stdout",
        "text": _TEXTS[number // 10 % len(_TEXTS)],
    }  # fmt: skip


def _metric(number: int, metric: int) -> Row:
    return {
        "job_id": _id(number), "key": f"loss.{metric % 5}", "step": metric // 5, "attempt": 1,
        "value": (number + 1) / (metric + 3), "time": 1_700_000_000_000 + number,
    }  # fmt: skip


def _version(version: int, sha256: str, size: int) -> Row:
    return {
        "name": "m", "version": version, "description": "d", "flavor": "onnx",
        "signature": {"inputs": [], "outputs": []}, "metrics": {"accuracy": 0.1 + 0.2},
        "params": {}, "tags": {"owner": "ü"},
        "artifacts": [{"name": "model.onnx", "sha256": sha256, "bytes": size}],
        "job_id": _id(version), "dataset": "points:1", "created_by": "test", "created_at": 2,
        "deleted_at": None,
    }  # fmt: skip


def _promotion() -> Row:
    return {
        "id": "prm_1", "name": "m", "alias": "champion", "version": 1, "previous": None,
        "promoted": True, "gates": [json.loads('{"gate": "min_metric.accuracy"}')],
        "reason": "best", "decided_by": "test", "decided_at": 3,
    }  # fmt: skip


def _message(job_id: str) -> Row:
    return {"queue": "mcp-hub-jobs", "id": job_id, "rank": 0, "due_at": 0, "delivery": 0}


def _resource(number: int) -> Row:
    return {"resource": number, "attributes": json.dumps({"text": _TEXTS[number]})}


def _worker() -> Row:
    return {
        "id": "w", "host": "elsewhere", "pid": 1, "concurrency": 1, "started_at": 0,
        "heartbeat_at": 0,
    }  # fmt: skip
