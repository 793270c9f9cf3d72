"""From rows of JSON values to the tensors of an ONNX graph, checked against its inputs."""

import reprlib
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from math import prod
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from mcp_hub.adapters.errors import InvalidArgument, names_hint
from mcp_hub.services.registry.views import FieldKind, InputField

Row = Mapping[str, Any]
Arrays = dict[str, NDArray[Any]]
Locate = Callable[[int], tuple[int, InputField]]
"""From a value's index in the list under check to its row and its field."""

_NAMES_SHOWN = 20
_DATETIME_PARTS = 6
_NUMBERS: set[type] = {int, float}
_ELEMENTS: dict[str, set[type]] = {"f": _NUMBERS, "i": {int}, "u": {int}, "b": {bool}, "O": {str}}
_EXAMPLES = {
    "number": "a number",
    "boolean": "true or false",
    "category": "a string, or a whole number where it is a code",
    "text": "a string",
    "datetime": 'an ISO 8601 string such as "2026-03-31T14:05:00"',
}


def encode_rows(
    inputs: Sequence[InputField], rows: Sequence[Row], unused: Collection[str] = ()
) -> Arrays:
    """The tensors of `rows`, by input name, each with a first axis of len(rows).

    Rows may have the columns `unused` besides, whose values are not looked at.

    What each kind becomes is told by `InputField`. A datetime with an offset is converted to UTC;
    one without is taken as it is. A category may be a whole number, as codes are (12345 is
    "12345"). Nothing else is guessed: a number is neither a text nor a boolean.

    Raises:
        InvalidArgument: there is no row, a row lacks a column or has one too many, or a value
            does not fit its column; tells the row (from 0), the column and what belongs there.
    """
    _check_columns(inputs, rows, unused)
    groups: dict[FieldKind, list[InputField]] = {}
    for field in inputs:
        groups.setdefault(field.kind, []).append(field)
    encoded: Arrays = {}
    for kind, fields in groups.items():
        encoded |= _ENCODERS[kind](fields, rows)
    return encoded


def _check_columns(
    inputs: Sequence[InputField], rows: Sequence[Row], unused: Collection[str]
) -> None:
    if not rows:
        raise InvalidArgument("There are no rows.", f"Give at least one. {_columns(inputs)}")
    names = {field.name for field in inputs}
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InvalidArgument(
                f"Row {number} is {_short(row)}, not an object of column names and values.",
                _columns(inputs),
            )
        if row.keys() == names:
            continue
        if extra := [str(name) for name in row if name not in names and name not in unused]:
            raise InvalidArgument(
                f"Row {number} has {_listed(extra)}, which the model does not take.",
                names_hint(extra[0], names, "columns"),
            )
        if missing := [field.name for field in inputs if field.name not in row]:
            raise InvalidArgument(
                f"Row {number} lacks {_listed(missing)}.",
                f"Every row gives every column, null where a value is missing. {_columns(inputs)}",
            )


def _encode_numbers(fields: Sequence[InputField], rows: Sequence[Row]) -> Arrays:
    values = _gather(fields, rows, _NUMBERS)
    return _split(fields, rows, _floats(values, np.float32, _locate(fields, rows)))


def _encode_booleans(fields: Sequence[InputField], rows: Sequence[Row]) -> Arrays:
    values = _gather(fields, rows, {bool})
    # numpy reads None as NaN where floats are asked for.
    return _split(fields, rows, np.array(values, dtype=np.float32))


def _encode_categories(fields: Sequence[InputField], rows: Sequence[Row]) -> Arrays:
    values = _gather(fields, rows, {str, int})
    return _strings(fields, rows, [str(v) if type(v) is int else v for v in values])


def _encode_texts(fields: Sequence[InputField], rows: Sequence[Row]) -> Arrays:
    return _strings(fields, rows, _gather(fields, rows, {str}))


def _strings(fields: Sequence[InputField], rows: Sequence[Row], values: list[Any]) -> Arrays:
    _check_unicode(values, _locate(fields, rows))
    return _split(fields, rows, np.array([value or "" for value in values], dtype=object))


def _encode_datetimes(fields: Sequence[InputField], rows: Sequence[Row]) -> Arrays:
    values = _gather(fields, rows, {str})
    parts = np.full((len(values), _DATETIME_PARTS), np.nan, dtype=np.float32)
    for index, value in enumerate(values):
        if value is None:
            continue
        try:
            parts[index] = datetime_parts(datetime.fromisoformat(value))
        except (ValueError, OverflowError):
            _refuse(*_locate(fields, rows)(index), value, "is not a date or time")
    return _split(fields, rows, parts)


def datetime_parts(moment: datetime) -> tuple[int, int, int, int, int, int]:
    """(year, month, day, weekday from 0 = Monday, hour, minute), in UTC where there is an offset.

    Raises:
        OverflowError: the moment in UTC lies outside the years 1 to 9999.
    """
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return (
        moment.year, moment.month, moment.day, moment.weekday(), moment.hour, moment.minute,
    )  # fmt: skip


def _encode_tensors(fields: Sequence[InputField], rows: Sequence[Row]) -> Arrays:
    return {field.name: _encode_tensor(field, rows) for field in fields}


