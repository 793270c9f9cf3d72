"""The `where` language: which records a question is about.

A JSON object of conditions that must all hold, each `{"field": value}` or `{"field": {op: value}}`:
`{"service": "api", "duration_ms": {"gte": 100, "lt": 500}, "http.status": {"in": [500, 503]}}`.
A field is one of `FIELDS`, an attribute's key (alone, or `attributes.key` where it has the name of
a field), or `resource.key`.

What is missing, or null, is equal to nothing and fits no comparison: `ne` and `not_in` hold for
it, every other operator but `exists: false` does not. Values compare within their type: the text
"5" is not the number 5, nor is true 1; what is of another type than the value is not equal to it
and neither less nor greater. Text compares by code points, case and all.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, get_args

from mcp_hub.adapters.errors import InvalidArgument, names_hint
from mcp_hub.services.telemetry import envelope

Op = Literal[
    "eq", "ne", "gt", "gte", "lt", "lte", "in", "not_in", "contains", "prefix", "exists"
]  # fmt: skip
OPS: tuple[Op, ...] = get_args(Op)
NEGATIVE: dict[Op, Op] = {"ne": "eq", "not_in": "in"}
"""Operators that hold exactly where another does not."""

Source = Literal["series", "record", "attribute", "resource"]
Scalar = str | int | float | bool | bytes

FIELDS: dict[str, str] = {
    "kind": "event, metric, span or log",
    "name": "text",
    "service": "text",
    "severity": "trace, debug, info, warn, error, fatal, or 1 to 24",
    "id": "UUID",
    "trace_id": "32 hexadecimal digits",
    "span_id": "16 hexadecimal digits",
    "parent_id": "16 hexadecimal digits",
    "duration_ns": "nanoseconds",
    "duration_ms": "milliseconds",
    "value": "number",
    "unit": "text",
    "body": "text",
}
"""The envelope's fields, and what each is compared with."""

MAX_CONDITIONS = 50
MAX_VALUES = 1_000

_SERIES = ("kind", "name", "service")
_NAMING = {("series", "name"), ("series", "service"), ("record", "id"), ("record", "trace_id")}
_HEX_DIGITS = {"trace_id": 32, "span_id": 16, "parent_id": 16}
_HINT = 'Write {"field": value} or {"field": {"gte": value, "lt": value}}.'
_INT64 = 2**63


@dataclass(frozen=True, slots=True)
class Field:
    """What a condition looks at: `key` is a column's name, or the key of an attribute."""

    source: Source
    key: str

    def __str__(self) -> str:
        prefix = {"attribute": "attributes.", "resource": "resource."}.get(self.source, "")
        return f"{prefix}{self.key}"


@dataclass(frozen=True, slots=True)
class Condition:
    """`value` is a tuple for `in` and `not_in`, a bool for `exists`, else a scalar.

    It is as the column has it: severities are numbers, durations nanoseconds, ids bytes. A
    `prefix` of an id is its hexadecimal digits.
    """

    field: Field
    op: Op
    value: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that must all hold; without any, every record fits."""

    conditions: tuple[Condition, ...] = ()

    def of(self, *sources: Source) -> "Filter":
        """The conditions on fields of these sources."""
        return Filter(tuple(one for one in self.conditions if one.field.source in sources))

    @property
    def may_mean_own(self) -> bool:
        """Whether something is named that may be the hub's own: a name, service, trace or id."""
        return any((one.field.source, one.field.key) in _NAMING for one in self.conditions)

    def __and__(self, other: "Filter") -> "Filter":
        return Filter(self.conditions + other.conditions)


