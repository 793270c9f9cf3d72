"""Data sets that grow with their source."""

import random
import signal
import sqlite3
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import polars as pl
import pytest

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.database.schema import dataset_streams, datasets, jobs
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import Conflict, HubError, InvalidArgument, LimitExceeded, NotFound
from mcp_hub.adapters.sources.sqlite import SqliteSource
from mcp_hub.services.data.options import SourceQuery, StreamOptions
from mcp_hub.services.data.service import DataService
from mcp_hub.services.data.sources import Sources
from tests.waiting import eventually

ROOT = Path(__file__).parents[3]
BY_ID = SourceQuery(cursor="id")
_JOB = {
    "id": "job_1", "name": "m", "type": "classification", "framework": "sklearn",
    "dataset_name": "log", "dataset_version": 1, "config": {}, "priority": 0, "timeout_s": 1,
    "max_retries": 0, "submitted_by": "", "status": "succeeded", "attempt": 1, "failures": 0,
    "losses": 0, "cancel_requested": False, "enqueued": False, "metrics": {}, "created_at": 0,
    "updated_at": 0,
}  # fmt: skip
OFTEN = StreamOptions(interval_s=1, batch_rows=100)


def service(folder: Path, database: SqliteDatabase, max_rows: int = 10_000) -> DataService:
    return DataService(
        database,
        FileBlobStore(folder / "blobs"),
        DatabaseBus(database),
        roots=[folder / "work"],
        max_bytes=5_000_000,
        max_rows=max_rows,
        sources=Sources(open_sqlite=SqliteSource),
    )


@pytest.fixture
def data(database: SqliteDatabase, root: Path, tmp_path: Path) -> DataService:
    return service(tmp_path, database)


@pytest.fixture
def add(root: Path) -> Callable[[str], None]:
    """Add text to the file `log.csv`."""

    def add(text: str) -> None:
        with (root / "log.csv").open("a", newline="") as file:
            file.write(text)

    return add


@pytest.fixture
def insert(root: Path) -> Callable[[int], None]:
    """Add rows to the table `t` of `shop.db`."""

    def insert(count: int) -> None:
        with sqlite3.connect(root / "shop.db") as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, n INTEGER)")
            connection.executemany("INSERT INTO t (n) VALUES (?)", [(0,)] * count)
        connection.close()

    return insert


async def content(data: DataService, reference: str, folder: Path) -> pl.DataFrame:
    view = await data.get(reference)
    await data._blobs.fetch(view.sha256, folder / view.id)
    return pl.read_parquet(folder / view.id)


async def _has(data: DataService, rows: int) -> bool:
    return (await data.get("t")).rows >= rows


async def versions(database: SqliteDatabase) -> list[int]:
    order = datasets.select().order_by(datasets.c.version)
    return [row.version for row in await database.read(lambda c: c.execute(order).all())]


async def test_a_version_for_each_batch_holds_all_rows_so_far(
    data: DataService, add: Callable[[str], None], tmp_path: Path
) -> None:
    add('id,note\n1,a\n2,"two\nlines"\n3,not whole')
    view = await data.growing.begin("log", "log.csv", stream=OFTEN)
    assert (view.dataset, view.rows) == ("log:1", 2)
    assert view.stream is not None
    assert (view.stream.status, view.stream.batch_rows) == ("growing", 100)
    assert await data.growing.advance("log") is None
    add(' now\n4,"a quote left\n')
    second = await data.growing.advance("log")
    assert second is not None
    assert (second.dataset, second.rows) == ("log:2", 3)
    assert await data.growing.advance("log") is None
    add('open"\n4.5,\n')
    await data.growing.advance("log")
    frame = await content(data, "log", tmp_path)
    assert frame.rows() == [
        (1.0, "a"), (2.0, "two\nlines"), (3.0, "not whole now"), (4.0, "a quote left\nopen"),
        (4.5, None),
    ]  # fmt: skip
    assert (await content(data, "log:1", tmp_path)).height == 2
    (summary,) = (await data.list()).items
    assert (summary.version, summary.rows) == (3, 5)
    assert summary.stream is not None


async def test_a_batch_has_at_most_so_many_rows(
    data: DataService, insert: Callable[[int], None], tmp_path: Path
) -> None:
    insert(250)
    view = await data.growing.begin("t", "shop.db:t", query=BY_ID, stream=OFTEN)
    assert view.rows == 100
    assert view.source.endswith('shop.db:t {"cursor": "id"} up to 100')
    assert [(await data.growing.advance("t")).rows for _ in range(2)] == [200, 250]  # type: ignore[union-attr]
    assert await data.growing.advance("t") is None
    insert(1)
    await data.growing.advance("t")
    assert (await content(data, "t", tmp_path))["id"].to_list() == list(range(1, 252))


