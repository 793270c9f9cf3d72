"""Filters: what they refuse, and that SQL finds what plain Python finds."""

import operator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.telemetry_schema import telemetry_records
from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.telemetry.envelope import Record
from mcp_hub.services.telemetry.filtering.filter_sql import check_keys, conditions_on_records
from mcp_hub.services.telemetry.filtering.filters import Condition, Filter, parse_filter
from mcp_hub.services.telemetry.intake.accepting import from_objects
from mcp_hub.services.telemetry.intake.ingest import Ingest

KEYS = ["http.status", "user", "päth", 'a"b\\c', "$.x[0]", "", "name", "null", "a.b", "'", "\n"]
SCALARS = st.one_of(
    st.sampled_from(["", "5", "true", "Error", "error", "a%b_c", "ü", "Z", "null", "ä\0b", "'"]),
    st.sampled_from([0, 1, -1, 5, 5.0, 5.5, 200, 2**53 + 1, 2**63 - 1, -(2**63), 0.1, 1e300]),
    st.integers(-3, 8),
    st.booleans(),
)
VALUES = st.one_of(SCALARS, st.none(), st.lists(SCALARS, max_size=2), st.just({"a": 5}))
COMPARE = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


def value_of(record: Record, condition: Condition) -> Any:
    field = condition.field
    if field.source == "attribute":
        return record.attributes.get(field.key)
    if field.source == "resource":
        return record.resource.get(field.key)
    return getattr(record, field.key)


def kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else type(value).__name__


def equal(value: Any, sought: Any) -> bool:
    return kind_of(value) == kind_of(sought) and value == sought


def fits(record: Record, condition: Condition) -> bool:
    """The meaning of a condition, in plain Python."""
    value, sought, op = value_of(record, condition), condition.value, condition.op
    if isinstance(value, str):
        value = value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if op == "exists":
        return (value is not None) is sought
    if op in ("eq", "ne"):
        return equal(value, sought) is (op == "eq")
    if op in ("in", "not_in"):
        assert isinstance(sought, tuple)
        return any(equal(value, one) for one in sought) is (op == "in")
    if op == "prefix" and isinstance(value, bytes):
        return value.hex().startswith(str(sought))
    if kind_of(value) != kind_of(sought):
        return False
    if op == "contains":
        return sought in value
    return value.startswith(sought) if op == "prefix" else COMPARE[op](value, sought)


def some_records() -> list[Record]:
    """Records of every kind, whose values collide often; the same ones each time."""
    found: list[dict[str, Any]] = []

    @settings(database=None, derandomize=True, max_examples=150, deadline=None)
    @given(
        st.fixed_dictionaries(
            {
                "kind": st.sampled_from(["event", "metric", "span", "log"]),
                "name": st.sampled_from(["request", "Request", "cpu.load"]),
                "service": st.sampled_from(["api", "db", "ünit"]),
                "value": st.sampled_from([0.0, 5, 0.1, -2.5, 1e300]),
                "duration_ns": st.sampled_from([0, 1, 1_500_000, 2**62]),
                "severity": st.sampled_from([None, 1, 9, 13, 17, 20, 24]),
                "body": st.sampled_from([None, "", "an Error", "error 5", "ü\0x"]),
                "trace_id": st.sampled_from([None, "ab" * 16, "abc" + "0" * 29]),
                "unit": st.sampled_from([None, "s"]),
                "attributes": st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5),
                "resource": st.dictionaries(st.sampled_from(KEYS[:5]), VALUES, max_size=2),
            }
        )
    )
    def collect(one: dict[str, Any]) -> None:
        found.append(one)

    collect()
    batch = from_objects(found, "event")
    assert not batch.rejected
    return batch.records


RECORDS = some_records()

TEXT_OPS = st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte", "contains", "prefix"])
NUMBER_OPS = st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte"])
TEXTS = st.sampled_from(["", "5", "error", "Error", "req", "a", "api", "Z", "ü", "ä\0b", "e"])
NUMBERS = st.one_of(
    st.sampled_from([5, 5.0, 0.1, 200, 2**53, 2**53 + 1, 2**63 - 1, 2**64, 1e300, 1.5]),
    st.integers(-3, 8),
)


