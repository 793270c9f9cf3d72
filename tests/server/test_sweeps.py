"""A sweep whose driver is killed with its process: another hub goes on, or one started later."""

from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from mcp_hub.services.training.sweeps.views import ENDED
from tests.processes import call, hub_environment, kill, process, stdio_client
from tests.waiting import eventually

from .serving import serving

POINTS = "x,y\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(20))
SPACE = {"value": {"type": "float", "low": 0, "high": 1}}
TRIALS = 6


@pytest.fixture(params=["embedded", "production"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Of hubs on SQLite, or on PostgreSQL with a database of Redis of their own."""
    if request.param == "embedded":
        return hub_environment(tmp_path)
    redis_url: str = request.getfixturevalue("redis_server").url
    return hub_environment(
        tmp_path,
        MCP_HUB_DATABASE_URL=request.getfixturevalue("postgres_url"),
        MCP_HUB_REDIS_URL=redis_url.removesuffix("/0") + "/9",
    )


@pytest.mark.parametrize(
    ("environment", "worker_too"),
    [("embedded", True), ("production", False)],
    indirect=["environment"],
)
async def test_a_sweep_goes_on_when_its_hub_is_killed(
    environment: dict[str, str], worker_too: bool, tmp_path: Path
) -> None:
    """Trials that run then go on once the flag is there; others are yet to be submitted.

    Where their worker is killed too, the next hub starts another.
    """
    flag = tmp_path / "flag"
    alone = environment | {"MCP_HUB_TRAINING__AUTOSTART_WORKER": "false"}
    with serving(alone) as hub:
        async with Client(f"{hub.url}/mcp") as client:
            await call(client, "dataset_register", name="points", content=POINTS, format="csv")
            submitted = await call(
                client, "training_sweep",
                name="swept", type="probe", framework="probe", dataset="points", metric="score",
                space=SPACE, trials=TRIALS, parallel=3,
                config={"action": "wait_for_flag", "flag": str(flag)},
            )  # fmt: skip
            sweep_id = submitted["sweep_id"]

            async def there_are(trials: int, status: str) -> bool:
                page = await call(client, "training_list", status=status)
                return len(page["items"]) == trials

            # Before there is a worker, which might be the one to drive.
            await eventually(lambda: there_are(3, "queued"), within_s=40)
            with process(alone, "worker") as worker:
                await eventually(lambda: there_are(2, "running"), within_s=40)
                kill(hub.process.pid)
                async with stdio_client(environment if worker_too else alone) as other:
                    await look(other, sweep_id)
                    if worker_too:
                        kill(worker.pid)
                    flag.touch()
                    with anyio.fail_after(100):
                        while (sweep := await look(other, sweep_id, 30))["status"] not in ENDED:
                            pass
                    jobs = (await call(other, "training_list", limit=100))["items"]
                    versions = (await call(other, "model_get", model="swept"))["version"]
    assert (sweep["status"], sweep["model"]) == ("succeeded", "swept:1"), sweep
    assert sweep["counts"] == {"complete": TRIALS, "asked": TRIALS}
    of_trials = {trial["job_id"] for trial in sweep["trials"]}
    assert sorted(trial["number"] for trial in sweep["trials"]) == list(range(TRIALS))
    assert {job["job_id"] for job in jobs} == of_trials | {sweep["best_job_id"]}
    assert len(of_trials) == TRIALS
    assert {job["status"] for job in jobs} == {"succeeded"}
    assert versions == 1


async def look(client: Client, sweep_id: str, wait_s: float = 0) -> dict[str, Any]:
    return await call(
        client, "training_sweep_status", sweep_id=sweep_id, wait_s=wait_s, limit=TRIALS
    )
