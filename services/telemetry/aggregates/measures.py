"""Measures as callers write them: `count`, `p95`, `avg:attributes.bytes`, `unique:user_id`."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mcp_hub.adapters.errors import InvalidArgument, names_hint
from mcp_hub.services.telemetry.filtering.filters import Field, field_of

Function = Literal[
    "count", "rate", "errors", "error_rate", "sum", "avg", "min", "max", "quantile", "unique"
]
MAX_MEASURES = 10

DURATION = Field("record", "duration_ns")
VALUE = Field("record", "value")

_OF_RECORDS = ("count", "rate", "errors", "error_rate")
_OF_NUMBERS = ("sum", "avg", "min", "max")
_QUANTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,4})?|100)")
_KNOWN = (*_OF_RECORDS, *_OF_NUMBERS, "p50", "p90", "p95", "p99", "p99.9", "median", "unique")
_MEANT = {"mean": "avg", "average": "avg", "total": "sum", "distinct": "unique"}
_NO_NUMBER = ("kind", "name", "service", "id", "trace_id", "span_id", "parent_id", "unit", "body")


@dataclass(frozen=True, slots=True)
class Number:
    """Where a record's number is: a field; with `spans`, only of records that are spans or not."""

    field: Field
    spans: bool | None = None

    @property
    def is_duration(self) -> bool:
        return self.field == DURATION


@dataclass(frozen=True, slots=True)
class Measure:
    """`number` is None where none is needed, or where the records' own measure is meant."""

    text: str
    function: Function
    rank: float = 0.0
    number: Number | None = None
    unique: Field | None = None

    @property
    def of_numbers(self) -> bool:
        return self.function in _OF_NUMBERS or self.function == "quantile"

    @property
    def function_text(self) -> str:
        """What the caller wrote, without the field."""
        return self.text.partition(":")[0]

    @property
    def label(self) -> str:
        """The name of its column, with the unit of durations."""
        if self.number is None or not self.number.is_duration:
            return self.text
        return self.text if self.text.endswith("_ms") else f"{self.text}_ms"


def parse_measures(texts: Sequence[str]) -> list[Measure]:
    """The measures that callers write.

    Raises:
        InvalidArgument: one is none; names those that exist.
    """
    if not 1 <= len(texts) <= MAX_MEASURES:
        raise InvalidArgument(f"{len(texts)} measures; from 1 to {MAX_MEASURES} are taken.")
    return [_parse(text.strip()) for text in dict.fromkeys(texts)]


def resolved(measures: Sequence[Measure], kinds: Collection[str]) -> list[Measure]:
    """The measures where those of the records' own numbers say which these are.

    `kinds` are those of the records asked about: of spans it is the duration, else the value.

    Raises:
        InvalidArgument: there are spans and metrics, whose numbers have nothing in common.
    """
    if not any(one.of_numbers and one.number is None for one in measures):
        return list(measures)
    if {"span", "metric"} <= set(kinds):
        raise InvalidArgument(
            "The measures are of spans' durations and of metrics' values at once.",
            "Give kind, or say which: p95:duration_ms or p95:value.",
        )
    number = Number(DURATION, spans=True) if "span" in kinds else Number(VALUE, spans=False)
    return [
        replace(one, number=number) if one.of_numbers and one.number is None else one
        for one in measures
    ]


def _parse(text: str) -> Measure:
    word, _, of = text.partition(":")
    function = "p50" if word == "median" else word
    quantile = _QUANTILE.fullmatch(function)
    if quantile is None and function not in (*_OF_RECORDS, *_OF_NUMBERS, "unique"):
        raise InvalidArgument(
            f"There is no measure {text!r}.",
            names_hint(_MEANT.get(word, word), _KNOWN, "measures")
            + " A number's field follows a colon: p95:duration_ms, avg:attributes.bytes.",
        )
    if function == "unique":
        if not of:
            raise InvalidArgument("unique needs a field.", "Write unique:user_id, for instance.")
        return Measure(text, "unique", unique=field_of(of))
    if function in _OF_RECORDS:
        if of:
            raise InvalidArgument(f"{word} is of records, not of {of}.", f"Write {word} alone.")
        return Measure(text, function)  # type: ignore[arg-type]
    number = None
    if of:
        if of in _NO_NUMBER:
            raise InvalidArgument(
                f"{of} is no number.", f"unique:{of} counts its values; avg:value is of numbers."
            )
        number = Number(field_of(of))
    if quantile is not None:
        return Measure(text, "quantile", float(quantile[1]) / 100, number)
    return Measure(text, function, number=number)  # type: ignore[arg-type]
