"""The jobs table against a model of it, under any order of events."""

import tempfile
from pathlib import Path
from typing import Any

import anyio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule
from sqlalchemy import Connection, create_engine, select, update

from mcp_hub.adapters.database.metadata import metadata
from mcp_hub.adapters.database.schema import datasets, job_attempts, jobs
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.services.training import jobs as store
from mcp_hub.services.training.states import MOVES, TERMINAL
from mcp_hub.services.training.views import JobStatus

LEASE_MS = 60_000
WORKERS = ("w1", "w2", "w3")


class JobsMachine(RuleBasedStateMachine):
    """Workers come and go, leases run out, parents fail: the table obeys the allowed moves."""

    created = Bundle("created")

    def __init__(self) -> None:
        super().__init__()
        self.engine = create_engine("sqlite://")
        metadata.create_all(self.engine)
        self.connection: Connection = self.engine.connect()
        self.connection.execute(
            datasets.insert().values(
                name="d", version=1, id="ds_1", sha256="0" * 64, size=1, format="csv",
                options={}, source="", row_count=1, columns=[], created_at=0,
            )
        )  # fmt: skip
        self.status: dict[str, JobStatus] = {}
        self.parents: dict[str, list[str]] = {}
        self.attempts: dict[str, int] = {}
        self.held: dict[str, tuple[str, store.Job]] = {}
        self.lost: list[store.Job] = []
        self.vanished: dict[str, int] = {}

    def teardown(self) -> None:
        self.connection.close()
        self.engine.dispose()

    @rule(target=created, data=st.data())
    def submit(self, data: st.DataObject) -> Any:
        job_id = f"job_{len(self.status)}"
        open_parents = sorted(
            name for name, status in self.status.items()
            if status not in TERMINAL or status == "succeeded"
        )  # fmt: skip
        options = st.lists(st.sampled_from(open_parents), unique=True, max_size=2)
        parents = data.draw(options) if open_parents else []
        values: dict[str, Any] = {
            "id": job_id, "name": "m", "type": "t", "framework": "f", "dataset_name": "d",
            "dataset_version": 1, "target": None, "config": {}, "priority": 0, "max_retries": 0,
            "timeout_s": 1.0, "idempotency_key": None, "submitted_by": "test",
        }  # fmt: skip
        assert store.insert_job(self.connection, values, parents)
        self.status[job_id] = "queued"
        self.parents[job_id] = parents
        self.attempts[job_id] = 0
        return multiple(job_id)

    @rule(job_id=created, worker=st.sampled_from(WORKERS))
    def start(self, job_id: str, worker: str) -> None:
        job = store.start_attempt(self.connection, job_id, worker, LEASE_MS)
        ready = all(self.status[parent] == "succeeded" for parent in self.parents[job_id])
        may_start = self.status[job_id] == "queued" and ready
        assert (job is not None) == may_start
        if job is not None:
            self._move(job_id, "running")
            self.attempts[job_id] += 1
            assert job.attempt == self.attempts[job_id]
            self.held[job_id] = (worker, job)

    @rule(
        job_id=created,
        status=st.sampled_from(["succeeded", "failed", "cancelled", "timed_out", "queued"]),
    )
    def end(self, job_id: str, status: JobStatus) -> None:
        if job_id not in self.held:
            return
        _, job = self.held.pop(job_id)
        assert store.end_attempt(self.connection, job, status)
        self._move(job_id, status)
        if status in TERMINAL and status != "succeeded":
            self._fail_children(job_id)

    @rule(job_id=created)
    def lose_the_worker(self, job_id: str) -> None:
        if job_id not in self.held:
            return
        _, job = self.held.pop(job_id)
        self.connection.execute(update(jobs).where(jobs.c.id == job_id).values(lease_expires_at=0))
        assert store.reap_lost(self.connection) == [job_id]
        self.lost.append(job)
        self.vanished[job_id] = self.vanished.get(job_id, 0) + 1
        if self.vanished[job_id] >= store.MAX_LOSSES:
            self._move(job_id, "failed")
            self._fail_children(job_id)
        else:
            self._move(job_id, "queued")

    @rule()
    def a_lost_worker_speaks_up(self) -> None:
        for job in self.lost:
            assert not store.holds(self.connection, job)
            assert not store.end_attempt(self.connection, job, "succeeded")

    @rule(worker=st.sampled_from(WORKERS))
    def renew(self, worker: str) -> None:
        held = store.extend_leases(self.connection, worker, list(self.status), LEASE_MS)
        assert set(held) == {
            job_id for job_id, (holder, _) in self.held.items() if holder == worker
        }

    @rule()
    def announce(self) -> None:
        ready = store.take_unannounced(self.connection)
        for job in ready:
            assert self.status[job.id] == "queued"
            assert all(self.status[p] == "succeeded" for p in self.parents[job.id])
        store.mark_enqueued(self.connection, [job.id for job in ready])
        assert store.take_unannounced(self.connection) == []

    @invariant()
    def the_table_is_as_the_model(self) -> None:
        rows = self.connection.execute(select(jobs.c.id, jobs.c.status))
        assert {row.id: row.status for row in rows} == self.status

    @invariant()
    def every_attempt_is_kept_once(self) -> None:
        rows = self.connection.execute(select(job_attempts.c.job_id)).scalars().all()
        assert len(rows) == sum(self.attempts.values())

    def _move(self, job_id: str, status: JobStatus) -> None:
        assert status in MOVES[self.status[job_id]]
        self.status[job_id] = status

    def _fail_children(self, parent: str) -> None:
        for child, parents in self.parents.items():
            if parent in parents and self.status[child] == "queued":
                self._move(child, "failed")
                self._fail_children(child)


TestJobsMachine = JobsMachine.TestCase
TestJobsMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_of_many_that_start_an_attempt_at_once_one_wins() -> None:
    async def race() -> None:
        with tempfile.TemporaryDirectory() as folder:
            database = SqliteDatabase(Path(folder) / "hub.db")
            await database.upgrade()
            await database.write(_one_job)
            started: list[str] = []

            async def start(worker: str) -> None:
                job = await database.write(
                    lambda c: store.start_attempt(c, "job_1", worker, LEASE_MS)
                )
                if job is not None:
                    started.append(worker)

            async with anyio.create_task_group() as tasks:
                for number in range(20):
                    tasks.start_soon(start, f"w{number}")
            assert len(started) == 1
            await database.close()

    anyio.run(race)


def _one_job(connection: Connection) -> None:
    connection.execute(
        datasets.insert().values(
            name="d", version=1, id="ds_1", sha256="0" * 64, size=1, format="csv",
            options={}, source="", row_count=1, columns=[], created_at=0,
        )
    )  # fmt: skip
    values: dict[str, Any] = {
        "id": "job_1", "name": "m", "type": "t", "framework": "f", "dataset_name": "d",
        "dataset_version": 1, "target": None, "config": {}, "priority": 0, "max_retries": 0,
        "timeout_s": 1.0, "idempotency_key": None, "submitted_by": "test",
    }  # fmt: skip
    assert store.insert_job(connection, values, [])
