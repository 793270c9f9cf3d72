"""Sweeps: real trials through the queue, pruned, cancelled, and taken over from a killed driver."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import func, select, update

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.bus.port import Bus
from mcp_hub.adapters.bus.redis import RedisBus
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.schema import jobs, model_versions
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.database.sweeps_schema import sweeps as table
from mcp_hub.adapters.errors import Conflict, InvalidArgument, NotFound, Unavailable
from mcp_hub.adapters.ids import new_id
from mcp_hub.adapters.queue.bullmq import BullQueue
from mcp_hub.adapters.queue.database import DatabaseQueue
from mcp_hub.services.data.service import DataService
from mcp_hub.services.training import waiting
from mcp_hub.services.training.frameworks.registry import load_framework
from mcp_hub.services.training.service import TrainingService
from mcp_hub.services.training.submission import Submission
from mcp_hub.services.training.sweeps import driving, sampling, service
from mcp_hub.services.training.sweeps.driving import SweepDriver
from mcp_hub.services.training.sweeps.service import Sweep, SweepService
from mcp_hub.services.training.sweeps.space import check_space
from mcp_hub.services.training.sweeps.views import ENDED, SweepView
from tests.services.training.broken_frameworks import NAME, provide
from tests.services.training.conftest import WorkerFactory
from tests.waiting import eventually

VALUE = {"value": {"type": "float", "low": 0.0, "high": 1.0}}
CHOICES = {"value": {"type": "categorical", "choices": [0.0, 0.5, 0.75, 1.0]}}
TREE = {
    "params.max_depth": {"type": "int", "low": 1, "high": 6},
    "params.criterion": {"type": "categorical", "choices": ["gini", "entropy"]},
}


on_every_store = pytest.mark.parametrize("stores", ["embedded", "production"], indirect=True)
"""On SQLite alone, and on PostgreSQL with its queue and its bus on Redis."""


@pytest.fixture
def stores(request: pytest.FixtureRequest) -> tuple[str, str] | None:
    """The URLs of PostgreSQL and Redis; None for what is embedded."""
    if getattr(request, "param", "embedded") == "embedded":
        return None
    return request.getfixturevalue("postgres_url"), request.getfixturevalue("redis_server").url


@pytest.fixture
async def database(
    stores: tuple[str, str] | None, database: SqliteDatabase
) -> AsyncIterator[Database]:
    if stores is None:
        yield database
        return
    postgres = PostgresDatabase(stores[0])
    yield postgres
    await postgres.close()


@pytest.fixture
async def queue(
    stores: tuple[str, str] | None, queue: DatabaseQueue
) -> AsyncIterator[DatabaseQueue | BullQueue]:
    if stores is None:
        yield queue
        return
    bull = BullQueue(stores[1], new_id("queue"))
    yield bull
    await bull.close()


@pytest.fixture
async def bus(stores: tuple[str, str] | None, bus: DatabaseBus) -> AsyncIterator[Bus]:
    if stores is None:
        yield bus
        return
    redis = RedisBus(stores[1], new_id("bus"))
    yield redis
    await redis.close()


@pytest.fixture
def data(database: Database, blobs: FileBlobStore, bus: Bus, tmp_path: Path) -> DataService:
    return DataService(database, blobs, bus, roots=[tmp_path], max_bytes=1_000_000)


@pytest.fixture
def sweeps(
    database: Database, bus: Bus, training: TrainingService, data: DataService
) -> SweepService:
    return SweepService(database, bus, training, data)


@pytest.fixture
def driver(database: Database, bus: Bus, training: TrainingService) -> SweepDriver:
    return SweepDriver(database, bus, training, idle_s=0.05)


def probe(config: dict[str, Any] | None = None, **options: Any) -> Sweep:
    job = Submission(
        name="probe", type="probe", framework="probe", dataset="points", config=config or {}
    )
    request: dict[str, Any] = {"space": VALUE, "metric": "score", "trials": 4, **options}
    return Sweep(job, **request)


async def finish(sweeps: SweepService, sweep_id: str) -> SweepView:
    with anyio.fail_after(60):
        while (view := await sweeps.status(sweep_id, wait_s=30, limit=50)).status not in ENDED:
            pass
    return view


async def versions(database: Database) -> int:
    return (await database.read(lambda c: c.scalar(select(func.count(model_versions.c.name))))) or 0


@on_every_store
async def test_the_best_of_all_trials_is_the_one_version_registered(
    sweeps: SweepService, driver: SweepDriver, worker: WorkerFactory, training: TrainingService,
    database: Database, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # Notices alone take it to its end.
    for module in (driving, waiting):
        monkeypatch.setattr(module, "_LOOK_AGAIN_S", 60)
    async with worker(), driver.driving():
        submitted = await sweeps.submit(probe(trials=10), submitted_by="the tests")
        view = await finish(sweeps, submitted.sweep_id)
    assert (view.status, view.ended_by, view.model) == ("succeeded", "trials", "probe:1")
    assert view.counts == {"complete": 10, "asked": 10}
    assert view.best is not None
    values = [trial.value for trial in view.trials]
    assert values == sorted(values, key=lambda value: -(value or 0))
    # The probe's last score is three times its value.
    assert view.best.value == pytest.approx(3 * view.best.params["value"])
    assert view.importances == {"value": 1.0}
    assert await versions(database) == 1
    assert view.best_job_id is not None
    best_job = await training.status(view.best_job_id)
    assert best_job.metrics["score"] == pytest.approx(view.best.value)
    trial_job = await training.status(view.best.job_id or "")
    assert (trial_job.sweep, trial_job.model) == (view.sweep_id, None)


async def test_a_sweep_of_sklearn(
    sweeps: SweepService, driver: SweepDriver, worker: WorkerFactory, data: DataService,
    training: TrainingService,
) -> None:  # fmt: skip
    rows = "".join(f"{n % 17},{n % 5},{'ab'[(n % 17 > 8) ^ (n % 5 > 2)]}\n" for n in range(120))
    await data.register("table", content=f"p,q,label\n{rows}", format="csv")
    job = Submission(
        name="tree", type="classification", framework="sklearn", dataset="table", target="label",
        config={"estimator": "decision_tree", "cv": 3},
    )  # fmt: skip
    async with worker(), driver.driving():
        sweep = Sweep(job, TREE, "cv_accuracy", trials=3, parallel=2)
        view = await finish(sweeps, (await sweeps.submit(sweep, submitted_by="me")).sweep_id)
    assert (view.status, view.model) == ("succeeded", "tree:1"), view
    assert view.best is not None
    assert set(view.best.params) == set(TREE)
    history = await training.metrics(view.best.job_id or "", keys=["cv_accuracy"])
    assert history.series[0].points >= 3


async def test_a_framework_that_breaks_meanwhile_ends_the_sweep(
    sweeps: SweepService, driver: SweepDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Submission(name="probe", type="probe", framework=NAME, dataset="points", config={})
    sweep = Sweep(job, VALUE, "score", trials=20)
    submitted = await sweeps.submit(sweep, submitted_by="the tests")
    provide(monkeypatch, "RaisesInCheck")
    async with driver.driving():
        view = await finish(sweeps, submitted.sweep_id)
    assert view.status == "failed"
    assert view.error is not None
    assert "it has a fault" in view.error.message
    assert view.counts["failed"] < 20


@on_every_store
async def test_a_trial_below_the_median_is_pruned(
    sweeps: SweepService, driver: SweepDriver, worker: WorkerFactory, training: TrainingService,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    """One of eight reports 0 and then waits for ever: only pruning ends it."""
    monkeypatch.setattr(service, "new_id", lambda prefix: _id_whose_sixth_trial_is_the_worst())
    config = {"action": "report_then_wait", "flag": str(tmp_path / "never")}
    async with worker(), driver.driving():
        sweep = probe(config, space=CHOICES, trials=8, parallel=2, prune=2)
        view = await finish(sweeps, (await sweeps.submit(sweep, submitted_by="me")).sweep_id)
    assert (view.status, view.model) == ("succeeded", "probe:1"), view
    assert view.counts == {"complete": 7, "pruned": 1, "asked": 8}
    (pruned,) = [trial for trial in view.trials if trial.status == "pruned"]
    assert (pruned.number, pruned.value, pruned.params) == (5, 0.0, {"value": 0.0})
    assert "is worse than the median" in (pruned.reason or "")
    assert (await training.status(pruned.job_id or "")).status == "cancelled"


def _id_whose_sixth_trial_is_the_worst() -> str:
    for number in range(10_000):
        sweep_id = f"sweep_{number}"
        seen: list[sampling.Seen] = []
        while len(seen) < 8:
            params = sampling.suggest(sweep_id, CHOICES, "maximize", seen)
            if (params["value"] == 0.0) != (len(seen) == 5):
                break
            seen.append(sampling.Seen("complete", params, params["value"]))
        else:
            return sweep_id
    raise AssertionError


@on_every_store
async def test_a_killed_driver_is_followed_and_nothing_is_done_twice(
    sweeps: SweepService, driver: SweepDriver, worker: WorkerFactory, database: Database,
    training: TrainingService, bus: Bus,
) -> None:  # fmt: skip
    """It dies at every place where something was done and not written down."""
    submitted = await sweeps.submit(probe(trials=5, parallel=3), submitted_by="me")
    deaths = 0
    async with worker():
        for at in range(1, 40):
            calls = 0

            def dying(method: Callable[..., Any], at: int = at) -> Callable[..., Any]:
                async def call(*arguments: Any, **options: Any) -> Any:
                    nonlocal calls
                    result = await method(*arguments, **options)
                    calls += 1
                    if calls == at:
                        raise _Killed
                    return result

                return call

            mortal = SweepDriver(
                _Mortal(database, dying),  # type: ignore[arg-type]
                bus,
                _Submits(training, dying),  # type: ignore[arg-type]
            )
            try:
                await mortal.advance(submitted.sweep_id)
            except _Killed:
                deaths += 1
        async with driver.driving():
            view = await finish(sweeps, submitted.sweep_id)
    assert deaths >= 3
    assert (view.status, view.model) == ("succeeded", "probe:1")
    assert view.counts == {"complete": 5, "asked": 5}
    count = await database.read(lambda c: c.scalar(select(func.count(jobs.c.id))))
    assert count == 6
    assert await versions(database) == 1


@pytest.mark.parametrize("part", ["trial", "best"])
async def test_what_a_killed_driver_had_submitted_is_cancelled_with_the_sweep(
    sweeps: SweepService, driver: SweepDriver, worker: WorkerFactory, database: Database,
    training: TrainingService, bus: Bus, part: str,
) -> None:  # fmt: skip
    """It dies when a job is submitted and that is not written down in the sweep."""
    sweep_id = (await sweeps.submit(probe(trials=1, parallel=1), submitted_by="me")).sweep_id
    if part == "best":
        async with worker():
            await driver.advance(sweep_id)
            (trial,) = (await sweeps.status(sweep_id)).trials
            assert (await training.status(trial.job_id or "", wait_s=20)).status == "succeeded"
        await driver.advance(sweep_id)

    def dying(method: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*arguments: Any, **options: Any) -> None:
            await method(*arguments, **options)
            raise _Killed

        return call

    mortal = SweepDriver(database, bus, _Submits(training, dying))  # type: ignore[arg-type]
    with pytest.raises(_Killed):
        await mortal.advance(sweep_id)
    await sweeps.cancel(sweep_id)
    async with driver.driving():
        view = await finish(sweeps, sweep_id)
    (newest, *_) = (await training.list()).items
    assert (view.status, newest.status) == ("cancelled", "cancelled")
    assert (newest.sweep, view.model) == (sweep_id, None)


class _Killed(BaseException):
    """Ends a driver as a kill would: nothing handles it."""


class _Mortal:
    def __init__(self, database: Database, dying: Callable[..., Any]) -> None:
        self.read, self.write = dying(database.read), dying(database.write)


class _Submits:
    def __init__(self, training: TrainingService, dying: Callable[..., Any]) -> None:
        self.submit = dying(training.submit)
        self.cancel, self.status = training.cancel, training.status


@on_every_store
async def test_a_cancelled_sweep_cancels_its_trials_and_registers_nothing(
    sweeps: SweepService, driver: SweepDriver, worker: WorkerFactory, database: Database,
    training: TrainingService, tmp_path: Path,
) -> None:  # fmt: skip
    config = {"action": "wait_for_flag", "flag": str(tmp_path / "never")}
    async with worker(), driver.driving():
        sweep_id = (await sweeps.submit(probe(config), submitted_by="me")).sweep_id

        async def two_run() -> bool:
            view = await sweeps.status(sweep_id)
            ids = [trial.job_id for trial in view.trials if trial.job_id]
            states = [(await training.status(job_id)).status for job_id in ids]
            return states == ["running", "running"]

        await eventually(two_run)
        assert "is being cancelled" in ((await sweeps.cancel(sweep_id)).note or "")
        view = await finish(sweeps, sweep_id)
    assert (view.status, view.model, view.best) == ("cancelled", None, None)
    states = [(await training.status(trial.job_id or "")).status for trial in view.trials]
    assert states == ["cancelled", "cancelled"]
    assert await versions(database) == 0
    with pytest.raises(Conflict, match="already ended cancelled"):
        await sweeps.cancel(sweep_id)


async def test_a_time_out_keeps_the_best_so_far(
    sweeps: SweepService, driver: SweepDriver, worker: WorkerFactory, database: Database
) -> None:
    sweep = probe(trials=1000, parallel=1, timeout_s=1000)
    sweep_id = (await sweeps.submit(sweep, submitted_by="me")).sweep_id

    async def one_is_complete() -> bool:
        return (await sweeps.status(sweep_id)).counts.get("complete", 0) > 0

    async with worker(), driver.driving():
        await eventually(one_is_complete)
        longer_ago = update(table).values(created_at=table.c.created_at - 1_000_000)
        await database.write(lambda c: c.execute(longer_ago).close())
        view = await finish(sweeps, sweep_id)
    assert (view.status, view.ended_by, view.model) == ("succeeded", "timeout", "probe:1")


@on_every_store
async def test_a_list_finds_a_sweep_again(sweeps: SweepService, training: TrainingService) -> None:
    ids = [(await sweeps.submit(probe(), submitted_by="me")).sweep_id for _ in range(5)]
    await sweeps.cancel(ids[0])
    listed, cursor = [], None
    while True:
        page = await sweeps.list(limit=2, cursor=cursor)
        listed += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(item.sweep_id for item in listed) == sorted(ids)
    assert [item.created_at for item in listed] == sorted(
        (item.created_at for item in listed), reverse=True
    )
    first = listed[0]
    assert (first.status, first.name, first.metric) == ("searching", "probe", "score")
    assert (first.ended, first.trials, first.best, first.model) == (0, 4, None, None)
    assert len((await sweeps.list("running")).items) == 5
    assert (await sweeps.list("succeeded")).items == []


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        (
            {"config": {"action": "raise_error"}},
            "No trial was completed. Trial 0: The data will not do.",
            "Bring other data.",
        ),
        (
            {"metric": "accuracy"},
            "reported no metric 'accuracy'; it reported score",
            "Name a metric that trials report.",
        ),
    ],
)
async def test_trials_that_all_fail_end_the_sweep_with_the_reason(
    sweeps: SweepService, driver: SweepDriver, worker: WorkerFactory, options: dict[str, Any],
    message: str, hint: str,
) -> None:  # fmt: skip
    async with worker(), driver.driving():
        sweep = probe(**options, trials=50)
        view = await finish(sweeps, (await sweeps.submit(sweep, submitted_by="me")).sweep_id)
    assert (view.status, view.ended_by) == ("failed", "failures")
    assert view.error is not None
    assert (view.error.code, view.error.hint) == ("invalid_argument", hint)
    assert message in view.error.message
    assert view.counts["failed"] <= 8


async def test_a_time_out_before_the_first_trial_is_told(
    sweeps: SweepService, driver: SweepDriver, training: TrainingService
) -> None:
    """No worker takes what is queued."""
    async with driver.driving():
        submitted = await sweeps.submit(probe(timeout_s=0.001), submitted_by="me")
        view = await finish(sweeps, submitted.sweep_id)
    assert (view.status, view.ended_by) == ("failed", "timeout")
    assert view.error is not None
    assert (view.error.code, view.error.message) == (
        "timeout",
        "No trial was completed within timeout_s=0.001.",
    )


async def test_a_sweep_that_cannot_be_driven_is_given_up(
    sweeps: SweepService, driver: SweepDriver, training: TrainingService,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    async def fault(sweep_id: str) -> None:
        raise RuntimeError(sweep_id)

    monkeypatch.setattr(driver, "advance", fault)
    monkeypatch.setattr(driving, "_LOOK_AGAIN_S", 0.01)
    async with driver.driving():
        sweep_id = (await sweeps.submit(probe(), submitted_by="me")).sweep_id
        view = await finish(sweeps, sweep_id)
    assert (view.status, view.error and view.error.code) == ("failed", "internal")
    assert f"RuntimeError: {sweep_id}" in caplog.text


def test_a_range_ends_at_its_last_step() -> None:
    framework = load_framework("probe")
    for given, high in (
        ({"type": "float", "low": 0.1, "high": 1, "step": 0.4}, 0.9),
        ({"type": "float", "low": 0.1, "high": 0.3, "step": 0.1}, 0.3),
        ({"type": "float", "low": 0.5, "high": 0.6, "step": 7}, 0.5),
        ({"type": "int", "low": 1, "high": 8, "step": 3}, 7),
        ({"type": "int", "low": 1, "high": 8}, 8),
    ):
        key = "steps" if given["type"] == "int" else "value"
        space = check_space({key: given}, {}, framework)
        assert (space[key]["high"], type(space[key]["high"])) == (high, type(high))
        sampling.suggest("sweep_a", space, "maximize", [])


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "space has 0 keys"),
        ({"valu": VALUE["value"]}, "space.valu: probe has no config key 'valu'"),
        ({"value": 3}, "space.value needs a type: float, int, categorical"),
        ({"value": {"type": "float", "low": 1}}, "space.value.high is None; it must be a number"),
        ({"value": {"type": "float", "low": 2, "high": 1}}, "low .2. is above high .1."),
        ({"value": {"type": "float", "low": 0, "high": 1, "log": True}}, "begin above 0"),
        ({"value": {"type": "float", "low": 0, "high": 1, "step": -1}}, "step is -1"),
        ({"value": {"type": "float", "low": 0, "high": 1, "steps": 1}}, "no field 'steps'"),
        ({"value": {"type": "float", "low": 0, "high": float("nan")}}, "must be a number"),
        (
            {"value": {"type": "float", "low": 1, "high": 10**400}},
            "value.high is 10.*a float",
        ),
        ({"steps": {"type": "int", "low": 1, "high": 10**400}}, "steps.high is 10.*a float"),
        ({"value": {"type": "float", "low": -(10**308), "high": 10**308}}, "from low to high"),
        ({"value": {"type": "float", "low": -1e308, "high": 1e308}}, "from low to high"),
        ({"value": {"type": "float", "low": 0, "high": 1e300, "step": 1}}, "step is 1, too small"),
        ({"steps": {"type": "categorical", "choices": [1, 10**400]}}, "choices holds 10.*no float"),
        ({"value": {"type": "categorical", "choices": []}}, "a list of 1 to 100"),
        ({"value": {"type": "categorical", "choices": [[1]]}}, r"holds '\[1\]'"),
        ({"value": {"type": "categorical", "choices": ["x"]}}, "space.value: 'x' will not do"),
        ({"steps": {"type": "float", "low": 1, "high": 4}}, "space.steps: 2.2.* will not do"),
    ],
)
def test_a_bad_space_is_refused_with_the_key(space: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        check_space(space, {}, load_framework("probe"))


async def test_a_bad_request_is_refused(sweeps: SweepService, training: TrainingService) -> None:
    requests: list[tuple[dict[str, Any], str]] = [
        ({"space": {"value": 3}}, "space.value needs a type"),
        ({"trials": 0}, "trials is 0"),
        ({"parallel": 101}, "parallel is 101"),
        ({"prune": 0}, "prune is 0"),
        ({"timeout_s": -1}, "timeout_s is -1"),
        ({"metric": ""}, "metric is empty"),
        ({"metric": "m" * 129}, "metric has 129 characters, over 128"),
    ]
    for options, message in requests:
        with pytest.raises(InvalidArgument, match=message):
            await sweeps.submit(probe(**options), submitted_by="me")
    assert (await sweeps.list()).items == []


@on_every_store
async def test_the_same_key_gives_the_same_sweep(
    sweeps: SweepService, training: TrainingService
) -> None:
    first = await sweeps.submit(probe(idempotency_key="k"), submitted_by="me")
    again = await sweeps.submit(probe(idempotency_key="k"), submitted_by="me")
    assert again.sweep_id == first.sweep_id
    assert again.note is not None
    with pytest.raises(Conflict, match="trials differs"):
        await sweeps.submit(probe(idempotency_key="k", trials=5), submitted_by="me")
    with pytest.raises(NotFound, match="no sweep 'sweep_x'"):
        await sweeps.status("sweep_x")


async def test_the_direction_follows_from_the_metric(
    sweeps: SweepService, training: TrainingService
) -> None:
    for metric, direction in (
        ("cv_accuracy", "maximize"), ("rmse", "minimize"), ("cv_log_loss", "minimize"),
        ("cv_mape", "minimize"), ("neg_mean_absolute_error", "maximize"),
    ):  # fmt: skip
        submitted = await sweeps.submit(probe(metric=metric), submitted_by="me")
        assert (await sweeps.status(submitted.sweep_id)).direction == direction


async def test_without_optuna_it_says_what_to_install(
    sweeps: SweepService, training: TrainingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "find_spec", lambda name: None)
    with pytest.raises(Unavailable) as raised:
        await sweeps.submit(probe(), submitted_by="me")
    assert raised.value.hint == 'Install it: pip install "mcp-hub[sweep]".'


@pytest.mark.parametrize("first_step", [0, 1, 100])
def test_a_trial_is_judged_by_so_many_values_whatever_their_steps(first_step: int) -> None:
    def seen(status: str, value: float, values: int) -> sampling.Seen:
        points = {first_step * (n + 1) + n: value for n in range(values)}
        return sampling.Seen(status, {"value": value}, value, points)

    space = {"value": {"type": "float", "low": 0.0, "high": 1.0, "log": False, "step": None}}
    others = [seen("complete", 0.9, 5) for _ in range(5)]
    pruned = [
        sampling.to_prune("sweep_a", space, "maximize", [*others, seen("running", 0.1, n)], 5, 3)
        for n in range(1, 5)
    ]
    assert pruned == [False, False, True, True]


def test_the_same_trials_give_the_same_next_settings(capfd: pytest.CaptureFixture[str]) -> None:
    space = {"value": {"type": "float", "low": 0.0, "high": 1.0, "log": False, "step": None}}
    seen = [sampling.Seen("complete", {"value": n / 20}, -abs(n / 20 - 0.3)) for n in range(20)]
    first = sampling.suggest("sweep_a", space, "maximize", seen)
    assert first == sampling.suggest("sweep_a", space, "maximize", seen)
    assert first != sampling.suggest("sweep_b", space, "maximize", seen)
    assert 0.1 < first["value"] < 0.5
    assert capfd.readouterr() == ("", "")
