"""Requests to real containers: started when they are called, and told why when they fail."""

from functools import partial

import anyio
import pytest
from sqlalchemy import delete

from mcp_hub.adapters.database.containers_schema import containers
from mcp_hub.adapters.errors import (
    Conflict,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    TimedOut,
    Unavailable,
)
from mcp_hub.services.telemetry.envelope import Record
from tests.services.containers.instances.hubs import Hub, open_hub
from tests.waiting import eventually


async def test_the_first_call_starts_it_and_idleness_ends_it(hub: Hub) -> None:
    await hub.deploy("one", idle_s=0.5)
    first = await hub.call("one")
    second = await hub.call("one")
    assert (first["count"], second["count"]) == (1, 2)
    assert first["host"] == second["host"]
    (status,) = await hub.instances.describe("one")
    assert status.instance.state == "ready"
    assert status.container is not None
    assert status.container.status == "running"
    await eventually(lambda: nothing_runs(hub))
    assert (await hub.call("one"))["count"] == 1


async def nothing_runs(hub: Hub) -> bool:
    return not await hub.containers() and not await hub.rows()


async def test_what_is_not_there_says_what_is(hub: Hub) -> None:
    await hub.deploy("clock")
    with pytest.raises(NotFound) as found:
        await hub.call("clok")
    assert "clock" in (found.value.hint or "")
    await hub.set("clock", enabled=False)
    with pytest.raises(Conflict, match="is stopped"):
        await hub.call("clock")


@pytest.mark.parametrize(
    ("fields", "error", "message", "hint"),
    [
        ({"env": {"EXIT": "3", "SAY": "no key"}}, Unavailable, "exited with code 3", "no key"),
        (
            {"env": {"BABBLE": "hello you"}, "start_timeout_s": 1},
            TimedOut,
            "within 1 s",
            "hello you",
        ),
        ({"command": ("no-such-program",)}, InvalidArgument, "no-such-program", ""),
        ({"image": "hub-tests/none:1"}, NotFound, "hub-tests/none:1", "hub-tests/python:1"),
    ],
)
async def test_a_start_that_fails_says_why_and_leaves_nothing(
    hub: Hub, fields: dict[str, object], error: type[Exception], message: str, hint: str
) -> None:
    await hub.deploy("bad", **fields)
    raised: list[Exception] = []

    async def call() -> None:
        try:
            await hub.call("bad")
        except Exception as caught:  # noqa: BLE001 - looked at below
            raised.append(caught)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(call)
    assert len(raised) == 3
    for one in raised:
        assert isinstance(one, error), one
        assert message in str(one)
        assert hint in (one.hint or "")  # type: ignore[attr-defined]

    async def is_told_to_wait() -> bool:
        with pytest.raises(error) as again:
            await hub.call("bad")
        return "not started again for" in (again.value.hint or "")  # type: ignore[attr-defined]

    # Each failure in a row is waited after for longer than the one before.
    await eventually(is_told_to_wait)
    await eventually(lambda: nothing_runs(hub))


async def test_an_exit_in_a_call_is_told_with_the_last_words(hub: Hub) -> None:
    await hub.deploy("frail")
    await hub.call("frail")
    with pytest.raises(Unavailable) as ended:
        await hub.call("frail", "exit", code=7, say="disk on fire")
    assert "exited with code 7" in ended.value.message
    assert "disk on fire" in (ended.value.hint or "")
    assert (await hub.call("frail"))["count"] == 1


async def test_want_of_memory_is_told_as_such(hub: Hub) -> None:
    await hub.deploy("hungry", memory_mb=32)
    with pytest.raises(Unavailable, match="want of memory"):
        await hub.call("hungry", "eat", mb=200)


async def test_a_late_answer_is_a_time_out_and_the_next_call_is_answered(hub: Hub) -> None:
    await hub.deploy("slow")
    await hub.call("slow")
    with pytest.raises(TimedOut, match=r"the call of 'sleep' within 0\.3 s") as late:
        await hub.call("slow", "sleep", timeout_s=0.3, s=1)
    assert "timeout_s" in (late.value.hint or "")
    assert (await hub.call("slow"))["count"] == 2


async def test_calls_at_a_time_are_bounded(hub: Hub) -> None:
    await hub.deploy("narrow", max_calls=1)
    await hub.call("narrow")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(hub.call, "narrow", "sleep", s=1))
        running = next(iter(hub.instances._holder.running.values()))
        await eventually(lambda: running.answering.in_flight == 1)
        with pytest.raises(TimedOut, match="1 calls under way"):
            await hub.call("narrow", timeout_s=0.2)


