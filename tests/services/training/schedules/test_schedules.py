"""Jobs that are submitted again and again."""

from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.schedules_schema import schedules as table
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import HubError, InvalidArgument, NotFound, Unavailable
from mcp_hub.services.training.schedules.service import ScheduleService
from mcp_hub.services.training.schedules.timing import Timing, timing_of
from mcp_hub.services.training.service import TrainingService
from mcp_hub.services.training.submitting import QueueLimits
from tests.services.training.broken_frameworks import NAME, provide
from tests.services.training.conftest import Finish, WorkerFactory
from tests.waiting import eventually

JOB: dict[str, Any] = {
    "name": "nightly", "type": "probe", "framework": "probe", "dataset": "points",
}  # fmt: skip


async def make_due(database: SqliteDatabase, schedule_id: str, ago_s: float = 0) -> None:
    """As if the schedule's time had come so long ago."""
    past = update(table).where(table.c.id == schedule_id)
    await database.write(
        lambda c: c.execute(past.values(next_at=now_ms() - int(ago_s * 1000))).close()
    )


async def test_a_worker_submits_again_and_again(
    schedules: ScheduleService, training: TrainingService, worker: WorkerFactory, finish: Finish
) -> None:
    created = await schedules.create(JOB, every_s=1, created_by="the tests")

    async def fired_twice() -> bool:
        return (await schedules.get(created.schedule_id)).fired >= 2

    async with worker():
        await eventually(fired_twice)
        view = await schedules.delete(created.schedule_id)
        assert view.last_job_id is not None
        job = await finish(view.last_job_id)
    assert (job.status, job.name) == ("succeeded", "nightly")
    assert len((await training.list()).items) == view.fired
    assert (await schedules.list()).items == []


async def test_of_many_processes_one_submits_each_time(
    database: SqliteDatabase, training: TrainingService, schedules: ScheduleService
) -> None:
    created = await schedules.create(JOB, every_s=3600, created_by="the tests")
    others = [ScheduleService(database, training, QueueLimits()) for _ in range(8)]
    for round_ in range(1, 4):
        await make_due(database, created.schedule_id)
        for job in (await training.list("queued")).items:
            await training.cancel(job.job_id)
        fired: list[int] = []

        async def fire(service: ScheduleService, fired: list[int] = fired) -> None:
            fired.append(await service.fire_due())

        async with anyio.create_task_group() as tasks:
            for service in others:
                tasks.start_soon(fire, service)
        assert sum(fired) == 1
        assert (await schedules.get(created.schedule_id)).fired == round_
    assert len((await training.list()).items) == 3


async def test_times_that_were_missed_are_made_up_for_once(
    database: SqliteDatabase, schedules: ScheduleService
) -> None:
    created = await schedules.create(JOB, every_s=60, created_by="the tests")
    await make_due(database, created.schedule_id, ago_s=3600 * 24)
    assert await schedules.fire_due() == 1
    assert await schedules.fire_due() == 0
    view = await schedules.get(created.schedule_id)
    assert view.next_at is not None
    assert 0 < (datetime.fromisoformat(view.next_at) - datetime.now(UTC)).total_seconds() <= 60


async def test_a_time_is_skipped_while_the_job_before_runs(
    database: SqliteDatabase, schedules: ScheduleService, training: TrainingService
) -> None:
    created = await schedules.create(JOB, every_s=60, created_by="the tests")
    await make_due(database, created.schedule_id)
    assert await schedules.fire_due() == 1
    await make_due(database, created.schedule_id)
    assert await schedules.fire_due() == 0
    view = await schedules.get(created.schedule_id)
    assert (view.fired, view.skipped) == (1, 1)
    assert view.last_job_id is not None
    await training.cancel(view.last_job_id)
    await make_due(database, created.schedule_id)
    assert await schedules.fire_due() == 1


@pytest.mark.parametrize("queue_limits", [QueueLimits(max_queued=1)])
async def test_why_a_time_gave_no_job_is_told(
    database: SqliteDatabase,
    schedules: ScheduleService,
    training: TrainingService,
    queue_limits: QueueLimits,
) -> None:
    one, other = [await schedules.create(JOB, every_s=60, created_by="x") for _ in range(2)]
    await make_due(database, one.schedule_id, ago_s=1)
    await make_due(database, other.schedule_id)
    assert await schedules.fire_due() == 1
    view = await schedules.get(other.schedule_id)
    assert view.error is not None
    assert view.error.code == "limit_exceeded"
    [job] = (await training.list()).items
    await training.cancel(job.job_id)
    await make_due(database, other.schedule_id)
    assert await schedules.fire_due() == 1
    assert (await schedules.get(other.schedule_id)).error is None


@pytest.mark.parametrize(
    ("broken_framework", "told"),
    [
        ("NoneOfThese", "cannot be loaded: AttributeError"),
        ("RaisesInCheck", "second_probe cannot check a job: ValueError: it has a fault"),
        ("ExitsInCheck", "second_probe cannot check a job: SystemExit: 3"),
        ("ChecksTheConfigAlone", "its check takes (config); it must take (config, type)"),
        ("RaisesInAt", "second_probe cannot be set up here: ZeroDivisionError"),
        ("RaisesInConfig", "second_probe cannot check its config: KeyError: 3"),
    ],
)  # fmt: skip
async def test_a_broken_framework_holds_up_no_other_schedule(
    database: SqliteDatabase, schedules: ScheduleService, monkeypatch: pytest.MonkeyPatch,
    broken_framework: str, told: str,
) -> None:  # fmt: skip
    broken, sound = [
        await schedules.create(JOB | {"framework": name}, every_s=60, created_by="x")
        for name in (NAME, "probe")
    ]
    provide(monkeypatch, broken_framework)
    await make_due(database, broken.schedule_id, ago_s=1)
    await make_due(database, sound.schedule_id)
    assert await schedules.fire_due() == 1
    view = await schedules.get(broken.schedule_id)
    assert view.error is not None
    assert told in view.error.message
    assert await schedules.fire_due() == 0
    monkeypatch.undo()
    await make_due(database, broken.schedule_id)
    assert await schedules.fire_due() == 1
    assert (await schedules.get(broken.schedule_id)).error is None


