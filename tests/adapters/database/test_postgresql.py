import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit
from uuid import uuid4

import anyio
import anyio.lowlevel
import pytest
from sqlalchemy import Connection, func, insert, select, text
from sqlalchemy.exc import ProgrammingError

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.schema import changes, models
from mcp_hub.adapters.database.touch import touch
from mcp_hub.adapters.database.upsert import insert_for
from mcp_hub.adapters.errors import Conflict, InvalidArgument, Unavailable
from tests.certificates import write_certificate
from tests.proxy import Proxy
from tests.servers import SECRET_KEY, Server, free_port, postgres_url, run_sql, start_postgres
from tests.waiting import eventually

from .contract import DatabaseContract


class TestPostgresDatabase(DatabaseContract):
    @pytest.fixture
    def open_database(self, postgres_url: str) -> Callable[[], PostgresDatabase]:
        return partial(PostgresDatabase, postgres_url)


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[PostgresDatabase]:
    database = PostgresDatabase(postgres_url)
    yield database
    await database.close()


@pytest.fixture
async def proxy(postgres_server: Server) -> AsyncIterator[Proxy]:
    async with Proxy(postgres_server.port).running() as proxy:
        yield proxy


def through(proxy: Proxy, url: str) -> str:
    """The URL of the same database, reached by the proxy."""
    return urlsplit(url)._replace(netloc=f"hub:{SECRET_KEY}@127.0.0.1:{proxy.port}").geturl()


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """A server that the tests may stop, with a certificate that has expired."""
    with TemporaryDirectory(prefix="mcp-hub-postgres-") as folder:
        write_certificate(Path(folder), timedelta(days=-1))
        server = start_postgres(Path(folder), tls=True)
        yield server
        server.stop()


# What cannot be reached


async def refused(url: str, **options: float) -> Unavailable:
    """What is said by a database of that URL."""
    database = PostgresDatabase(url, **options)  # type: ignore[arg-type]
    with anyio.fail_after(20), pytest.raises(Unavailable) as raised:
        await database.check()
    with pytest.raises(Unavailable):
        await database.upgrade()
    await database.close()
    said = f"{raised.value.message} {raised.value.hint}"
    assert SECRET_KEY not in said
    assert "The database postgresql://hub:***@" in raised.value.message
    return raised.value


async def test_a_wrong_password(postgres_server: Server) -> None:
    error = await refused(postgres_server.url.replace(SECRET_KEY, "guessed"))
    assert "guessed" not in error.message
    assert "password authentication failed" in error.message
    assert error.hint == "Check the user and the password in database_url."


async def test_a_wrong_database(postgres_server: Server) -> None:
    error = await refused(postgres_url(postgres_server, "elsewhere"))
    assert 'database "elsewhere" does not exist' in error.message
    assert "mcp-hub up" in (error.hint or "")


async def test_a_wrong_host() -> None:
    error = await refused(f"postgresql://hub:{SECRET_KEY}@host.invalid/hub")
    assert error.hint == "Check the host's name in database_url."


async def test_a_wrong_port() -> None:
    error = await refused(f"postgresql://hub:{SECRET_KEY}@127.0.0.1:{free_port()}/hub")
    assert "Connect call failed" in error.message
    assert error.hint == "Check that the server runs and that database_url names it."


async def test_a_server_that_accepts_and_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://hub:{SECRET_KEY}@127.0.0.1:{silent.getsockname()[1]}/hub"
        error = await refused(url, connect_timeout_s=0.2)
    assert "no answer within 0.2 s" in error.message


async def test_an_expired_certificate(own_server: Server) -> None:
    certificate = own_server.log.parent / "certificate.pem"
    url = f"{own_server.url}?sslmode=verify-full&sslrootcert={certificate}"
    error = await refused(url)
    assert "certificate has expired" in error.message
    assert "Renew the server's certificate" in (error.hint or "")


async def test_a_certificate_that_nobody_vouches_for(own_server: Server, tmp_path: Path) -> None:
    other, _ = write_certificate(tmp_path, timedelta(days=1))
    error = await refused(f"{own_server.url}?sslmode=verify-ca&sslrootcert={other}")
    assert "self-signed certificate" in error.message
    assert "sslrootcert" in (error.hint or "")


async def test_a_certificate_that_is_not_there(own_server: Server, tmp_path: Path) -> None:
    url = f"{own_server.url}?sslmode=verify-ca&sslrootcert={tmp_path / 'none.pem'}"
    error = await refused(url)
    assert "No such file" in error.message


