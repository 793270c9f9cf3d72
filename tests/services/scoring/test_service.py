"""Scoring as its users ask for it, by jobs that a worker runs."""

from typing import Any

import anyio
import numpy as np
import pytest
from sklearn import metrics

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import Conflict, InvalidArgument, NotFound
from mcp_hub.services.data.service import DataService
from mcp_hub.services.inference.service import InferenceService
from mcp_hub.services.registry.views import InputField, OutputField, Signature
from mcp_hub.services.scoring.service import ScoringService
from mcp_hub.services.training.service import TrainingService
from mcp_hub.services.training.submission import Submission
from tests.services import onnx_models
from tests.services.onnx_models import Trained

from .conftest import AddModel, Running, iris_csv

ME = {"asked_by": "the tests"}


async def test_an_evaluation_and_a_batch_by_the_queue(
    scoring: ScoringService, iris: Trained, working: Running, data: DataService
) -> None:
    queued = await scoring.evaluate("iris", "iris", target="species", **ME)
    async with working():
        with anyio.fail_after(60):
            done = await scoring.evaluate("iris", "iris", target="species", wait_s=50, **ME)
            batch = await scoring.predict("iris", "iris", keep=["site"], wait_s=50, **ME)
    assert (queued.status, queued.metrics, queued.rows) == ("queued", {}, None)
    assert "wait_s=50" in (queued.note or "")
    assert done.job_id == queued.job_id
    assert (done.status, done.error, done.note) == ("succeeded", None, None)
    expected = iris.estimator.predict(iris.x)
    truth = iris.estimator.classes_.repeat(50)
    assert done.metrics["accuracy"] == pytest.approx(metrics.accuracy_score(truth, expected))
    assert (done.model, done.dataset, done.rows) == ("iris:1", "iris:1", 150)
    assert (done.type, done.evaluated_by) == ("classification", "the tests")
    assert batch.error is None
    assert (batch.result, batch.rows) == ("iris-predictions:1", 150)
    assert batch.columns == ["prediction", *(f"probability_{c}" for c in iris.estimator.classes_)]
    made = await data.preview("iris-predictions", limit=100)
    assert made.columns == ["site", *batch.columns]
    assert [row[1] for row in made.rows] == expected[:100].tolist()
    kinds = {c.name: c.kind for c in (await data.get("iris-predictions")).columns}
    assert (kinds["site"], kinds["prediction"]) == ("category", "category")
    assert kinds["probability_setosa"] == "number"


async def test_the_same_question_is_the_same_job(
    scoring: ScoringService, iris: Trained, training: TrainingService
) -> None:
    first = await scoring.evaluate("iris", "iris", target="species", **ME)
    assert (await scoring.evaluate("iris:1", "iris:1", target="species", **ME)).job_id == (
        first.job_id
    )
    other = await scoring.evaluate("iris", "iris", target="species", by="site", **ME)
    assert other.job_id != first.job_id
    batch = await scoring.predict("iris", "iris", **ME)
    assert (await scoring.predict("iris", "iris", **ME)).job_id == batch.job_id
    assert (await scoring.predict("iris", "iris", name="other", **ME)).job_id != batch.job_id
    await training.cancel(batch.job_id)
    again = await scoring.predict("iris", "iris", **ME)
    assert (again.job_id, again.status) == (batch.job_id, "queued")


async def test_a_key_belongs_to_one_request(scoring: ScoringService, iris: Trained) -> None:
    first = await scoring.predict("iris", "iris", idempotency_key="k", **ME)
    assert (await scoring.predict("iris", "iris", idempotency_key="k", **ME)) == first
    with pytest.raises(Conflict):
        await scoring.predict("iris", "iris", keep=["site"], idempotency_key="k", **ME)


