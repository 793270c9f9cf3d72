import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from .conftest import Done, Shell

PROBE = ["--name", "m", "--type", "probe", "--framework", "probe"]


@pytest.fixture
def data(folder: Path) -> Path:
    file = folder / "points.csv"
    file.write_text("x,y\n" + "".join(f"{n},{n % 2}\n" for n in range(20)))
    return file


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """No worker is started for jobs that a test only submits."""
    monkeypatch.setenv("MCP_HUB_TRAINING__AUTOSTART_WORKER", "false")


def job(done: Done) -> dict[str, Any]:
    assert done.status == 0, done.err
    parsed: dict[str, Any] = json.loads(done.out)
    return parsed


def test_submit_and_follow(mcp_hub: Shell, data: Path) -> None:
    done = mcp_hub("train", "submit", *PROBE, "--dataset", "points.csv", "--follow")
    assert done.status == 0
    assert "succeeded" in done.out
    assert "model     m:1" in done.out
    assert "score 1.5" in done.out


def test_submit_then_look(mcp_hub: Shell, data: Path) -> None:
    submitted = mcp_hub("train", "submit", *PROBE, "--dataset", "points.csv")
    job_id = submitted.out.split()[0]
    assert f"mcp-hub train status {job_id} --follow" in submitted.out
    ended = job(mcp_hub("train", "status", job_id, "--follow", "--json"))
    assert (ended["status"], ended["model"], ended["dataset"]) == ("succeeded", "m:1", "points:1")
    assert "succeeded" in mcp_hub("train", "status", job_id).out
    listed = mcp_hub("train", "list").out.splitlines()
    assert listed[0].split()[:3] == ["job", "status", "name"]
    assert listed[1].split()[:3] == [job_id, "succeeded", "m"]
    logs = mcp_hub("train", "logs", job_id).out
    assert "[1 stdout] trained m" in logs
    assert (
        json.loads(mcp_hub("train", "logs", job_id, "--json").out.splitlines()[0])["attempt"] == 1
    )
    assert "has already ended" in mcp_hub("train", "cancel", job_id).err


@pytest.mark.usefixtures("idle")
def test_a_registered_name_or_the_same_file_again(mcp_hub: Shell, data: Path) -> None:
    first = job(mcp_hub("train", "submit", *PROBE, "--dataset", "points.csv", "--json"))
    named = job(mcp_hub("train", "submit", *PROBE, "--dataset", "points", "--json"))
    again = job(mcp_hub("train", "submit", *PROBE, "--dataset", data, "--json"))
    assert first["dataset"] == named["dataset"] == again["dataset"] == "points:1"


@pytest.mark.usefixtures("idle")
def test_a_file_outside_the_roots_is_read_for_whoever_names_it(
    mcp_hub: Shell, tmp_path: Path
) -> None:
    (tmp_path / "my data.csv").write_text("x,y\n1,2\n3,4\n")
    done = job(mcp_hub("train", "submit", *PROBE, "--dataset", tmp_path / "my data.csv", "--json"))
    assert done["dataset"] == "my-data:1"


def test_a_job_that_fails_ends_with_status_1(mcp_hub: Shell, data: Path) -> None:
    config = json.dumps({"action": "raise_error"})
    arguments = [*PROBE, "--dataset", "points.csv", "--config", config, "--follow"]
    done = mcp_hub("train", "submit", *arguments)
    assert done.status == 1
    assert "The data will not do." in done.out
    assert "Bring other data." in done.out
    job_id = done.out.split()[0]
    retried = job(mcp_hub("train", "retry", job_id, "--json"))
    assert retried["status"] == "queued"
    assert mcp_hub("train", "status", job_id, "--follow").status == 1


def test_a_job_that_waits_can_be_cancelled(mcp_hub: Shell, data: Path, folder: Path) -> None:
    config = json.dumps({"action": "wait_for_flag", "flag": str(folder / "flag")})
    common = [*PROBE, "--dataset", "points.csv", "--json"]
    parent = job(mcp_hub("train", "submit", *common, "--config", config))["job_id"]
    child = job(mcp_hub("train", "submit", *common, "--depends-on", parent))
    assert child["waiting_for"] == [parent]
    assert job(mcp_hub("train", "cancel", child["job_id"], "--json"))["status"] == "cancelled"
    (folder / "flag").write_text("")
    assert job(mcp_hub("train", "status", parent, "--follow", "--json"))["status"] == "succeeded"


@pytest.mark.usefixtures("idle")
def test_the_same_key_gives_the_same_job(mcp_hub: Shell, data: Path) -> None:
    arguments = [*PROBE, "--dataset", "points.csv", "--idempotency-key", "k"]
    first = mcp_hub("train", "submit", *arguments).out.split()[0]
    again = mcp_hub("train", "submit", *arguments).out
    assert again.startswith(first)
    assert "used before" in again


