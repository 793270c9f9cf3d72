"""`mcp-hub migrate`: what would run, and running it."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from pydantic import Field
from sqlalchemy import Connection

from mcp_hub.adapters.database import migrating
from mcp_hub.adapters.database.migrating import Direction, Loss, Plan
from mcp_hub.adapters.database.port import Database, Dialect
from mcp_hub.adapters.errors import Conflict
from mcp_hub.adapters.urls import without_secret
from mcp_hub.server.adapters import choose_database
from mcp_hub.server.settings import Settings
from mcp_hub.services.training.liveness import live_workers
from mcp_hub.services.views import View


class Step(View):
    revision: str
    title: str


class Dropped(View):
    name: str = Field(description="A table, or table.column")
    rows: int = Field(description="Values in it now, which would be lost")


class Migration(View):
    """The way of a database's schema from one revision to another."""

    database: str
    before: str | None = Field(description="Null for an empty database")
    after: str
    direction: Direction
    revisions: list[Step] = Field(description="Applied (up) or taken back (down), in this order")
    drops: list[Dropped]
    done: bool = Field(description="False for a dry run")
    sql: str | None = Field(None, description="What would run, on a dry run")

    @property
    def lost_rows(self) -> int:
        return sum(dropped.rows for dropped in self.drops)


async def plan_migration(settings: Settings, target: str) -> Migration:
    """What `migrate` would do; changes nothing.

    Raises:
        NotFound: there is no revision `target`.
        Conflict: the database is newer than this program.
        Unavailable: the database cannot be opened.
    """
    name = _name(settings)
    if _is_file(settings) and not settings.database_path.exists():
        planned = migrating.plan(None, target)
        return _told(name, _Planned(planned, migrating.sql_of(planned, "sqlite"), []))
    database = choose_database(settings)
    try:
        return _told(name, await database.read(partial(_plan, target, database.dialect)))
    finally:
        await database.close()


async def migrate(
    settings: Settings, target: str = "head", *, may_lose_data: bool = False
) -> Migration:
    """Bring the database to `target`, a revision or `head`: all of the way or none of it.

    Raises:
        NotFound: there is no revision `target`.
        Conflict: the database is newer than this program; or `target` is older than the schema,
            and workers are alive, or rows would be lost and they may not.
        Unavailable: the database cannot be opened.
    """
    settings.ensure_folders()
    training = settings.training
    silence_ms = int(max(training.lease_s, training.worker_silence_s) * 1000)
    database = choose_database(settings)

    def work(connection: Connection) -> _Planned:
        planned = _plan(target, database.dialect, connection)
        if planned.plan.direction == "down":
            _refuse_workers(connection, silence_ms)
            if not may_lose_data:
                _refuse_loss(planned)
        migrating.apply(connection, planned.plan)
        return planned

    try:
        done = await _run(database, target, work)
    finally:
        await database.close()
    return _told(_name(settings), done).model_copy(update={"done": True, "sql": None})


class _Planned(NamedTuple):
    plan: Plan
    sql: str
    losses: list[Loss]


async def _run(database: Database, target: str, work: Callable[[Connection], _Planned]) -> _Planned:
    """Take the lock only where there is something to do."""
    planned = migrating.plan(await database.read(migrating.revision), target)
    if planned.direction == "none":
        return _Planned(planned, "", [])
    return await database.migrate(work)


def _plan(target: str, dialect: Dialect, connection: Connection) -> _Planned:
    planned = migrating.plan(migrating.revision(connection), target)
    sql = migrating.sql_of(planned, dialect)
    return _Planned(planned, sql, migrating.losses(connection, sql))


def _refuse_workers(connection: Connection, silence_ms: int) -> None:
    alive = live_workers(connection, silence_ms)
    if alive:
        named = ", ".join(f"{row.id} (pid {row.pid} on {row.host.split('/')[0]})" for row in alive)
        raise Conflict(
            f"Workers of this version are at work: {named}.",
            "Stop them and every other process of this hub, then run it again; one that was "
            f"killed on another machine counts for {silence_ms / 1000:g} s.",
        )


def _refuse_loss(planned: _Planned) -> None:
    lost = [f"{name} ({rows} rows)" for name, rows in planned.losses if rows]
    if lost:
        raise Conflict(
            f"Going down to {planned.plan.target} drops what the older schema has no place for: "
            f"{', '.join(lost)}.",
            "Keep a copy of the database, then run it again with --yes.",
        )


def _told(name: str, planned: _Planned) -> Migration:
    titles = migrating.titles() if planned.plan.revisions else {}
    return Migration(
        database=name,
        before=planned.plan.current,
        after=planned.plan.target,
        direction=planned.plan.direction,
        revisions=[Step(revision=id_, title=titles[id_]) for id_ in planned.plan.revisions],
        drops=[Dropped(name=loss.name, rows=loss.rows) for loss in planned.losses],
        done=False,
        sql=planned.sql,
    )


def _is_file(settings: Settings) -> bool:
    return (settings.database_url or "sqlite:").startswith("sqlite:")


def _name(settings: Settings) -> str:
    return without_secret(settings.database_url or f"sqlite:///{settings.database_path}")