async def test_predictions_take_no_other_data_sets_place(
    scoring: ScoringService, iris: Trained, data: DataService, working: Running
) -> None:
    with pytest.raises(Conflict, match="iris:1 holds no predictions") as error:
        await scoring.predict("iris", "iris", name="iris", **ME)
    assert error.value.hint == "Pass another name for the predictions."
    await data.register("iris-predictions", content="a,b\n1,2\n")
    with pytest.raises(Conflict, match="iris-predictions:1 holds no predictions"):
        await scoring.predict("iris", "iris", **ME)
    async with working():
        with anyio.fail_after(60):
            for version, keep in enumerate((["site"], []), start=1):
                made = await scoring.predict("iris", "iris", name="p", keep=keep, wait_s=50, **ME)
                assert made.result == f"p:{version}"


async def test_what_jobs_and_models_need_is_not_deleted(
    scoring: ScoringService, training: TrainingService, data: DataService, working: Running
) -> None:
    submission = Submission("m", "classification", "sklearn", "iris", target="species")
    job = await training.submit(submission, submitted_by="me")
    with pytest.raises(Conflict, match=f"{job.job_id} is not done with it"):
        await data.delete("iris", force=True)
    await data.register("spare", content=iris_csv())
    spare = Submission("n", "classification", "sklearn", "spare", target="species")
    cancelled = await training.submit(spare, submitted_by="me")
    await training.cancel(cancelled.job_id)
    assert (await data.delete("spare")).deleted == ["spare:1"]
    async with working():
        with anyio.fail_after(60):
            assert (await training.status(job.job_id, wait_s=50)).error is None
            batch = await scoring.predict("m", "iris", keep=[], wait_s=50, **ME)
            with pytest.raises(Conflict, match="m:1 was made from what would be deleted"):
                await data.delete("iris:1")
            assert (await data.delete("iris:1", force=True)).deleted == ["iris:1"]
            await data.register("iris", content=iris_csv())
            await data.delete(batch.result or "")
            gone = await scoring.prediction(batch.job_id)
            assert (gone.status, gone.result) == ("succeeded", None)
            assert "m:1" in gone.model
            assert "was deleted" in (gone.note or "")
            # What is asked of the new version is not answered by what was found of the old one.
            again = await scoring.predict("m", "iris", keep=[], wait_s=50, **ME)
            assert (again.dataset, again.result) == ("iris:2", "iris-predictions:2")
            await training.retry(cancelled.job_id)
            failed = await training.status(cancelled.job_id, wait_s=50)
            assert failed.status == "failed"
            assert failed.error is not None
            assert failed.error.message == "spare:1 was deleted."


async def test_a_job_that_fails_says_why(
    scoring: ScoringService, iris: Trained, working: Running, data: DataService
) -> None:
    await data.register("odd", content=iris_csv().replace("setosa", "rosa"), format="csv")
    async with working():
        with anyio.fail_after(60):
            failed = await scoring.evaluate("iris", "odd", target="species", wait_s=50, **ME)
    assert (failed.status, failed.metrics) == ("failed", {})
    assert failed.error is not None
    assert "50 rows have a class in 'species' that the model does not know: 'rosa'" in (
        failed.error.message
    )
    assert "setosa, versicolor, virginica" in (failed.error.hint or "")