def parse_filter(where: Mapping[str, Any] | None) -> Filter:
    """The filter that `where` says.

    Raises:
        InvalidArgument: it says none; names the field, and what would be right.
    """
    conditions: list[Condition] = []
    for name, said in (where or {}).items():
        if isinstance(said, list):
            if name in ("and", "or", "not"):
                raise InvalidArgument(f"There is no {name}: all conditions must hold.", _HINT)
            raise InvalidArgument(f"{name} is a list.", f'Write {{"{name}": {{"in": […]}}}}.')
        if name in ("attributes", "resource") and isinstance(said, Mapping):
            raise InvalidArgument(
                f"{name} is no field.", f'Write a key of it: {{"{name}.key": value}}.'
            )
        operators = said if isinstance(said, Mapping) else {"eq": said}
        if not operators:
            raise InvalidArgument(f"{name} has no condition.", _HINT)
        for op, value in operators.items():
            if op not in OPS:
                raise InvalidArgument(
                    f"{name} has the unknown operator {op!r}.", names_hint(op, OPS, "operators")
                )
            conditions.append(_condition(name, op, value))
    if len(conditions) > MAX_CONDITIONS:
        raise InvalidArgument(f"{len(conditions)} conditions; at most {MAX_CONDITIONS} are taken.")
    return Filter(tuple(conditions))


def field_of(name: str) -> Field:
    """The field of this name; it need not exist if it is an attribute's."""
    if name in _SERIES:
        return Field("series", name)
    if name == "duration_ms":
        return Field("record", "duration_ns")
    if name in FIELDS:
        return Field("record", name)
    for prefix, source in _PREFIXES.items():
        if name.startswith(prefix) and len(name) > len(prefix):
            return Field(source, _text(name, name.removeprefix(prefix)))
    return Field("attribute", _text(name, name))


_PREFIXES: dict[str, Source] = {"attributes.": "attribute", "resource.": "resource"}


def _condition(name: str, op: Op, value: Any) -> Condition:
    field = field_of(name)
    if op == "exists":
        if not isinstance(value, bool):
            raise InvalidArgument(f"{name}: exists is {value!r}.", "It is true or false.")
        return Condition(field, op, value)
    if value is None and op in ("eq", "ne"):
        return Condition(field, "exists", op == "ne")
    if op in ("in", "not_in"):
        if not isinstance(value, list | tuple) or len(value) > MAX_VALUES:
            raise InvalidArgument(
                f"{name}: {op} takes a list of at most {MAX_VALUES:,} values.",
                f'Write {{"{name}": {{"{op}": […]}}}}.',
            )
        return _sought(field, name, op, value)
    if op in ("contains", "prefix"):
        return _part(field, name, op, value)
    if op in ("eq", "ne"):
        return _sought(field, name, "in" if op == "eq" else "not_in", [value])
    return _compared(field, name, op, value)


def _sought(field: Field, name: str, op: Op, values: Any) -> Condition:
    """Equality to one or several values; what no record can have is left out."""
    found: list[Scalar] = []
    for value in values:
        scalar = _scalar(name, value)
        found += _EQUALS.get(field.key, _as_is)(name, scalar) if _is_column(field) else [scalar]
    single: Op = "eq" if op == "in" else "ne"
    if len(found) == 1:
        return Condition(field, single, found[0])
    return Condition(field, op, tuple(found))


def _compared(field: Field, name: str, op: Op, value: Any) -> Condition:
    scalar = _scalar(name, value)
    if isinstance(scalar, bool):
        raise InvalidArgument(f"{name}: {op} takes a number or a text, not {value!r}.")
    if not _is_column(field):
        return Condition(field, op, scalar)
    if field.key == "id" or field.key in _HEX_DIGITS:
        raise InvalidArgument(
            f"{name} has no order.", "Use eq, in or exists; prefix for the first digits."
        )
    if field.key == "severity":
        numbers = _severities(name, scalar)
        if not numbers:
            raise InvalidArgument(f"{name} is {value!r}.", f"It is {FIELDS[name]}.")
        # A name stands for four numbers: above it is above them all.
        return Condition(field, op, numbers[-1] if op in ("gt", "lte") else numbers[0])
    if field.key == "duration_ns":
        exact = _nanoseconds(name, scalar)
        whole = math.floor(exact) if op in ("gt", "lte") else math.ceil(exact)
        return Condition(field, op, max(-_INT64, min(whole, _INT64 - 1)))
    if field.key == "value":
        return Condition(field, op, _number(name, scalar))
    return Condition(field, op, _word(name, scalar))


