"""Aggregates equal a recount, whichever of rollups, sealed columns and the table answers."""

import math
import time
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.telemetry.aggregates.aggregate import Aggregate
from mcp_hub.services.telemetry.aggregates.aggregating import Aggregating
from mcp_hub.services.telemetry.envelope import Record, new_id, severity_name
from mcp_hub.services.telemetry.filtering.filters import parse_filter
from mcp_hub.services.telemetry.intake.accepting import Batch, from_objects
from mcp_hub.services.telemetry.intake.ingest import HOUR_NS, Ingest
from mcp_hub.services.telemetry.storage.sealing import Sealing
from tests.services.telemetry.filtering.test_filters import fits

MINUTE_NS = 60 * 10**9
HOURS = 4
START = (time.time_ns() // HOUR_NS - 30) * HOUR_NS
"""Long enough ago for every hour to be sealed."""
END = START + HOURS * HOUR_NS

EDGES = [hour * HOUR_NS + off for hour in range(HOURS) for off in (-1, 0, 1) if hour or off >= 0]
TIMES = st.one_of(
    st.integers(0, HOURS * HOUR_NS - 1),
    st.sampled_from(EDGES),
    st.integers(0, HOURS * 60 - 1).map(lambda minute: minute * MINUTE_NS),
).map(lambda offset: START + offset)

ATTRIBUTES = st.dictionaries(
    st.sampled_from(["route", "bytes", "ok", "mixed", 'q"t', "rare"]),
    st.one_of(
        st.sampled_from(["a", "b", "1", "", "ü"]),
        st.integers(-3, 3),
        st.sampled_from([0.5, 2.0, 1e12]),
        st.booleans(),
        st.none(),
        st.just([1, "a"]),
    ),
    max_size=4,
)
RECORDS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["event", "metric", "span", "log"]),
        "name": st.sampled_from(["one", "two", "three"]),
        "service": st.sampled_from(["api", "db"]),
        "time": TIMES,
        "severity": st.sampled_from([None, 1, 9, 13, 17, 18, 21]),
        "duration_ns": st.one_of(st.none(), st.integers(0, 10**10)),
        "value": st.one_of(st.none(), st.integers(-5, 5).map(float), st.floats(-1e6, 1e6)),
        "attributes": ATTRIBUTES,
        "resource": st.sampled_from([{}, {"host": "x"}, {"host": "y", "zone": 3}]),
    }
)
MEASURES = [
    "count", "rate", "errors", "error_rate", "sum", "avg", "min", "max", "p50", "p95", "p99.9",
    "p0", "p100", "unique:route", "unique:mixed", "unique:name", "avg:bytes", "p50:bytes",
    "sum:duration_ms", "p90:value", "max:attributes.mixed", "unique:resource.host",
]  # fmt: skip
GROUPS = ["name", "service", "kind", "severity", "route", "mixed", "ok", "resource.host", 'q"t',
          "rare"]  # fmt: skip
WHERE = st.dictionaries(
    st.sampled_from(["name", "service", "severity", "duration_ms", "value", "route", "mixed",
                     "bytes", "resource.host", "ok", 'q"t']),
    st.just(None),
    max_size=2,
)  # fmt: skip
CONDITIONS: dict[str, list[Any]] = {
    "name": ["one", {"ne": "two"}, {"prefix": "t"}],
    "service": ["api", {"in": ["db", "api"]}],
    "severity": ["error", {"gte": "warn"}, {"exists": False}],
    "duration_ms": [{"lt": 5000}, {"exists": True}],
    "value": [{"gt": 0}, {"lte": -1.5}, 2],
    "route": ["a", {"ne": "a"}, {"exists": True}, {"contains": "a"}, {"gt": "a"}],
    "mixed": [1, True, "1", {"in": [1, "a", False]}, {"not_in": [0.5, ""]}, {"gte": 0}],
    "bytes": [{"lt": 1}, {"gte": 2}],
    "resource.host": ["x", {"exists": False}],
    "ok": [True, {"ne": True}],
    'q"t': ["b", {"exists": True}],
}


