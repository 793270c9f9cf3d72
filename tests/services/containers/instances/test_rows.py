"""Rows of instances: whatever processes do and die of, each place is one's and each row somebody's.

A model of several holders claims, makes ready, stops, forgets, dies, is buried and takes over, in
any order. The clock stands still but where a holder's lease is made to end.
"""

from collections.abc import AsyncIterator, Callable
from functools import partial

import anyio
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Connection, create_engine, select, update
from sqlalchemy.exc import IntegrityError

from mcp_hub.adapters.database.containers_schema import (
    container_holders,
    container_instances,
    containers,
)
from mcp_hub.adapters.database.metadata import metadata, now_ms
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.services.containers.instances import failures, holders, rows
from mcp_hub.services.containers.instances.rows import Deployment, Holder, Instance
from mcp_hub.services.containers.specs import ContainerSpec
from tests.services.containers.instances.deployments import deploy

NAME = "time"
MAX_SESSIONS = 3


def in_force(connection: Connection, name: str = NAME) -> Deployment:
    deployment = rows.look(connection, name).deployment
    assert deployment is not None
    return deployment


def holder(name: str) -> Holder:
    return Holder(name, f"unix:/tmp/{name}", "secret")


class Processes(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.engine = create_engine("sqlite://")
        metadata.create_all(self.engine)
        self.connection = self.engine.connect()
        self.alive: set[str] = set()
        self.started = 0

    def teardown(self) -> None:
        self.connection.close()
        self.engine.dispose()

    @initialize(replicas=st.integers(1, 3))
    def deploy(self, replicas: int) -> None:
        self.replicas = replicas
        deploy(self.connection, ContainerSpec(name=NAME, image="x"))

    def found(self) -> list[Instance]:
        return rows.look(self.connection, NAME).instances

    def mine(self, who: str) -> list[str]:
        return [held.instance.id for held in rows.held_by(self.connection, who)]

    @rule()
    def a_process_comes(self) -> None:
        self.started += 1
        who = f"h{self.started}"
        holders.enter(self.connection, holder(who), 1e6)
        self.alive.add(who)

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), buried=st.booleans())
    def a_process_dies(self, data: st.DataObject, buried: bool) -> None:
        who = data.draw(st.sampled_from(sorted(self.alive)))
        self.alive.discard(who)
        if buried:
            assert holders.bury(self.connection, who)
            assert not holders.renew(self.connection, who, 10, [])
        else:
            lapsed = update(container_holders).where(container_holders.c.id == who)
            self.connection.execute(lapsed.values(expires_at=now_ms() - 1))

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def a_slot_is_claimed(self, data: st.DataObject) -> None:
        who = data.draw(st.sampled_from(sorted(self.alive)))
        made = rows.claim_slot(self.connection, in_force(self.connection), self.replicas, who)
        current = {
            one.slot
            for one in self.found()
            if one.revision == in_force(self.connection).revision and one.id != made
        }
        assert (made is None) == (set(range(self.replicas)) <= current)

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), session=st.sampled_from("abcde"))
    def a_session_claims(self, data: st.DataObject, session: str) -> None:
        who = data.draw(st.sampled_from(sorted(self.alive)))
        before = {one.id: one for one in self.found()}
        claim = rows.claim_session(
            self.connection, in_force(self.connection), session, MAX_SESSIONS, who
        )
        if claim.id is None:
            assert claim.is_full
            return
        after = {one.id: one for one in self.found()}
        assert after[claim.id].session == session
        assert after[claim.id].slot is None
        if claim.is_new:
            assert claim.id not in before
            assert after[claim.id].holder == holder(who)
        else:
            assert before[claim.id].session in (None, session)

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), to=st.sampled_from(["ready", "stopping", "gone"]))
    def a_holder_goes_on(self, data: st.DataObject, to: str) -> None:
        found = self.found()
        if not found:
            return
        who = data.draw(st.sampled_from(sorted(self.alive)))
        id_ = data.draw(st.sampled_from([one.id for one in found]))
        is_mine = id_ in self.mine(who)
        stops = any(one.id == id_ and one.state == "stopping" for one in found)
        if to == "ready":
            done = rows.mark_ready(self.connection, id_, who, "engine", {"name": "x"})
        elif to == "stopping":
            done = rows.mark_stopping(self.connection, id_, who)
        else:
            done = rows.forget(self.connection, id_, who)
        assert done == is_mine
        if stops and to == "ready":
            assert next(one for one in self.found() if one.id == id_).state == "stopping"

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def one_is_taken_over(self, data: st.DataObject) -> None:
        found = self.found()
        if not found:
            return
        who = data.draw(st.sampled_from(sorted(self.alive)))
        one = data.draw(st.sampled_from(found))
        assert rows.take_over(self.connection, one.id, who) == (one.holder is None)
        assert (one.id in self.mine(who)) == (one.holder in (None, holder(who)))

    @rule()
    def a_revision_is_deployed(self) -> None:
        revision = in_force(self.connection).revision + 1
        deploy(self.connection, ContainerSpec(name=NAME, image="x"), revision)

    @invariant()
    def each_place_is_one_instances(self) -> None:
        found = rows.look(self.connection, NAME).instances
        for kind in ("slot", "session"):
            places = [
                (one.revision, getattr(one, kind))
                for one in found
                if getattr(one, kind) is not None
            ]
            assert len(places) == len(set(places))
        assert all(one.slot is None or one.session is None for one in found)

    @invariant()
    def only_the_living_hold(self) -> None:
        found = rows.look(self.connection, NAME).instances
        assert {one.holder.id for one in found if one.holder} <= self.alive

    @invariant()
    def sessions_are_bounded(self) -> None:
        found = rows.look(self.connection, NAME)
        sessions = [one for one in found.instances if one.session is not None]
        for revision in {one.revision for one in sessions}:
            assert sum(one.revision == revision for one in sessions) <= MAX_SESSIONS


