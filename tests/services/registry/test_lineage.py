from mcp_hub.adapters.database.schema import datasets, jobs
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.services.registry.service import RegistryService

from .conftest import Add, promote

DATASET = {
    "name": "flowers", "version": 1, "id": "ds_1", "sha256": "ab", "size": 3, "format": "csv",
    "options": {}, "source": "inline", "row_count": 150, "columns": [], "created_at": 1000,
}  # fmt: skip
JOB = {
    "id": "job_1", "name": "iris", "type": "classification", "framework": "sklearn",
    "dataset_name": "flowers", "dataset_version": 1, "target": "species", "config": {"C": 1},
    "priority": 0, "timeout_s": 60, "max_retries": 0, "submitted_by": "tester",
    "status": "succeeded", "attempt": 1, "failures": 0, "losses": 0,
    "cancel_requested": False, "enqueued": True, "metrics": {}, "created_at": 1000,
    "started_at": 2000, "finished_at": 3000, "updated_at": 3000,
}  # fmt: skip


async def test_lineage_tells_job_data_and_decisions(
    registry: RegistryService, database: SqliteDatabase, add: Add
) -> None:
    await database.write(lambda c: (c.execute(datasets.insert(), DATASET), None)[1])
    await database.write(lambda c: (c.execute(jobs.insert(), JOB), None)[1])
    await add("iris", job_id="job_1", dataset="flowers:1", accuracy=0.9)
    await add("iris", accuracy=0.5)
    await promote(registry, "iris:1")
    await promote(registry, "iris:2", "other")
    await registry.promote(
        "iris:1", "other", gates={"min_metric": {"accuracy": 1.0}}, decided_by="tester"
    )
    told = await registry.lineage("iris@champion")
    assert told.model == "iris:1"
    assert told.job is not None
    assert told.dataset is not None
    assert {key: told.job[key] for key in ("job_id", "framework", "type", "config", "status")} == {
        "job_id": "job_1",
        "framework": "sklearn",
        "type": "classification",
        "config": {"C": 1},
        "status": "succeeded",
    }
    assert told.job["started_at"] == "1970-01-01T00:00:02Z"
    assert (told.dataset["dataset"], told.dataset["sha256"]) == ("flowers:1", "ab")
    assert told.dataset["rows"] == 150
    assert [(p.alias, p.promoted) for p in told.promotions] == [
        ("other", False),
        ("champion", True),
    ]
    assert told.aliases == ["champion"]
    bare = await registry.lineage("iris:2")
    assert (bare.job, bare.dataset, bare.aliases) == (None, None, ["other"])