@st.composite
def questions(draw: st.DrawFn) -> Aggregate:
    since = draw(TIMES)
    until = draw(st.one_of(TIMES, st.just(END)).filter(lambda end: end != since))
    measures = draw(st.lists(st.sampled_from(MEASURES), min_size=1, max_size=4, unique=True))
    kind = draw(st.sampled_from([None, "span", "metric", "log", "event"]))
    if kind is None and any(one in MEASURES[4:13] for one in measures):
        kind = "span"
    where = {key: draw(st.sampled_from(CONDITIONS[key])) for key in draw(WHERE)}
    return Aggregate(
        measure=measures,
        kind=kind,
        name=draw(st.sampled_from([None, None, "one"])),
        group_by=draw(st.lists(st.sampled_from(GROUPS), max_size=2, unique=True)),
        bucket=draw(st.sampled_from([None, None, "minute", "15m", "hour", "day"])),
        since=min(since, until),
        until=max(since, until),
        where=where or None,
        compare=draw(st.booleans()),
        limit=5_000,
    )


def made(values: dict[str, Any]) -> Record:
    values = dict(values)
    if values["kind"] == "metric" and values["value"] is None:
        values["value"] = 1.0
    if values["kind"] == "span" and values["duration_ns"] is None:
        values["duration_ns"] = 7
    return Record(id=new_id(values["time"]), **values)


