"""What the data service runs in threads: all that works on frames, behind one late import."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mcp_hub.services.data.kinds import infer_kinds
from mcp_hub.services.data.misreadings import find_misreadings
from mcp_hub.services.data.options import csv_options
from mcp_hub.services.data.previewing import preview_frame
from mcp_hub.services.data.profiling import profile_frame
from mcp_hub.services.data.reading import read_frame, read_with_options
from mcp_hub.services.data.validation import validate_frame
from mcp_hub.services.data.views import DataWarning

__all__ = ["Inspected", "inspect", "preview_frame", "profile_frame", "read_frame", "validate_frame"]


class Inspected(NamedTuple):
    """What registering a file records about it."""

    rows: int
    columns: list[dict[str, str]]
    options: dict[str, Any]
    warnings: list[DataWarning]


def inspect(file: Path, format: str, options: Mapping[str, Any] | None) -> Inspected:
    """Read the whole file: its size, its columns, the options that fix how it is read, and what
    that may have got wrong."""
    frame, found = read_with_options(file, format, options)
    kinds = infer_kinds(frame)
    columns = [
        {"name": name, "dtype": str(dtype), "kind": kinds[name]}
        for name, dtype in frame.schema.items()
    ]
    warnings = find_misreadings(frame, kinds, csv_options(format, found))
    return Inspected(frame.height, columns, found, warnings)
