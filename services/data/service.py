"""The data service: registered data sets, and what can be learnt about them."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from anyio import CapacityLimiter, to_thread

from mcp_hub.adapters.blobs.port import BlobStore
from mcp_hub.adapters.bus.port import Bus
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import (
    InvalidArgument,
    LimitExceeded,
    NotFound,
    Unavailable,
    names_hint,
)
from mcp_hub.services.data import deleting, store, streams_store
from mcp_hub.services.data.growing import Growing
from mcp_hub.services.data.options import (
    SourceQuery,
    csv_options,
    format_of_file,
    format_of_text,
    parse_options,
)
from mcp_hub.services.data.rules import Rule, parse_rules
from mcp_hub.services.data.sources import Bounds, Sources
from mcp_hub.services.data.staging import temporary_folder
from mcp_hub.services.data.store import NewDataset, StoredDataset
from mcp_hub.services.data.views import (
    DatasetDeletion,
    DatasetPreview,
    DatasetProfile,
    DatasetSummary,
    DatasetValidation,
    DatasetView,
)
from mcp_hub.services.pages import check_limit, decode_cursor, encode_cursor
from mcp_hub.services.roots import Roots, copy_file
from mcp_hub.services.views import Page

if TYPE_CHECKING:
    from mcp_hub.services.data.analysis import Inspected

T = TypeVar("T")
Names = list[str]

MAX_CONTENT_BYTES = 1024 * 1024
MAX_ROWS = 10_000_000
INLINE = "inline"

# Each analysis holds a whole data set in memory.
_ANALYSES = 2


class DataService:
    """Data sets: content-hashed, immutable versions of tables.

    The content is in the blobs, what is known about it in the database. Parsing and statistics
    run in threads, where polars releases the GIL.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        bus: Bus,
        *,
        roots: Sequence[Path],
        max_bytes: int,
        max_rows: int = MAX_ROWS,
        sources: Sources | None = None,
    ) -> None:
        self.sources = sources or Sources()
        self._database = database
        self._blobs = blobs
        self._bus = bus
        self._roots = Roots(roots)
        self._bounds = Bounds(max_bytes, max_rows)
        self._threads = CapacityLimiter(_ANALYSES)
        self.growing = Growing(
            database, blobs, bus, self.sources, self._roots, self._bounds, self._inspect
        )

    async def register(
        self,
        name: str,
        *,
        source: str | None = None,
        content: str | None = None,
        format: str | None = None,
        options: Mapping[str, Any] | None = None,
        query: SourceQuery | None = None,
    ) -> DatasetView:
        """Store a file (`source`, inside the roots), a text (`content`, up to 1 MiB), or what a
        source holds now, of which `query` chooses a part: see `Sources.find`.

        The same content read the same way as the newest version is that version, otherwise it
        becomes the next one. Nothing is stored where it cannot be read.

        Raises:
            InvalidArgument: the name, the format, an option or the content itself is wrong.
            Denied, NotFound, TimedOut, Conflict: as `Roots.open` and `Sources.save` say.
            LimitExceeded: more bytes, rows, columns or cells than the hub takes.
            Unavailable: the disk or the database does not take it.
        """
        store.check_name(name)
        if (source is None) == (content is None):
            raise InvalidArgument(
                "Pass exactly one of source and content.",
                f"source is a file below one of: {self._roots}; content is the data itself.",
            )
        place = await self.sources.find(source, query, self._roots) if source is not None else None
        if place is None and query is not None:
            hint = names_hint("", self.sources.names, "sources")
            raise InvalidArgument("query is for a SQLite file, or a source: NAME:ITEM.", hint)
        if format is not None:
            parse_options(format, options)
        async with temporary_folder() as folder:
            file = folder / "content"
            if place is not None:
                origin, chosen = await self.sources.save(place, query, file, self._bounds, format)
                parse_options(chosen, options)
            else:
                if source is not None:
                    stage = partial(self._stage_file, source, file)
                else:
                    stage = partial(_stage_text, content or "", file)
                origin, chosen = await to_thread.run_sync(stage, format, options)
            found = await self._inspect(file, chosen, options)
            blob = await self._blobs.put_file(file)
        new = NewDataset(
            name, blob.sha256, blob.size, chosen, found.options, origin, found.rows, found.columns
        )
        view, added = await self._database.write(partial(streams_store.add_snapshot, new=new))
        if added:
            await self._bus.publish(f"datasets://{name}")
            if view.version == 1:
                await self._bus.publish("resources/list_changed")
        return view.model_copy(update={"warnings": list(map(str, found.warnings))})

    async def delete(self, reference: str, *, force: bool = False) -> DatasetDeletion:
        """Delete a version (name:version, or its id), or all of them (name), for good.

        Raises:
            InvalidArgument, NotFound: as `get`.
            Conflict: it grows, or an unfinished job is of it; or a model is, without `force`.
        """
        deletion, gone = await self._database.write(
            partial(deleting.delete_versions, reference=reference, force=force)
        )
        for sha256 in gone:
            await self._blobs.delete(sha256)
        await self._bus.publish(f"datasets://{deletion.deleted[0].rpartition(':')[0]}")
        await self._bus.publish("resources/list_changed")
        return deletion

    async def list(self, limit: int = 50, cursor: str | None = None) -> Page[DatasetSummary]:
        """The newest version of each data set, in the order of their names."""
        check_limit(limit)
        after = decode_cursor(cursor, str)[0] if cursor is not None else None
        items = await self._database.read(
            partial(streams_store.newest_page, limit=limit + 1, after=after)
        )
        more = len(items) > limit
        items = items[:limit]
        return Page(items=items, next_cursor=encode_cursor(items[-1].name) if more else None)

    async def get(self, reference: str) -> DatasetView:
        """A version: name (the newest), name:version, or its id.

        Raises:
            InvalidArgument: the reference has another form.
            NotFound: there is no such data set or version.
        """
        return await self._database.read(partial(streams_store.get, reference=reference))

    async def profile(self, reference: str, target: str | None = None) -> DatasetProfile:
        """Statistics of each column, warnings, and how `target` is distributed. Raises as `get`,
        and NotFound where `target` is no column."""
        stored = await self._find(reference)
        csv = csv_options(stored.format, stored.options)
        return await self._with_frame(
            stored.view.dataset,
            lambda analysis, frame, name: analysis.profile_frame(frame, name, target, csv),
        )

    async def preview(self, reference: str, limit: int = 10) -> DatasetPreview:
        """The first `limit` rows (1 to 100). Raises as `get`."""
        if not 1 <= limit <= 100:
            raise InvalidArgument(f"limit is {limit}; it must be from 1 to 100.")
        return await self._with_frame(
            reference,
            lambda analysis, frame, name: analysis.preview_frame(frame, name, limit),
        )

    async def validate(
        self, reference: str, rules: Sequence[Rule | Mapping[str, Any]]
    ) -> DatasetValidation:
        """Check the rows against rules. Raises as `get`, and InvalidArgument for a rule that
        cannot be checked."""
        parsed = parse_rules(rules)
        others = sorted({rule.drift_from for rule in parsed if rule.drift_from})
        stored = {other: await self._find(other) for other in others}
        async with temporary_folder() as folder:
            for other in stored.values():
                await self._blobs.fetch(other.view.sha256, folder / other.view.id)

            def work(analysis: Any, frame: Any, name: str) -> DatasetValidation:
                references = {
                    reference: analysis.read_frame(folder / it.view.id, it.format, it.options)
                    for reference, it in stored.items()
                }
                validation: DatasetValidation = analysis.validate_frame(
                    frame, name, parsed, references
                )
                return validation

            return await self._with_frame(reference, work)

    async def settle_rules(
        self, dataset: DatasetView, rules: Sequence[Rule | Mapping[str, Any]]
    ) -> Sequence[dict[str, Any]]:
        """Rules as they can be kept, to be checked of a version later: what drift is measured from
        is a version, too.

        Raises:
            InvalidArgument: a rule checks nothing, or has a wrong key or value.
            NotFound: there is no such column, or no such data set to measure drift from.
        """
        columns = [column.name for column in dataset.columns]
        kept = []
        for rule in parse_rules(rules) if rules else ():
            if rule.column is not None and rule.column not in columns:
                raise NotFound(
                    f"{dataset.dataset} has no column {rule.column!r}.",
                    names_hint(rule.column, columns, "columns"),
                )
            if rule.drift_from is not None:
                reference = (await self._find(rule.drift_from)).view.dataset
                rule = rule.model_copy(update={"drift_from": reference})
            kept.append(rule.model_dump(exclude_none=True, exclude_defaults=True))
        return kept

    async def names(self, prefix: str = "") -> Names:
        """The names that begin with `prefix`, in order, at most 100."""
        return await self._database.read(partial(store.names, prefix=prefix, limit=100))

    async def _inspect(
        self, file: Path, format: str, options: Mapping[str, Any] | None
    ) -> "Inspected":
        return await self._analyse(lambda analysis: analysis.inspect(file, format, options))

    def _stage_file(
        self, source: str, file: Path, format: str | None, options: Mapping[str, Any] | None
    ) -> tuple[str, str]:
        """Copy what `source` names to `file`; where it came from, and its format."""
        try:
            with self._roots.open(source) as (path, opened):
                format = format or format_of_file(path.name)
                parse_options(format, options)
                copy_file(path, opened, file, self._bounds.max_bytes)
        except NotFound as error:
            raise self.sources.explained(source, error) from error
        return str(path), format

    async def _find(self, reference: str) -> StoredDataset:
        return await self._database.read(partial(store.find, reference=reference))

    async def _with_frame(self, reference: str, work: Callable[[Any, Any, str], T]) -> T:
        """The result of `work(analysis, frame, name:version)`, run in a thread."""
        stored = await self._find(reference)
        async with temporary_folder() as folder:
            file = folder / "content"
            await self._blobs.fetch(stored.view.sha256, file)

            def run(analysis: Any) -> T:
                frame = analysis.read_frame(file, stored.format, stored.options)
                return work(analysis, frame, stored.view.dataset)

            return await self._analyse(run)

    async def _analyse(self, work: Callable[[Any], T]) -> T:
        """The result of `work`, given the module `analysis`, run in a thread."""

        def run() -> T:
            # Importing polars takes long: not at start, and never on the event loop.
            from mcp_hub.services.data import analysis

            return work(analysis)

        return await to_thread.run_sync(run, limiter=self._threads)


def _stage_text(
    content: str, file: Path, format: str | None, options: Mapping[str, Any] | None
) -> tuple[str, str]:
    """Write an inline text to `file`; where it came from, and its format."""
    format = format or format_of_text(content)
    parse_options(format, options)
    if format == "parquet":
        raise InvalidArgument(
            "Parquet is binary and cannot be passed as content.",
            "Pass CSV or JSON as content, or the Parquet file as source.",
        )
    if "encoding" in (options or {}):
        raise InvalidArgument(
            "content is text already; the option encoding is for files.", "Leave it out."
        )
    try:
        data = content.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(
            f"The content is not Unicode text: character {error.start} is half of a pair.",
            "Check how the text was cut or escaped.",
        ) from error
    if len(data) > MAX_CONTENT_BYTES:
        raise LimitExceeded(
            f"The content has {len(data)} bytes; at most {MAX_CONTENT_BYTES} can be passed inline.",
            "Save it to a file in one of the workspace roots and pass its path as source.",
        )
    try:
        file.write_bytes(data)
    except OSError as error:
        raise Unavailable(
            f"The content cannot be written: {error.strerror or error}.",
            "Check the disk's free space.",
        ) from error
    return INLINE, format
