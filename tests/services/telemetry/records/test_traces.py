"""Traces: the tree, whose time is whose, and what is left of a large one."""

import json
import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import InvalidArgument, NotFound
from mcp_hub.services.telemetry.envelope import Record
from mcp_hub.services.telemetry.intake.accepting import from_objects
from mcp_hub.services.telemetry.intake.ingest import Ingest
from mcp_hub.services.telemetry.records.spans import grow
from mcp_hub.services.telemetry.records.traces import Traces
from mcp_hub.services.telemetry.views import TraceView

NOW = time.time_ns() // 10**9 * 10**9
TRACE = "0af7651916cd43dd8448eb211c80319c"


def span(number: int, parent: int | None, start: float, ms: float, **more: Any) -> dict[str, Any]:
    return {
        "kind": "span",
        "name": f"span {number}",
        "service": "api",
        "trace_id": TRACE,
        "span_id": f"{number:016x}",
        "parent_id": None if parent is None else f"{parent:016x}",
        "time": NOW + round(start * 1e6),
        "duration_ms": ms,
    } | more


async def record(ingest: Ingest, *records: dict[str, Any]) -> None:
    accepted = await ingest.record(from_objects(records, "log"))
    assert not accepted.rejected


def told(view: TraceView, *columns: str) -> list[list[Any]]:
    assert len(view.model_dump_json()) < 25_000
    places = [view.columns.index(name) for name in columns]
    return [[row[place] for place in places] for row in view.rows]


async def test_a_trace_is_a_tree(store: Database, ingest: Ingest) -> None:
    await record(
        ingest,
        span(1, None, 0, 100, name="GET /checkout"),
        span(2, 1, 10, 40, name="pay", service="pay"),
        span(3, 1, 30, 60, name="query", severity="error"),
        span(4, 2, 15, 5, name="hash", service="pay"),
        {"kind": "log", "name": "app", "service": "pay", "trace_id": TRACE,
         "time": NOW + 20 * 10**6, "span_id": f"{2:016x}", "body": "card refused",
         "severity": "warn"},
        {"kind": "log", "name": "app", "trace_id": TRACE, "time": NOW + 95 * 10**6, "body": "end"},
        span(9, None, 0, 5, trace_id="f" * 32),
    )  # fmt: skip
    view = await Traces(store).trace(TRACE)
    assert told(view, "depth", "start_ms", "duration_ms", "self_ms", "critical_ms", "what") == [
        [0, 0, 100, 20, 40, "GET /checkout"],
        [1, 10, 40, 35, None, "pay"],
        [2, 15, 5, 5, None, "hash"],
        [2, 20, None, None, None, "log app: card refused"],
        [1, 30, 60, 60, 60, "query"],
        [0, 95, None, None, None, "log app: end"],
    ]
    assert told(view, "marks")[4] == ["error"]
    assert (view.spans, view.others, view.errors, view.duration_ms) == (4, 2, 1, 100)
    assert view.services == {"api": 2, "pay": 2}
    assert not view.truncated
    assert (await Traces(store).trace(TRACE[:8].upper())).rows == view.rows
    part = await Traces(store).trace(TRACE, span_id=f"{2:016x}")
    assert told(part, "depth", "what") == [[0, "pay"], [1, "hash"], [1, "log app: card refused"]]


async def test_orphans_circles_twins_and_clocks(store: Database, ingest: Ingest) -> None:
    await record(
        ingest,
        span(1, None, 0, 100),
        span(2, 77, 5, 10, name="orphan"),
        span(3, 1, -500, 20, name="skewed", service="db"),
        span(4, 3, -495, 10, name="below skewed", service="db"),
        span(5, 6, 50, 1, name="circle a"),
        span(6, 5, 51, 1, name="circle b"),
        span(7, 7, 60, 1, name="own parent"),
        span(1, None, 70, 1, name="twin"),
    )
    view = await Traces(store).trace(TRACE)
    shown = {what: rest for what, *rest in told(view, "what", "depth", "start_ms", "marks")}
    assert shown["skewed"] == [1, 40, "clock set by +540.000 ms"]
    assert shown["below skewed"] == [2, 45, None]
    assert shown["orphan"] == [0, 5, "parent missing"]
    assert {shown["circle a"][0], shown["circle b"][0]} == {0, 1}
    assert shown["own parent"][0] == shown["twin"][0] == 0
    assert len(shown) == 8
    assert "parent is missing" in str(view.note)