async def test_the_order_of_dates_is_that_of_every_batch(
    data: DataService, add: Callable[[str], None], tmp_path: Path
) -> None:
    add("at,b\n3/4/2024,1\n")
    view = await data.growing.begin("log", "log.csv", options={"day_first": True})
    assert view.warnings == []
    for batch in ("25/4/2024,2\n", ",3\n", "5/5/2024,4\n"):
        add(batch)
        await data.growing.advance("log")
    frame = await content(data, "log", tmp_path)
    assert frame["at"].dt.strftime("%d.%m.").to_list() == ["03.04.", "25.04.", None, "05.05."]


async def test_a_growing_data_set_tells_what_may_be_misread(
    data: DataService, add: Callable[[str], None]
) -> None:
    add("at,b\n3/4/2024,1\n")
    [warning] = (await data.growing.begin("log", "log.csv")).warnings
    assert warning.startswith("date_order (at): ")
    assert warning.endswith("or for CSV set options.day_first.")


async def test_types_that_change_and_columns_that_come(
    data: DataService, root: Path, tmp_path: Path
) -> None:
    file = root / "log.jsonl"
    file.write_text('{"a": 1, "b": null, "c": "2024-01-01"}\n')
    await data.growing.begin("log", "log.jsonl")
    with file.open("a") as more:
        more.write('{"a": 2.5, "b": 7, "d": true}\n')
    await data.growing.advance("log")
    with file.open("a") as more:
        more.write('{"a": "x", "d": false}\n')
    await data.growing.advance("log")
    frame = await content(data, "log", tmp_path)
    assert frame.to_dict(as_series=False) == {
        "a": ["1.0", "2.5", "x"], "b": [None, 7, None], "c": ["2024-01-01", None, None],
        "d": [None, True, False],
    }  # fmt: skip


async def test_it_is_stopped_and_goes_on(data: DataService, add: Callable[[str], None]) -> None:
    add("id\n1\n")
    await data.growing.begin("log", "log.csv", stream=OFTEN)
    stopped = await data.growing.stop("log")
    assert (stopped.dataset, stopped.stream and stopped.stream.status) == ("log:1", "stopped")
    add("2\n")
    assert await data.growing.advance("log") is None
    again = await data.growing.begin("log", "log.csv")
    assert (again.dataset, again.stream and again.stream.status) == ("log:1", "growing")
    assert (await data.growing.advance("log")).rows == 2  # type: ignore[union-attr]
    assert (await data.growing.begin("log", "log.csv")).dataset == "log:2"


async def test_old_versions_go_unless_something_is_of_them(
    data: DataService, database: SqliteDatabase, add: Callable[[str], None], tmp_path: Path
) -> None:
    add("id\n0\n")
    await data.growing.begin("log", "log.csv", stream=StreamOptions(keep_versions=2))
    await database.write(lambda c: c.execute(jobs.insert().values(_JOB)).close())
    for number in range(1, 6):
        add(f"{number}\n")
        await data.growing.advance("log")
    assert await versions(database) == [1, 5, 6]
    kept = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    assert len(kept) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [("id\n9\n8\n7\n", "not what they were"), ("id\n", "not what they were")],
)
async def test_a_file_that_is_not_only_added_to_ends_it(
    data: DataService, add: Callable[[str], None], root: Path, text: str, message: str
) -> None:
    add("id\n1\n2\n")
    await data.growing.begin("log", "log.csv")
    (root / "log.csv").write_text(text)
    with pytest.raises(InvalidArgument, match=message):
        await data.growing.advance("log")


async def test_what_cannot_go_on_has_failed_and_says_why(
    data: DataService, add: Callable[[str], None], root: Path
) -> None:
    add("id\n1\n2\n")
    await data.growing.begin("log", "log.csv", stream=OFTEN)
    (root / "log.csv").unlink()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(data.growing.run)

        async def failed() -> bool:
            stream = (await data.get("log")).stream
            return stream is not None and stream.status == "failed"

        await eventually(failed, within_s=20)
        tasks.cancel_scope.cancel()
    stream = (await data.get("log")).stream
    assert stream is not None
    assert stream.error is not None
    assert "There is no file" in stream.error.message


