"""Data sets that grow, in the database: plain functions of a connection."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    String,
    cast,
    delete,
    exists,
    func,
    literal,
    select,
    update,
)

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.schema import dataset_streams as table
from mcp_hub.adapters.database.schema import datasets, jobs, model_versions
from mcp_hub.adapters.database.upsert import insert_for
from mcp_hub.adapters.errors import Conflict, HubError, NotFound, names_hint
from mcp_hub.services.blob_use import is_used
from mcp_hub.services.data import store
from mcp_hub.services.data.store import NewDataset
from mcp_hub.services.data.views import DatasetSummary, DatasetView, StreamView
from mcp_hub.services.views import Error, iso

Stream = Row[Any]
"""A row of the table `dataset_streams`."""

_REQUEST = ("source", "query", "format", "options")


@dataclass(frozen=True, slots=True)
class NewStream:
    """A stream to be, as somebody asks for it."""

    name: str
    source: str
    query: dict[str, Any] | None
    format: str | None
    options: dict[str, Any]
    batch_rows: int
    interval_s: float
    keep_versions: int


def find(connection: Connection, name: str) -> Stream:
    """The stream of a data set.

    Raises:
        NotFound: it has none; the hint names those that have.
    """
    stream = first(connection, name)
    if stream is None:
        names = connection.scalars(select(table.c.name))
        hint = names_hint(name, names, "data sets that grow")
        raise NotFound(f"{name!r} is no data set that grows.", hint)
    return stream


def resume(connection: Connection, new: NewStream) -> Stream | None:
    """The stream of that name, growing again if it had stopped; None where there is none.

    Raises:
        Conflict: it is of another source, or the data set does not grow.
    """
    stream = first(connection, new.name)
    if stream is None:
        if connection.scalar(select(exists().where(store.IS_THERE, datasets.c.name == new.name))):
            raise Conflict(
                f"There is a data set {new.name!r} already, which does not grow.",
                "Choose another name: a data set that grows begins with its source's first rows.",
            )
        return None
    if any(getattr(stream, key) != getattr(new, key) for key in _REQUEST):
        raise Conflict(
            f"{new.name!r} grows with another source, query, format or options: {stream.source}.",
            "Choose another name.",
        )
    restart = (
        {}
        if stream.status == "growing"
        else {"status": "growing", "error": None, "due_at": now_ms()}
    )
    connection.execute(
        update(table)
        .where(table.c.name == new.name)
        .values(
            batch_rows=new.batch_rows,
            interval_s=new.interval_s,
            keep_versions=new.keep_versions,
            **restart,
        )
    )
    return find(connection, new.name)


def begin(connection: Connection, new: NewStream, dataset: NewDataset, cursor: str) -> DatasetView:
    """The first version of a data set that grows from now on.

    Raises:
        Conflict: somebody else has begun a data set of that name meanwhile.
    """
    existing = connection.scalar(
        select(exists().where(store.IS_THERE, datasets.c.name == new.name))
    )
    view, _ = store.add_version(connection, dataset)
    added = connection.execute(
        insert_for(connection, table)
        .values(
            name=new.name, source=new.source, query=new.query, format=new.format,
            options=new.options, batch_rows=new.batch_rows, interval_s=new.interval_s,
            keep_versions=new.keep_versions, status="growing", cursor=cursor, version=view.version,
            checked_at=now_ms(), due_at=now_ms() + _ms(new.interval_s),
        )
        .on_conflict_do_nothing(index_elements=["name"])
    ).rowcount  # fmt: skip
    if existing or not added:
        raise Conflict(f"A data set {new.name!r} was begun meanwhile.", "Choose another name.")
    return view.model_copy(update={"stream": stream_view(find(connection, new.name))})


def advance(
    connection: Connection, stream: Stream, dataset: NewDataset, cursor: str, due_s: float
) -> tuple[DatasetView, list[str]] | None:
    """The next version, together with the place in the source that it reaches; and the content
    of the versions that go for it, where no other has it.

    None where the stream was advanced or stopped meanwhile: then nothing happens.
    """
    moved = connection.execute(
        update(table)
        .where(
            table.c.name == stream.name,
            table.c.status == "growing",
            table.c.cursor == stream.cursor,
            table.c.version == stream.version,
        )
        .values(
            cursor=cursor, version=stream.version + 1, error=None, checked_at=now_ms(),
            due_at=now_ms() + _ms(due_s),
        )
    ).rowcount  # fmt: skip
    if not moved:
        return None
    view, _ = store.add_version(connection, dataset)
    return view, _prune(connection, stream.name, view.version - stream.keep_versions)


def add_snapshot(connection: Connection, new: NewDataset) -> tuple[DatasetView, bool]:
    """As `store.add_version`, of a data set that does not grow. Raises Conflict where it does."""
    stream = first(connection, new.name)
    if stream is not None and stream.status == "growing":
        raise Conflict(
            f"{new.name!r} grows with {stream.source}: nothing else can be its next version.",
            "Choose another name, or dataset_stop it first.",
        )
    return store.add_version(connection, new)


def get(connection: Connection, reference: str) -> DatasetView:
    """The version that `reference` names, with how its data set grows. Raises as `store.find`."""
    view = store.find(connection, reference).view
    stream = first(connection, view.name)
    return view.model_copy(update={"stream": stream_view(stream)}) if stream else view


def newest_page(connection: Connection, limit: int, after: str | None) -> list[DatasetSummary]:
    """As `store.newest_page`, with how the data sets grow."""
    page = store.newest_page(connection, limit, after)
    names = [summary.name for summary in page]
    rows = connection.execute(select(table).where(table.c.name.in_(names)))
    streams = {row.name: stream_view(row) for row in rows}
    return [summary.model_copy(update={"stream": streams.get(summary.name)}) for summary in page]


def claim_due(connection: Connection, limit: int, claim_s: float) -> Sequence[Stream]:
    """Streams that are due, which nobody else will look at for `claim_s`."""
    due = (
        select(table.c.name)
        .where(table.c.status == "growing", table.c.due_at <= now_ms())
        .order_by(table.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    claimed = (
        update(table)
        .where(table.c.name.in_(due), table.c.due_at <= now_ms())
        .values(due_at=now_ms() + _ms(claim_s))
        .returning(table)
    )
    return connection.execute(claimed).all()


def next_due_s(connection: Connection) -> float | None:
    """In how many seconds the next stream is due; None where none grows."""
    due = select(func.min(table.c.due_at) - now_ms()).where(table.c.status == "growing")
    milliseconds = connection.scalar(due)
    return None if milliseconds is None else max(0.0, milliseconds / 1000)


def note(
    connection: Connection, stream: Stream, due_s: float, error: HubError | None, failed: bool
) -> None:
    """Record a look that gave no version: nothing new, or an error, for good if it `failed`."""
    connection.execute(
        update(table)
        .where(
            table.c.name == stream.name,
            table.c.status == "growing",
            table.c.cursor == stream.cursor,
        )
        .values(
            status="failed" if failed else "growing",
            error=error.as_dict() if error else None,
            checked_at=now_ms(),
            due_at=now_ms() + _ms(due_s),
        )
    )


def stop(connection: Connection, name: str) -> Stream:
    """Have a data set grow no more. Raises NotFound."""
    find(connection, name)
    connection.execute(update(table).where(table.c.name == name).values(status="stopped"))
    return find(connection, name)


def stream_view(stream: Stream) -> StreamView:
    """A stream as its users see it."""
    return StreamView(
        status=stream.status,
        interval_s=stream.interval_s,
        batch_rows=stream.batch_rows,
        keep_versions=stream.keep_versions,
        checked_at=iso(stream.checked_at) or "",
        error=Error.model_validate(stream.error) if stream.error else None,
    )


def _prune(connection: Connection, name: str, last: int) -> list[str]:
    """Remove the versions up to `last` that no job and no model is of; what they held."""
    of_job = exists().where(
        jobs.c.dataset_name == datasets.c.name, jobs.c.dataset_version == datasets.c.version
    )
    reference = datasets.c.name + literal(":") + cast(datasets.c.version, String)
    of_model = exists().where(model_versions.c.dataset == reference)
    removed = connection.execute(
        delete(datasets)
        .where(
            store.IS_THERE,
            datasets.c.name == name,
            datasets.c.version <= last,
            ~of_job,
            ~of_model,
        )
        .returning(datasets.c.sha256)
    )
    contents = set(removed.scalars())
    return [sha256 for sha256 in contents if not is_used(connection, sha256)]


def first(connection: Connection, name: str) -> Stream | None:
    """The stream of a data set, if it has one."""
    return connection.execute(select(table).where(table.c.name == name)).first()


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