def examples(strategy: Any, count: int) -> list[Any]:
    """What hypothesis makes of a strategy, the same each time: its tests cannot be async."""
    found: list[Any] = []

    @settings(
        database=None, derandomize=True, max_examples=count, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return found


def field(record: Record, name: str) -> Any:
    if name.startswith("resource."):
        return record.resource.get(name.removeprefix("resource."))
    if name in ("kind", "name", "service", "value"):
        return getattr(record, name)
    if name == "severity":
        return None if record.severity is None else severity_name(record.severity)
    if name == "duration_ms":
        return None if record.duration_ns is None else record.duration_ns / 1e6
    return record.attributes.get(name.removeprefix("attributes."))


def key(value: Any) -> Any:
    return (type(value).__name__ if not isinstance(value, int | float) or isinstance(value, bool)
            else "number", str(value) if isinstance(value, list) else value)  # fmt: skip


def measured(records: list[Record], measure: str, seconds: float) -> float | None:
    function, _, of = measure.partition(":")
    errors = sum((one.severity or 0) >= 17 for one in records)
    if function == "unique":
        return len({key(v) for one in records if (v := field(one, of)) is not None})
    simple = {"count": len(records), "errors": errors, "rate": len(records) / seconds}
    if function in simple:
        return simple[function]
    if function == "error_rate":
        return errors / len(records) if records else None
    if not of:
        spans = any(one.kind == "span" for one in records)
        of = "duration_ms" if spans else "value"
    found = [field(one, of) for one in records]
    numbers = sorted(v for v in found if isinstance(v, int | float) and not isinstance(v, bool))
    if not numbers:
        return None
    if function.startswith("p"):
        return numbers[math.floor(float(function[1:]) / 100 * (len(numbers) - 1))]
    total = math.fsum(numbers)
    return {"sum": total, "avg": total / len(numbers), "min": numbers[0], "max": numbers[-1]}[
        function
    ]


def recounted(records: list[Record], asked: Aggregate) -> dict[Any, list[float | None]]:
    """The measures of each group and bucket, and those of the period before, by the rows' keys."""
    filter = parse_filter(asked.where)
    since, until = int(asked.since or 0), int(asked.until or 0)
    widths = {None: None, "minute": MINUTE_NS, "15m": 15 * MINUTE_NS, "hour": HOUR_NS,
              "day": 24 * HOUR_NS}  # fmt: skip
    width = widths[asked.bucket]
    moved = until - since
    if width is not None:
        moved = -(-moved // width) * width
    cells: dict[Any, tuple[list[Record], list[Record]]] = defaultdict(lambda: ([], []))
    bounds = {}
    for record in records:
        if (asked.kind or record.kind) != record.kind or (asked.name or record.name) != record.name:
            continue
        if not all(fits(record, condition) for condition in filter.conditions):
            continue
        groups = tuple(key(field(record, name)) for name in asked.group_by)
        for period, shift in enumerate((0, moved) if asked.compare else (0,)):
            moment = record.time + shift
            if not since <= moment < until:
                continue
            begin, end = since, until
            at = groups
            if width is not None:
                start = moment // width * width
                begin, end = max(since, start), min(until, start + width)
                shown = datetime.fromtimestamp(start // 10**9, UTC).strftime("%Y-%m-%dT%H:%MZ")
                at = (*groups, key(shown))
            cells[at][period].append(record)
            bounds[at] = (end - begin) / 1e9
    return {
        at: [
            measured(some, measure, bounds[at])
            for measure in asked.measure
            for some in (periods if asked.compare else periods[:1])
        ]
        for at, periods in cells.items()
    }


def is_near(ours: float | None, exact: float | None, within: float) -> bool:
    if ours is None or exact is None:
        return ours is exact
    return math.isclose(ours, exact, rel_tol=within, abs_tol=1e-9)


async def check(aggregating: Aggregating, records: list[Record], asked: Aggregate) -> None:
    table = await aggregating.aggregate(asked)
    expected = recounted(records, asked)
    keys = len(asked.group_by) + (asked.bucket is not None)
    found = {tuple(map(key, row[:keys])): row[keys:] for row in table.rows}
    assert len(found) == len(table.rows)
    assert found.keys() == expected.keys(), asked
    assert len(table.columns) == len(table.rows[0]) if table.rows else True
    for at, values in found.items():
        if asked.compare:
            values = [value for place, value in enumerate(values) if place % 3 < 2]
        names = [name for name in asked.measure for _ in range(1 + asked.compare)]
        for name, ours, exact in zip(names, values, expected[at], strict=True):
            rolled = name.startswith("p") and ":" not in name
            # Six digits are shown, and what comes of a sketch is within its accuracy.
            within = 0.0051 if rolled else 1e-5
            if name in ("sum", "avg") and ours is not None:
                within = 1e-4
            assert is_near(ours, exact, within), (asked, at, name, ours, exact)


async def test_every_measure_equals_a_recount(store: Database, ingest: Ingest) -> None:
    batches = examples(st.lists(RECORDS, min_size=8, max_size=8), 80)
    records = [made(one) for batch in batches for one in batch]
    early, late = records[:-40], records[-40:]
    await ingest.record(Batch(early, list(range(len(early)))))
    aggregating, sealing = Aggregating(store), Sealing(store)
    asked = examples(questions(), 200)
    for one in asked[:50]:
        await check(aggregating, early, one)
    hours = await sealing.waiting()
    assert len(hours) == HOURS
    # Some sealed, some not: the answers are put together.
    assert await sealing.seal(hours[0])
    assert await sealing.seal(hours[2])
    for one in asked[50:100]:
        await check(aggregating, early, one)
    await sealing.seal_due()
    assert await sealing.waiting() == []
    for one in asked[100:]:
        await check(aggregating, early, one)
    await ingest.record(Batch(late, list(range(len(late)))))
    assert await sealing.waiting()
    for one in asked[:50]:
        await check(aggregating, records, one)
    await sealing.seal_due()
    for one in asked[50:100]:
        await check(aggregating, records, one)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Aggregate(measure=["p101"]), "There is no measure 'p101'"),
        (Aggregate(measure=["averge"]), "There is no measure 'averge'"),
        (Aggregate(group_by=["time"]), "time is no attribute"),
        (Aggregate(measure=["unique"]), "unique needs a field"),
        (Aggregate(measure=["avg:name"]), "name is no number"),
        (Aggregate(measure=["avg:byts"]), "No record has the attribute 'byts'"),
        (Aggregate(group_by=["rout"]), "No record has the attribute 'rout'"),
        (Aggregate(group_by=["duration_ms"]), "Records are not grouped by duration_ns"),
        (Aggregate(name="onr"), "No record has the name 'onr'"),
        (Aggregate(bucket="90s"), "bucket is '90s'"),
        (Aggregate(bucket="minute", since="-8d"), "The window has 11,5"),
        (Aggregate(measure=["p95"]), "spans' durations and of metrics' values"),
        (Aggregate(limit=0), "limit is 0"),
        (Aggregate(where={"name": {"like": "x"}}), "unknown operator 'like'"),
    ],
)
async def test_what_does_not_exist_is_told(
    store: Database, ingest: Ingest, asked: Aggregate, message: str
) -> None:
    now = time.time_ns()
    some = [
        Record(id=new_id(), kind="span", name="one", time=now, duration_ns=5,
               attributes={"route": "a", "bytes": 4}),
        Record(id=new_id(), kind="metric", name="two", time=now, value=1.0),
    ]  # fmt: skip
    await ingest.record(Batch(some, [0, 1]))
    with pytest.raises(InvalidArgument, match=message.replace("(", r"\(")) as failure:
        await Aggregating(store).aggregate(asked)
    assert failure.value.hint or asked.limit == 0