@pytest.mark.parametrize(
    ("name", "source", "query", "error", "message"),
    [
        ("plain", "log.csv", None, Conflict, "does not grow"),
        ("log", "other.csv", None, Conflict, "another source"),
        ("x", "nowhere.csv", None, NotFound, "no file"),
        ("x", "header.csv", None, InvalidArgument, "no rows yet"),
        ("x", "x.parquet", None, InvalidArgument, "cannot grow"),
        ("x", "shop.db:t", None, InvalidArgument, r"query\.cursor is missing"),
        ("x", "shop.db:t", SourceQuery(cursor="id", limit=5), InvalidArgument, r"query\.limit"),
        ("x", "log.csv", BY_ID, InvalidArgument, "query is for"),
        ("no/name", "log.csv", None, InvalidArgument, "cannot name"),
    ],
)
async def test_what_cannot_grow_is_said(
    data: DataService,
    add: Callable[[str], None],
    insert: Callable[[int], None],
    root: Path,
    name: str,
    source: str,
    query: SourceQuery | None,
    error: type[HubError],
    message: str,
) -> None:
    add("id\n1\n2\n")
    insert(3)
    (root / "x.parquet").write_bytes(b"PAR1")
    (root / "header.csv").write_text("id\n")
    (root / "other.csv").write_text("id\n1\n")
    await data.register("plain", source="log.csv")
    await data.growing.begin("log", "log.csv")
    with pytest.raises(error, match=message):
        await data.growing.begin(name, source, query=query)


async def test_nothing_else_can_be_its_next_version(
    data: DataService, add: Callable[[str], None]
) -> None:
    add("id\n1\n")
    await data.growing.begin("log", "log.csv")
    with pytest.raises(Conflict, match="grows with"):
        await data.register("log", content="id\n7\n")
    await data.growing.stop("log")
    assert (await data.register("log", content="id\n7\n")).version == 2
    with pytest.raises(NotFound, match="no data set that grows"):
        await data.growing.stop("lag")


async def test_it_ends_at_the_limit(
    database: SqliteDatabase, root: Path, tmp_path: Path, insert: Callable[[int], None]
) -> None:
    data = service(tmp_path, database, max_rows=150)
    insert(200)
    await data.growing.begin("t", "shop.db:t", query=BY_ID, stream=OFTEN)
    with pytest.raises(LimitExceeded, match="200 rows"):
        await data.growing.advance("t")


async def test_two_that_look_at_once_make_one_version(
    data: DataService, database: SqliteDatabase, insert: Callable[[int], None], tmp_path: Path
) -> None:
    insert(10)
    other = service(tmp_path, database)
    await data.growing.begin("t", "shop.db:t", query=BY_ID)
    insert(10)
    found = []

    async def advance(one: DataService) -> None:
        found.append(await one.growing.advance("t"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(advance, data)
        tasks.start_soon(advance, other)
    assert sorted(view.rows for view in found if view) == [20]
    assert (await content(data, "t", tmp_path))["id"].to_list() == list(range(1, 21))


async def test_each_row_is_there_once_whatever_is_killed(
    data: DataService, database: SqliteDatabase, insert: Callable[[int], None], tmp_path: Path
) -> None:
    insert(50)
    await data.growing.begin(
        "t", "shop.db:t", query=BY_ID, stream=StreamOptions(interval_s=1, batch_rows=20)
    )
    chance = random.Random(7)
    total = 50
    for _ in range(3):
        command = [sys.executable, "-c", _GROWING, str(tmp_path)]
        workers = [await anyio.open_process(command, cwd=ROOT) for _ in range(2)]
        # What was claimed by those that were killed would be looked at a minute later.
        await database.write(lambda c: c.execute(dataset_streams.update().values(due_at=0)).close())
        insert(100)
        total += 100
        reached = chance.randint(total - 90, total - 30)

        try:
            await eventually(partial(_has, data, reached), within_s=60)
        finally:
            for worker in workers:
                worker.send_signal(signal.SIGKILL)
                await worker.wait()
    while await data.growing.advance("t"):
        pass
    assert (await content(data, "t", tmp_path))["id"].to_list() == list(range(1, total + 1))


_GROWING = """
import sys
from pathlib import Path
import anyio
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from tests.services.data.test_growing import service

async def main():
    folder = Path(sys.argv[1])
    await service(folder, SqliteDatabase(folder / "hub.db")).growing.run()

anyio.run(main)
"""
