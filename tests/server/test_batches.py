"""Predictions of a whole data set whose worker is killed in the middle of them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import numpy as np
import onnx
import polars as pl
from onnx import TensorProto, helper, numpy_helper

from tests.processes import call, hub_environment, kill, process, stdio_client
from tests.waiting import eventually

ROWS = 65_000
"""Of one column a batch has 8,192 rows: eight batches, each of some tenths of a second."""
WIDTH = 512
STEPS = 12


async def test_a_batch_of_a_killed_worker_goes_on_behind_its_newest_checkpoint(
    tmp_path: Path,
) -> None:
    environment = hub_environment(
        tmp_path, MCP_HUB_TRAINING__AUTOSTART_WORKER="false", MCP_HUB_TRAINING__ATTEMPT_CPUS="1"
    )
    (tmp_path / "slow.onnx").write_bytes(_slow_identity())
    frame = pl.DataFrame({"key": range(ROWS), "x": np.random.default_rng(0).permutation(ROWS)})
    frame.write_csv(tmp_path / "rows.csv")
    async with stdio_client(environment) as client:
        await call(client, "model_register", name="slow", path="slow.onnx")
        await call(client, "dataset_register", name="rows", source="rows.csv")
        ask = {"model": "slow", "dataset": "rows", "keep": ["key"]}
        job_id = (await call(client, "predict_batch", **ask))["job_id"]
        with process(environment, "worker") as worker:
            await eventually(lambda: _has_checkpoint(tmp_path, job_id), within_s=60)
            kill(worker.pid)
        interrupted = await call(client, "training_status", job_id=job_id)
        with process(environment, "worker"), anyio.fail_after(180):
            done = await call(client, "predict_batch", **ask, wait_s=50)
            while done["status"] not in ("succeeded", "failed"):
                done = await call(client, "predict_batch", **ask, wait_s=50)
        assert interrupted["status"] == "running"
        assert (done["error"], done["rows"]) == (None, ROWS)
        logs = await call(client, "training_logs", job_id=job_id, tail=100)
        status = await call(client, "training_status", job_id=job_id)
    assert status["attempt"] == 2
    texts = [line["text"] for line in logs["lines"]]
    [resumed] = [text for text in texts if text.startswith("Goes on behind the ")]
    assert int(resumed.split()[4]) % 8_192 == 0
    made = pl.read_parquet(_newest_dataset(tmp_path))
    assert made["key"].to_list() == frame["key"].to_list()
    assert made["prediction"].to_list() == frame["x"].to_list()


def _slow_identity() -> bytes:
    """A model that gives back its one column, by products with permutation matrices: exact, and
    some four billion operations a product for a batch."""
    random = np.random.default_rng(1)
    first = np.zeros((1, WIDTH), dtype=np.float32)
    first[0, 0] = 1
    permutation = np.eye(WIDTH, dtype=np.float32)[random.permutation(WIDTH)]
    nodes = [helper.make_node("MatMul", ["x", "first"], ["h0"])]
    for step in range(STEPS):
        nodes.append(helper.make_node("MatMul", [f"h{step}", "permutation"], [f"h{step + 1}"]))
    nodes.append(helper.make_node("ReduceSum", [f"h{STEPS}", "axes"], ["y"], keepdims=1))
    graph = helper.make_graph(
        nodes,
        "slow",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        [
            numpy_helper.from_array(first, "first"),
            numpy_helper.from_array(permutation, "permutation"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "axes"),
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@contextmanager
def _database(folder: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(folder / "data" / "hub.db")) as connection:
        yield connection


def _has_checkpoint(folder: Path, job_id: str) -> bool:
    with _database(folder) as database:
        query = "SELECT count(*) FROM job_checkpoints WHERE job_id = ?"
        return database.execute(query, [job_id]).fetchone()[0] > 0


def _newest_dataset(folder: Path) -> Path:
    with _database(folder) as database:
        query = "SELECT sha256 FROM datasets WHERE name = 'rows-predictions'"
        [(sha256,)] = database.execute(query).fetchall()
    [file] = (folder / "data" / "blobs").rglob(f"*{sha256[-20:]}*")
    return file
