"""Schedules and start times, as a client sees them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from mcp import Client

from mcp_hub.adapters.errors import InvalidArgument, NotFound
from tests.processes import call
from tests.server.conftest import (
    AddDataset,
    add_dataset,
    client,
    hub,
    provide,
    server,
    settings,
)  # fmt: skip

__all__ = ["add_dataset", "client", "hub", "provide", "server", "settings"]

JOB = {"name": "nightly", "type": "classification", "dataset": "points", "target": "label"}


async def test_a_schedule_is_made_paused_resumed_and_deleted(
    client: Client, add_dataset: AddDataset
) -> None:
    await add_dataset("points")

    async def schedule(**arguments: Any) -> Any:
        return (await call(client, "training_schedule", **arguments))["items"]

    [made] = await schedule(action="create", job=JOB, cron="0 3 * * *", timezone="Europe/Berlin")
    assert made["when"] == "0 3 * * * (Europe/Berlin)"
    assert (made["job"], made["fired"], made["paused"]) == (JOB, 0, False)
    one = {"schedule_id": made["schedule_id"]}
    [paused] = await schedule(action="pause", **one)
    assert (paused["paused"], paused["next_at"]) == (True, None)
    [resumed] = await schedule(action="resume", **one)
    assert resumed["next_at"] == made["next_at"]
    assert await schedule() == [resumed] == await schedule(**one)
    await schedule(action="delete", **one)
    assert await schedule() == []
    with pytest.raises(NotFound):
        await schedule(action="delete", **one)
    with pytest.raises(InvalidArgument, match="needs a schedule_id"):
        await schedule(action="pause")
    with pytest.raises(InvalidArgument, match="needs job"):
        await schedule(action="create", every_s=60)


async def test_a_job_with_a_start_says_when_it_may_run(
    client: Client, add_dataset: AddDataset
) -> None:
    await add_dataset("points")
    submitted = await call(client, "training_submit", **JOB, start_at=3600)
    wait = (await call(client, "training_status", job_id=submitted["job_id"]))["wait"]
    assert wait["reason"] == "start_time"
    ahead = datetime.fromisoformat(wait["until"]) - datetime.now(UTC)
    assert timedelta(minutes=58) < ahead <= timedelta(hours=1)
    with pytest.raises(InvalidArgument, match="without a time zone"):
        await call(client, "training_submit", **JOB, start_at="2099-01-01T09:00:00")
