"""The promises of the main job between real processes: nothing acknowledged is ever lost."""

import os
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest
from mcp import Client
from pymongo import AsyncMongoClient
from sklearn.datasets import load_iris

from tests.processes import call, hub_environment, kill, process, stdio_client
from tests.servers import Server
from tests.waiting import eventually

POINTS = "x,y\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(20))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return hub_environment(tmp_path)


async def test_train_register_promote_predict(tmp_path: Path, environment: dict[str, str]) -> None:
    load_iris(as_frame=True).frame.to_csv(tmp_path / "iris.csv", index=False)
    async with stdio_client(environment) as client:
        registered = await call(client, "dataset_register", name="iris", source="iris.csv")
        assert registered["rows"] == 150
        submitted = await call(
            client, "training_submit",
            name="iris", type="classification", dataset="iris", target="target",
        )  # fmt: skip
        assert submitted["status"] == "queued"
        job = await _finish(client, submitted["job_id"])
        assert (job["status"], job["model"]) == ("succeeded", "iris:1")
        assert job["metrics"]["accuracy"] >= 0.9
        refused = await call(
            client, "model_promote",
            model="iris:1", alias="champion", gates={"min_metric": {"accuracy": 1.01}},
        )  # fmt: skip
        assert refused["promoted"] is False
        promoted = await call(
            client, "model_promote", model="iris:1", alias="champion",
            gates={"min_metric": {"accuracy": 0.9}}, reason="good enough",
        )  # fmt: skip
        assert promoted["promoted"] is True
        row = {
            "sepal length (cm)": 5.1, "sepal width (cm)": 3.5,
            "petal length (cm)": 1.4, "petal width (cm)": 0.2,
        }  # fmt: skip
        answer = await call(client, "predict", model="iris@champion", inputs=[row])
        assert (answer["model"], answer["predictions"]) == ("iris:1", [0])


async def test_data_from_mongodb_is_trained_with_blobs_in_mongodb(
    tmp_path: Path, mongodb_server: Server
) -> None:
    frame = load_iris(as_frame=True).frame
    name = f"main{uuid4().hex}"
    async with AsyncMongoClient[dict[str, Any]](mongodb_server.url) as mongodb:
        await mongodb[name]["iris"].insert_many(
            {"flower": {"petal": row[2], "sepal": row[0]}, "kind": "abc"[int(row[4])]}
            for row in frame.to_numpy().tolist()
        )
    url = mongodb_server.url.replace("/hub?", f"/{name}?")
    environment = hub_environment(
        tmp_path, MCP_HUB_BLOBS_URL=url, MCP_HUB_DATA__SOURCES__LAB__URL=url
    )
    async with stdio_client(environment) as client:
        about = await call(client, "hub_info")
        assert about["sources"] == ["lab"]
        fields = ["flower.petal", "flower.sepal", "kind"]
        registered = await call(
            client, "dataset_register", name="iris", source="lab:iris", query={"fields": fields}
        )
        assert (registered["rows"], [c["name"] for c in registered["columns"]]) == (150, fields)
        submitted = await call(
            client, "training_submit",
            name="iris", type="classification", dataset="iris", target="kind",
        )  # fmt: skip
        job = await _finish(client, submitted["job_id"])
        assert (job["status"], job["model"]) == ("succeeded", "iris:1")
        answer = await call(
            client, "predict",
            model="iris:1", inputs=[{"flower.petal": 1.4, "flower.sepal": 5.1}],
        )  # fmt: skip
        assert answer["predictions"] == ["a"]


async def test_a_select_is_required_to_be_sound_trained_and_predicts_raw_rows(
    tmp_path: Path, environment: dict[str, str], bookings: Path
) -> None:
    required = [
        {"column": "size", "type": "number", "min": 0, "max_null_rate": 0.2},
        {"column": "city", "allowed": ["Rome", "Oslo"]}, {"min_rows": 100},
    ]  # fmt: skip
    async with stdio_client(environment) as client:
        query = {"sql": "SELECT size, city, price FROM bookings WHERE id <= ?", "parameters": [300]}
        data = await call(client, "dataset_register", name="b", source=bookings.name, query=query)
        assert (data["rows"], data["format"]) == (300, "parquet")
        train = {"name": "price", "type": "regression", "dataset": "b", "target": "price"}
        failing = [*required, {"column": "size", "max": 10}]
        submitted = await call(client, "training_submit", **train, require=failing, max_retries=2)
        job = await _finish(client, submitted["job_id"])
        assert (job["status"], job["attempt"], job["error"]["code"]) == (
            "failed", 1, "invalid_argument"
        )  # fmt: skip
        assert "size max expected 10, found 29" in job["error"]["message"]
        submitted = await call(client, "training_submit", **train, require=required)
        job = await _finish(client, submitted["job_id"])
        assert (job["status"], job["model"]) == ("succeeded", "price:1")
        raw = [
            {"size": 20, "city": "Rome"}, {"size": None, "city": "Oslo"}, {"size": 5, "city": None},
            {"size": 20, "city": "never seen"}, {"size": None, "city": None},
        ]  # fmt: skip
        answer = await call(client, "predict", model="price:1", inputs=raw)
    prices = answer["predictions"]
    assert abs(prices[0] - 240) < 30
    assert all(0 < price < 500 for price in prices)


@pytest.fixture
def bookings(tmp_path: Path) -> Path:
    """A SQLite file whose prices follow from a size and a city, each missing in some rows."""
    path = tmp_path / "bookings.db"
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE bookings (id INTEGER PRIMARY KEY, size REAL, city TEXT, price REAL)"
        )
        connection.executemany(
            "INSERT INTO bookings (size, city, price) VALUES (?, ?, ?)",
            [
                (
                    None if number % 10 == 3 else number % 30,
                    None if number % 11 == 5 else ["Rome", "Oslo"][number % 2],
                    (number % 30) * 10 + (40 if number % 2 == 0 else 100),
                )
                for number in range(400)
            ],
        )
    connection.close()
    return path


