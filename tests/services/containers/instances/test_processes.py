"""Several hub processes over the same containers: one start, one holder, and who follows it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import anyio
import pytest
from anyio import to_thread
from sqlalchemy import Connection, delete

from mcp_hub.adapters.database.containers_schema import container_instances
from mcp_hub.adapters.errors import Unavailable
from mcp_hub.services.containers.instances import holders, holding
from tests.services.containers.instances.hubs import Hub, HubProcess, Place, open_hub
from tests.waiting import eventually


@contextmanager
def processes(place: Place, count: int) -> Iterator[list[HubProcess]]:
    log = place.folder / "processes.log"
    with ExitStack() as stack:
        made = [HubProcess(place, log) for _ in range(count)]
        yield [stack.enter_context(one) for one in made]
    assert "Traceback" not in log.read_text(), log.read_text()[-3000:]


async def hear(process: HubProcess) -> Any:
    with anyio.fail_after(60):
        return await to_thread.run_sync(process.hear, abandon_on_cancel=True)


async def test_calls_of_four_processes_start_one_container(hub: Hub) -> None:
    await hub.deploy("one")
    with processes(hub.place, 4) as others:
        for one in others:
            one.tell(name="one", calls=10)
        answers = [answer for one in others for answer in await hear(one)]
        assert sorted(answer["count"] for answer in answers) == list(range(1, 41))
        assert len({answer["host"] for answer in answers}) == 1
        assert len(await hub.containers()) == 1


async def test_a_holder_that_is_killed_is_followed_and_the_state_is_kept(hub: Hub) -> None:
    await hub.deploy("kept")
    with processes(hub.place, 1) as (first,):
        first.tell(name="kept")
        (before,) = await hear(first)
        # A call through the holder, under way when it dies.
        async with anyio.create_task_group() as tasks:
            raised: list[Exception] = []

            async def cut_off() -> None:
                try:
                    await hub.call("kept", "sleep", s=30)
                except Unavailable as error:
                    raised.append(error)

            tasks.start_soon(cut_off)

            async def is_under_way() -> bool:
                return (await hub.call("kept", "sleeping"))["sleeping"] == 1

            await eventually(is_under_way)
            first.kill()
        assert "let go" in str(raised[0])
        after = await hub.call("kept")
        assert after == {"count": before["count"] + 1, "host": before["host"]}


async def test_a_start_that_its_holder_did_not_live_to_see_is_made_anew(hub: Hub) -> None:
    await hub.deploy("late", env={"START_S": "1.5"})
    with processes(hub.place, 1) as (first,):
        first.tell(name="late")
        await eventually(lambda: runs(hub, 1))
        (old,) = await hub.containers()
        first.kill()
        answer = await hub.call("late")
        assert answer["count"] == 1
        assert not old.id.startswith(answer["host"])
    await eventually(lambda: runs(hub, 1))


async def runs(hub: Hub, count: int) -> bool:
    return [one.status for one in await hub.containers()] == ["running"] * count


async def test_who_leaves_leaves_what_is_ready_to_the_others(hub: Hub) -> None:
    await hub.deploy("left")
    await hub.deploy("mine", state="per_session")
    with processes(hub.place, 1) as (first,):
        first.tell(name="left")
        (before,) = await hear(first)
        first.tell(name="mine", session="s")
        await hear(first)
        await to_thread.run_sync(first.leave)
    assert (await hub.call("left")) == {"count": 2, "host": before["host"]}
    assert (await hub.call("mine", session="s"))["count"] == 2


async def test_the_last_to_leave_leaves_only_what_runs_always(place: Place) -> None:
    async with open_hub(place) as hub:
        await hub.deploy("called")
        await hub.deploy("warm", strategy="prewarmed")
        await hub.deploy("ever", strategy="always_on")
        await hub.call("called")
        await hub.call("warm")
        ever = (await hub.call("ever"))["host"]
    async with open_hub(place) as next_hub:
        left = await next_hub.containers()
        assert ever in [one.id[:12] for one in left]
        assert "called" not in [one.labels["mcp-hub.name"] for one in left]
        assert (await next_hub.call("ever")) == {"count": 2, "host": ever}


async def test_who_was_away_too_long_holds_nothing(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "LEASE_S", 1.0)
    monkeypatch.setattr(holding, "RENEW_S", 0.3)
    await hub.deploy("held")
    await hub.call("held")
    with processes(hub.place, 1) as (other,):
        # The other takes for dead what was buried.
        me = hub.instances._holder.id
        await hub.database.write(partial(bury, me=me))
        other.tell(name="held")
        (answer,) = await hear(other)
        assert answer["count"] == 2
        await eventually(lambda: not hub.instances._holder.running)
        assert (await hub.call("held"))["count"] == 3
        assert hub.instances._holder.id != me


def bury(connection: Connection, me: str) -> None:
    assert holders.bury(connection, me)


async def test_a_leader_that_is_killed_is_followed(hub: Hub) -> None:
    with processes(hub.place, 2) as (first, second):
        await hub.deploy("ever", strategy="always_on", replicas=2)
        await eventually(lambda: runs(hub, 2))
        for one in (first, second):
            one.kill()
        for container in await hub.containers():
            await hub.engine.remove(container.id)
        await eventually(lambda: runs(hub, 2), within_s=40)


async def test_an_orphan_is_removed(hub: Hub) -> None:
    await hub.deploy("lost")
    await hub.call("lost")
    (container,) = await hub.containers()
    hub.instances._holder.running.popitem()[1].let_go()
    await hub.database.write(lambda c: c.execute(delete(container_instances)))
    hub.instances.changed()

    async def is_gone() -> bool:
        return container.id not in [one.id for one in await hub.containers()]

    await eventually(is_gone)