@pytest.mark.parametrize("group", [[], ["name"], ["severity"]])
async def test_nothing_is_said_to_be_nothing(store: Database, group: list[str]) -> None:
    table = await Aggregating(store).aggregate(Aggregate(group_by=group, compare=True))
    assert table.rows == []
    assert table.note
    assert "No records." in table.note


async def test_the_hub_s_own_are_left_out_as_search_leaves_them_out(
    store: Database, ingest: Ingest
) -> None:
    trace = "ab" * 16
    own = {"name": "call", "service": "mcp-hub", "severity": "error", "trace_id": trace}
    await ingest.record(from_objects([own, own | {"service": "mcp-hub-worker"}], "log"))
    aggregating = Aggregating(store)
    failed = {"severity": {"gte": "error"}}
    nothing = await aggregating.aggregate(Aggregate(where=failed))
    assert nothing.rows == []
    assert "left out: service is 'mcp-hub'" in str(nothing.note)
    await ingest.record(from_objects([own | {"service": "web"}], "log"))
    for asked, services in (
        ({}, ["web"]),
        ({"where": failed}, ["web"]),
        ({"kind": "log"}, ["web"]),
        ({"service": "mcp-hub"}, ["mcp-hub"]),
        ({"name": "call"}, ["mcp-hub", "mcp-hub-worker", "web"]),
        ({"where": {"service": {"prefix": "mcp"}}}, ["mcp-hub", "mcp-hub-worker"]),
        ({"where": {"trace_id": trace}}, ["mcp-hub", "mcp-hub-worker", "web"]),
    ):  # fmt: skip
        table = await aggregating.aggregate(Aggregate(group_by=["service"], **asked))  # type: ignore[arg-type]
        assert sorted(row[0] for row in table.rows) == services, asked
        assert "left out" not in str(table.note)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"status": "500"}, "'status' holds numbers: write 500."),
        ({"status": {"in": ["500", "503"]}}, "'status' holds numbers: write 500."),
        ({"status": {"prefix": "5"}}, "'status' holds numbers: use eq, in, gte or lt."),
        ({"status": "high"}, "'status' holds numbers: 'high' is none."),
        ({"route": 7}, "'route' holds text: write \"7\"."),
        ({"ok": "True"}, "'ok' holds true or false: write true."),
        ({"resource.zone": "3"}, "'resource.zone' holds numbers: write 3."),
        ({"attributes.value": "1"}, "'attributes.value' holds numbers: write 1."),
        ({"status": 404}, None),
        ({"status": {"in": ["404", 404]}}, None),
        ({"status": {"exists": False}}, None),
    ],
)
async def test_a_value_of_a_type_that_its_attribute_never_has_is_told(
    store: Database, ingest: Ingest, where: dict[str, Any], said: str | None
) -> None:
    attributes = {"status": 500, "route": "/", "ok": True, "value": 1}
    one = {"name": "n", "attributes": attributes, "resource": {"zone": 3}}
    await ingest.record(from_objects([one], "event"))
    table = await Aggregating(store).aggregate(Aggregate(where=where))
    assert table.rows == []
    note = str(table.note)
    assert note.endswith(said or "No records.")


