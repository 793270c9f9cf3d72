"""Predictions of registered models."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from anyio import CapacityLimiter, to_thread
from sqlalchemy import Connection, select

from mcp_hub.adapters.blobs.port import BlobStore
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.schema import datasets
from mcp_hub.adapters.errors import HubError, InvalidArgument, LimitExceeded, NotFound, Unavailable
from mcp_hub.services.inference.decoding import decode_outputs, wanted_outputs
from mcp_hub.services.inference.encoding import encode_rows
from mcp_hub.services.inference.sessions import SessionCache, SessionStats, estimated_bytes
from mcp_hub.services.inference.views import Prediction
from mcp_hub.services.registry.versions import VersionReader
from mcp_hub.services.registry.views import SERVED_MODEL, Artifact, ModelView
from mcp_hub.services.telemetry.own.own import SILENT, OwnTelemetry

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

MOST_ROWS = 10_000


class InferenceService:
    """Serves the ONNX models of the registry. Nothing is ever unpickled."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        *,
        cache_bytes: int,
        threads: int,
        own: OwnTelemetry = SILENT,
    ) -> None:
        """Keep sessions of about `cache_bytes` in memory; run up to `threads` at once."""
        self._own = own
        self._database = database
        self._versions = VersionReader(database)
        self._blobs = blobs
        self._sessions: SessionCache[InferenceSession] = SessionCache(cache_bytes)
        self._threads = threads
        self._limiter = CapacityLimiter(threads)

    @property
    def sessions(self) -> SessionStats:
        """What is loaded, and what was loaded and evicted so far."""
        return self._sessions.stats

    async def predict(
        self,
        reference: str,
        inputs: Sequence[Mapping[str, Any]],
        *,
        probabilities: bool = True,
    ) -> Prediction:
        """The predictions of the version that `reference` names, one for each row of `inputs`,
        a classifier's with the probability of each class unless that is not wanted.

        A row may be one of the data set that the version was trained on, as it is: what training
        left out, and the target, is passed over.

        Raises:
            InvalidArgument: the reference is malformed, or a row does not fit the signature.
            NotFound: there is no such model, version or alias, or it was deleted.
            LimitExceeded: there are more than 10,000 rows, or the answer would be too large.
            Unavailable: the model's file is missing, damaged, or not to be run here.
        """
        with self._own.span("predict", {"mcp_hub.rows": len(inputs)}) as span:
            if len(inputs) > MOST_ROWS:
                raise LimitExceeded(
                    f"{len(inputs):,} rows were given; one call takes at most {MOST_ROWS:,}.",
                    f"Split the rows over calls of at most {MOST_ROWS:,} each.",
                )
            view = await self._versions.get(reference)
            span.attributes |= {
                "mcp_hub.model.name": view.name,
                "mcp_hub.model.version": view.version,
            }
            session = await self._session(view)
            unused = await self._unused(view, inputs)
            answer = await to_thread.run_sync(
                _answer, view, session, inputs, unused, limiter=self._limiter
            )
        return answer if probabilities else answer.model_copy(update={"probabilities": None})

    async def _unused(self, view: ModelView, rows: Sequence[Mapping[str, Any]]) -> Collection[str]:
        """What rows may hold besides the inputs: columns of the training's data set. They are
        looked up where a row holds more."""
        names = {field.name for field in view.signature.inputs}
        if view.dataset is None or all(
            row.keys() <= names for row in rows if isinstance(row, Mapping)
        ):
            return ()
        name, _, version = view.dataset.rpartition(":")

        def columns(connection: Connection) -> set[str]:
            this = (datasets.c.name == name) & (datasets.c.version == int(version))
            found = connection.execute(select(datasets.c.columns).where(this)).scalar()
            return {column["name"] for column in found or []}

        return await self._database.read(columns)

    async def _session(self, view: ModelView) -> "InferenceSession":
        artifact = _served(view)

        async def load() -> "InferenceSession":
            try:
                model = await self._blobs.get(artifact.sha256)
            except (NotFound, Unavailable) as error:
                raise _unservable(view, error.message, error.hint) from error
            return await to_thread.run_sync(
                _open, view, model, self._threads, limiter=self._limiter
            )

        return await self._sessions.get(artifact.sha256, estimated_bytes(artifact.bytes), load)


def _served(view: ModelView) -> Artifact:
    for artifact in view.artifacts:
        if artifact.name == SERVED_MODEL:
            return artifact
    names = ", ".join(artifact.name for artifact in view.artifacts) or "none"
    raise InvalidArgument(
        f"{view.model} cannot predict: it has no {SERVED_MODEL}.",
        f"It is of the flavor {view.flavor!r}; its files: {names}.",
    )


def _open(view: ModelView, model: bytes, threads: int) -> "InferenceSession":
    from mcp_hub.services.inference import runtime

    try:
        return runtime.open_session(model, threads)
    except runtime.OnnxError as error:
        raise _unservable(view, str(error)) from error


def _answer(
    view: ModelView,
    session: "InferenceSession",
    rows: Sequence[Mapping[str, Any]],
    unused: Collection[str],
) -> Prediction:
    from mcp_hub.services.inference import runtime

    inputs = encode_rows(view.signature.inputs, rows, unused)
    outputs = wanted_outputs(view.signature.outputs)
    try:
        values = runtime.run_session(session, [field.name for field in outputs], inputs)
    except runtime.OnnxError as error:
        raise InvalidArgument(
            f"{view.model} failed on these inputs: {error}.",
            "Check the values against the signature that model_get tells.",
        ) from error
    return Prediction(model=view.model, **decode_outputs(outputs, values)._asdict())


def _unservable(view: ModelView, reason: str, hint: str | None = None) -> HubError:
    return Unavailable(
        f"{view.model} cannot be served: {reason.rstrip('.')}.",
        hint or "Other versions are not affected; train or register it again to replace it.",
    )
