"""What other programs tell of the jobs they took, however odd, ends no worker."""

from typing import Any

import bullmq
import pytest

from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.queue.bullmq import BullQueue
from mcp_hub.adapters.queue.port import MessageEvent
from mcp_hub.services.training.service import TrainingService
from mcp_hub.services.training.workers import delegation as module
from mcp_hub.services.training.workers.adoption import Adoption
from mcp_hub.services.training.workers.delegation import Change, Delegation
from tests.services.training.conftest import Submit


@pytest.fixture
def database(either_database: Database) -> Database:
    return either_database


@pytest.fixture
def queue(shared: BullQueue) -> BullQueue:
    return shared


@pytest.fixture
def delegation(database: Database, queue: BullQueue, bus: DatabaseBus) -> Delegation:
    return Delegation(database, queue, bus, lease_s=30, heartbeat_s=5, poll_s=0.05)


async def complete(outside: bullmq.Worker, result: Any) -> None:
    job = await outside.getNextJob("token")
    await job.moveToCompleted(result, "token", fetchNext=False)


async def test_of_its_metrics_those_are_kept_that_are_numbers_with_a_name(
    delegation: Delegation, training: TrainingService, submit: Submit, outside: bullmq.Worker
) -> None:
    job_id = await submit()
    odd = {"whole": 10**400, "nul\0": 1, "half\ud800": 1, "": 1, "long" * 99: 1, "text": "1"}
    await complete(outside, {"metrics": {**odd, "f1": 0.5}})
    assert await delegation._catch_up()
    job = await training.status(job_id)
    assert (job.status, job.metrics) == ("succeeded", {"f1": 0.5})


async def test_a_reason_is_kept_without_what_no_database_takes(
    delegation: Delegation, training: TrainingService, submit: Submit, outside: bullmq.Worker
) -> None:
    job_id = await submit()
    job = await outside.getNextJob("to\0ken")
    await job.moveToFailed(ValueError("their\0reason"), "to\0ken")
    assert await delegation._catch_up()
    view = await training.status(job_id)
    assert (view.status, view.error and view.error.message) == ("failed", "their\ufffdreason")


async def test_an_event_that_cannot_be_written_down_is_passed_over(
    delegation: Delegation, training: TrainingService, submit: Submit, outside: bullmq.Worker,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    apply_one = module._apply_one

    def fail_for_bad(connection: Any, event: MessageEvent, lease_ms: int) -> Change | None:
        if event.message_id == bad and event.kind == "completed":
            raise ValueError(event.message_id)
        return apply_one(connection, event, lease_ms)

    bad, good = await submit(), await submit()
    monkeypatch.setattr(module, "_apply_one", fail_for_bad)
    await complete(outside, {})
    await complete(outside, {})
    assert await delegation._catch_up()
    assert (await training.status(bad)).status == "running"
    assert (await training.status(good)).status == "succeeded"
    assert f"What 'completed' says of {bad} is passed over" in caplog.text
    assert not await delegation._catch_up()


async def test_an_id_that_no_database_takes_troubles_nobody(
    delegation: Delegation, training: TrainingService, database: Database, queue: BullQueue,
    bull: bullmq.Queue, outside: bullmq.Worker,
) -> None:  # fmt: skip
    await bull.add("n", {"name": "mine"}, {"jobId": "or\0der"})
    await complete(outside, {})
    assert await delegation._catch_up()
    await bull.add("n", {"name": "yours"}, {"jobId": "or\0der-2"})
    [claim] = await queue.claim("worker_1", 30)
    assert await Adoption(training, database, queue).start(claim, "worker_1", 30_000, 0) is None
    assert await bull.getJobState("or\0der-2") != "active"
