"""Single records: found by field and text, in order, page by page, and never without an end."""

import random
import time
from typing import Any

import pytest

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import InvalidArgument, NotFound
from mcp_hub.services.telemetry.intake.accepting import from_objects
from mcp_hub.services.telemetry.intake.ingest import Ingest
from mcp_hub.services.telemetry.records.searching import Searching
from mcp_hub.services.telemetry.views import SearchResult

NOW = time.time_ns() // 10**9 * 10**9
WORDS = ["timeout", "Connection", "refused", "ÜBER", "user_1", "100%", 'say "hi"', "db"]


async def record(ingest: Ingest, *records: dict[str, Any]) -> None:
    accepted = await ingest.record(from_objects(records, "log"))
    assert not accepted.rejected


def column(result: SearchResult, name: str) -> list[Any]:
    if result.same and name in result.same:
        return [result.same[name]] * len(result.rows)
    place = result.columns.index(name)
    return [row[place] for row in result.rows]


async def every_page(searching: Searching, **given: Any) -> list[Any]:
    found: list[Any] = []
    cursor = None
    while True:
        page = await searching.search(**given, cursor=cursor)
        assert page.truncated == (page.next_cursor is not None)
        if page.rows:
            found += column(page, "value")
        if page.next_cursor is None:
            return found
        cursor = page.next_cursor


@pytest.fixture
async def records(ingest: Ingest) -> list[dict[str, Any]]:
    """Three thousand, many of them at the same instant."""
    chosen = random.Random(7)
    made = [
        {
            "name": chosen.choice(["request", "query", "cron"]),
            "service": chosen.choice(["api", "db"]),
            "time": NOW - chosen.randrange(500) * 10**9,
            "value": number,
            "body": " ".join(chosen.sample(WORDS, 3)),
            "attributes": {"n": chosen.randrange(20), "tag": chosen.choice(WORDS)},
        }
        for number in range(3_000)
    ]
    await record(ingest, *made)
    return made


async def test_pages_give_each_record_once_newest_first(
    store: Database, records: list[dict[str, Any]]
) -> None:
    searching = Searching(store)
    times = {one["value"]: one["time"] for one in records}
    for given, fits in (
        ({"limit": 200}, lambda r: True),
        ({"name": "cron", "limit": 97}, lambda r: r["name"] == "cron"),
        ({"where": {"n": 3, "service": "db"}, "limit": 7},
         lambda r: r["attributes"]["n"] == 3 and r["service"] == "db"),
        ({"since": (NOW - 100 * 10**9) / 1e9, "until": (NOW - 50 * 10**9) / 1e9, "limit": 50},
         lambda r: NOW - 100 * 10**9 <= r["time"] < NOW - 50 * 10**9),
        ({"text": "über -timeout", "limit": 50},
         lambda r: "ÜBER" in both(r) and "timeout" not in both(r)),
        ({"text": '"connection refused"', "limit": 50},
         lambda r: "Connection refused" in both(r)),
        ({"text": "100% user_1", "limit": 200},
         lambda r: "100%" in both(r) and "user_1" in both(r)),
        ({"text": "say", "where": {"tag": 'say "hi"'}, "limit": 200},
         lambda r: r["attributes"]["tag"] == 'say "hi"'),
        ({"text": "cron tag", "limit": 200}, lambda r: r["name"] == "cron"),
    ):  # fmt: skip
        found = await every_page(searching, **given)
        assert sorted(found) == [one["value"] for one in records if fits(one)], given
        assert [times[value] for value in found] == sorted(
            (times[value] for value in found), reverse=True
        )
        assert found, given


def both(record: dict[str, Any]) -> str:
    return f"{record['body']}\n{record['attributes']['tag']}"


async def test_an_attribute_may_be_json_that_escapes_nul(store: Database, ingest: Ingest) -> None:
    logged = r'{"text": "\u0000"}'
    texts = [logged, "\0", r"\\u0000", "\\\0"]
    await record(ingest, *({"name": "a", "attributes": {"msg": text}} for text in texts))
    searching = Searching(store)
    found = await searching.search(name="a")
    kept = [text.replace("\0", "\ufffd") for text in texts]
    assert sorted(one["msg"] for one in column(found, "attributes")) == sorted(kept)
    assert len((await searching.search(where={"msg": logged})).rows) == 1


async def test_the_hub_s_own_are_left_out_unless_they_are_meant(
    store: Database, ingest: Ingest
) -> None:
    trace = "ab" * 16
    own = {"name": "call", "service": "mcp-hub", "trace_id": trace, "body": "said"}
    await record(ingest, own | {"id": "own-7"}, own | {"service": "mcp-hub-worker"})
    searching = Searching(store)
    nothing = await searching.search(text="said")
    assert nothing.rows == []
    assert "service is 'mcp-hub'" in str(nothing.note)
    await record(ingest, {"name": "call", "service": "web", "body": "said"})
    for given, services in (
        ({}, ["web"]),
        ({"text": "said", "kind": "log"}, ["web"]),
        ({"where": {"body": "said"}}, ["web"]),
        ({"service": "mcp-hub"}, ["mcp-hub"]),
        ({"name": "call"}, ["mcp-hub", "mcp-hub-worker", "web"]),
        ({"where": {"service": {"prefix": "mcp"}}}, ["mcp-hub", "mcp-hub-worker"]),
        ({"where": {"trace_id": trace}}, ["mcp-hub", "mcp-hub-worker"]),
    ):  # fmt: skip
        found = await searching.search(**given)  # type: ignore[arg-type]
        assert sorted(column(found, "service")) == services, given
    assert (await searching.search(where={"id": "own-7"})).rows


