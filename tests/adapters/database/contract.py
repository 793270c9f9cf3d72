"""What every database promises. An implementation's test class gives `open_database`."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from anyio import to_thread
from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.remembering import Remembered
from mcp_hub.adapters.database.schema import changes, job_dependencies, models, promotions
from tests.spawning import Processes, killed_process
from tests.waiting import eventually

OpenDatabase = Callable[[], Database]

TEXTS = [
    "",
    "plain",
    "ÄÖÜ ß é e\u0301",
    "日本語 العربية 🚀👩‍🔬",
    "' \" ; -- \\ % _ ? :name {} \r\n\t",
    "\ufeffbyte order mark",
]


class DatabaseContract:
    @pytest.fixture
    def open_database(self) -> OpenDatabase:
        """A picklable function that opens the same empty database, in any process."""
        raise NotImplementedError

    @pytest.fixture
    async def database(self, open_database: OpenDatabase) -> AsyncIterator[Database]:
        database = open_database()
        await database.upgrade()
        yield database
        await database.close()

    @pytest.fixture
    async def other(self, open_database: OpenDatabase) -> AsyncIterator[Database]:
        """The same database, opened once more."""
        database = open_database()
        yield database
        await database.close()

    async def test_a_write_is_committed_when_it_returns(
        self, database: Database, other: Database
    ) -> None:
        assert await database.write(partial(_add_model, "iris")) == "iris"
        assert await other.read(_model_names) == ["iris"]

    async def test_an_exception_rolls_back_and_is_raised_as_it_is(
        self, database: Database, other: Database
    ) -> None:
        fault = KeyError("mine")

        def work(connection: Connection) -> None:
            _add_model("iris", connection)
            raise fault

        with pytest.raises(KeyError) as raised:
            await database.write(work)
        assert raised.value is fault
        assert await other.read(_model_names) == []

    async def test_a_broken_constraint_is_an_integrity_error(self, database: Database) -> None:
        await database.write(partial(_add_model, "iris"))
        with pytest.raises(IntegrityError):
            await database.write(lambda c: (_add_model("wine", c), _add_model("iris", c)))
        orphan = insert(job_dependencies).values(job_id="job_a", depends_on="job_b")
        with pytest.raises(IntegrityError):
            await database.write(lambda c: c.execute(orphan).close())
        assert await database.read(_model_names) == ["iris"]

    async def test_a_write_sees_its_own_effect(self, database: Database) -> None:
        def work(connection: Connection) -> list[str]:
            _add_model("iris", connection)
            return _model_names(connection)

        assert await database.write(work) == ["iris"]

    async def test_what_is_remembered_is_true(self, database: Database, other: Database) -> None:
        names: Remembered[list[str]] = Remembered(database)
        written: list[str] = []
        for number in range(20):
            name = f"model_{number:02}"
            await (database if number % 2 else other).write(partial(_add_model, name))
            written.append(name)
            assert await names.read("all", _model_names) == written
            assert await names.read("all", _model_names) == written

    async def test_a_read_is_a_snapshot(self, database: Database, other: Database) -> None:
        looked, go_on = threading.Event(), threading.Event()
        seen: list[list[str]] = []

        def look_twice(connection: Connection) -> None:
            seen.append(_model_names(connection))
            looked.set()
            _hold(connection, go_on)
            seen.append(_model_names(connection))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(database.read, look_twice)
            await to_thread.run_sync(looked.wait, 30)
            await other.write(partial(_add_model, "late"))
            await database.write(partial(_add_model, "later"))
            go_on.set()
        assert seen == [[], []]
        assert await database.read(_model_names) == ["late", "later"]

    async def test_a_read_does_not_wait_for_a_write(
        self, database: Database, other: Database
    ) -> None:
        wrote, go_on = threading.Event(), threading.Event()

        def slow(connection: Connection) -> None:
            _add_model("iris", connection)
            wrote.set()
            _hold(connection, go_on)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(database.write, slow)
            await to_thread.run_sync(wrote.wait, 30)
            with anyio.fail_after(10):
                assert await database.read(_model_names) == []
                assert await other.read(_model_names) == []
            go_on.set()
        assert await other.read(_model_names) == ["iris"]

    async def test_many_tasks_read_and_write_at_once(self, database: Database) -> None:
        await database.write(partial(_add_model, "counter"))

        async def read() -> None:
            assert await database.read(_model_names) == ["counter"]

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for _ in range(60):
                    tasks.start_soon(database.write, _count_up)
                    tasks.start_soon(read)
        assert await database.read(_counted) == 60

    async def test_two_processes_write_by_turns(
        self, database: Database, open_database: OpenDatabase, processes: Processes
    ) -> None:
        await database.write(partial(_add_model, "counter"))
        work = partial(_count_in_process, open_database, 250)
        slowest = max(await processes.run(work, work))
        assert await database.read(_counted) == 500
        # Neither process starves while the other writes without a pause.
        assert slowest < 10

    async def test_a_process_killed_in_a_write_leaves_nothing_and_blocks_nobody(
        self, database: Database, open_database: OpenDatabase, tmp_path: Path
    ) -> None:
        sign = tmp_path / "in the transaction"
        with killed_process(_write_and_hang, open_database, sign):
            await eventually(sign.exists)
        with anyio.fail_after(20):
            await database.write(partial(_add_model, "after"))
        assert await database.read(_model_names) == ["after"]

    @pytest.mark.parametrize("by_scope", [True, False], ids=["cancel scope", "task.cancel"])
    async def test_a_cancelled_write_happens_whole_or_not_at_all(
        self, database: Database, other: Database, by_scope: bool
    ) -> None:
        begun, go_on = threading.Event(), threading.Event()

        def work(connection: Connection) -> None:
            _add_model("one", connection)
            begun.set()
            _hold(connection, go_on)
            _add_model("two", connection)

        scope = anyio.CancelScope()

        async def write() -> None:
            with scope:
                await database.write(work)

        task = asyncio.create_task(write())
        await to_thread.run_sync(begun.wait, 30)
        if by_scope:
            scope.cancel()
        else:
            task.cancel()
        await anyio.lowlevel.checkpoint()
        go_on.set()
        await asyncio.wait([task])
        with anyio.fail_after(10):
            await database.write(partial(_add_model, "zero"))
        assert await other.read(_model_names) in (["zero"], ["one", "two", "zero"])

    @pytest.mark.parametrize("text", TEXTS)
    async def test_keeps_text_as_it_is(self, database: Database, text: str) -> None:
        def work(connection: Connection) -> tuple[str, object]:
            _add_model("m", connection)
            gates = {"key " + text: [text, None, True]}
            connection.execute(insert(promotions).values(_promotion(reason=text, gates=gates)))
            row = connection.execute(select(promotions.c.reason, promotions.c.gates)).one()
            return row.reason, row.gates

        assert await database.write(work) == (text, {"key " + text: [text, None, True]})

    async def test_keeps_large_values(self, database: Database) -> None:
        text = "0123456789abcdef🚀" * 400_000

        def work(connection: Connection) -> None:
            _add_model("m", connection)
            connection.execute(insert(promotions).values(_promotion(reason=text, gates=[text])))

        await database.write(work)
        stored = select(promotions.c.reason, promotions.c.gates)
        reason, gates = await database.read(lambda c: tuple(c.execute(stored).one()))
        assert reason == text
        assert gates == [text]

    async def test_keeps_integers_floats_and_nulls(self, database: Database) -> None:
        gates = {"float": 0.1 + 0.2, "big": 2**53 - 1, "tiny": 5e-324, "null": None, "flag": False}
        promotion = _promotion(gates=gates, decided_at=2**53 - 1, promoted=True, previous=None)

        def work(connection: Connection) -> dict[str, object]:
            _add_model("m", connection)
            connection.execute(insert(promotions).values(promotion))
            return dict(connection.execute(select(promotions)).one()._mapping)

        assert await database.write(work) == promotion

    async def test_takes_long_lists_of_values(self, database: Database) -> None:
        names = [f"m{number}" for number in range(30_000)]

        def work(connection: Connection) -> int:
            rows = [{"name": name, "last_version": 1, "created_at": 1} for name in names[::3]]
            connection.execute(insert(models), rows)
            found = select(func.count()).where(models.c.name.in_(names))
            return connection.execute(found).scalar_one()

        assert await database.write(work) == 10_000

    async def test_has_one_clock_in_milliseconds(self, database: Database) -> None:
        clock = select(now_ms())
        before = time.time() * 1000
        first = await database.read(lambda c: c.execute(clock).scalar_one())
        second = await database.write(lambda c: c.execute(clock).scalar_one())
        assert isinstance(first, int)
        assert before - 5000 < first <= second < time.time() * 1000 + 5000

    async def test_numbers_rows_upwards_for_ever(self, database: Database) -> None:
        """A row's number is not given again after the newest row was deleted."""

        row = insert(changes).values(topic="t", origin="o", created_at=now_ms())

        def add(connection: Connection) -> int:
            number: int = connection.execute(row.returning(changes.c.id)).scalar_one()
            return number

        first = await database.write(add)
        await database.write(lambda c: c.execute(changes.delete()).close())
        assert await database.write(add) > first

    async def test_says_what_it_is(self, database: Database) -> None:
        assert database.dialect in (await database.check()).lower()

    async def test_upgrade_has_nothing_to_do_the_second_time(
        self, database: Database, other: Database
    ) -> None:
        assert await other.upgrade() == []
        await database.write(partial(_add_model, "kept"))
        assert await database.upgrade() == []
        assert await other.read(_model_names) == ["kept"]

    async def test_may_be_closed_twice(self, open_database: OpenDatabase) -> None:
        database = open_database()
        await database.close()
        await database.upgrade()
        await database.close()
        await database.close()


