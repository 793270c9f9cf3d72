"""Funnels and successions: against a plain recount, and over records on both databases."""

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given as property_of
from hypothesis import strategies as st

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import InvalidArgument, NotFound
from mcp_hub.services.telemetry.templates import successions as reading
from mcp_hub.services.telemetry.templates.funnels import Funnels
from mcp_hub.services.telemetry.templates.successions import Rows, funnel, successions
from mcp_hub.services.telemetry.templates.templates import Templates
from mcp_hub.services.telemetry.views import Findings
from tests.services.recorded import HOUR, MINUTE, NOW, Recorded

SECOND = 10**9
EVENTS = st.lists(st.tuples(st.integers(0, 40), st.sampled_from("xyz"), st.integers(0, 3)))


def furthest(events: list[tuple[int, int]], count: int, within: int) -> int:
    """How many steps the best chain of records reaches, by trying every chain."""
    best = [0] * len(events)
    for place, (at, step) in enumerate(events):
        if step == 0:
            best[place] = 1
        for before in range(place):
            then, earlier = events[before]
            if earlier == step - 1 and best[before] == step and at - then <= within:
                best[place] = step + 1
    return min(max(best, default=0), count)


@property_of(EVENTS, st.integers(0, 20))
def test_each_key_comes_as_far_as_its_best_attempt(
    events: list[tuple[int, str, int]], within: int
) -> None:
    events = sorted(events, key=lambda one: (one[0], one[2]))
    rows = Rows([at for at, _, _ in events], [key for _, key, _ in events])
    steps = funnel(rows, [[step] for _, _, step in events], 4, within)
    reach = [
        furthest([(at, step) for at, of, step in events if of == key], 4, within) for key in "xyz"
    ]
    assert [step.keys for step in steps] == [sum(far > n for far in reach) for n in range(4)]
    assert all(0 <= gap <= within for step in steps for gap in step.gaps)
    assert [len(step.dropped) for step in steps] == [
        sum(far == n + 1 for far in reach) for n in range(3)
    ] + [0]


@property_of(EVENTS, st.integers(0, 20))
def test_pairs_are_those_of_a_recount(events: list[tuple[int, str, int]], within: int) -> None:
    events = sorted(events, key=lambda one: (one[0], one[2]))
    counted: Counter[tuple[int, int]] = Counter()
    for key in "xyz":
        own = [(at, kind) for at, of, kind in events if of == key]
        for (at, kind), (then, following) in pairwise(own):
            if following != kind and then - at <= within:
                counted[kind, following] += 1
    found = successions(
        np.array(["xyz".index(key) for _, key, _ in events], np.int64),
        np.array([kind for _, _, kind in events], np.int64),
        np.array([at for at, _, _ in events], np.int64),
        within,
        100,
    )
    assert {(one.a, one.b): one.count for one in found} == counted
    total = counted.total()
    for one in found:
        leaving = sum(count for (a, _), count in counted.items() if a == one.a)
        entering = sum(count for (_, b), count in counted.items() if b == one.b)
        assert one.share == pytest.approx(one.count / leaving)
        assert one.lift == pytest.approx(one.count * total / leaving / entering)
        assert 1 <= one.keys <= 3


class Given(Recorded):
    @property
    def funnels(self) -> Funnels:
        return Funnels(self.database, Templates(self.database))

    async def step(self, name: str, user: Any, seconds: float, **more: Any) -> None:
        at = NOW - 30 * MINUTE + round(seconds * SECOND)
        attributes = {"user_id": user, "plan": "free", **more}
        await self.add({"name": name, "time": at, "service": "shop", "attributes": attributes})


@pytest.fixture
async def given(store: Database) -> Given:
    given = Given(store)
    for number in range(4):
        await given.step("cart", f"u{number}", number)
    for number, after in ((0, 10), (1, 20), (2, 600)):
        await given.step("pay", f"u{number}", number + after, plan="paid")
    await given.step("ship", "u0", 40)
    return given


def rows(found: Findings) -> list[dict[str, Any]]:
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