def test_a_job_has_limits_rules_and_a_time(mcp_hub: Shell, data: Path) -> None:
    arguments = ["train", "submit", *PROBE, "--dataset", "points.csv", "--json"]
    limits = ["--limits", '{"memory_mb": 900, "gpus": 0}']
    later = job(mcp_hub(*arguments, *limits, "--start-at", "3600"))
    assert later["limits"] == {"cpus": None, "memory_mb": 900, "gpus": 0}
    assert later["wait"]["reason"] == "start_time"
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT12:00:00Z}"
    dated = job(mcp_hub(*arguments, "--start-at", tomorrow))
    assert dated["wait"]["until"][:10] == tomorrow[:10]
    refused = mcp_hub(*arguments, "--require", '[{"column": "x", "min": 5}]', "--follow")
    assert refused.status == 1
    assert "x" in json.loads(refused.out)["error"]["message"]


@pytest.mark.parametrize(
    ("changed", "message", "hint"),
    [
        (["--framework", "probee"], "probee", "probe"),
        (["--type", "prob"], "cannot train 'prob'", "Did you mean 'probe'?"),
        (["--config", "{"], "--config is not JSON", "For example"),
        (["--config", "[]"], "--config must be a JSON object", "For example"),
        (["--config", '{"step": 1}'], "no config key 'step'", "Did you mean 'steps'?"),
        (["--dataset", "point"], "no data set 'point'", ""),
        (["--dataset", "./point.csv"], "There is no file ./point.csv", ""),
        (["--target", "z"], "no column 'z'", "Existing columns: x, y"),
        (["--depends-on", "job_x"], "no job 'job_x'", ""),
        (["--timeout", "-1"], "timeout_s is -1", ""),
        (["--limits", '{"cpu": 1}'], "'cpu', which is no limit", "Did you mean 'cpus'?"),
        (["--limits", '{"cpus": "many"}'], "cpus is 'many'", "Give whole numbers"),
        (["--limits", '{"memory_mb": 1}'], "limits.memory_mb is 1; it must be at least", ""),
        (["--require", '{"column": "x"}'], "--require must be a JSON list", "For example"),
        (["--require", '[{"column": "z", "min": 1}]'], "'z'", "x, y"),
        (["--start-at", "soon"], "start_at is 'soon', no ISO 8601 time", "or give seconds"),
        (["--start-at", "-5"], "start_at is -5", ""),
    ],
)
def test_a_wrong_value_names_the_right_ones(
    mcp_hub: Shell, data: Path, changed: list[str], message: str, hint: str
) -> None:
    done = mcp_hub("train", "submit", *PROBE, "--dataset", "points.csv", *changed)
    assert (done.status, done.out) == (1, "")
    assert message in done.err
    assert hint in done.err
    assert mcp_hub("train", "list").out.startswith("No jobs yet")


@pytest.mark.parametrize("command", ["status", "cancel", "retry", "logs"])
def test_an_unknown_job(mcp_hub: Shell, command: str) -> None:
    done = mcp_hub("train", command, "job_x")
    assert done.status == 1
    assert "There is no job 'job_x'" in done.err


def test_a_list_by_status_and_page(mcp_hub: Shell, data: Path) -> None:
    for _ in range(2):
        mcp_hub("train", "submit", *PROBE, "--dataset", "points.csv", "--follow")
    page = json.loads(mcp_hub("train", "list", "--limit", "1", "--json").out)
    rest = json.loads(mcp_hub("train", "list", "--cursor", page["next_cursor"], "--json").out)
    assert len(page["items"]) == len(rest["items"]) == 1
    assert page["items"] != rest["items"]
    assert mcp_hub("train", "list", "--status", "failed").out.startswith("No jobs yet")
    done = mcp_hub("train", "list", "--status", "done")
    assert "They are queued, running" in done.err


def test_ctrl_c_leaves_the_job_running(mcp_hub: Shell, data: Path, folder: Path) -> None:
    config = json.dumps({"action": "wait_for_flag", "flag": str(folder / "flag")})
    job_id = mcp_hub(
        "train", "submit", *PROBE, "--dataset", "points.csv", "--config", config
    ).out.split()[0]
    with running("train", "logs", job_id, "--follow") as reading:
        assert reading.stdout is not None
        assert any("waiting" in line for line in reading.stdout)  # the job runs
        reading.send_signal(signal.SIGINT)
        assert reading.wait() != 0
    with running("train", "status", job_id, "--follow") as following:
        assert following.stderr is not None
        assert following.stderr.readline().startswith("running")
        following.send_signal(signal.SIGINT)
        said = following.stderr.read()
        assert following.wait() != 0
    assert f"mcp-hub train status {job_id} --follow" in said
    assert "Traceback" not in said
    (folder / "flag").write_text("")
    assert mcp_hub("train", "status", job_id, "--follow").status == 0


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """An `mcp-hub` command in a process of its own, which has half a minute."""
    command = [sys.executable, "-m", "mcp_hub", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        deadline = threading.Timer(30, process.kill)
        deadline.start()
        try:
            yield process
        finally:
            deadline.cancel()
            process.kill()