def _add_model(name: str, connection: Connection) -> str:
    connection.execute(insert(models).values(name=name, last_version=0, created_at=now_ms()))
    return name


def _model_names(connection: Connection) -> list[str]:
    return list(connection.execute(select(models.c.name).order_by(models.c.name)).scalars())


def _hold(connection: Connection, until: threading.Event, for_s: float = 30) -> None:
    """Keep the transaction open: by statements, since it may be the event loop that runs it."""
    deadline = time.monotonic() + for_s
    while not until.is_set():
        assert time.monotonic() < deadline
        connection.execute(select(1))


def _count_up(connection: Connection) -> None:
    # Read, then write: an update lost between the two would show.
    connection.execute(update(models).values(last_version=_counted(connection) + 1))


def _counted(connection: Connection) -> int:
    version: int = connection.execute(select(models.c.last_version)).scalar_one()
    return version


async def _count_in_process(open_database: OpenDatabase, times: int) -> float:
    """Count up in transactions of their own; the seconds that the slowest took."""
    database = open_database()
    slowest = 0.0
    for _ in range(times):
        begin = time.monotonic()
        await database.write(_count_up)
        slowest = max(slowest, time.monotonic() - begin)
    await database.close()
    return slowest


async def _write_and_hang(open_database: OpenDatabase, sign: Path) -> None:
    def work(connection: Connection) -> None:
        _add_model("lost", connection)
        sign.touch()
        _hold(connection, threading.Event(), for_s=3600)

    await open_database().write(work)


def _promotion(**values: object) -> dict[str, object]:
    return {
        "id": "pr_1",
        "name": "m",
        "alias": "champion",
        "version": 1,
        "previous": None,
        "promoted": True,
        "gates": [],
        "reason": "",
        "decided_by": "me",
        "decided_at": 1,
    } | values