TestProcesses = Processes.TestCase
TestProcesses.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


@pytest.fixture(params=["sqlite", "postgresql"])
def open_database(request: pytest.FixtureRequest) -> Callable[[], Database]:
    if request.param == "sqlite":
        return partial(SqliteDatabase, request.getfixturevalue("sqlite_path"))
    return partial(PostgresDatabase, request.getfixturevalue("postgres_url"))


@pytest.fixture
async def shared(open_database: Callable[[], Database]) -> AsyncIterator[Database]:
    found = open_database()
    await found.upgrade()
    yield found
    await found.close()


async def test_of_many_at_once_one_makes_the_instance(shared: Database) -> None:
    await shared.write(lambda c: deploy(c, ContainerSpec(name=NAME, image="x")))
    made: list[str | None] = []

    async def claim(who: str) -> None:
        await shared.write(lambda c: holders.enter(c, holder(who), 60), one_statement=True)
        deployment = await shared.read(in_force)
        made.append(await shared.write(lambda c: rows.claim_slot(c, deployment, 1, who)))

    async with anyio.create_task_group() as tasks:
        for number in range(12):
            tasks.start_soon(claim, f"h{number}")
    assert len([one for one in made if one]) == 1


async def test_sessions_at_once_are_no_more_than_may_be(shared: Database) -> None:
    await shared.write(lambda c: deploy(c, ContainerSpec(name=NAME, image="x")))
    await shared.write(lambda c: holders.enter(c, holder("h"), 60), one_statement=True)
    deployment = await shared.read(in_force)
    claims: list[rows.SessionClaim] = []

    async def claim(session: str) -> None:
        work = partial(
            rows.claim_session,
            deployment=deployment, session=session, max_sessions=4, holder="h",
        )  # fmt: skip
        claims.append(await shared.write(work))

    async with anyio.create_task_group() as tasks:
        for number in range(16):
            # Each session asks twice, and is one all the same.
            tasks.start_soon(claim, f"s{number // 2}")
    assert len({one.id for one in claims if one.id}) == 4
    assert sum(one.is_new for one in claims) == 4
    assert sum(one.is_full for one in claims) == 8


async def test_a_place_in_a_revision_is_taken_once(shared: Database) -> None:
    await shared.write(lambda c: rows.add(c, NAME, 7, "h", slot=0))
    with pytest.raises(IntegrityError):
        await shared.write(lambda c: rows.add(c, NAME, 7, "other", slot=0))


