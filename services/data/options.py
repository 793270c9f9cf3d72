"""Formats of data sets and how to read them. Light: the tools show these schemas at start."""

import codecs
import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import PurePath
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mcp_hub.adapters.errors import InvalidArgument, names_hint

DataFormat = Literal["csv", "tsv", "parquet", "json", "jsonl"]
FORMATS: tuple[DataFormat, ...] = get_args(DataFormat)

NULL_VALUES = ("NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "<NA>", "#N/A")
"""What a CSV cell may say, besides nothing, for a missing value. pandas reads these so, too."""

_EXTENSIONS: dict[str, DataFormat] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}

_Character = Annotated[str, Field(min_length=1, max_length=1)]


class NoOptions(BaseModel):
    """Parquet, JSON and JSON Lines describe themselves."""

    model_config = ConfigDict(extra="forbid")


class CsvOptions(NoOptions):
    """How to read CSV and TSV. What is left out has a sound default."""

    separator: _Character | None = Field(
        default=None, description="One character; found in the first line when left out"
    )
    has_header: bool = Field(default=True, description="The first line names the columns")
    columns: list[str] | None = Field(
        default=None, description="Names for all columns, in place of the header's"
    )
    quote: _Character | None = Field(
        default='"', description="What encloses a cell that holds separators; null for nothing"
    )
    skip_lines: int = Field(default=0, ge=0, description="Lines to leave out at the top")
    encoding: str = Field(default="utf-8", description="Such as utf-8, latin-1, cp1252, utf-16")
    null_values: list[str] = Field(
        default=list(NULL_VALUES), description="Cells that mean missing, besides empty ones"
    )
    string_columns: list[str] = Field(
        default=[], description="Columns to keep as text; those with cells like 01001 are anyway"
    )
    decimal_comma: bool = Field(default=False, description="1,5 means one and a half")
    day_first: bool | None = Field(
        default=None, description="3/4/2024 is 3 April; else as the file's dates show, or 4 March"
    )
    trim: bool | None = Field(
        default=None,
        description="Cut spaces around cells; by default where ', ' separates the first line",
    )

    @field_validator("separator", "quote")
    @classmethod
    def _one_byte(cls, character: str | None) -> str | None:
        if character and (not character.isascii() or character in "\0\r\n"):
            raise ValueError("it must be an ASCII character, and no line end")
        return character

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str) -> str:
        try:
            "".encode(name)
            return codecs.lookup(name).name
        except (LookupError, ValueError):
            raise ValueError("no such encoding; write utf-8, latin-1, cp1252 or utf-16") from None


class SourceQuery(BaseModel):
    """Which rows and columns to read from a source that is no file."""

    model_config = ConfigDict(extra="forbid")

    sql: str | None = Field(
        default=None,
        min_length=1,
        description="A SELECT, for a SQLite file or PostgreSQL, in place of a table",
    )
    parameters: list[bool | int | float | str | None] | None = Field(
        default=None, description="Of the sql: for ? in SQLite, for $1, $2 in PostgreSQL"
    )
    filter: dict[str, Any] | None = Field(
        default=None,
        description='What rows must meet, for MongoDB such as {"age": {"$gte": 18}}; ids and dates '
        'as {"$oid": …}, {"$date": …}',
    )
    since: str | None = Field(
        default=None, description="First entry of a Redis stream: an ISO 8601 time, or an id"
    )
    until: str | None = Field(default=None, description="Last entry of a Redis stream")
    fields: list[str] | None = Field(
        default=None,
        min_length=1,
        description="The columns to read, such as age or address.city; all when left out",
    )
    limit: int | None = Field(default=None, ge=1, lt=2**31, description="At most so many rows")
    cursor: str | None = Field(
        default=None, description="For mode stream from SQL: the unique column that grows, as id"
    )


class StreamOptions(BaseModel):
    """How a data set grows with its source."""

    model_config = ConfigDict(extra="forbid")

    interval_s: float = Field(
        default=60, ge=1, le=7 * 24 * 3600, description="How often to look for new rows"
    )
    batch_rows: int = Field(
        default=10_000, ge=1, le=1_000_000, description="At most so many new rows a version"
    )
    keep_versions: int = Field(
        default=10, ge=1, le=1_000, description="Older ones go, unless a job or a model is of them"
    )


_OPTIONS: dict[str, type[NoOptions]] = {
    "csv": CsvOptions,
    "tsv": CsvOptions,
    "parquet": NoOptions,
    "json": NoOptions,
    "jsonl": NoOptions,
}


def check_format(format: str) -> DataFormat:
    """`format` if it is one of ours.

    Raises:
        InvalidArgument: it is not; the hint names them.
    """
    for known in FORMATS:
        if format == known:
            return known
    raise InvalidArgument(f"Unknown format {format!r}.", names_hint(format, FORMATS, "formats"))


def format_of_file(name: str) -> DataFormat:
    """The format that a file's extension says.

    Raises:
        InvalidArgument: the extension says none.
    """
    extension = PurePath(name).suffix.lower()
    if extension in _EXTENSIONS:
        return _EXTENSIONS[extension]
    raise InvalidArgument(
        f"The format of {PurePath(name).name!r} does not show from its extension.",
        f"Pass format, one of {', '.join(FORMATS)}. Known extensions: {', '.join(_EXTENSIONS)}.",
    )


def format_of_text(text: str) -> DataFormat:
    """The format that a text looks like: JSON, JSON Lines, TSV, or else CSV."""
    text = text.lstrip("\ufeff \t\r\n")
    first, _, rest = text.partition("\n")
    if text.startswith("[") and _is_json(text):
        return "json"
    if text.startswith("{"):
        if not _is_json(first):
            return "json"
        is_columns = not rest.strip() and any(
            isinstance(v, list) for v in json.loads(first).values()
        )
        return "json" if is_columns else "jsonl"
    return "tsv" if first.count("\t") > first.count(",") else "csv"


def parse_options(format: str, options: Mapping[str, Any] | None) -> NoOptions:
    """The options of a format: `CsvOptions` for csv and tsv.

    Raises:
        InvalidArgument: an option is unknown, or its value is not one that it takes.
    """
    model = _OPTIONS[check_format(format)]
    try:
        return model.model_validate(dict(options or {}))
    except ValidationError as error:
        raise options_error(error, model, f"{format} option") from None


def csv_options(format: str, options: Mapping[str, Any] | None) -> CsvOptions | None:
    """How a file of a format with options is read; None where it describes itself. Raises as
    `parse_options`."""
    settings = parse_options(format, options)
    return settings if isinstance(settings, CsvOptions) else None


def options_error(error: ValidationError, model: type[BaseModel], what: str) -> InvalidArgument:
    """The first fault that pydantic found, in a caller's words, with the nearest right key."""
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    known = list(model.model_fields)
    if fault["type"] != "extra_forbidden":
        return InvalidArgument(
            f"The {what} {where!r} is not valid: {fault['msg'].removeprefix('Value error, ')}.",
            model.model_fields[str(fault["loc"][0])].description if fault["loc"] else None,
        )
    if not known:
        return InvalidArgument(f"Unknown {what} {where!r}.", "This format takes no options.")
    nearest = get_close_matches(where, known, n=1)
    hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
    return InvalidArgument(f"Unknown {what} {where!r}.", f"{hint}There are: {', '.join(known)}.")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
