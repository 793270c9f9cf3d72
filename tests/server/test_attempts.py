"""What becomes of attempts that are cancelled from elsewhere, or whose worker is killed."""

import os
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from mcp_hub.services.training.processes.procfs import has_ended
from tests.processes import call, hub_environment, process, stdio_client
from tests.waiting import eventually

POINTS = "x,y\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(20))


@pytest.fixture(params=["sqlite", "postgresql"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    variables = {"MCP_HUB_TRAINING__AUTOSTART_WORKER": "false"}
    if request.param == "postgresql":
        variables["MCP_HUB_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    return hub_environment(tmp_path, **variables)


async def test_a_job_is_cancelled_from_another_hub_within_2_s(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    flag = tmp_path / "pid"
    async with stdio_client(environment) as one, stdio_client(environment) as other:
        with process(environment, "worker"):
            job_id = await _hang(one, flag)
            # A hub opens its adapters with its first call.
            await call(other, "training_list")
            with anyio.fail_after(2.0):
                await call(other, "training_cancel", job_id=job_id)
                job = await call(other, "training_status", job_id=job_id, wait_s=5)
            assert job["status"] == "cancelled"
            assert has_ended(int(flag.read_text()))
            flag.unlink()
            job_id = await _hang(one, flag, timeout_s=2)
            with anyio.fail_after(4.0):
                job = await call(other, "training_status", job_id=job_id, wait_s=10)
            assert (job["status"], job["cause"]) == ("timed_out", "timeout")
            assert has_ended(int(flag.read_text()))


@pytest.mark.parametrize("environment", ["sqlite"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_no_process_of_an_attempt_outlives_its_worker(
    tmp_path: Path, environment: dict[str, str], number: int
) -> None:
    flag = tmp_path / "pid"
    async with stdio_client(environment) as client:
        with process(environment, "worker") as worker:
            await _hang(client, flag)
            os.kill(worker.pid, number)
            await eventually(lambda: has_ended(worker.pid), within_s=10)
            await eventually(lambda: has_ended(int(flag.read_text())), within_s=2)


async def _hang(client: Client, flag: Path, **options: Any) -> str:
    """A running job that ignores SIGTERM and has left a daemon, whose id is in `flag`."""
    await call(client, "dataset_register", name="points", content=POINTS, format="csv")
    submitted = await call(
        client, "training_submit", name="probe", type="probe", framework="probe",
        dataset="points", config={"action": "leave_daemons_and_hang", "flag": str(flag)}, **options,
    )  # fmt: skip
    await eventually(lambda: flag.exists() and bool(flag.read_text()))
    return str(submitted["job_id"])