async def test_what_a_value_is_is_told_where_it_is_no_measurement(
    store: Database, ingest: Ingest
) -> None:
    total = {"metric.monotonic": True, "metric.temporality": "cumulative"}
    await ingest.record(
        from_objects(
            [
                {"name": "wait", "value": 10, "attributes": {"metric.count": 3, "metric.sum": 30}},
                {"name": "served", "value": 3, "attributes": total},
                {"name": "depth", "value": 3, "attributes": total | {"metric.monotonic": False}},
                {"name": "added", "value": 3, "attributes": {"metric.temporality": "delta"}},
                {"name": "odd", "value": 3, "attributes": {"metric.temporality": [{"a": 1}]}},
            ],
            "metric",
        )
    )
    aggregating = Aggregating(store)

    async def note(name: str, measure: str) -> str:
        return str((await aggregating.aggregate(Aggregate(name=name, measure=[measure]))).note)

    assert "value of wait is the mean of a distribution" in await note("wait", "p95")
    assert "value of served is a running total" in await note("served", "avg")
    for name, measure in (("depth", "avg"), ("added", "sum"), ("odd", "avg"), ("wait", "count")):
        assert "The value of" not in await note(name, measure)


async def test_pages_are_of_one_window_and_complete(store: Database, ingest: Ingest) -> None:
    now = time.time_ns()
    some = [
        Record(id=new_id(), kind="event", name=f"n{n % 7}", time=now - n * 10**9,
               attributes={"user": f"u{n % 23}"})
        for n in range(300)
    ]  # fmt: skip
    await ingest.record(Batch(some, list(range(300))))
    aggregating = Aggregating(store)
    for group in ("name", "user"):
        seen, cursor = [], None
        while True:
            asked = Aggregate(group_by=[group], limit=5, cursor=cursor)
            table = await aggregating.aggregate(asked)
            seen += table.rows
            cursor = table.next_cursor
            assert table.truncated is (cursor is not None)
            if cursor is None:
                break
        assert sum(count for _, count in seen) == 300
        assert len({name for name, _ in seen}) == len(seen) == (7 if group == "name" else 23)
        assert [count for _, count in seen] == sorted((c for _, c in seen), reverse=True)


async def test_fields_that_are_in_no_column_are_read_from_the_table(
    store: Database, ingest: Ingest
) -> None:
    old = time.time_ns() - 5 * HOUR_NS
    some = [
        Record(id=new_id(), kind="log", name="n", time=old + n, trace_id=bytes([n % 3] * 15 + [1]),
               unit="By" if n % 2 else None, body=f"line {n}")
        for n in range(12)
    ]  # fmt: skip
    await ingest.record(Batch(some, list(range(12))))
    await Sealing(store).seal_due()
    aggregating = Aggregating(store)
    asked = Aggregate(measure=["count", "unique:trace_id"], group_by=["unit"], since="-1d")
    assert sorted((await aggregating.aggregate(asked)).rows, key=str) == [
        ["By", 6, 3], [None, 6, 3],
    ]  # fmt: skip
    asked = Aggregate(where={"body": {"contains": "line 1"}}, group_by=["trace_id"], since="-1d")
    # Lines 1, 10 and 11.
    first, third = (bytes([n] * 15 + [1]).hex() for n in (1, 2))
    assert (await aggregating.aggregate(asked)).rows == [[first, 2], [third, 1]]


async def test_quantiles_of_very_many_numbers_are_a_sketch_of_them(
    store: Database, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_hub.services.telemetry.storage.cells.EXACT_VALUES", 500)
    monkeypatch.setattr("mcp_hub.services.telemetry.storage.cells._HELD_ROWS", 300)
    now = time.time_ns()
    some = [
        Record(id=new_id(), kind="event", name="n", time=now - n * 10**6,
               attributes={"size": n * 1.5, "user": f"u{n % 7}"})
        for n in range(2_000)
    ]  # fmt: skip
    await ingest.record(Batch(some, list(range(2_000))))
    asked = Aggregate(measure=["p50:size", "p99:size", "max:size", "sum:size"], since="-1h")
    row = (await Aggregating(store).aggregate(asked)).rows[0]
    assert row == [
        pytest.approx(999 * 1.5, rel=0.0051), pytest.approx(1979 * 1.5, rel=0.0051), 1999 * 1.5,
        sum(n * 1.5 for n in range(2_000)),
    ]  # fmt: skip
