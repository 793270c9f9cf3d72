"""Registered models used on whole data sets: evaluation, and predictions in bulk."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.schema import jobs as jobs_table
from mcp_hub.adapters.errors import Conflict, InvalidArgument, NotFound, names_hint
from mcp_hub.services.data.service import DataService
from mcp_hub.services.data.store import check_name
from mcp_hub.services.data.views import DatasetView
from mcp_hub.services.registry.evaluations import evaluation_by_job
from mcp_hub.services.registry.versions import VersionReader
from mcp_hub.services.registry.views import SERVED_MODEL, ModelView
from mcp_hub.services.scoring.columns import choose_features, output_names
from mcp_hub.services.scoring.products import is_prediction
from mcp_hub.services.scoring.views import BatchPrediction, Evaluation, ModelType, Report
from mcp_hub.services.scoring.work import Evaluate, Predict
from mcp_hub.services.training.frameworks.base import Framework
from mcp_hub.services.training.jobs import Job, get_job
from mcp_hub.services.training.service import TrainingService
from mcp_hub.services.training.states import TERMINAL, UNFINISHED
from mcp_hub.services.training.submission import Submission
from mcp_hub.services.training.views import Progress
from mcp_hub.services.training.waiting import Follower
from mcp_hub.services.views import Error, iso

_TYPES: tuple[ModelType, ...] = ("classification", "regression", "clustering", "anomaly")
_LONGEST_NAME = 128
_COLUMNS_SHOWN = 50


class ScoringService:
    """Scores data sets by jobs of the training queue, one for each question that is asked.

    Versions of models and data sets never change, so that the same question has the same answer:
    who asks again gets the same job, which runs again only if it did not succeed.
    """

    def __init__(self, database: Database, data: DataService, training: TrainingService) -> None:
        self._database = database
        self._versions = VersionReader(database)
        self._data = data
        self._training = training

    async def evaluate(
        self,
        model: str,
        dataset: str,
        *,
        target: str | None = None,
        by: str | None = None,
        features: Sequence[str] | None = None,
        wait_s: float = 0,
        follow: Follower | None = None,
        asked_by: str,
    ) -> Evaluation:
        """Score a version on a data set with known answers, as it stands after `wait_s` seconds.

        `target` is by default the column that the version was trained to predict.

        Raises:
            InvalidArgument, NotFound: this cannot be scored; says what could.
        """
        view, data, trained = await self._found(model, dataset)
        columns = [column.name for column in data.columns]
        kind = model_type(view, trained and trained.type)
        target = target or (trained.target if trained and trained.target in columns else None)
        _check_target(view, kind, target, columns, data.dataset)
        if by is not None and by not in columns:
            hint = names_hint(by, columns, "columns")
            raise InvalidArgument(f"{data.dataset} has no column {by!r} to slice by.", hint)
        config = {
            "model": view.model,
            "rows": data.rows,
            "type": kind,
            "by": by,
            "features": choose_features(view, columns, target, features),
            "trained_on": view.dataset,
        }
        name = view.name
        job_id = await self._submitted(Evaluate(), name, data, target, config, None, asked_by)
        await self._training.status(job_id, wait_s=wait_s, follow=follow)
        return await self.evaluation(job_id)

    async def predict(
        self,
        model: str,
        dataset: str,
        *,
        name: str | None = None,
        keep: Sequence[str] | None = None,
        probabilities: bool = True,
        features: Sequence[str] | None = None,
        idempotency_key: str | None = None,
        wait_s: float = 0,
        follow: Follower | None = None,
        asked_by: str,
    ) -> BatchPrediction:
        """Predict every row into a new data set `name`, as that stands after `wait_s` seconds.

        Raises:
            InvalidArgument, NotFound: this cannot be predicted; says what could.
            Conflict: the idempotency key belongs to another request, or `name` to a data set that
                holds no predictions.
        """
        view, data, trained = await self._found(model, dataset)
        columns = [column.name for column in data.columns]
        kept = columns if keep is None else list(dict.fromkeys(keep))
        for column in kept:
            if column not in columns:
                raise InvalidArgument(
                    f"keep names {column!r}, which is no column of {data.dataset}.",
                    names_hint(column, columns, "columns"),
                )
        added = output_names(view, probabilities)
        if taken := [column for column in added if column in kept]:
            raise InvalidArgument(
                f"{data.dataset} has a column {taken[0]!r}, as the predictions would have.",
                "Leave it out: keep=[the columns to carry over].",
            )
        target = trained.target if trained and trained.target in columns else None
        config = {
            "model": view.model,
            "rows": data.rows,
            "keep": kept,
            "probabilities": probabilities,
            "features": choose_features(view, columns, target, features),
        }
        name = name or f"{data.name}-predictions"
        check_name(name)
        await self._check_free(name)
        job_id = await self._submitted(
            Predict(), name, data, None, config, idempotency_key, asked_by
        )
        await self._training.status(job_id, wait_s=wait_s, follow=follow)
        return await self.prediction(job_id)

    async def evaluation(self, job_id: str) -> Evaluation:
        """How an evaluation's job stands, and what it has found. Raises NotFound."""
        return await self._database.read(lambda c: _evaluation(c, get_job(c, job_id)))

    async def prediction(self, job_id: str) -> BatchPrediction:
        """How a batch prediction's job stands, and what it has made. Raises NotFound."""
        job = await self._database.read(lambda c: get_job(c, job_id))
        progress, error, note = _state(job)
        answer = BatchPrediction(
            job_id=job.id,
            status=job.status,
            model=job.config["model"],
            dataset=f"{job.dataset_name}:{job.dataset_version}",
            progress=progress,
            error=error,
            note=note,
        )
        if job.result:
            try:
                made = await self._data.get(job.result["dataset"])
            except NotFound:
                answer.note = (
                    f"Its result, {job.result['dataset']}, was deleted. To make it again pass "
                    "another name, or an idempotency_key."
                )
                return answer
            names = [column.name for column in made.columns[len(job.config["keep"]) :]]
            answer.result, answer.rows = made.dataset, made.rows
            answer.columns = names[:_COLUMNS_SHOWN]
            if len(names) > _COLUMNS_SHOWN:
                answer.note = f"{len(names) - _COLUMNS_SHOWN} further columns; see dataset_preview."
        return answer

    async def _found(self, model: str, dataset: str) -> tuple[ModelView, DatasetView, Job | None]:
        """The version, the data set, and the job that trained the version."""
        view = await self._versions.get(model)
        if SERVED_MODEL not in [artifact.name for artifact in view.artifacts]:
            raise InvalidArgument(
                f"{view.model} cannot predict: it has no {SERVED_MODEL}.",
                f"It is of the flavor {view.flavor!r}.",
            )
        data = await self._data.get(dataset)
        if view.job_id is None:
            return view, data, None
        trained_by = select(jobs_table).where(jobs_table.c.id == view.job_id)
        trained = await self._database.read(lambda c: c.execute(trained_by).first())
        return view, data, trained

    async def _check_free(self, name: str) -> None:
        try:
            newest = await self._data.get(name)
        except NotFound:
            return
        if newest.name == name and not is_prediction(newest):
            raise Conflict(
                f"{newest.dataset} holds no predictions, and who names {name!r} would get them in "
                "its place.",
                "Pass another name for the predictions.",
            )

    async def _submitted(
        self,
        work: Framework,
        name: str,
        data: DatasetView,
        target: str | None,
        config: dict[str, Any],
        key: str | None,
        asked_by: str,
    ) -> str:
        """The job for a question: a new one, or the one that the same question made before."""
        submission = Submission(
            name=name[:_LONGEST_NAME],
            type=work.types[0],
            framework=work.name,
            dataset=data.dataset,
            target=target,
            config=config,
            idempotency_key=key or _key(work.name, name, data.dataset, target, config),
        )
        submitted = await self._training.submit(submission, submitted_by=asked_by, runner=work)
        if submitted.status in TERMINAL and submitted.status != "succeeded":
            await self._training.retry(submitted.job_id)
        return submitted.job_id