async def test_a_time_zone_that_only_other_machines_know_holds_up_no_other_schedule(
    database: SqliteDatabase, schedules: ScheduleService
) -> None:
    strange, sound = [
        await schedules.create(JOB, cron="* * * * *", created_by="x") for _ in range(2)
    ]
    rename = update(table).where(table.c.id == strange.schedule_id).values(timezone="Mars/Olympus")
    await database.write(lambda c: c.execute(rename).close())
    await make_due(database, strange.schedule_id, ago_s=1)
    await make_due(database, sound.schedule_id)
    assert await schedules.fire_due() == 1


async def test_a_schedule_stays_due_while_the_database_is_away(
    database: SqliteDatabase, schedules: ScheduleService, training: TrainingService,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    created = await schedules.create(JOB, every_s=60, created_by="x")
    await make_due(database, created.schedule_id)

    async def away(*_: object, **__: object) -> None:
        raise Unavailable("The database does not answer.")

    with monkeypatch.context() as patch:
        patch.setattr(training, "prepare", away)
        with pytest.raises(Unavailable):
            await schedules.fire_due()
    assert await schedules.fire_due() == 1
    assert (await schedules.get(created.schedule_id)).error is None


async def test_a_paused_schedule_waits_and_makes_nothing_up(
    database: SqliteDatabase, schedules: ScheduleService
) -> None:
    created = await schedules.create(JOB, cron="*/5 * * * *", created_by="the tests")
    paused = await schedules.pause(created.schedule_id)
    assert (paused.paused, paused.next_at) == (True, None)
    await make_due(database, created.schedule_id, ago_s=3600)
    assert await schedules.fire_due() == 0
    resumed = await schedules.resume(created.schedule_id)
    assert resumed.next_at is not None
    assert datetime.fromisoformat(resumed.next_at) > datetime.now(UTC)
    assert await schedules.fire_due() == 0


async def test_schedules_are_listed_in_pages(schedules: ScheduleService) -> None:
    made = [(await schedules.create(JOB, every_s=60, created_by="x")).schedule_id for _ in range(5)]
    first = await schedules.list(limit=3)
    rest = await schedules.list(limit=3, cursor=first.next_cursor)
    assert sorted(view.schedule_id for view in first.items + rest.items) == sorted(made)
    assert rest.next_cursor is None
    with pytest.raises(NotFound) as caught:
        await schedules.pause("sch_nothing")
    assert made[0] in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({}, "neither is given"),
        ({"cron": "* * * * *", "every_s": 5}, "both are given"),
        ({"every_s": 0.5}, "every_s is 0.5"),
        ({"every_s": float("nan")}, "every_s is nan"),
        ({"cron": "61 * * * *"}, "cron is '61"),
        ({"cron": "* * *"}, "cron is"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": "* * * * *", "timezone": "Europe/Berlinn"}, "no time zone"),
        ({"every_s": 60, "job": {"name": "x"}}, "lack 'type'"),
        ({"every_s": 60, "job": JOB | {"datset": 1}}, "no parameter 'datset'"),
        ({"every_s": 60, "job": JOB | {"dataset": "nothing"}}, "nothing"),
        ({"every_s": 60, "job": JOB | {"idempotency_key": "k"}}, "no idempotency_key"),
    ],
)
async def test_a_schedule_that_cannot_work_is_refused_at_once(
    schedules: ScheduleService, arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(HubError, match=complaint):
        await schedules.create(arguments.pop("job", JOB), created_by="x", **arguments)
    assert (await schedules.list()).items == []


def test_a_time_zone_that_is_none_is_told_those_near_it() -> None:
    for zone, hint in (("Europe/Berlinn", "Europe/Berlin"), ("x" * 40, "UTC or Europe/Berlin")):
        with pytest.raises(InvalidArgument) as caught:
            timing_of("* * * * *", None, zone)
        assert hint in (caught.value.hint or "")
        assert len(caught.value.hint or "") < 100


def test_cron_goes_by_the_clock_of_its_time_zone() -> None:
    timing = timing_of("30 3 * * *", None, "Europe/Berlin")
    for month, hour_utc in [(1, 2), (7, 1)]:
        now = int(datetime(2026, month, 10, tzinfo=UTC).timestamp() * 1000)
        due = datetime.fromtimestamp(timing.next_after(now, now) / 1000, UTC)
        assert (due.month, due.day, due.hour, due.minute) == (month, 10, hour_utc, 30)


@given(st.integers(1_000, 10**9), st.integers(0, 2 * 10**12), st.integers(-(10**6), 2 * 10**12))
def test_the_next_time_is_the_first_of_the_series_after_now(every: int, due: int, ago: int) -> None:
    now = due + ago
    next_ = Timing(None, every, "UTC").next_after(now, due)
    assert next_ > max(now, due) - (ago < 0) * every
    assert (next_ - due) % every == 0
    assert next_ - every <= max(now, due)


def test_no_time_zone_is_made_up() -> None:
    with pytest.raises(InvalidArgument) as caught:
        timing_of("* * * * *", None, "Europe/Berlinn")
    assert "Europe/Berlin" in (caught.value.hint or "")