async def test_what_is_in_force_and_who_holds_it_is_one_look(shared: Database) -> None:
    def prepare(connection: Connection) -> None:
        deploy(connection, ContainerSpec(name=NAME, image="x"))
        deploy(connection, ContainerSpec(name="other", image="x"))
        holders.enter(connection, holder("h"), 60)
        holders.enter(connection, holder("late"), -1)
        rows.claim_slot(connection, in_force(connection), 3, "h")
        rows.claim_slot(connection, in_force(connection), 3, "late")

    await shared.write(prepare)
    seen = await shared.read(lambda c: rows.look(c, NAME), one_statement=True)
    assert seen.deployment is not None
    assert seen.deployment.wait_s == 0
    assert {one.slot: one.holder for one in seen.instances} == {0: holder("h"), 1: None}
    assert await shared.read(lambda c: rows.look(c, "nobody"), one_statement=True) == rows.Seen(
        None, []
    )
    assert (await shared.read(lambda c: rows.look(c, "other"))).instances == []
    deployed, found = await shared.read(rows.everything)
    assert sorted(one.name for one in deployed) == ["other", NAME]
    assert len(found) == 2


async def test_failures_in_a_row_wait_ever_longer(shared: Database) -> None:
    await shared.write(lambda c: deploy(c, ContainerSpec(name=NAME, image="x")))
    error = {"code": "unavailable", "message": "It ended.", "hint": None}

    async def fail(*, started: bool) -> float:
        return await shared.write(
            lambda c: failures.note_failure(c, NAME, 1, error, started=started)
        )

    assert await fail(started=True) == 0
    assert [await fail(started=False) for _ in range(7)] == [2, 4, 8, 16, 32, 60, 60]
    deployment = await shared.read(in_force)
    assert (deployment.failures, deployment.error) == (8, error)
    assert 50 < deployment.wait_s <= 60
    await shared.write(lambda c: failures.note_start(c, NAME, 1), one_statement=True)
    ready = await shared.read(in_force)
    assert (ready.failures, ready.error, ready.wait_s) == (8, None, 0)
    await shared.write(lambda c: failures.note_steady(c, NAME, 1), one_statement=True)
    assert (await shared.read(in_force)).failures == 0
    assert await fail(started=False) == 1
    # What a past revision does is no matter.
    await shared.write(lambda c: deploy(c, ContainerSpec(name=NAME, image="x"), 2))
    assert await fail(started=False) == 0
    assert (await shared.read(in_force)).failures == 1


async def test_all_processes_name_the_hub_alike(shared: Database) -> None:
    names: list[str] = []

    async def name() -> None:
        names.append(await shared.write(rows.hub_id))

    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(name)
    assert len(set(names)) == 1


async def test_what_a_holder_leaves_is_anyones(shared: Database) -> None:
    def prepare(connection: Connection) -> str:
        deploy(connection, ContainerSpec(name=NAME, image="x"))
        holders.enter(connection, holder("h"), 60)
        holders.enter(connection, holder("other"), 60)
        made = rows.claim_slot(connection, in_force(connection), 1, "h")
        assert made is not None
        return made

    made = await shared.write(prepare)
    assert not await shared.write(lambda c: rows.take_over(c, made, "other"), one_statement=True)
    await shared.write(lambda c: holders.release(c, [made], "other"), one_statement=True)
    assert len(await shared.read(lambda c: rows.held_by(c, "h"), one_statement=True)) == 1
    await shared.write(lambda c: holders.release(c, [made], "h"), one_statement=True)
    assert await shared.write(lambda c: rows.take_over(c, made, "other"), one_statement=True)
    held = await shared.read(lambda c: rows.held_by(c, "other"), one_statement=True)
    assert [(one.instance.id, one.deployment) for one in held] == [
        (made, await shared.read(in_force))
    ]
    await shared.write(lambda c: c.execute(containers.delete()))
    (left,) = await shared.read(lambda c: rows.held_by(c, "other"), one_statement=True)
    assert left.deployment is None
    others = await shared.read(lambda c: holders.others(c, "h"), one_statement=True)
    assert others == [holder("other")]
    assert (await shared.read(lambda c: c.execute(select(container_instances)).all())) != []