def model_type(view: ModelView, trained_as: str | None) -> ModelType:
    """What sort of model a version is: by the job that trained it, otherwise by its outputs.

    Raises:
        InvalidArgument: its first output is nothing that can be held against a target.
    """
    for known in _TYPES:
        if trained_as is not None and trained_as.endswith(known):
            return known
    outputs = view.signature.outputs
    if any(field.classes or field.role == "probabilities" for field in outputs):
        return "classification"
    first = next((field for field in outputs if field.role == "prediction"), outputs[0])
    if first.dtype == "string" or first.dtype.startswith(("int", "uint", "bool")):
        return "classification"
    if first.dtype in ("float32", "float64") and first.shape[1:] in ([], [1]):
        return "regression"
    raise InvalidArgument(
        f"{view.model} cannot be evaluated: its output {first.name!r} is {first.dtype} "
        f"{first.shape}, neither a class nor a number a row.",
        "predict_batch gives its outputs for a whole data set.",
    )


def _check_target(
    view: ModelView, kind: ModelType, target: str | None, columns: Sequence[str], dataset: str
) -> None:
    if target is None:
        if kind in ("classification", "regression"):
            raise InvalidArgument(
                f"{view.model} is scored against true answers: give target, their column in "
                f"{dataset}.",
                names_hint("", columns, "columns"),
            )
    elif target not in columns:
        raise InvalidArgument(
            f"{dataset} has no column {target!r} to be the target.",
            names_hint(target, columns, "columns"),
        )


def _key(*parts: Any) -> str:
    return "hub:" + hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]


def _state(job: Job) -> tuple[Progress | None, Error | None, str | None]:
    """How far an unfinished job is, why one failed, and what to do next."""
    if job.status in UNFINISHED:
        progress = Progress(done=job.progress_done or 0, total=job.progress_total)
        return progress, None, "Call again with the same arguments and wait_s=50 for the result."
    error = Error(**job.error) if job.error else None
    return None, error, None


def _evaluation(connection: Connection, job: Job) -> Evaluation:
    progress, error, note = _state(job)
    answer = Evaluation(
        job_id=job.id,
        status=job.status,
        model=job.config["model"],
        dataset=f"{job.dataset_name}:{job.dataset_version}",
        target=job.target,
        type=job.config["type"],
        progress=progress,
        error=error,
        note=note,
    )
    row = evaluation_by_job(connection, job.id)
    if row is not None:
        answer.rows, answer.metrics = row.row_count, row.metrics
        answer.report = Report.model_validate(row.report)
        answer.evaluated_by, answer.evaluated_at = row.evaluated_by, iso(row.evaluated_at)
    return answer