async def test_who_gets_to_the_next_step_in_time(given: Given) -> None:
    found = await given.funnels.funnel(
        ["cart", "pay", "ship"], HOUR, within=300 * SECOND, by="user_id"
    )
    cart, pay, ship = rows(found)
    assert [step["keys"] for step in (cart, pay, ship)] == [4, 2, 1]
    assert (pay["of_previous"], ship["of_previous"], ship["of_first"]) == (0.5, 0.5, 0.25)
    assert (pay["median_s"], ship["median_s"]) == (15.0, 30.0)
    assert (cart["dropped"], cart["open"], pay["dropped"], ship["dropped"]) == (2, 0, 1, None)
    assert [example.split(" at ")[0] for example in cart["examples"]] == ["u3", "u2"]


async def test_where_and_numbers_as_keys(given: Given) -> None:
    await given.step("cart", 7, 100)
    await given.step("pay", 7, 110)
    found = await given.funnels.funnel(
        ["cart", "pay"], HOUR, within=60 * SECOND, by="user_id", where={"user_id": 7}
    )
    assert [step["keys"] for step in rows(found)] == [1, 1]


async def test_who_still_has_time_is_said(given: Given) -> None:
    await given.add({"name": "cart", "time": NOW - 10 * SECOND, "attributes": {"user_id": "late"}})
    found = await given.funnels.funnel(["cart", "pay"], HOUR, within=60 * SECOND, by="user_id")
    assert (rows(found)[0]["dropped"], rows(found)[0]["open"]) == (3, 1)


async def test_templates_of_logs_are_steps_and_traces_keys(given: Given) -> None:
    for number, end in enumerate(("committed", "committed", "rolled back")):
        trace = f"{number + 1:032x}"
        await given.logs(9, f"transaction {number} begun for tenant acme", trace_id=trace)
        await given.logs(8, f"transaction {number} is {end} now", trace_id=trace)
    pairs = rows(await given.funnels.successions(HOUR, within=5 * MINUTE, by="trace_id"))
    assert pairs[0]["from"] == "transaction <*> begun for tenant acme"
    assert (pairs[0]["count"], pairs[0]["keys"], pairs[0]["median_s"]) == (2, 2, 60.0)
    found = await given.funnels.funnel(pairs[0]["steps"], HOUR, within=5 * MINUTE, by="trace_id")
    assert [step["keys"] for step in rows(found)] == [3, 2]


async def test_what_follows_what(given: Given) -> None:
    pairs = rows(await given.funnels.successions(HOUR, within=300 * SECOND, by="user_id"))
    assert [(one["from"], one["to"], one["count"]) for one in pairs] == [
        ("cart", "pay", 2), ("pay", "ship", 1),
    ]  # fmt: skip
    assert pairs[0]["lift"] == 1.5
    by_service = rows(await given.funnels.successions(HOUR, within=MINUTE, by="service"))
    assert {(one["from"], one["to"]) for one in by_service} >= {("cart", "pay")}


async def test_more_than_is_read_is_said(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_ROWS", 4)
    monkeypatch.setattr(reading, "_PAGE", 2)
    whole = Funnels(given.database, Templates(given.database))
    found = await whole.funnel(["cart", "pay"], HOUR, within=300 * SECOND, by="user_id")
    assert [step["keys"] for step in rows(found)] == [4, 0]
    assert "Read 4 records" in (found.note or "")
    monkeypatch.undo()


async def test_pages_are_joined_without_a_gap(
    given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_PAGE", 2)
    found = await given.funnels.funnel(["cart", "pay"], HOUR, within=300 * SECOND, by="user_id")
    assert [step["keys"] for step in rows(found)] == [4, 2]
    assert found.note is None


async def test_what_is_wrong_is_told(given: Given) -> None:
    with pytest.raises(NotFound) as unknown:
        await given.funnels.funnel(["cart", "pey"], HOUR, within=1, by="user_id")
    assert "'pay'" in (unknown.value.hint or "")
    with pytest.raises(InvalidArgument) as attribute:
        await given.funnels.funnel(["cart", "pay"], HOUR, within=1, by="usr_id")
    assert "'user_id'" in (attribute.value.hint or "")
    with pytest.raises(InvalidArgument):
        await given.funnels.funnel(["cart"], HOUR, within=1, by="user_id")


async def test_no_records_are_no_error(given: Given) -> None:
    found = await given.funnels.successions(HOUR, within=1, by="trace_id")
    assert found.rows == []
    assert found.note
