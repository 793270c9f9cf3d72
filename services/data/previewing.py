"""The first rows of a data set, small enough to read."""

import json

import polars as pl

from mcp_hub.services.data.cells import cell, iso_texts
from mcp_hub.services.data.views import DatasetPreview

MAX_COLUMNS = 60
MAX_CHARACTERS = 20_000


def preview_frame(frame: pl.DataFrame, dataset: str, limit: int) -> DatasetPreview:
    """At most `limit` rows and 60 columns, and no more rows than fit 20,000 characters."""
    shown = frame[:limit, :MAX_COLUMNS]
    shown = shown.with_columns(iso_texts(c) for c in shown.get_columns() if c.dtype.is_temporal())
    size = len(json.dumps(shown.columns, ensure_ascii=False))
    rows: list[list[object]] = []
    truncated = False
    for values in shown.iter_rows():
        cells = [cell(value) for value in values]
        row = [value for value, _ in cells]
        size += len(json.dumps(row, ensure_ascii=False, separators=(",", ":"))) + 1
        if rows and size > MAX_CHARACTERS:
            truncated = True
            break
        truncated = truncated or any(cut for _, cut in cells)
        rows.append(row)
    return DatasetPreview(
        dataset=dataset,
        columns=shown.columns,
        rows=rows,
        total_rows=frame.height,
        truncated=truncated,
        omitted_columns=frame.width - shown.width,
    )