async def test_a_job_outlives_the_client_that_is_killed(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    flag = tmp_path / "go"
    async with stdio_client(environment) as client:
        await call(client, "dataset_register", name="points", content=POINTS, format="csv")
        job_id = await _submit(client, action="wait_for_flag", flag=str(flag))
        await _until_running(client, job_id)
        kill(_server_of(os.getpid()))
    flag.touch()
    async with stdio_client(environment) as client:
        job = await _finish(client, job_id)
    assert (job["status"], job["attempt"], job["model"]) == ("succeeded", 1, "probe:1")


async def test_a_killed_workers_job_is_run_again_and_registers_one_version(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    flag = tmp_path / "go"
    async with stdio_client(environment) as client:
        await call(client, "dataset_register", name="points", content=POINTS, format="csv")
        job_id = await _submit(client, action="wait_for_flag", flag=str(flag))
        await _until_running(client, job_id)
        kill(_worker(tmp_path))
        flag.touch()
        job = await _finish(client, job_id)
        assert (job["status"], job["attempt"], job["model"]) == ("succeeded", 2, "probe:1")
        versions = await call(client, "model_list")
        assert [(item["name"], item["versions"]) for item in versions["items"]] == [("probe", 1)]
        logs = await call(client, "training_logs", job_id=job_id)
        assert {line["attempt"] for line in logs["lines"]} == {1, 2}


async def test_a_worker_that_loses_its_lease_gives_way(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """A stopped worker cannot renew its lease; when it wakes, its attempt must not count."""
    flag = tmp_path / "go"
    manual = environment | {"MCP_HUB_TRAINING__AUTOSTART_WORKER": "false"}
    async with stdio_client(manual) as client:
        await call(client, "dataset_register", name="points", content=POINTS, format="csv")
        job_id = await _submit(client, action="wait_for_flag", flag=str(flag))
        with process(manual, "worker") as first:
            await _until_running(client, job_id)
            os.kill(first.pid, 19)
            with process(manual, "worker"):

                async def taken_over() -> bool:
                    job = await call(client, "training_status", job_id=job_id)
                    return bool(job["attempt"] == 2)

                await eventually(taken_over)
                os.kill(first.pid, 18)
                flag.touch()
                job = await _finish(client, job_id)
        assert (job["status"], job["model"]) == ("succeeded", "probe:1")
        assert (await call(client, "model_list"))["items"][0]["versions"] == 1


@pytest.mark.parametrize(
    "count", [8, pytest.param(50, marks=pytest.mark.soak)], ids=["short", "full"]
)
async def test_two_servers_submit_at_once_and_every_job_is_run_once(
    tmp_path: Path, environment: dict[str, str], count: int
) -> None:
    load_iris(as_frame=True).frame.to_csv(tmp_path / "iris.csv", index=False)
    job_ids: list[str] = []

    async def submit_all(number: int) -> None:
        async with stdio_client(environment) as client:
            await call(client, "dataset_register", name="iris", source="iris.csv")

            async def submit_one(index: int) -> None:
                submitted = await call(
                    client, "training_submit", name=f"iris-{index % 3}", type="classification",
                    dataset="iris", target="target", config={"estimator": "decision_tree"},
                    idempotency_key=f"{number}-{index}",
                )  # fmt: skip
                job_ids.append(submitted["job_id"])

            async with anyio.create_task_group() as tasks:
                for index in range(count):
                    tasks.start_soon(submit_one, index)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(submit_all, 1)
        tasks.start_soon(submit_all, 2)
    assert len(set(job_ids)) == 2 * count
    async with stdio_client(environment) as client:
        jobs = [await _finish(client, job_id) for job_id in job_ids]
        models = (await call(client, "model_list"))["items"]
    assert Counter(job["status"] for job in jobs) == {"succeeded": 2 * count}
    assert {job["attempt"] for job in jobs} == {1}
    assert len({job["model"] for job in jobs}) == 2 * count
    assert sum(model["versions"] for model in models) == 2 * count
    assert "locked" not in (tmp_path / "data" / "worker.log").read_text()


async def _submit(client: Client, **config: Any) -> str:
    submitted = await call(
        client, "training_submit", name="probe", type="probe", framework="probe",
        dataset="points", config=config,
    )  # fmt: skip
    return str(submitted["job_id"])


async def _finish(client: Client, job_id: str) -> dict[str, Any]:
    with anyio.fail_after(240):
        while True:
            job = await call(client, "training_status", job_id=job_id, wait_s=50)
            if job["status"] not in ("queued", "running"):
                return job


async def _until_running(client: Client, job_id: str) -> None:
    async def running() -> bool:
        return (await call(client, "training_status", job_id=job_id))["status"] == "running"

    await eventually(running, within_s=60)


def _worker(folder: Path) -> int:
    with sqlite3.connect(folder / "data" / "hub.db") as database:
        (pid,) = database.execute("SELECT pid FROM workers").fetchone()
    database.close()
    return int(pid)


def _server_of(parent: int) -> int:
    """The stdio server among the children of `parent`."""
    for process_folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (process_folder / "cmdline").read_text().split("\0")
            status = (process_folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(status[1]) == parent and command[1:3] == ["-m", "mcp_hub"] and not command[3]:
            return int(process_folder.name)
    raise AssertionError("no stdio server is running")