@pytest.mark.parametrize(
    ("type", "config", "target", "measured"),
    [
        ("clustering", {"clusters": 3}, "species", "adjusted_rand_index"),
        ("anomaly", {"contamination": 0.1}, None, "flagged_share"),
    ],
)
async def test_models_without_a_target_are_trained_evaluated_and_used(
    scoring: ScoringService, training: TrainingService, working: Running, data: DataService,
    database: SqliteDatabase, blobs: FileBlobStore,
    type: str, config: dict[str, Any], target: str | None, measured: str,
) -> None:  # fmt: skip
    submission = Submission("m", type, "sklearn", "iris", target=target, config=config)
    async with working():
        with anyio.fail_after(90):
            job = await training.submit(submission, submitted_by="me")
            trained = await training.status(job.job_id, wait_s=50)
            assert trained.error is None
            scored = await scoring.evaluate("m", "iris", wait_s=50, **ME)
            batch = await scoring.predict("m", "iris", keep=[], wait_s=50, **ME)
    assert (scored.error, scored.type, scored.target) == (None, type, target)
    assert scored.metrics[measured] > 0
    assert batch.rows == 150
    assert batch.columns[:2] == ["prediction", "score_0" if type == "clustering" else "score"]
    inference = InferenceService(database, blobs, cache_bytes=1 << 20, threads=1)
    view = await data.preview("iris", limit=1)
    row = dict(zip(view.columns, view.rows[0], strict=True))
    inputs = {name: row[name] for name in row if name != target}
    answer = await inference.predict("m", [inputs])
    assert answer.scores is not None
    kept = (await data.preview(batch.result or "", limit=1)).rows[0]
    assert answer.predictions == kept[:1]
    assert np.ravel(answer.scores[0]).tolist() == pytest.approx(kept[1:], rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ({}, "give target, their column in iris:1", "species"),
        ({"target": "speces"}, "no column 'speces'", "Did you mean 'species'?"),
        ({"target": "species", "by": "sites"}, "no column 'sites' to slice by", "'site'?"),
        ({"target": "species", "features": ["site"]}, "takes its columns by name", "Leave"),
        (
            {"dataset": "points", "target": "y"},
            "lacks 4 of the 4 columns that iris:1 takes",
            "x, y",
        ),
    ],
)
async def test_what_cannot_be_evaluated_is_told_at_once(
    scoring: ScoringService, iris: Trained, data: DataService,
    arguments: dict[str, Any], message: str, hint: str,
) -> None:  # fmt: skip
    await data.register("points", content="x,y\n1,a\n2,b\n", format="csv")
    wanted = {"dataset": "iris"} | arguments
    with pytest.raises(InvalidArgument) as refused:
        await scoring.evaluate("iris", **wanted, **ME)
    assert message in refused.value.message
    assert hint in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep": ["sight"]}, "keep names 'sight'"),
        ({"name": "a b"}, "cannot name a data set"),
        ({"dataset": "taken"}, "has a column 'prediction'"),
    ],
)
async def test_what_cannot_be_predicted_is_told_at_once(
    scoring: ScoringService, iris: Trained, data: DataService,
    arguments: dict[str, Any], message: str,
) -> None:  # fmt: skip
    await data.register("taken", content=iris_csv().replace("site", "prediction"), format="csv")
    with pytest.raises(InvalidArgument) as refused:
        await scoring.predict("iris", **({"dataset": "iris"} | arguments), **ME)
    assert message in refused.value.message


async def test_what_is_not_there_is_not_found(scoring: ScoringService, iris: Trained) -> None:
    for model, dataset in (("irsi", "iris"), ("iris", "irsi"), ("iris@best", "iris")):
        with pytest.raises(NotFound):
            await scoring.evaluate(model, dataset, target="species", **ME)


async def test_nobody_submits_this_work_by_its_name(training: TrainingService) -> None:
    submission = Submission("m", "evaluation", "hub.evaluate", "iris", config={"model": "iris:1"})
    with pytest.raises(NotFound):
        await training.submit(submission, submitted_by="x")
    assert "hub.evaluate" not in {view.name for view in (await training.frameworks()).items}


async def test_an_output_that_is_no_answer_cannot_be_evaluated(
    scoring: ScoringService, add_model: AddModel
) -> None:
    signature = Signature(
        inputs=[
            InputField(name=name, dtype="float32", shape=[None, 1], kind="number")
            for name in onnx_models.IRIS_COLUMNS
        ],
        outputs=[OutputField(name="vector", dtype="float32", shape=[None, 8], role="prediction")],
    )
    await add_model("embedder", b"", signature)
    with pytest.raises(InvalidArgument) as refused:
        await scoring.evaluate("embedder", "iris", target="species", **ME)
    assert "neither a class nor a number" in refused.value.message
