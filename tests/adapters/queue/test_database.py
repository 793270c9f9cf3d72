import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, bindparam, event, insert

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.schema import queue_messages
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import Unavailable
from mcp_hub.adapters.queue.database import DatabaseQueue
from mcp_hub.adapters.queue.port import AGEING_S
from tests.adapters.queue.contract import LONG, OpenQueue, QueueContract


@asynccontextmanager
async def open_on(
    open_database: Callable[[], SqliteDatabase | PostgresDatabase],
    name: str,
    *,
    ageing_s: float = AGEING_S,
) -> AsyncIterator[DatabaseQueue]:
    database = open_database()
    await database.upgrade()
    queue = DatabaseQueue(database, name, ageing_s=ageing_s)
    yield queue
    await queue.close()
    await database.close()


class TestDatabaseQueueOnSqlite(QueueContract):
    @pytest.fixture
    def open_queue(self, sqlite_path: Path) -> OpenQueue:
        return partial(open_on, partial(SqliteDatabase, sqlite_path))


class TestDatabaseQueueOnPostgres(QueueContract):
    @pytest.fixture
    def open_queue(self, postgres_url: str) -> OpenQueue:
        return partial(open_on, partial(PostgresDatabase, postgres_url))


async def test_claims_pass_over_claimed_and_delayed_messages_within_an_index(
    database: SqliteDatabase, queue: DatabaseQueue
) -> None:
    await database.write(_crowd)
    with _executed() as statements:
        claims = await queue.claim("c", LONG, limit=3)
    assert [claim.message_id for claim in claims] == ["due_0", "due_1", "due_2"]
    look, take = await database.read(lambda c: [_plan(c, *executed) for executed in statements])
    assert "USING INDEX ix_queue_messages_queue_due_at_kind (queue=? AND due_at<?)" in look
    assert "USING COVERING INDEX ix_queue_messages_delivery_order (queue=?)" in take
    assert "USING INTEGER PRIMARY KEY (rowid=?)" in take
    assert "TEMP B-TREE" not in look + take


async def test_a_claim_is_one_statement_of_one_transaction(queue: DatabaseQueue) -> None:
    await queue.enqueue("job_1")
    with _executed(begins=True) as statements:
        await queue.claim("c", LONG)
    assert [statement.split()[0] for statement, _ in statements] == [
        "BEGIN", "SELECT", "BEGIN", "WITH",
    ]  # fmt: skip
    assert statements[2][0] == "BEGIN IMMEDIATE"


async def test_claims_on_an_idle_queue_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "hub.db", busy_timeout_s=0.05)
    await database.upgrade()
    queue = DatabaseQueue(database, "jobs")
    await queue.enqueue("later", delay_s=LONG)
    writer = sqlite3.connect(tmp_path / "hub.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert await queue.claim("c", LONG) == []
    assert await queue.depth() == 1
    with pytest.raises(Unavailable, match="locked"):
        await queue.enqueue("job_1")
    writer.close()
    assert await queue.enqueue("job_1")
    await database.close()


def _crowd(connection: Connection) -> None:
    """Put 10,000 messages before the due ones: half are claimed, half delayed."""
    late = now_ms() + 3_600_000
    ahead = insert(queue_messages).values(
        queue="jobs", rank=-1, due_at=late, delivery=1, id=bindparam("i"), token=bindparam("t")
    )
    tokens = (None, "claimed")
    connection.execute(ahead, [{"i": f"x_{n}", "t": tokens[n % 2]} for n in range(10_000)])
    due = insert(queue_messages).values(
        queue="jobs", rank=0, due_at=now_ms(), delivery=0, id=bindparam("i")
    )
    connection.execute(due, [{"i": f"due_{n}"} for n in range(1000)])


@contextmanager
def _executed(begins: bool = False) -> Iterator[list[tuple[str, Any]]]:
    """The statements that are executed meanwhile, with their parameters."""
    statements: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if begins or not statement.startswith("BEGIN"):
            statements.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def _plan(connection: Connection, statement: str, parameters: Any) -> str:
    rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
    return "\n".join(row.detail for row in rows)
