"""Hub processes are killed while containers start, run, are called and end.

Whatever is killed when, at the end the engine has exactly the containers of the specs, each with
its row, and nothing else: none leaked, none missing, no zombie. The short run is part of `make
test`; `make soak` kills 100 times.
"""

import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread

from tests.services.containers.instances.hubs import Hub, HubProcess, Place, open_hub, place_of
from tests.waiting import eventually

SEED = 20261128
PROCESSES = 3
SESSIONS = 4
ALWAYS, WARM = 2, 2
_ORPHANED_WITHIN_S = 90


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str | None:
    """The database's URL; None for the embedded one."""
    return request.getfixturevalue("postgres_url") if request.param == "postgresql" else None


@pytest.fixture
async def place(
    url: str | None, tmp_path: Path, engine_url: str, python_image: str
) -> AsyncIterator[Place]:
    async with place_of(tmp_path, engine_url, python_image, url) as place:
        yield place


@pytest.mark.parametrize(
    ("url", "kills"),
    [
        ("sqlite", 5),
        pytest.param("sqlite", 100, marks=pytest.mark.soak),
        pytest.param("postgresql", 100, marks=pytest.mark.soak),
    ],
    indirect=["url"],
)
async def test_what_is_left_is_what_is_deployed(
    place: Place, kills: int, capsys: pytest.CaptureFixture[str]
) -> None:
    chance, told, began = random.Random(SEED), Counter[str](), time.monotonic()
    log = place.folder / "processes.log"
    async with open_hub(place) as hub:
        await deploy(hub)
        alive = [HubProcess(place, log) for _ in range(PROCESSES)]
        try:
            with anyio.fail_after(120 + kills * 15):
                for _ in range(kills):
                    await one_round(chance, alive, told)
                    alive += [HubProcess(place, log) for _ in range(PROCESSES - len(alive))]
        finally:
            for one in alive:
                one.kill()
                one.close()
        left = await settled(hub)
    text = log.read_text()
    assert "Traceback" not in text, text[text.index("Traceback") :][:3000]
    assert zombies(place) == []
    told["taken for dead"] = text.count("is dead")
    told["orphans removed"] = text.count("which had no instance")
    with capsys.disabled():
        print(
            f"\n{kills} kills ({place.database().dialect}): {dict(told)}; left {left} as deployed, "
            f"0 leaked, 0 zombies; {time.monotonic() - began:.0f} s"
        )


async def deploy(hub: Hub) -> None:
    await hub.deploy("called", idle_s=2)
    await hub.deploy("late", idle_s=2, env={"START_S": "0.5"})
    await hub.deploy("ever", strategy="always_on", replicas=ALWAYS)
    await hub.deploy("warm", strategy="prewarmed", state="per_session", replicas=WARM, idle_s=2)


async def one_round(chance: random.Random, alive: list[HubProcess], told: Counter[str]) -> None:
    """Have calls made by all processes, and kill one of them meanwhile."""
    await to_thread.run_sync(lambda: [one.wait_ready() for one in alive])
    async with anyio.create_task_group() as tasks:
        for one in alive:
            for name in chance.sample(["called", "late", "ever", "warm"], 2):
                order: dict[str, Any] = {"name": name, "calls": chance.randint(1, 4)}
                if name == "warm":
                    session = f"s{chance.randrange(SESSIONS)}"
                    order |= {
                        "session": session, "tool": "remember", "arguments": {"text": session},
                    }  # fmt: skip
                one.tell(**order)
            tasks.start_soon(listen, one, 2, told)
        await anyio.sleep(chance.uniform(0, 1.2))
        victim = alive.pop(chance.randrange(len(alive)))
        victim.kill()
        told["killed"] += 1
        if chance.random() < 0.2:
            told["left in order"] += 1
            leaving = alive.pop(chance.randrange(len(alive)))
            await to_thread.run_sync(leaving.leave)
            leaving.close()
    victim.close()


async def listen(process: HubProcess, orders: int, told: Counter[str]) -> None:
    """Count what came of so many orders, or of those that it lived to tell of."""
    for _ in range(orders):
        answers = await to_thread.run_sync(process.hear)
        if answers is None:
            return
        for answer in answers:
            told["calls"] += 1
            if "error" in answer:
                told[answer["error"]["code"]] += 1
                # A call that was cut off, and none that was refused or lost its way.
                assert "let go" in answer["error"]["message"], answer
            elif "kept" in answer:
                assert len(set(answer["kept"])) == 1, answer


async def settled(hub: Hub) -> int:
    """Wait until what is there is what is deployed; how many containers that is."""

    async def is_settled() -> bool:
        containers, rows = await hub.containers(), await hub.rows()
        names = Counter(one.labels["mcp-hub.name"] for one in containers)
        return (
            names == {"ever": ALWAYS, "warm": WARM}
            and {row["engine_id"] for row in rows} == {one.id for one in containers}
            and all(row["state"] == "ready" for row in rows)
            and all(one.status == "running" for one in containers)
        )

    await eventually(is_settled, within_s=_ORPHANED_WITHIN_S)
    return ALWAYS + WARM


def zombies(place: Place) -> list[str]:
    """Processes that ended and that nobody waits for, below the engine's."""
    engine = int((Path(place.engine_url.removeprefix("unix://")).parent / "pid").read_text())
    found, parents, states = [], {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        state, parent, *_ = rest.split()
        pid = int(stat.parent.name)
        parents[pid], states[pid] = int(parent), (state, name)
    for pid, (state, name) in states.items():
        above = pid
        while state == "Z" and above in parents:
            if above == engine:
                found.append(name)
                break
            above = parents[above]
    return found
