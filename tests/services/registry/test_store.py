from functools import partial
from pathlib import Path

import anyio
import pytest
from sqlalchemy import select
from sqlalchemy.dialects import postgresql

from mcp_hub.adapters.database.schema import model_versions
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.services.registry import versions
from mcp_hub.services.registry.service import RegistryService
from mcp_hub.services.registry.store import NewVersion, add_version
from tests.spawning import Processes

from .conftest import SIGNATURE, Add

EACH = 30


async def test_versions_count_from_one_for_each_model(add: Add) -> None:
    assert [await add("a"), await add("a"), await add("b"), await add("a")] == [1, 2, 1, 3]


async def test_a_number_is_never_used_again(registry: RegistryService, add: Add) -> None:
    await add("iris")
    await add("iris")
    await registry.delete("iris")
    assert await add("iris") == 3


async def test_a_job_has_one_version(add: Add) -> None:
    assert await add("iris", job_id="job_1") == 1
    assert await add("iris", job_id="job_2") == 2
    assert await add("iris", job_id="job_1") == 1
    assert await add("iris", job_id="job_3") == 3


async def test_metrics_that_are_not_finite_are_left_out(
    registry: RegistryService, add: Add
) -> None:
    await add("iris", accuracy=0.9, auc=float("nan"), log_loss=float("inf"))
    assert (await registry.get("iris")).metrics == {"accuracy": 0.9}


async def test_what_was_added_is_there_whole(registry: RegistryService, add: Add) -> None:
    await add(
        "iris",
        accuracy=0.9,
        params={"C": 1.0, "layers": [8, 8]},
        tags={"team": "plants"},
        description="A first try",
        dataset="iris:1",
        job_id="job_1",
    )
    view = await registry.get("iris")
    assert view.model == "iris:1"
    assert view.signature == SIGNATURE
    assert view.params == {"C": 1.0, "layers": [8, 8]}
    assert (view.tags, view.aliases) == ({"team": "plants"}, [])
    assert (view.description, view.dataset, view.job_id) == ("A first try", "iris:1", "job_1")
    assert view.created_by == "tester"


async def test_a_failed_transaction_adds_nothing(
    database: SqliteDatabase, registry: RegistryService, add: Add
) -> None:
    new = NewVersion("iris", "onnx", SIGNATURE, [], "tester")

    def work(connection: object) -> None:
        add_version(connection, new)  # type: ignore[arg-type]
        raise KeyError

    with pytest.raises(KeyError):
        await database.write(work)
    assert await registry.names() == []
    assert await add("iris") == 1


async def _add_many(path: Path, worker: str) -> list[int]:
    """Add versions of one model, every job twice, as a retried worker does."""
    database = SqliteDatabase(path)
    added = []
    for index in range(EACH):
        new = NewVersion("iris", "onnx", SIGNATURE, [], worker, job_id=f"{worker}-{index}")
        for _ in range(2):
            added.append(await database.write(partial(add_version, new=new)))
    await database.close()
    return added


async def test_two_processes_number_one_model_without_gaps(
    database: SqliteDatabase, tmp_path: Path, processes: Processes
) -> None:
    path = tmp_path / "hub.db"
    one, other = await processes.run(
        partial(_add_many, path, "one"), partial(_add_many, path, "other")
    )
    assert one[::2] == one[1::2]
    assert sorted(one[::2] + other[::2]) == list(range(1, 2 * EACH + 1))
    rows = await database.read(
        lambda c: c.execute(select(model_versions.c.version, model_versions.c.created_by)).all()
    )
    assert {version for version, by in rows if by == "one"} == set(one)


async def test_two_tasks_number_one_model_without_gaps(add: Add) -> None:
    numbers: list[int] = []

    async def one() -> None:
        numbers.append(await add("iris"))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(one)
    assert sorted(numbers) == list(range(1, 21))


@pytest.mark.parametrize("name", ["_BY_VERSION", "_BY_ALIAS", "_NEWEST", "_WHOLE"])
def test_the_statements_are_valid_for_postgresql(name: str) -> None:
    assert "SELECT" in str(getattr(versions, name).compile(dialect=postgresql.dialect()))
