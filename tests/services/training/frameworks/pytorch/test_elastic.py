"""Jobs of several processes, on this machine and on two that are network namespaces."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread
from mcp import Client
from sklearn.datasets import load_iris

from tests.processes import call, hub_environment, kill, process, stdio_client
from tests.waiting import eventually

# Without dropout, which each process draws for itself, several learn what one learns.
EPOCHS = 12
CONFIG = {"epochs": EPOCHS, "patience": EPOCHS, "dropout": 0.0, "hidden": [16], "batch_size": 8}


@pytest.fixture
def iris() -> str:
    data = load_iris()
    rows = zip(data.data.tolist(), data.target.tolist(), strict=True)
    lines = [",".join(map(str, [*row, f"kind {code}"])) for row, code in rows]
    return "\n".join(["a,b,c,d,y", *lines])


async def submit(hub: Client, **config: Any) -> str:
    job = await call(
        hub, "training_submit", name="iris", type="classification", framework="pytorch",
        dataset="iris", target="y", config=CONFIG | config,
    )  # fmt: skip
    return str(job["job_id"])


async def succeeded(hub: Client, job_id: str) -> dict[str, Any]:
    with anyio.fail_after(240):
        while True:
            job = await call(hub, "training_status", job_id=job_id, wait_s=20)
            if job["status"] not in ("queued", "running"):
                break
    assert job["status"] == "succeeded", (job["error"], await log(hub, job_id))
    assert job["attempt"] == 1
    return job


async def log(hub: Client, job_id: str) -> list[str]:
    lines = (await call(hub, "training_logs", job_id=job_id, tail=300))["lines"]
    return [line["text"] for line in lines]


async def losses(hub: Client, job_id: str) -> dict[str, list[float]]:
    keys = ["train_loss", "validation_loss"]
    series = (await call(hub, "training_metrics", job_id=job_id, keys=keys))["series"]
    assert [one["steps"] for one in series] == [list(range(1, EPOCHS + 1))] * 2
    return {one["key"]: one["values"] for one in series}


async def kill_rank(hub: Client, job_id: str, local_rank: int) -> None:
    """Kill one of the job's processes once there is a checkpoint to go on from."""

    async def has_learned() -> bool:
        job = await call(hub, "training_status", job_id=job_id)
        return (job["progress"]["done"] or 0) >= 2

    await eventually(has_learned, within_s=200)
    kill(await to_thread.run_sync(rank_of, job_id, local_rank))


async def assert_same(hub: Client, one: dict[str, Any], other: dict[str, Any]) -> None:
    """The two jobs learned the same, along the same curve, each epoch once."""
    expected, found = [await losses(hub, job["job_id"]) for job in (one, other)]
    for key, values in expected.items():
        assert found[key] == pytest.approx(values, rel=1e-3, abs=1e-4)
    for key, value in one["metrics"].items():
        assert other["metrics"][key] == pytest.approx(value, rel=1e-3, abs=1e-4)


def rank_of(job_id: str, local_rank: int) -> int:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (
                (folder / name).read_bytes().split(b"\0") for name in ("cmdline", "environ")
            )
        except OSError:
            continue
        is_rank = b"mcp_hub.services.training.frameworks.pytorch.rank" in command
        is_this = f"LOCAL_RANK={local_rank}".encode() in environment
        if is_rank and is_this and any(job_id.encode() in part for part in command):
            return int(folder.name)
    raise AssertionError("no such process")


def is_any_left(job_id: str) -> bool:
    return any(
        job_id.encode() in folder.read_bytes()
        for folder in Path("/proc").glob("[0-9]*/cmdline")
        if folder.exists()
    )


async def test_two_processes_learn_what_one_learns_also_when_one_is_killed(
    iris: str, tmp_path: Path
) -> None:
    environment = hub_environment(tmp_path, MCP_HUB_TRAINING__AUTOSTART_WORKER="false")
    async with stdio_client(environment) as hub:
        await call(hub, "dataset_register", name="iris", content=iris, format="csv")
        with process(environment, "worker"):
            alone = await succeeded(hub, await submit(hub))
            job_id = await submit(hub, nproc_per_node=2)
            await kill_rank(hub, job_id, 1)
            pair = await succeeded(hub, job_id)
            await eventually(lambda: not is_any_left(job_id))
        assert pair["model"] == "iris:2"
        await assert_same(hub, alone, pair)
        assert any(text.startswith("Goes on after epoch") for text in await log(hub, job_id))


@pytest.fixture
def namespaces() -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """Two network namespaces joined by a cable: the name and the address of each."""
    if os.getuid() or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    names = [f"hub{os.getpid()}{side}" for side in "ab"]
    made = []
    try:
        for name in names:
            if _ip("netns", "add", name).returncode:
                pytest.skip("this machine allows no network namespaces")
            made.append(name)
        cable = ["type", "veth", "peer", "name", "cable", "netns", names[1]]
        if _ip("link", "add", "cable", "netns", names[0], *cable).returncode:
            pytest.skip("this machine allows no virtual network cables")
        for name, address in zip(names, ("10.213.7.1", "10.213.7.2"), strict=True):
            for arguments in (
                ("addr", "add", f"{address}/30", "dev", "cable"),
                ("link", "set", "cable", "up"),
                ("link", "set", "lo", "up"),
            ):
                assert not _ip("-n", name, *arguments).returncode
        yield (names[0], "10.213.7.1"), (names[1], "10.213.7.2")
    finally:
        for name in made:
            _ip("netns", "del", name)


def _ip(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["ip", *arguments], capture_output=True, check=False)


@pytest.mark.soak
async def test_two_machines_learn_what_one_learns_also_when_a_process_is_killed(
    namespaces: tuple[tuple[str, str], tuple[str, str]], iris: str, tmp_path: Path
) -> None:
    environment = hub_environment(
        tmp_path, MCP_HUB_TRAINING__CONCURRENCY="1", MCP_HUB_TRAINING__AUTOSTART_WORKER="false"
    )
    meeting = {"nnodes": 2, "rendezvous": f"{namespaces[0][1]}:29533"}
    async with stdio_client(environment) as hub:
        await call(hub, "dataset_register", name="iris", content=iris, format="csv")
        with agent(namespaces[0][0], environment), agent(namespaces[1][0], environment):
            alone = await succeeded(hub, await submit(hub))
            first, second = [await submit(hub, node_rank=rank, **meeting) for rank in range(2)]
            await kill_rank(hub, first, 0)
            together, helper = await succeeded(hub, first), await succeeded(hub, second)
        assert (together["model"], helper["model"]) == ("iris:2", None)
        await assert_same(hub, alone, together)
        assert any(text.startswith("Goes on after epoch") for text in await log(hub, first))


@contextmanager
def agent(namespace: str, environment: dict[str, str]) -> Iterator[None]:
    """A worker in a network namespace."""
    command = ["ip", "netns", "exec", namespace, sys.executable, "-m", "mcp_hub", "worker"]
    worker = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        worker.kill()
        worker.wait()