async def test_tls_that_is_asked_for_is_used(own_server: Server) -> None:
    database = PostgresDatabase(f"{own_server.url}?sslmode=require")
    query = text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    assert await database.read(lambda c: c.execute(query).scalar_one())
    await database.close()


async def test_a_server_without_tls(postgres_server: Server) -> None:
    error = await refused(f"{postgres_server.url}?sslmode=require")
    assert "rejected SSL upgrade" in error.message
    assert "sslmode" in (error.hint or "")


async def test_too_many_connections(postgres_server: Server) -> None:
    role = f"limited_{uuid4().hex}"
    await run_sql(
        postgres_server.url,
        f"CREATE ROLE {role} LOGIN PASSWORD '{SECRET_KEY}' CONNECTION LIMIT 0",
    )
    database = PostgresDatabase(postgres_server.url.replace("//hub:", f"//{role}:"))
    with pytest.raises(Unavailable, match="too many connections") as raised:
        await database.check()
    assert "max_connections" in (raised.value.hint or "")
    await database.close()


# What cannot be done


async def test_a_read_cannot_write(postgres: PostgresDatabase) -> None:
    with pytest.raises(Unavailable, match="read-only"):
        await postgres.read(_notice)
    assert await postgres.read(_count) == 0


async def test_a_server_that_only_reads(postgres: PostgresDatabase, postgres_url: str) -> None:
    name = postgres_url.rpartition("/")[2]
    setting = f"ALTER DATABASE {name} SET default_transaction_read_only = on"
    await run_sql(postgres_url, setting)
    for one_statement in (False, True):
        with pytest.raises(Unavailable, match="read-only") as raised:
            await postgres.write(_notice, one_statement=one_statement)
        assert "primary" in (raised.value.hint or "")


async def test_a_wrong_statement_is_not_unavailable(postgres: PostgresDatabase) -> None:
    for one_statement in (False, True):
        with pytest.raises(ProgrammingError, match="does not exist"):
            await postgres.read(
                lambda c: c.execute(text("SELECT * FROM elsewhere")).all(),
                one_statement=one_statement,
            )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "x" * 200}, "value too long for type character varying(128)"),
        ({"name": "a\0b"}, "invalid byte sequence"),
        ({"name": "m", "last_version": 2**31}, "value out of int32 range"),
    ],
)
async def test_a_value_that_does_not_fit(
    postgres: PostgresDatabase, values: dict[str, object], said: str
) -> None:
    row = {"last_version": 0, "created_at": 0, **values}
    with pytest.raises(InvalidArgument) as raised:
        await postgres.write(lambda c: c.execute(insert(models).values(row)).close())
    assert said in raised.value.message


async def test_a_statement_that_takes_too_long(postgres_url: str) -> None:
    database = PostgresDatabase(postgres_url, statement_timeout_s=0.2)
    for one_statement in (False, True):
        with anyio.fail_after(5), pytest.raises(Unavailable, match="statement timeout") as raised:
            await database.write(
                lambda c: c.execute(text("SELECT pg_sleep(60)")).close(),
                one_statement=one_statement,
            )
        assert "too long" in (raised.value.hint or "")
    assert await database.read(_count) == 0
    await database.close()


async def test_a_database_of_another_encoding(postgres_server: Server) -> None:
    name = f"latin_{uuid4().hex}"
    await run_sql(
        postgres_server.url,
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'",
    )
    database = PostgresDatabase(postgres_url(postgres_server, name))
    with pytest.raises(Conflict, match="LATIN1") as raised:
        await database.upgrade()
    assert "ENCODING 'UTF8'" in (raised.value.hint or "")
    await database.close()


# Many at once


async def test_waits_for_a_connection_until_the_deadline(postgres_url: str) -> None:
    database = PostgresDatabase(
        postgres_url, pool_size=1, pool_overflow=1, connect_timeout_s=0.5, statement_timeout_s=1
    )
    sleep = text("SELECT pg_sleep(0.6)")
    outcomes: list[str] = []

    async def occupy() -> None:
        try:
            await database.read(lambda c: c.execute(sleep).close())
        except Unavailable as error:
            outcomes.append(error.message)
        else:
            outcomes.append("done")

    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(occupy)
        await anyio.lowlevel.checkpoint()
        with pytest.raises(Unavailable, match=r"all 2 connections were busy for 1\.5 s"):
            await database.read(_count)
    # Two at a time for 0.6 s each: a third round cannot end in time.
    assert 2 <= outcomes.count("done") <= 4
    assert await database.read(_count) == 0
    await database.close()


