"""Evaluations of versions: kept, listed, and what promotion makes of them."""

from functools import partial
from typing import Any

import pytest

from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.registry.evaluations import (
    NewEvaluation,
    add_evaluation,
    evaluations_of,
    newest_evaluation,
)
from mcp_hub.services.registry.service import RegistryService

from .conftest import Add

pytestmark = pytest.mark.usefixtures("iris")


async def evaluate(
    database: SqliteDatabase, version: int, dataset: str, job: str, **metrics: float
) -> str:
    name, _, number = dataset.partition(":")
    new = NewEvaluation(
        "iris", version, name, int(number), "species", "classification", 50, metrics, {}, job, "me"
    )
    return await database.write(partial(add_evaluation, new=new))


async def judged(
    registry: RegistryService, version: int, gates: dict[str, Any]
) -> dict[str, tuple[bool, Any, Any]]:
    decision = await registry.promote(f"iris:{version}", "champion", gates=gates, decided_by="me")
    return {one.gate: (one.passed, one.expected, one.actual) for one in decision.gates}


async def test_a_job_has_one_evaluation_and_the_newest_comes_first(
    database: SqliteDatabase, registry: RegistryService
) -> None:
    first = await evaluate(database, 1, "holdout:1", "job_1", accuracy=0.8)
    assert await evaluate(database, 1, "holdout:1", "job_1", accuracy=0.9) == first
    await evaluate(database, 1, "holdout:2", "job_2", accuracy=0.7)
    await evaluate(database, 2, "holdout:2", "job_3", accuracy=0.6)
    found = await database.read(lambda c: evaluations_of(c, "iris", 1, 10))
    assert {(one.dataset, one.metrics["accuracy"]) for one in found} == {
        ("holdout:1", 0.8), ("holdout:2", 0.7),
    }  # fmt: skip
    for wanted, dataset in (("holdout", "holdout:2"), ("holdout:1", "holdout:1")):
        newest = await database.read(
            partial(newest_evaluation, name="iris", version=1, dataset=wanted)
        )
        assert newest is not None
        assert newest.dataset == dataset
    assert await database.read(lambda c: newest_evaluation(c, "iris", 1, "other")) is None
    assert len((await registry.lineage("iris:1")).evaluations) == 2


async def test_evaluated_wants_any_evaluation(
    database: SqliteDatabase, registry: RegistryService
) -> None:
    gates = {"evaluated": True, "min_metric": {"accuracy": 0.92}}
    assert await judged(registry, 3, gates) == {
        "evaluated": (False, True, None),
        "min_metric.accuracy": (True, 0.92, 0.93),
    }
    await evaluate(database, 3, "holdout:1", "job_1", accuracy=0.5)
    assert (await judged(registry, 3, gates))["evaluated"] == (True, True, "holdout:1")


async def test_with_a_data_set_the_metrics_are_those_of_its_evaluation(
    database: SqliteDatabase, registry: RegistryService
) -> None:
    gates = {
        "evaluated": "holdout",
        "min_metric": {"accuracy": 0.75},
        "better_than_current": "accuracy",
    }
    assert await judged(registry, 3, gates) == {
        "evaluated": (False, "holdout", None),
        "min_metric.accuracy": (False, 0.75, None),
        "better_than_current.accuracy": (False, None, None),
    }
    await evaluate(database, 3, "holdout:1", "job_1", accuracy=0.8)
    await evaluate(database, 2, "holdout:2", "job_2", accuracy=0.7)
    # The standing version was scored on other rows only.
    assert await judged(registry, 3, gates) == {
        "evaluated": (True, "holdout", "holdout:1"),
        "min_metric.accuracy": (True, 0.75, 0.8),
        "better_than_current.accuracy": (False, None, 0.8),
    }
    await evaluate(database, 2, "holdout:1", "job_3", accuracy=0.7)
    assert (await judged(registry, 3, gates))["better_than_current.accuracy"] == (True, 0.7, 0.8)
    assert (await registry.get("iris@champion")).version == 3


async def test_a_gate_that_lacks_an_evaluation_says_how_to_get_one(
    registry: RegistryService,
) -> None:
    decision = await registry.promote(
        "iris:3", "champion", gates={"evaluated": "holdout:2"}, decided_by="me"
    )
    [gate] = decision.gates
    assert gate.note == "version 3 has no evaluation on holdout:2: run model_evaluate"
    with pytest.raises(InvalidArgument):
        await registry.promote("iris:3", "champion", gates={"evaluated": "a b"}, decided_by="me")


async def test_versions_of_other_models_do_not_count(
    database: SqliteDatabase, registry: RegistryService, add: Add
) -> None:
    await add("other")
    await evaluate(database, 1, "holdout:1", "job_1", accuracy=0.8)
    decision = await registry.promote("other:1", "best", gates={"evaluated": True}, decided_by="me")
    assert not decision.promoted
