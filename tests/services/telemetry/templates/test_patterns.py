"""Templates of a window: counted, compared with before, new or not, on both databases."""

import pytest

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import NotFound
from mcp_hub.services.telemetry.records.searching import Searching
from mcp_hub.services.telemetry.templates.patterns import Patterns
from mcp_hub.services.telemetry.templates.templates import Templates
from tests.services.recorded import HOUR, MINUTE, NOW, Recorded, rows


class Given(Recorded):
    @property
    def patterns(self) -> Patterns:
        return Patterns(self.database, Templates(self.database))


@pytest.fixture
async def given(store: Database) -> Given:
    return Given(store)


async def test_words_that_vary_make_one_template_of_several_masks(given: Given) -> None:
    await given.logs(90, "user alice logged in from 10.0.0.1")
    await given.logs(30, "user bob logged in from 10.0.0.2", "user ann logged in from 10.0.0.3")
    await given.logs(10, "disk /dev/sda is 93% full", service="node", severity="warn")
    first, second = rows(await given.patterns.find(HOUR))
    assert first["template"] == "user <*> logged in from <*>"
    assert (first["count"], first["before"], first["share"]) == (2, 1, 0.6667)
    assert first["services"] == "auth"
    assert first["severity"] is None
    assert not first["new"]
    assert first["example"] in (
        "user bob logged in from 10.0.0.2", "user ann logged in from 10.0.0.3",
    )  # fmt: skip
    assert second["severity"] == "warn"
    assert second["new"]
    assert second["first_seen"] == second["last_seen"]


async def test_a_new_user_is_no_new_template_but_a_new_statement_is(given: Given) -> None:
    await given.logs(90, "user alice logged in", "user bob logged in")
    await given.logs(5, *["user carol logged in"] * 3)
    await given.logs(4, "token of carol revoked: signature mismatch")
    found = rows(await given.patterns.find(HOUR, new_since=NOW - 60 * MINUTE))
    assert [(row["template"], row["new"]) for row in found] == [
        ("token of carol revoked: signature mismatch", True),
        ("user <*> logged in", False),
    ]


async def test_nothing_is_seen_last_before_it_is_seen_first(given: Given) -> None:
    begun = (NOW // MINUTE - 5) * MINUTE
    for second in (41, 50):
        log = {"kind": "log", "name": "app", "service": "shop", "time": begun + second * 10**9}
        await given.add(log | {"body": "queue of shop is full"})
    (row,) = rows(await given.patterns.find(HOUR))
    assert row["last_seen"] == row["first_seen"]
    assert row["first_seen"].endswith(":41Z")
    (mask,) = rows(await given.patterns.masks(HOUR, row["template_id"]))
    assert mask["last_seen"] == mask["first_seen"] == row["first_seen"]


async def test_events_without_a_body_are_counted_by_their_names(given: Given) -> None:
    event = {"name": "cart.checkout", "time": NOW - MINUTE, "service": "shop"}
    await given.add(event, event | {"body": "paid with card 4242"})
    await given.add(event | {"kind": "metric", "value": 1})
    found = rows(await given.patterns.find(HOUR))
    assert sorted((row["template"], row["count"]) for row in found) == [
        ("cart.checkout", 1), ("paid with card <*>", 1),
    ]  # fmt: skip


async def test_one_text_of_several_services_is_one_template(given: Given) -> None:
    for service in "abcdefg":
        await given.logs(1, "cache warmed in 12 ms", service=service)
    (row,) = rows(await given.patterns.find(HOUR))
    assert row["count"] == 7
    assert row["services"] == "a, b, c, d, e and 2 more"
    (row,) = rows(await given.patterns.find(HOUR, service="b"))
    assert row["count"] == 1


async def test_severities_keep_texts_apart(given: Given) -> None:
    await given.logs(1, "request for tenant acme done", severity="info")
    await given.logs(1, "request for tenant initech done", severity="error")
    assert len((await given.patterns.find(HOUR)).rows) == 2


async def test_pages_and_words(given: Given) -> None:
    bodies = [f"{word} pump {'slow' * n} halted" for n, word in enumerate(["red", "blue", "tan"])]
    await given.logs(1, *bodies, "nothing to see", bodies[2])
    page = await given.patterns.find(HOUR, text="PUMP halted", limit=2)
    assert page.truncated
    assert [row["count"] for row in rows(page)] == [2, 1]
    rest = await given.patterns.find(HOUR, text="PUMP halted", limit=2, cursor=page.next_cursor)
    assert len(rest.rows) == 1
    assert not rest.truncated
    assert rest.next_cursor is None


async def test_a_templates_masks_have_the_numbers_that_records_carry(given: Given) -> None:
    await given.logs(1, "user alice logged in", "user bob logged in", "user bob logged in")
    (row,) = rows(await given.patterns.find(HOUR))
    masks = rows(await given.patterns.masks(HOUR, row["template_id"]))
    assert [(mask["mask"], mask["count"]) for mask in masks] == [
        ("user bob logged in", 2), ("user alice logged in", 1),
    ]  # fmt: skip
    assert {int(mask["pattern"]) for mask in masks} == set(
        (await Templates(given.database).current()).patterns
    )


async def test_ids_stay_as_long_as_no_mask_changes_the_template(given: Given) -> None:
    await given.logs(50, "user alice logged in", "user bob logged in", "started worker")
    before = {row["template"]: row["template_id"] for row in rows(await given.patterns.find(HOUR))}
    await given.logs(5, "user carol logged in", "an unrelated statement about queues")
    after = {row["template"]: row["template_id"] for row in rows(await given.patterns.find(HOUR))}
    assert before.items() <= after.items()


async def test_what_does_not_exist_is_told_with_the_nearest(given: Given) -> None:
    await given.logs(1, "hello")
    with pytest.raises(NotFound) as error:
        await given.patterns.find(HOUR, service="auht")
    assert "'auth'" in (error.value.hint or "")
    with pytest.raises(NotFound):
        await given.patterns.masks(HOUR, "0" * 16)


async def test_nothing_recorded_is_no_error(given: Given) -> None:
    assert (await given.patterns.find(HOUR)).rows == []


async def test_a_templates_records_and_no_others_are_found(given: Given) -> None:
    await given.logs(3, "user alice logged in", "user bob logged in", "worker started")
    event = {"name": "log", "time": NOW - MINUTE, "body": "user eve logged in"}
    await given.add(event, {"name": "ready", "time": NOW - MINUTE})
    ids = {row["template"]: row["template_id"] for row in rows(await given.patterns.find(HOUR))}
    searching = Searching(given.database)
    for template, expected in (("user <*> logged in", 2), ("worker started", 1), ("ready", 1)):
        found = await searching.search(also=await given.patterns.filter_of(ids[template]))
        assert len(found.rows) == expected, template