async def test_what_comes_meanwhile_does_not_disturb_the_pages(
    store: Database, ingest: Ingest, records: list[dict[str, Any]]
) -> None:
    searching = Searching(store)
    first = await searching.search(limit=100)
    await record(ingest, {"name": "new", "time": NOW + 10**9, "value": -1})
    second = await searching.search(limit=100, cursor=first.next_cursor)
    shown = column(first, "value") + column(second, "value")
    newest = sorted((one["time"] for one in records), reverse=True)[:200]
    times = {one["value"]: one["time"] for one in records}
    assert [times[value] for value in shown] == newest


async def test_at_the_deadline_a_search_says_where_it_got_to(
    store: Database, records: list[dict[str, Any]]
) -> None:
    searching = Searching(store, deadline_s=0, piece=100)
    pages, cursor, found = 0, None, 0
    while pages == 0 or cursor:
        page = await searching.search(text="timeout db cron", cursor=cursor, limit=200)
        found += len(page.rows)
        assert not page.truncated or "Looked back to" in str(page.note)
        cursor, pages = page.next_cursor, pages + 1
    assert pages > 10
    wanted = [r for r in records if r["name"] == "cron"]
    wanted = [r for r in wanted if "timeout" in both(r) and "db" in both(r)]
    assert found == len(wanted)


async def test_rows_are_short_and_one_record_is_whole(store: Database, ingest: Ingest) -> None:
    searching = Searching(store)
    many = {f"key{i}": "v" * 300 for i in range(30)}
    await record(
        ingest,
        {"name": "r", "kind": "log", "service": "api", "time": NOW, "severity": "error",
         "body": "x" * 5_000, "attributes": many, "resource": {"host": "h1"},
         "trace_id": "ab" * 16, "span_id": "cd" * 8},
        {"name": "r", "kind": "log", "service": "api", "time": NOW - 1, "body": "short",
         "attributes": {"a": [1, {"b": None}]}, "trace_id": "ab" * 16},
    )  # fmt: skip
    result = await searching.search()
    assert result.same == {"kind": "log", "name": "r", "service": "api", "trace_id": "ab" * 16}
    assert result.columns == ["time", "severity", "body", "attributes", "id"]
    assert len(result.rows[0][2]) < 450
    assert "(5,000 characters)" in result.rows[0][2]
    assert result.rows[0][3]["…"] == "10 more"
    assert result.rows[1][1:] == [None, "short", {"a": [1, {"b": None}]}, None]
    assert "one record whole" in str(result.note)
    one = await searching.search(where={"id": result.rows[0][4]})
    whole = dict(zip(one.columns, one.rows[0], strict=True))
    assert whole["body"] == "x" * 5_000
    assert whole["attributes"] == many
    assert whole["resource"] == {"host": "h1"}
    assert whole["span_id"] == "cd" * 8
    with pytest.raises(NotFound):
        await searching.search(where={"id": result.rows[0][4], "service": "other"}, service="api")


async def test_an_id_of_the_sender_is_found_at_any_time(store: Database, ingest: Ingest) -> None:
    await record(ingest, {"name": "r", "id": "order-17", "time": NOW - 10**12, "body": "b"})
    one = await Searching(store).search(where={"id": "order-17"})
    assert dict(zip(one.columns, one.rows[0], strict=True))["body"] == "b"
    with pytest.raises(NotFound, match="no record with this id"):
        await Searching(store).search(where={"id": "order-18"})


@pytest.mark.parametrize("id", ["x1", "ffffffff-ffff-7fff-bfff-ffffffffffff"])
async def test_an_id_that_looks_like_one_of_another_time_is_found(
    store: Database, ingest: Ingest, id: str
) -> None:
    await record(ingest, {"name": "r", "id": id, "body": "b"})
    one = await Searching(store).search(where={"id": id})
    assert dict(zip(one.columns, one.rows[0], strict=True))["body"] == "b"


async def test_what_is_wrong_is_told(store: Database, ingest: Ingest) -> None:
    searching = Searching(store)
    await record(ingest, {"name": "checkout", "service": "api", "attributes": {"status": 500}})
    for given, error, hint in (
        ({"name": "chekout"}, NotFound, "'checkout'"),
        ({"service": "apu", "name": "checkout"}, NotFound, "'api'"),
        ({"kind": "span", "name": "checkout"}, NotFound, "telemetry_fields"),
        ({"kind": "logs"}, InvalidArgument, "'log'"),
        ({"where": {"staus": 500}}, InvalidArgument, "'status'"),
        ({"text": ' "" '}, InvalidArgument, "words"),
        ({"text": "a " * 30}, InvalidArgument, "rare"),
        ({"limit": 0}, InvalidArgument, "None"),
        ({"cursor": "abc"}, InvalidArgument, "next_cursor"),
        ({"since": "yesterday"}, InvalidArgument, "-15m"),
    ):
        with pytest.raises(error) as raised:
            await searching.search(**given)  # type: ignore[arg-type]
        assert hint in str(raised.value.hint), given
    nothing = await searching.search(where={"status": "500"})
    assert nothing.rows == []
    assert nothing.note == "'status' holds numbers: write 500."
    assert "widen since" in str((await searching.search(where={"status": 404})).note)
