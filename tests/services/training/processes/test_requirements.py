"""Rules that a job's data set must meet before it is trained on."""

from typing import Any

import pytest

from mcp_hub.adapters.errors import HubError, InvalidArgument, NotFound
from mcp_hub.services.training.service import TrainingService
from tests.services.training.conftest import Finish, Submit, WorkerFactory


async def test_a_job_whose_data_meets_its_rules_is_trained(
    training: TrainingService, submit: Submit, finish: Finish, worker: WorkerFactory
) -> None:
    rules = [{"column": "x", "type": "integer", "min": 1, "max": 3}, {"min_rows": 3}]
    job_id = await submit(require=[*rules, {"drift_from": "points"}])
    async with worker():
        job = await finish(job_id)
    assert job.status == "succeeded", job.error
    told = [line.text for line in (await training.logs(job_id)).lines]
    assert "points:1 meets all that is required: 5 checks." in told


async def test_a_rule_that_fails_ends_the_job_for_good(
    submit: Submit, finish: Finish, worker: WorkerFactory
) -> None:
    rules = [
        {"column": "x", "max": 2, "unique": True},
        {"column": "y", "allowed": ["a"]},
        {"min_rows": 100},
    ]
    job_id = await submit(require=rules, max_retries=3)
    async with worker():
        job = await finish(job_id)
    assert (job.status, job.attempt, job.model) == ("failed", 1, None)
    assert job.error is not None
    assert job.error.code == "invalid_argument"
    assert job.error.message == (
        "points:1 does not meet what is required: x max expected 2, found 3 in 1 rows (from 0: 2); "
        "y allowed expected ['a'], found ['b'] in 1 rows (from 0: 1); "
        "min_rows expected 100, found 3."
    )
    assert "dataset_validate('points:1', rules)" in (job.error.hint or "")


async def test_drift_is_measured_from_the_version_of_the_submission(
    training: TrainingService, submit: Submit, finish: Finish, worker: WorkerFactory
) -> None:
    rows = "".join(f"{number % 50},{'ab'[number % 2]}\n" for number in range(200))
    far = "".join(f"{number % 50 + 1000},a\n" for number in range(200))
    await training._data.register("live", content="x,y\n" + rows, format="csv")
    await training._data.register("points", content="x,y\n" + far, format="csv")
    job_id = await submit(dataset="points:2", require=[{"drift_from": "live"}])
    # What comes later is not what was asked for.
    await training._data.register("live", content="x,y\n" + far, format="csv")
    async with worker():
        job = await finish(job_id)
    assert job.status == "failed"
    assert job.error is not None
    assert "drift expected 0.2" in job.error.message


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        ({"column": "z", "min": 0}, NotFound, "no column 'z'"),
        ({"column": "x", "minimum": 0}, InvalidArgument, "minimum"),
        ({"column": "x"}, InvalidArgument, "checks nothing"),
        ({"drift_from": "nowhere"}, NotFound, "no data set 'nowhere'"),
    ],
)
async def test_a_rule_that_cannot_be_checked_is_refused_at_once(
    submit: Submit, rule: dict[str, Any], error: type[HubError], message: str
) -> None:
    with pytest.raises(error, match=message):
        await submit(require=[rule])