def said(op: st.SearchStrategy[str], value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(lambda op, value: {op: value}, op, value)


ANY = st.one_of(
    SCALARS,
    st.none(),
    said(TEXT_OPS, TEXTS),
    said(NUMBER_OPS, NUMBERS),
    said(st.sampled_from(["eq", "ne"]), SCALARS),
    said(st.sampled_from(["in", "not_in"]), st.lists(SCALARS, max_size=3)),
    said(st.just("exists"), st.booleans()),
)
LEVELS = st.sampled_from(["warn", "error", "ERROR2", "warning", 9, 17, 24])
IDS = st.sampled_from([record.id.hex() for record in RECORDS[:5]] + ["order-17"])
FIELD_STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    **{f"attributes.{key}": ANY for key in KEYS if key},
    **{f"resource.{key}": ANY for key in KEYS[:5]},
    "kind": st.one_of(st.sampled_from(["span", "log"]), said(st.just("ne"), st.just("event"))),
    **{name: st.one_of(said(TEXT_OPS, TEXTS), TEXTS, st.none())
       for name in ("name", "service", "body", "unit")},
    "severity": st.one_of(LEVELS, said(NUMBER_OPS, LEVELS)),
    "value": said(NUMBER_OPS, NUMBERS),
    "duration_ns": said(NUMBER_OPS, NUMBERS),
    "duration_ms": said(NUMBER_OPS, st.sampled_from([0, 0.000001, 1.5, 1e-9, 1e30, -1])),
    "id": st.one_of(IDS, said(st.sampled_from(["in", "not_in"]), st.lists(IDS, max_size=3))),
    "trace_id": st.one_of(
        st.just("AB" * 16),
        said(st.just("prefix"), st.sampled_from(["", "a", "abc", "ABCD", "b"])),
        said(st.just("exists"), st.booleans()),
    ),
}  # fmt: skip
WHERES = st.lists(
    st.sampled_from(sorted(FIELD_STRATEGIES)).flatmap(
        lambda name: st.tuples(st.just(name), FIELD_STRATEGIES[name])
    ),
    min_size=1,
    max_size=3,
).map(dict)


async def test_sql_finds_what_python_finds(store: Database, ingest: Ingest) -> None:
    batch = from_objects([], "event")
    batch.records = RECORDS
    batch.places = list(range(len(RECORDS)))
    assert (await ingest.record(batch)).accepted == len(RECORDS)
    wheres: list[dict[str, Any]] = []

    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(WHERES)
    def collect(where: dict[str, Any]) -> None:
        wheres.append(where)

    collect()
    found_some = 0
    for where in wheres:
        filter = parse_filter(where)
        expected = {r.id for r in RECORDS if all(fits(r, one) for one in filter.conditions)}
        found = await store.read(lambda c, filter=filter: ids(c, filter, store))
        assert found == expected, (where, filter)
        found_some += 0 < len(expected) < len(RECORDS)
    assert found_some > len(wheres) / 5


def ids(connection: Connection, filter: Filter, store: Database) -> set[bytes]:
    fitting = conditions_on_records(filter, store.dialect)
    found = connection.execute(select(telemetry_records.c.id).where(*fitting))
    return {bytes(id) for id in found.scalars()}


async def test_unknown_attributes_are_answered_by_the_nearest(
    store: Database, ingest: Ingest
) -> None:
    record = {"name": "r", "attributes": {"http.status": 200}, "resource": {"host": "a"}}
    await ingest.record(from_objects([record], "event"))

    async def check(where: dict[str, Any]) -> None:
        await store.read(lambda c: check_keys(c, parse_filter(where)))

    await check({"http.status": 500, "resource.host": "b", "severity": "info"})
    with pytest.raises(InvalidArgument, match=r"http\.statsu") as error:
        await check({"http.statsu": 500})
    assert error.value.hint is not None
    assert "Did you mean 'http.status'?" in error.value.hint
    with pytest.raises(InvalidArgument) as error:
        await check({"servise": "api"})
    assert "'service'" in str(error.value.hint)
    with pytest.raises(InvalidArgument, match=r"resource\.hots"):
        await check({"resource.hots": "b"})


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ({"a": {"gt": None}}, "text, a number"),
        ({"a": {"larger": 1}}, "Existing operators: contains"),
        ({"a": {"gte ": 1}}, "'gte'"),
        ({"a": [1, 2]}, '{"in": […]}'),
        ({"a": {}}, '"gte"'),
        ({"a": {"in": 5}}, '{"in": […]}'),
        ({"a": {"in": [None]}}, "text, a number"),
        ({"a": {"eq": {"b": 1}}}, "text, a number"),
        ({"a": float("inf")}, "text, a number"),
        ({"a": "\ud800"}, None),
        ({"kind": "logs"}, "'log'"),
        ({"attributes": {"level": "error"}}, "attributes.key"),
        ({"or": [{"a": 1}]}, "field"),
        ({"severity": "loud"}, None),
        ({"severity": {"gt": 30}}, None),
        ({"trace_id": "abc"}, "prefix"),
        ({"trace_id": {"prefix": "xyz"}}, "hexadecimal"),
        ({"trace_id": {"gt": "ab" * 16}}, "prefix"),
        ({"value": "5"}, "number"),
        ({"name": 5}, "text"),
        ({"duration_ms": {"contains": "5"}}, "milliseconds"),
        ({"a": {"exists": "yes"}}, "true or false"),
        ({"a": {"gt": True}}, None),
        ({"a": {"in": [1] * 1_001}}, "["),
        ({f"a{i}": 1 for i in range(51)}, None),
    ],
)
def test_what_is_wrong_is_told(where: dict[str, Any], says: str | None) -> None:
    with pytest.raises(InvalidArgument) as error:
        parse_filter(where)
    if says:
        assert says in str(error.value.hint)


def test_parsing_takes_any_json() -> None:
    scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())
    anything = st.recursive(
        scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
    )

    @settings(max_examples=100, deadline=None)
    @given(
        st.dictionaries(st.one_of(st.sampled_from(sorted(FIELD_STRATEGIES)), st.text()), anything)
    )
    def parse(where: dict[str, Any]) -> None:
        with suppress(InvalidArgument):
            parse_filter(where)

    parse()
