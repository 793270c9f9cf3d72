"""Data sets: register, list, profile, preview, validate, delete."""

from typing import Annotated, Literal

from pydantic import Field

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.data.options import CsvOptions, DataFormat, SourceQuery, StreamOptions
from mcp_hub.services.data.rules import Rule
from mcp_hub.services.data.views import (
    DatasetDeletion,
    DatasetPreview,
    DatasetProfile,
    DatasetSummary,
    DatasetValidation,
    DatasetView,
)
from mcp_hub.services.views import Name, Page
from mcp_hub.tools.toolset import Toolset, tool

COLUMNS_SHOWN = 60

Dataset = Annotated[
    str, Field(description="name (its newest version), name:version, or the id (ds_…)")
]


class DataTools(Toolset):
    """The toolset `data`."""

    name = "data"

    @tool(title="Register a data set", idempotent=True)
    async def dataset_register(
        self,
        name: Annotated[
            Name, Field(description="Letters, digits and . _ -; an existing one gets a new version")
        ],
        source: Annotated[
            str | None,
            Field(
                description="A file, absolute or relative to one of the hub's workspace roots, "
                "FILE.db:TABLE in SQLite; or NAME:ITEM (table, collection, stream, object) of a "
                "source that hub_info lists"
            ),
        ] = None,
        content: Annotated[
            str | None,
            Field(description="The data itself as CSV, TSV, JSON or JSON Lines, up to 1 MB"),
        ] = None,
        format: Annotated[
            DataFormat | None,
            Field(description="By default as the file's extension or the content shows"),
        ] = None,
        options: Annotated[
            CsvOptions | None, Field(description="For csv and tsv, where the defaults do not fit")
        ] = None,
        query: Annotated[
            SourceQuery | None,
            Field(description="Which rows and columns; with sql the source is NAME or FILE.db"),
        ] = None,
        mode: Annotated[
            Literal["snapshot", "stream"],
            Field(description="stream: grow with the source, a version for each batch of new rows"),
        ] = "snapshot",
        stream: Annotated[StreamOptions | None, Field(description="For mode stream")] = None,
    ) -> DatasetView:
        """Store a table as the next version of a data set, from a file or a named source
        (`source`) or from text (`content`): pass exactly one.

        Returns the version, each column's inferred kind, and what may be misread. What the newest
        version holds already makes no other. With mode stream (SQL with query.cursor, Redis,
        MongoDB, or a file of CSV or JSON Lines that gets further lines) each version holds all rows
        so far, until dataset_stop. Next: dataset_profile, then training_submit.
        """
        hub = await self.hub()
        given = options.model_dump(exclude_unset=True) if options else None
        if mode == "stream":
            if source is None or content is not None:
                raise InvalidArgument("mode stream needs a source.", "content does not grow.")
            view = await hub.data.growing.begin(
                name, source, format=format, options=given, query=query, stream=stream
            )
        else:
            if stream is not None:
                raise InvalidArgument("stream is for mode stream.", 'Pass mode="stream".')
            view = await hub.data.register(
                name, source=source, content=content, format=format, options=given, query=query
            )
        shown = view.columns[:COLUMNS_SHOWN]
        return view.model_copy(
            update={"columns": shown, "omitted_columns": len(view.columns) - len(shown)}
        )

    @tool(title="Stop a growing data set", idempotent=True)
    async def dataset_stop(
        self, name: Annotated[Name, Field(description="As dataset_list names it")]
    ) -> DatasetSummary:
        """Have a data set of mode stream grow no more; its versions stay. The same
        dataset_register again goes on from where it stopped."""
        hub = await self.hub()
        return (await hub.data.growing.stop(name)).summary()

    @tool(title="Delete a data set", destructive=True, idempotent=True)
    async def dataset_delete(
        self,
        dataset: Annotated[
            str, Field(description="name:version (or its id) for that version, name for all")
        ],
        force: Annotated[bool, Field(description="Also what models were made from")] = False,
    ) -> DatasetDeletion:
        """Delete versions of a data set for good.

        Refused with `conflict` while it grows, unfinished jobs need it, or, unless force=true,
        models were made from it.
        """
        return await (await self.hub()).data.delete(dataset, force=force)

    @tool(title="List data sets", read_only=True)
    async def dataset_list(
        self,
        limit: Annotated[int, Field(description="Data sets a page, 1 to 200", ge=1, le=200)] = 50,
        cursor: Annotated[str | None, Field(description="next_cursor of the page before")] = None,
    ) -> Page[DatasetSummary]:
        """Registered data sets by name, each with its newest version, and whether it grows."""
        hub = await self.hub()
        return await hub.data.list(limit=limit, cursor=cursor)

    @tool(title="Profile a data set", read_only=True)
    async def dataset_profile(
        self,
        dataset: Dataset,
        target: Annotated[
            str | None,
            Field(description="The column to predict: adds its distribution and finds leaks"),
        ] = None,
    ) -> DatasetProfile:
        """Look at a data set before training: each column's kind, missing values and statistics,
        and warnings about what spoils models (leakage, duplicates, imbalance, identifiers, …).

        With a target it also suggests classification or regression. Next: training_submit.
        """
        hub = await self.hub()
        return await hub.data.profile(dataset, target)

    @tool(title="Preview a data set", read_only=True)
    async def dataset_preview(
        self,
        dataset: Dataset,
        limit: Annotated[int, Field(description="Rows, 1 to 100", ge=1, le=100)] = 10,
    ) -> DatasetPreview:
        """The first rows as they were read. Cells are cut at 80 characters."""
        hub = await self.hub()
        return await hub.data.preview(dataset, limit)

    @tool(title="Validate a data set", read_only=True)
    async def dataset_validate(
        self,
        dataset: Dataset,
        rules: Annotated[
            list[Rule],
            Field(
                description='Such as [{"column": "age", "type": "integer", "min": 0, '
                '"max_null_rate": 0.05}, {"min_rows": 100, "no_duplicates": true}, '
                '{"drift_from": "people:1"}]'
            ),
        ],
    ) -> DatasetValidation:
        """Check a data set against rules: types, ranges, allowed values, patterns, uniqueness,
        missing values, size, duplicates, and drift from another version.

        Each check says whether it passed, and which rows fail (from 0).
        """
        hub = await self.hub()
        return await hub.data.validate(dataset, rules)