async def test_never_opens_more_than_it_may(postgres_url: str) -> None:
    database = PostgresDatabase(postgres_url, pool_size=2, pool_overflow=3)
    backends = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
    seen: list[int] = []

    async def look() -> None:
        seen.append(await database.read(lambda c: c.execute(backends).scalar_one()))

    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(look)
    assert 2 <= max(seen) <= 5
    await database.close()


async def test_callers_that_leave_cost_no_connection(postgres_url: str) -> None:
    database = PostgresDatabase(postgres_url, pool_size=3, pool_overflow=0)
    chance = random.Random(7)
    for turn in range(150):
        tasks = [
            asyncio.create_task(database.write(partial(_add_model, f"m{turn}-{number}")))
            for number in range(4)
        ]
        for _ in range(chance.randrange(12)):
            await anyio.lowlevel.checkpoint()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    pid = text("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
    pids = await database.read(lambda c: c.execute(pid).scalars().all())
    assert len(pids) <= 3
    await database.close()


async def test_what_others_decide_upon_is_touched_or_not_kept_still(
    postgres: PostgresDatabase,
) -> None:
    """Two that each add a row where the other has not: one is run again if both touch."""

    def decide(mine: str, theirs: str, connection: Connection) -> bool:
        touch(connection, models.c.last_version, models.c.name == "both")
        names = connection.execute(select(models.c.name)).scalars().all()
        if theirs not in names:
            _add_model(mine, connection)
        return theirs not in names

    await postgres.write(partial(_add_model, "both"))
    for turn in range(20):
        one, other = f"one {turn}", f"other {turn}"
        added = await asyncio.gather(
            postgres.write(partial(decide, one, other)), postgres.write(partial(decide, other, one))
        )
        assert sorted(added) == [False, True]


async def test_a_key_that_the_snapshot_does_not_show(postgres: PostgresDatabase) -> None:
    """Numbering by the largest number: with on_conflict_do_nothing every number is given once."""

    def add(connection: Connection) -> int:
        last = connection.execute(select(func.max(models.c.last_version))).scalar() or 0
        values = {"name": f"m{last + 1}", "last_version": last + 1, "created_at": 0}
        connection.execute(insert_for(connection, models).values(values).on_conflict_do_nothing())
        return last + 1

    numbers = await asyncio.gather(*(postgres.write(add) for _ in range(20)))
    assert sorted(numbers) == list(range(1, 21))


# What is lost on the way


async def test_a_connection_that_is_ended_between_calls(postgres: PostgresDatabase) -> None:
    await postgres.write(_notice)
    await _end_connections(postgres)
    await postgres.write(_notice)
    await _end_connections(postgres)
    await postgres.write(_notice, one_statement=True)
    assert await postgres.read(_count) == 3


async def test_a_connection_that_is_ended_in_a_transaction(
    postgres: PostgresDatabase, postgres_url: str
) -> None:
    other = PostgresDatabase(postgres_url)
    runs = 0

    def work(connection: Connection) -> None:
        nonlocal runs
        runs += 1
        _notice(connection)
        if runs == 1:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            ending.append(asyncio.ensure_future(_end(other, pid)))
            while True:
                connection.execute(text("SELECT 1"))
        _notice(connection)

    ending: list[asyncio.Future[None]] = []
    await postgres.write(work)
    await asyncio.gather(*ending)
    assert runs == 2
    assert await postgres.read(_count) == 2
    await other.close()


async def test_a_commit_whose_answer_is_lost_is_in_doubt(postgres_url: str, proxy: Proxy) -> None:
    database = PostgresDatabase(through(proxy, postgres_url))
    await database.write(_notice, one_statement=True)

    def work(connection: Connection) -> None:
        _notice(connection)
        proxy.cut_receiving = proxy.received + 1

    for one_statement in (True, False):
        cut = partial(_cut_at_once, proxy) if one_statement else work
        with pytest.raises(Unavailable, match="may or may not be there") as raised:
            await database.write(cut, one_statement=one_statement)
        assert "See whether it is there" in (raised.value.hint or "")
        proxy.reset()
    assert await database.read(_count) == 3
    await database.close()


async def test_a_commit_that_does_not_arrive_is_in_doubt(postgres_url: str, proxy: Proxy) -> None:
    database = PostgresDatabase(through(proxy, postgres_url))

    def work(connection: Connection) -> None:
        _notice(connection)
        proxy.cut_sending = proxy.sent + 1

    with pytest.raises(Unavailable, match="may or may not be there"):
        await database.write(work)
    proxy.reset()
    assert await database.read(_count) == 0
    await database.close()


async def test_a_read_whose_answer_is_lost_is_done_again(postgres_url: str, proxy: Proxy) -> None:
    database = PostgresDatabase(through(proxy, postgres_url))
    await database.read(_count)
    for one_statement in (False, True):
        proxy.cut_receiving, proxy.cuts = proxy.received + 1, 1
        assert await database.read(_count, one_statement=one_statement) == 0
        assert proxy.cuts == 0
    await database.close()


async def test_a_server_that_falls_silent(postgres_url: str, proxy: Proxy) -> None:
    url = through(proxy, postgres_url)
    database = PostgresDatabase(url, connect_timeout_s=0.3, statement_timeout_s=0.3)
    await database.write(_notice)
    proxy.answers = False
    begin = time.monotonic()
    for one_statement in (False, True):
        with pytest.raises(Unavailable, match="no answer within"):
            await database.write(_notice, one_statement=one_statement)
    assert time.monotonic() - begin < 10
    proxy.reset()
    assert await database.read(_count) == 1
    proxy.answers = False
    with anyio.fail_after(10):
        await database.close()


async def test_closing_waits_for_those_whose_callers_left(
    postgres: PostgresDatabase, postgres_url: str
) -> None:
    def work(connection: Connection) -> None:
        connection.execute(text("SELECT pg_sleep(0.2)"))
        _notice(connection)

    with anyio.move_on_after(0.1):
        await postgres.write(work)
    await postgres.close()
    assert await postgres.read(_count) == 1


async def test_a_server_that_is_restarted_between_calls(own_server: Server) -> None:
    database = await _open_own(own_server)
    await database.write(_notice)
    await anyio.to_thread.run_sync(own_server.restart)
    await database.write(_notice)
    await anyio.to_thread.run_sync(own_server.restart)
    await database.write(_notice, one_statement=True)
    await anyio.to_thread.run_sync(own_server.restart)
    assert await database.read(_count) == 3
    await database.close()


async def test_what_is_acknowledged_outlives_a_restart_during_calls(own_server: Server) -> None:
    database = await _open_own(own_server)
    acknowledged: list[str] = []
    in_doubt: list[str] = []
    said: list[str] = []
    restarted = anyio.Event()

    async def write(worker: int) -> None:
        number = 0
        while not (restarted.is_set() and number > 20):
            number += 1
            name = f"{worker} {number} {uuid4()}"
            try:
                await database.write(partial(_add_model, name), one_statement=worker % 2 == 0)
            except Unavailable as error:
                in_doubt.append(name)
                said.append(error.message)
            else:
                acknowledged.append(name)

    async with anyio.create_task_group() as tasks:
        for worker in range(8):
            tasks.start_soon(write, worker)
        await eventually(lambda: len(acknowledged) > 50)
        await anyio.to_thread.run_sync(own_server.restart)
        restarted.set()
    names = set(await database.read(lambda c: c.execute(select(models.c.name)).scalars().all()))
    assert set(acknowledged) <= names <= {*acknowledged, *in_doubt}
    assert len(in_doubt) <= 8
    assert all("may or may not be there" in message for message in said)
    await database.close()


async def test_a_server_that_stays_away(own_server: Server) -> None:
    database = await _open_own(own_server)
    own_server.stop()
    begin = time.monotonic()
    with pytest.raises(Unavailable):
        await database.check()
    assert time.monotonic() - begin < 2
    with pytest.raises(Unavailable, match="Connect call failed"):
        await database.read(_count)
    assert time.monotonic() - begin < 10
    own_server.start()
    assert await database.read(_count) == 0
    await database.close()


async def _open_own(server: Server) -> PostgresDatabase:
    """A new database with the schema on a server of the tests' own."""
    name = f"test_{uuid4().hex}"
    await run_sql(server.url, f"CREATE DATABASE {name}")
    database = PostgresDatabase(postgres_url(server, name))
    await database.upgrade()
    return database


async def _end_connections(database: PostgresDatabase) -> None:
    query = text(
        # Waits for each to be gone: one may else end in the middle of the next statement.
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    other = PostgresDatabase(database._dsn)
    await other.write(lambda c: c.execute(query).close())
    await other.close()


async def _end(database: Database, pid: int) -> None:
    query = text("SELECT pg_terminate_backend(:pid)").bindparams(pid=pid)
    await database.write(lambda c: c.execute(query).close())


def _cut_at_once(proxy: Proxy, connection: Connection) -> None:
    proxy.cut_receiving = proxy.received + 1
    _notice(connection)


def _notice(connection: Connection) -> None:
    connection.execute(insert(changes).values(topic="t", origin="o", created_at=1))


def _count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(changes)).scalar_one()


def _add_model(name: str, connection: Connection) -> None:
    connection.execute(insert(models).values(name=name, last_version=0, created_at=0))