def _part(field: Field, name: str, op: Op, value: Any) -> Condition:
    if not isinstance(value, str):
        raise InvalidArgument(f"{name}: {op} takes a text, not {value!r}.")
    if _is_column(field):
        if field.key in _HEX_DIGITS and op == "prefix":
            digits = value.lower().replace("-", "")
            if len(digits) > _HEX_DIGITS[field.key] or not set(digits) <= set("0123456789abcdef"):
                raise InvalidArgument(f"{name} is {value[:40]!r}.", f"It is {FIELDS[field.key]}.")
            return Condition(field, op, digits)
        if FIELDS[field.key] != "text" and field.key != "kind":
            raise InvalidArgument(f"{name} is no text.", f"It is {FIELDS[name]}: use eq.")
    return Condition(field, op, _text(name, value))


def _is_column(field: Field) -> bool:
    return field.source in ("series", "record")


def _scalar(name: str, value: Any) -> str | int | float | bool:
    if isinstance(value, str):
        return _text(name, value)
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        value = float(value) if abs(value) < 1e308 else math.inf
    if isinstance(value, int | float) and math.isfinite(value):
        return value
    shown = "a number without end" if isinstance(value, float) else f"{value!r}"[:80]
    raise InvalidArgument(
        f"{name} is compared with {shown}.", "Give a text, a number, true or false."
    )


def _text(name: str, value: str) -> str:
    """`value` as the store has it (see `naming.to_text`)."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{name[:40]!r} has or is compared with invalid Unicode.") from None
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _word(name: str, value: Scalar) -> str:
    if isinstance(value, str):
        return value
    raise InvalidArgument(f"{name} is compared with {value!r}.", "Give a text.")


def _number(name: str, value: Scalar) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise InvalidArgument(f"{name} is compared with {value!r}.", "Give a number.")


def _nanoseconds(name: str, value: Scalar) -> Decimal:
    _number(name, value)
    return Decimal(repr(value)) * (1_000_000 if name == "duration_ms" else 1)


def _severities(name: str, value: Scalar) -> list[Scalar]:
    """The numbers that a severity's name, or a number, stands for."""
    try:
        if isinstance(value, str):
            first = envelope.severity_of(value)
            plain = value.strip().lower() in envelope.SEVERITIES
            return [] if first is None else list(range(first, first + 4)) if plain else [first]
        number = _number(name, value)
        return [envelope.severity_of(int(number)) or 0] if number == int(number) else []
    except ValueError as error:
        raise InvalidArgument(f"{error}.") from None


def _durations(name: str, value: Scalar) -> list[Scalar]:
    exact = _nanoseconds(name, value)
    return [int(exact)] if exact == int(exact) and 0 <= exact < _INT64 else []


def _kinds(name: str, value: Scalar) -> list[Scalar]:
    if value not in envelope.KINDS:
        raise InvalidArgument(
            f"There is no kind {value!r}.", names_hint(str(value), envelope.KINDS, "kinds")
        )
    return [value]


def _ids(name: str, value: Scalar) -> list[Scalar]:
    return [envelope.named_id(_word(name, value))]


def _digits(name: str, value: Scalar) -> list[Scalar]:
    digits = _word(name, value).replace("-", "")
    try:
        found = bytes.fromhex(digits)
    except ValueError:
        found = b""
    if len(found) * 2 != _HEX_DIGITS[name]:
        raise InvalidArgument(
            f"{name} is {str(value)[:40]!r}.",
            f'It has {_HEX_DIGITS[name]} hexadecimal digits; with fewer, use {{"prefix": …}}.',
        )
    return [found]


def _as_is(name: str, value: Scalar) -> list[Scalar]:
    return [_word(name, value)]


_EQUALS: dict[str, Callable[[str, Scalar], list[Scalar]]] = {
    "kind": _kinds,
    "severity": _severities,
    "id": _ids,
    "trace_id": _digits,
    "span_id": _digits,
    "parent_id": _digits,
    "duration_ns": _durations,
    "value": lambda name, value: [_number(name, value)],
}