async def test_one_that_ignores_the_end_is_killed(hub: Hub) -> None:
    await hub.deploy("deaf", env={"DEAF": "1"}, idle_s=0.3)
    await hub.call("deaf")
    await eventually(lambda: nothing_runs(hub))


async def test_a_new_revision_takes_over_once_calls_are_answered(hub: Hub) -> None:
    await hub.deploy("grown")
    old = (await hub.call("grown"))["host"]
    results: list[object] = []

    async def slow() -> None:
        results.append(await hub.call("grown", "sleep", s=1.5))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(slow)
        running = next(iter(hub.instances._holder.running.values()))
        await eventually(lambda: running.answering.in_flight == 1)
        await hub.deploy("grown", revision=2)
        new = await hub.call("grown")
        assert new["host"] != old
        assert new["count"] == 1
    assert results == [{"slept": 1.5, "host": old}]
    await eventually(lambda: is_left(hub, new["host"]))
    await hub.set("grown", enabled=False)
    await eventually(lambda: nothing_runs(hub))


async def test_who_is_stopped_answers_the_calls_in_flight_first(hub: Hub) -> None:
    await hub.deploy("held")
    old = (await hub.call("held"))["host"]
    results: list[object] = []

    async def slow() -> None:
        results.append(await hub.call("held", "sleep", s=1.5))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(slow)
        (running,) = hub.instances._holder.running.values()
        await eventually(lambda: running.answering.in_flight == 1)
        await hub.set("held", enabled=False)
        with pytest.raises(Conflict, match="is stopped"):
            await hub.call("held")

        async def has_given_way() -> bool:
            return [row["state"] for row in await hub.rows()] == ["stopping"]

        await eventually(has_given_way)
        # Who starts it again meanwhile does not wait for them.
        await hub.set("held", enabled=True)
        assert (await hub.call("held"))["host"] != old
        assert not results
    assert results == [{"slept": 1.5, "host": old}]


async def test_what_is_removed_cuts_off_its_calls_and_says_so(hub: Hub) -> None:
    await hub.deploy("cut")
    await hub.call("cut")
    (running,) = hub.instances._holder.running.values()

    async def end() -> None:
        await eventually(lambda: running.answering.in_flight == 1)
        await hub.set("cut", enabled=False)
        await eventually(lambda: running.is_closing)
        await hub.database.write(lambda c: c.execute(delete(containers)))
        hub.instances.changed()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end)
        with pytest.raises(Unavailable, match="it was removed") as cut:
            await hub.call("cut", "sleep", s=20)
    assert cut.value.hint is None
    await eventually(lambda: nothing_runs(hub))


async def is_left(hub: Hub, host: str) -> bool:
    return [one.id[:12] for one in await hub.containers()] == [host]


async def test_sessions_have_a_container_each_and_no_more_than_may_be(hub: Hub) -> None:
    await hub.deploy("own", state="per_session", max_sessions=2)
    with pytest.raises(InvalidArgument, match="per session"):
        await hub.call("own")
    first = await hub.call("own", "remember", session="a", text="a's")
    second = await hub.call("own", "remember", session="b", text="b's")
    assert (first, second) == ({"kept": ["a's"]}, {"kept": ["b's"]})
    with pytest.raises(LimitExceeded, match="2 sessions"):
        await hub.call("own", session="c")
    await hub.instances.end_sessions({"a"})
    await eventually(lambda: has_rows(hub, 1))
    assert (await hub.call("own", "remember", session="c", text="c's")) == {"kept": ["c's"]}


async def has_rows(hub: Hub, count: int) -> bool:
    return len(await hub.rows()) == count


async def test_a_session_takes_one_that_waits_and_the_pool_refills(hub: Hub) -> None:
    await hub.deploy("pool", state="per_session", strategy="prewarmed", replicas=2)
    await eventually(lambda: waiting(hub, 2))
    before = {row["id"] for row in await hub.rows()}
    assert (await hub.call("pool", session="a"))["count"] == 1
    (mine,) = [row for row in await hub.rows() if row["session"] == "a"]
    assert mine["id"] in before
    await eventually(lambda: waiting(hub, 2))
    assert (await hub.call("pool", session="a"))["count"] == 2


async def waiting(hub: Hub, count: int) -> bool:
    rows = await hub.rows()
    return count == sum(row["slot"] is not None and row["state"] == "ready" for row in rows)