async def test_a_large_trace_is_a_skeleton(store: Database, ingest: Ingest) -> None:
    chosen = random.Random(3)
    spans = [span(1, None, 0, 10_000, name="batch")]
    for number in range(2, 3_000):
        spans.append(
            span(number, 1, number * 3, chosen.uniform(0.5, 2), name="item", service="w" * 90)
        )
    spans[1_500] = spans[1_500] | {"severity": "error", "name": "item"}
    spans.append(span(5_000, 1, 9_000, 900, name="finish"))
    boom = {"body": "boom " * 500, "severity": "error", "time": NOW + 4_600 * 10**6}
    spans.append(
        {"kind": "log", "name": "app", "trace_id": TRACE, "span_id": f"{1_501:016x}"} | boom
    )
    await record(ingest, *spans)
    view = await Traces(store).trace(TRACE)
    assert view.truncated
    assert view.spans == 3_000
    whats = [row[0] for row in told(view, "what")]
    assert whats[0] == "batch"
    assert "finish" in whats
    assert any(what.startswith("log app: boom") for what in whats)
    assert any("more: item (at most" in what for what in whats)
    assert len(view.rows) < 100
    assert "span_id shows" in str(view.note)
    left = sum(int(what.split()[0]) for what in whats if " more: " in what)
    assert left + sum(" more: " not in what for what in whats) == view.spans + view.others


async def test_the_longest_texts_fit(store: Database, ingest: Ingest) -> None:
    deep = [span(i, i - 1, i, 500, name="n" * 250, service=f"{i:->120}") for i in range(1, 1_500)]
    logs = [{"kind": "log", "name": f"{i} " + "x" * 200, "trace_id": TRACE, "body": "b" * 5_000,
             "severity": "error"} for i in range(300)]  # fmt: skip
    await record(ingest, *deep, *logs)
    view = await Traces(store).trace(TRACE)
    assert len(view.model_dump_json()) < 25_000
    assert view.truncated
    json.loads(view.model_dump_json())


async def test_what_is_wrong_is_told(store: Database, ingest: Ingest) -> None:
    traces = Traces(store)
    await record(ingest, span(1, None, 0, 1), span(2, None, 0, 1, trace_id="0af7" + "1" * 28))
    with pytest.raises(InvalidArgument, match="several") as error:
        await traces.trace("0af7")
    assert TRACE in str(error.value.hint)
    with pytest.raises(InvalidArgument):
        await traces.trace("0af")
    with pytest.raises(InvalidArgument):
        await traces.trace("zzzz")
    with pytest.raises(NotFound):
        await traces.trace("ffff")
    with pytest.raises(NotFound, match="no span"):
        await traces.trace(TRACE, span_id="f" * 16)


some_spans = st.lists(
    st.tuples(
        st.integers(0, 9), st.integers(-1, 9), st.integers(0, 50), st.integers(0, 50),
        st.sampled_from(["a", "b"]),
    ),
    min_size=1,
    max_size=15,
)  # fmt: skip


@settings(deadline=None)
@given(some_spans)
def test_whatever_the_spans_each_is_in_the_tree_once(
    spans: list[tuple[int, int, int, int, str]],
) -> None:
    records = [
        Record(
            id=bytes([place] * 16), kind="span", name=str(place), time=start, service=service,
            duration_ns=duration, span_id=bytes([span_id] * 8),
            parent_id=bytes([parent] * 8) if parent >= 0 else None,
        )
        for place, (span_id, parent, start, duration, service) in enumerate(spans)
    ]  # fmt: skip
    roots = grow(records)
    nodes = [node for root in roots for node in root.walk()]
    assert sorted(int(node.record.name) for node in nodes) == list(range(len(records)))
    for node in nodes:
        assert 0 <= node.self_time <= node.duration
        assert node.critical >= 0
    longest = max(roots, key=lambda root: root.duration)
    assert sum(node.critical for node in nodes) == longest.duration