def _encode_tensor(field: InputField, rows: Sequence[Row]) -> NDArray[Any]:
    fixed = field.shape[0] if field.shape else 1
    if fixed is not None and fixed != len(rows):
        raise InvalidArgument(
            f"{len(rows)} rows were given, and the model takes {fixed} at a time.",
            f"Its input {field.name!r} has the shape {_shape(field.shape)}.",
        )
    values, shape = _flatten(field, [row[field.name] for row in rows])
    per_row = max(1, prod(shape[1:]))

    def locate(index: int) -> tuple[int, InputField]:
        return index // per_row, field

    dtype = np.dtype(object if field.dtype == "string" else field.dtype)
    allowed = _ELEMENTS[dtype.kind]
    if field.nullable and dtype.kind == "f":
        allowed = {*allowed, type(None)}
    if not set(map(type, values)) <= allowed:
        index = next(i for i, value in enumerate(values) if type(value) not in allowed)
        _refuse(*locate(index), values[index], f"is not a {field.dtype}")
    if dtype.kind == "f":
        array = _floats(values, dtype.type, locate)
    elif dtype.kind == "O":
        _check_unicode(values, locate)
        array = np.array(values, dtype=object)
    else:
        array = _integers(values, dtype, locate)
    return array.reshape(shape if field.shape else ())


def _flatten(field: InputField, values: list[Any]) -> tuple[list[Any], tuple[int, ...]]:
    """The elements of the nested lists in row order, and the shape [rows, …] they came in."""
    level, shape = values, [len(values)]
    for expected in field.shape[1:]:
        per_row = max(1, prod(shape[1:]))
        size = expected
        for index, item in enumerate(level):
            if type(item) is not list:
                _refuse(index // per_row, field, item, "is not a list")
            size = len(item) if size is None else size
            if len(item) != size:
                given = f"a list of {len(item)} where {size} belong"
                _refuse(index // per_row, field, values[index // per_row], f"has {given}")
        shape.append(size or 0)
        level = list(chain.from_iterable(level))
    return level, tuple(shape)


def _floats(values: list[Any], dtype: Any, locate: Locate) -> NDArray[Any]:
    """The numbers as finite `dtype`, None as NaN."""
    largest = float(np.finfo(dtype).max)
    try:
        wide = np.array(values, dtype=np.float64)
        sound = bool((np.abs(wide) <= largest).all())
    except OverflowError:
        sound = False
    if not sound:
        for index, value in enumerate(values):
            if value is not None and not -largest <= value <= largest:
                finite = value == value and abs(value) != float("inf")
                problem = f"is too large for {np.dtype(dtype).name}" if finite else "is not finite"
                _refuse(*locate(index), value, problem)
    return wide.astype(dtype)


def _integers(values: list[Any], dtype: np.dtype[Any], locate: Locate) -> NDArray[Any]:
    try:
        return np.array(values, dtype=dtype)
    except OverflowError:
        limits = np.iinfo(dtype)
        index = next(i for i, v in enumerate(values) if not limits.min <= v <= limits.max)
        _refuse(*locate(index), values[index], f"does not fit {dtype.name}")


def _check_unicode(values: list[Any], locate: Locate) -> None:
    try:
        "".join(filter(None, values)).encode()
    except UnicodeEncodeError:
        for index, value in enumerate(values):
            if value and any("\ud800" <= char <= "\udfff" for char in value):
                _refuse(*locate(index), value, "holds half a surrogate pair")


def _gather(fields: Sequence[InputField], rows: Sequence[Row], allowed: set[type]) -> list[Any]:
    """The values of the fields, field after field, if each is of an allowed type or a null."""
    values = [row[field.name] for field in fields for row in rows]
    types = set(map(type, values))
    if not types <= allowed:
        locate = _locate(fields, rows)
        for index, value in enumerate(values):
            number, field = locate(index)
            if value is None and not field.nullable:
                _refuse(number, field, value, "is not accepted here")
            if value is not None and type(value) not in allowed:
                _refuse(number, field, value, f"is not a {field.kind}")
    return values


def _split(fields: Sequence[InputField], rows: Sequence[Row], stacked: NDArray[Any]) -> Arrays:
    """Of the stacked columns, each as [rows, width]."""
    columns = stacked.reshape(len(fields), len(rows), -1)
    return {field.name: columns[index] for index, field in enumerate(fields)}


def _locate(fields: Sequence[InputField], rows: Sequence[Row]) -> Locate:
    """Where a value of `_gather` stands."""
    return lambda index: (index % len(rows), fields[index // len(rows)])


def _refuse(row: int, field: InputField, value: Any, problem: str) -> NoReturn:
    wanted = _EXAMPLES.get(field.kind, f"{_shape(field.shape[1:])} of {field.dtype}")
    missing = "use null for a missing value" if field.nullable else "null is not accepted"
    raise InvalidArgument(
        f"Row {row}, column {field.name!r}: {_short(value)} {problem}.",
        f"{field.name!r} takes {wanted}; {missing}.",
    )


def _columns(inputs: Sequence[InputField]) -> str:
    shown = ", ".join(f"{field.name} ({field.kind})" for field in inputs[:_NAMES_SHOWN])
    more = f" and {len(inputs) - _NAMES_SHOWN} more" if len(inputs) > _NAMES_SHOWN else ""
    return f"The model's columns: {shown}{more}."


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_NAMES_SHOWN])
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"the column{'s' if len(names) > 1 else ''} {shown}{more}"


def _shape(shape: Sequence[int | None]) -> str:
    return f"[{', '.join('any' if size is None else str(size) for size in shape)}]"


_JSON_NAMES = {None: "null", True: "true", False: "false"}


def _short(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return _JSON_NAMES[value]
    return reprlib.repr(value)


_ENCODERS: dict[FieldKind, Callable[[Sequence[InputField], Sequence[Row]], Arrays]] = {
    "number": _encode_numbers,
    "boolean": _encode_booleans,
    "category": _encode_categories,
    "text": _encode_texts,
    "datetime": _encode_datetimes,
    "tensor": _encode_tensors,
}