async def test_calls_spread_over_replicas(hub: Hub) -> None:
    await hub.deploy("wide", strategy="prewarmed", replicas=2)
    await eventually(lambda: waiting(hub, 2))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(hub.call, "wide", "sleep", s=1))
        await eventually(lambda: bool(hub.instances._calls))
        hosts = {(await hub.call("wide"))["host"] for _ in range(4)}
    assert len(hosts) == 1


async def test_what_runs_always_comes_back(hub: Hub) -> None:
    await hub.deploy("ever", strategy="always_on")
    await eventually(lambda: waiting(hub, 1))
    first = (await hub.call("ever"))["host"]
    with pytest.raises(Unavailable):
        await hub.call("ever", "exit")
    await eventually(lambda: waiting(hub, 1))
    second = (await hub.call("ever"))["host"]
    assert second != first
    # Whoever removes it by hand.
    await hub.engine.remove(second)
    await eventually(lambda: waiting(hub, 1))
    assert (await hub.call("ever"))["host"] not in (first, second)


async def test_a_server_is_tried_and_nothing_of_it_is_left(hub: Hub) -> None:
    spec = await hub.deploy("tried")
    image = await hub.engine.image(hub.place.image)
    async with hub.instances.trial(spec, image) as trial:
        assert trial.server.name == "plain"
        assert [tool["name"] for tool in (await trial.request("tools/list", {}))["tools"]] == [
            "count"
        ]
    assert await nothing_runs(hub)
    bad = spec.model_copy(update={"env": {"EXIT": "4"}})
    with pytest.raises(Unavailable, match="exited with code 4"):
        async with hub.instances.trial(bad, image):
            pass
    assert await nothing_runs(hub)
    # A trial that fails does not count against what is in force.
    assert (await hub.call("tried"))["count"] == 1
    assert (await hub.instances.server_info("tried")).name == "plain"


async def test_no_session_sees_what_another_keeps(hub: Hub) -> None:
    clients, rounds = 50, 2
    await hub.deploy(
        "own", state="per_session", max_sessions=clients, cpus=0.5, memory_mb=48, idle_s=60,
        strategy="prewarmed", replicas=2, start_timeout_s=120,
    )  # fmt: skip
    kept: dict[str, list[str]] = {}

    async def client(number: int) -> None:
        session = f"session-{number}"
        for _ in range(rounds):
            result = await hub.call("own", "remember", session=session, text=session)
            kept[session] = result["kept"]

    async with anyio.create_task_group() as tasks:
        for number in range(clients):
            tasks.start_soon(client, number)
    assert kept == {f"session-{n}": [f"session-{n}"] * rounds for n in range(clients)}
    sessions = [row["session"] for row in await hub.rows() if row["session"]]
    assert len(sessions) == len(set(sessions)) == clients


async def test_what_happens_is_told_to_telemetry(hub: Hub) -> None:
    told: list[tuple[str, str | None]] = []

    def observe(record: Record) -> None:
        if record.kind != "metric":
            told.append((record.name, record.attributes.get("error.type")))

    hub.own.observe(observe)
    await hub.deploy("seen", memory_mb=32)
    with pytest.raises(Unavailable):
        await hub.call("seen", "eat", mb=200)
    await eventually(lambda: nothing_runs(hub))
    assert told == [
        ("container.start", None),
        ("container.stop", "unavailable"),
        ("container.oom", "unavailable"),
    ]


async def test_a_server_that_speaks_http_is_reached_and_gone_on_with(hub: Hub) -> None:
    await hub.deploy(
        "web", command=("python3", "/servers/web.py"), transport="http", network="internal",
        start_timeout_s=60, memory_mb=512,
    )  # fmt: skip
    listed = await hub.instances.request("web", None, "tools/list", {}, None, 30)
    assert listed["tools"]
    async with open_hub(hub.place) as other:
        again = await other.instances.request("web", None, "tools/list", {}, None, 30)
        assert [t["name"] for t in again["tools"]] == [t["name"] for t in listed["tools"]]
    await hub.set("web", enabled=False)
    await eventually(lambda: nothing_runs(hub))


async def test_calls_that_replicas_share_are_spread(hub: Hub) -> None:
    await hub.deploy("wide", strategy="prewarmed", replicas=2)

    async def both_run() -> bool:
        return [row["state"] for row in await hub.rows()] == ["ready", "ready"]

    await eventually(both_run, within_s=30)
    hosts: list[str] = []

    async def call() -> None:
        hosts.append((await hub.call("wide", "sleep", s=1))["host"])

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(call)
    assert sorted(hosts.count(host) for host in set(hosts)) == [2, 2]
