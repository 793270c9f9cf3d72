"""MongoDB's documents as rows of a table, and what an agent may ask of them."""

import json
import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from bson import (
    Binary,
    Code,
    DatetimeMS,
    DBRef,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
    encode,
)
from bson.errors import BSONError
from bson.json_util import loads

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.adapters.sources.port import Cell, Row

OPERATORS = (
    "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$and", "$or", "$nor", "$not",
    "$exists", "$type", "$regex", "$options", "$mod", "$all", "$elemMatch", "$size",
)  # fmt: skip
"""What a filter may say. What runs code on the server, such as `$where`, is not among them."""


def row_of(document: Mapping[str, Any]) -> Row:
    """A document as one flat row.

    - A document within it becomes columns with dots: `{"a": {"b": 1}}` is `a.b`.
    - A list becomes its JSON.
    - ObjectIds (24 hexadecimal digits), UUIDs, regular expressions, code and keys become text;
      a Decimal128 becomes a 64-bit float; a Date and a Timestamp become a datetime in UTC, a Date
      beyond year 9999 text; other binary stays bytes.
    - null, undefined and NaN are missing.

    Raises:
        InvalidArgument: two fields would be the same column.
    """
    row: Row = {}
    for name, value in _leaves(document, ""):
        if name in row:
            raise InvalidArgument(
                f"A document has two fields that are both the column {name!r}: one has a dot in "
                "its name, the other lies in a document.",
                "Leave one of them out with query.fields.",
            )
        row[name] = _cell(value)
    return row


def parse_filter(filter: Mapping[str, Any]) -> dict[str, Any]:
    """The filter as the driver takes it. It is MongoDB's query language in Extended JSON, so that
    `{"$oid": …}` and `{"$date": …}` can be said.

    Raises:
        InvalidArgument: it uses an operator that is not among `OPERATORS`.
    """
    try:
        parsed: dict[str, Any] = loads(json.dumps(filter))
        encode(parsed)
    except (BSONError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidArgument(
            f"The filter cannot be read: {error}.",
            'Write Extended JSON, such as {"born": {"$gte": {"$date": "2020-01-01T00:00:00Z"}}}.',
        ) from error
    for name in _names(parsed):
        if name.startswith("$") and name not in OPERATORS:
            raise InvalidArgument(
                f"The filter's operator {name} is not allowed.",
                f"Allowed are {', '.join(OPERATORS)}.",
            )
    return parsed


def _leaves(document: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _cell(value: Any) -> Cell:
    if isinstance(value, Decimal128):
        value = float(value.to_decimal())
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, list):
        return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)
    if isinstance(value, Code):
        return f"{value}"
    if isinstance(value, Int64):
        return int(value)
    if value is None or isinstance(value, bool | int | str | datetime):
        return value
    if isinstance(value, Binary):
        return str(value.as_uuid()) if value.subtype == 4 else bytes(value)
    if isinstance(value, bytes):
        return value
    if isinstance(value, Timestamp):
        return value.as_datetime().replace(tzinfo=None)
    return _text(value)


def _plain(value: Any) -> Any:
    """A value within a list as JSON has it."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping) and not isinstance(value, DBRef):
        return {name: _plain(item) for name, item in value.items()}
    cell = _cell(value)
    if isinstance(cell, datetime):
        return cell.isoformat()
    if isinstance(cell, bytes):
        return cell.hex()
    # JSON has no infinity.
    return str(cell) if isinstance(cell, float) and math.isinf(cell) else cell


def _text(value: Any) -> str:
    """What has no like in a table, as text."""
    if isinstance(value, ObjectId):
        return str(value)
    if isinstance(value, DatetimeMS):
        return f"{int(value)} ms since 1970"
    if isinstance(value, Regex):
        return f"/{value.pattern}/"
    if isinstance(value, DBRef):
        return f"{value.collection}/{value.id}"
    return type(value).__name__ if isinstance(value, MinKey | MaxKey) else str(value)


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield name
            yield from _names(item)
    elif isinstance(value, list):
        for item in value:
            yield from _names(item)
