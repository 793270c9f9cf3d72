"""Calls of a real server's tools, in both eras, by clients of both."""

import json
from functools import partial
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import Conflict, InvalidArgument, NotFound, Unavailable
from mcp_hub.services.containers import store
from mcp_hub.services.containers.calling import Calling, limited
from mcp_hub.services.containers.catalog import digests, listed
from mcp_hub.services.containers.checking import check
from mcp_hub.services.containers.policy import parse_spec
from mcp_hub.services.containers.store import NewRevision
from mcp_hub.services.containers.suspending import Suspending
from mcp_hub.services.containers.wire.messages import RpcError
from tests.waiting import eventually

from .carrying import Carrier, carrier
from .wire.processes import RecordingCaller

ERAS = ["2025-11-25", "2026-07-28"]


async def calling_of(database: SqliteDatabase, server: Carrier, **said: Any) -> Calling:
    spec = parse_spec({"name": "srv", "image": "x", "call_timeout_s": 20, **said})
    catalog = await listed(server.ask, server.capabilities)
    new = NewRevision(spec, "sha256:1", [], "test", catalog, digests(catalog))
    await database.write(partial(store.add_revision, new=new))
    return Calling(database, server)


@pytest.mark.parametrize("protocol", ERAS)
async def test_the_result_is_the_tools_own(database: SqliteDatabase, protocol: Any) -> None:
    async with carrier(protocol) as server:
        calling = await calling_of(database, server)
        result = await calling.call("srv", "echo", {"text": "hello"}, session="s")
        assert result["content"][0]["text"] == "hello"
        assert result["structuredContent"] == {"result": "hello"}
        assert server.sessions == [None]
        caller = RecordingCaller()
        await calling.call("srv", "steps", {"count": 2}, caller=caller)
        assert [step["message"] for step in caller.progressed] == ["step 1", "step 2"]


@pytest.mark.parametrize("protocol", ERAS)
async def test_a_client_that_can_be_asked_is(database: SqliteDatabase, protocol: Any) -> None:
    async with carrier(protocol) as server:
        calling = await calling_of(database, server)
        caller = RecordingCaller({"action": "accept", "content": {"name": "Ada"}})
        result = await calling.call("srv", "greet", {}, caller=caller)
        assert result["content"][0]["text"] == "Hello Ada"
        ((method, params),) = caller.asked
        assert (method, params["message"]) == ("elicitation/create", "Who are you?")


async def test_a_client_that_gets_questions_as_results_gets_those_of_an_old_server(
    database: SqliteDatabase,
) -> None:
    async with carrier("2025-11-25") as server, anyio.create_task_group() as tasks:
        calling = await calling_of(database, server)
        suspending = Suspending(tasks)
        client = RecordingCaller()
        work = partial(calling.call, "srv", "greet", {}, may_ask_back=True)
        asked = await suspending.begin("me", lambda c: work(caller=c), client)
        assert asked["resultType"] == "input_required"
        question = asked["inputRequests"]["question"]
        assert question["params"]["message"] == "Who are you?"
        state = asked["requestState"]
        with pytest.raises(Unavailable, match="no longer there"):
            await suspending.go_on("somebody else", state, {}, client)
        # Called again without the answer, it asks again.
        assert await suspending.go_on("me", state, {}, client) == asked
        answer = {"question": {"action": "accept", "content": {"name": "Ada"}}}
        result = await suspending.go_on("me", state, answer, client)
        assert result["content"][0]["text"] == "Hello Ada"
        with pytest.raises(Unavailable, match="no longer there"):
            await suspending.go_on("me", state, answer, client)
        tasks.cancel_scope.cancel()


async def test_a_new_server_asks_by_its_result_where_that_may_be(database: SqliteDatabase) -> None:
    async with carrier("2026-07-28") as server:
        calling = await calling_of(database, server)
        asked = await calling.call("srv", "greet", {}, may_ask_back=True)
        ((key, question),) = asked["inputRequests"].items()
        assert question["params"]["message"] == "Who are you?"
        given = {"inputResponses": {key: {"action": "accept", "content": {"name": "Ada"}}}}
        if "requestState" in asked:
            given["requestState"] = asked["requestState"]
        result = await calling.call("srv", "greet", {}, given=given, may_ask_back=True)
        assert result["content"][0]["text"] == "Hello Ada"


async def test_what_ends_a_suspended_call_is_raised_where_it_is_waited_for(
    database: SqliteDatabase,
) -> None:
    async with carrier("2025-11-25") as server, anyio.create_task_group() as tasks:
        calling = await calling_of(database, server)
        suspending = Suspending(tasks)
        work = partial(calling.call, "srv", "gret", {})
        with pytest.raises(NotFound, match="no tool 'gret'"):
            await suspending.begin("me", lambda c: work(caller=c), RecordingCaller())
        hanging = partial(calling.call, "srv", "hang", {"path": "/dev/null"})
        with anyio.move_on_after(0.2):
            await suspending.begin("me", lambda c: hanging(caller=c), RecordingCaller())
        await eventually(lambda: server.session.channel.in_flight == 0)
        tasks.cancel_scope.cancel()


async def test_calls_that_cannot_be_made_say_why(database: SqliteDatabase) -> None:
    async with carrier("2025-11-25") as server:
        calling = await calling_of(database, server, state="per_session")
        with pytest.raises(InvalidArgument, match="per session"):
            await calling.call("srv", "echo", {"text": "x"})
        await calling.call("srv", "echo", {"text": "x"}, session="mine")
        assert server.sessions == ["mine"]
        with pytest.raises(InvalidArgument, match="'text' is a required property"):
            await calling.call("srv", "echo", {}, session="s")
        with pytest.raises(InvalidArgument, match=r"arguments\.text of echo: 5 is not of type"):
            await calling.call("srv", "echo", {"text": 5}, session="s")
        with pytest.raises(RpcError):
            await server.ask("no/such", {})
        await database.write(partial(store.enable, name="srv", enabled=False))
        with pytest.raises(Conflict, match="is stopped"):
            await calling.call("srv", "echo", {"text": "x"}, session="s")


SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "pattern": "(a+)+$"}, "days": {"type": "integer"}},
    "additionalProperties": False,
}


async def test_arguments_are_checked_against_a_strangers_schema() -> None:
    with pytest.raises(InvalidArgument) as unknown:
        await check("weather", SCHEMA, {"ciity": "Oslo"})
    assert "Did you mean 'city'?" in (unknown.value.hint or "")
    # A pattern that would take for ever is not tried.
    await check("weather", SCHEMA, {"city": "a" * 60 + "!"})
    doubling: dict[str, Any] = {"$ref": "#/$defs/d0", "$defs": {"d40": {}}}
    for at in range(40):
        doubling["$defs"][f"d{at}"] = {"allOf": [{"$ref": f"#/$defs/d{at + 1}"}] * 2}
    await check("t", doubling, {})
    for schema in (
        {"$ref": "#"}, {"$ref": "http://127.0.0.1:9/x"}, {"$ref": "file:///etc/passwd"},
        {"type": 5}, {"$dynamicRef": "#x"}, None, [], {"$schema": "x:y", "type": "object"},
    ):  # fmt: skip
        await check("t", schema, {"a": 1})
    with pytest.raises(InvalidArgument):
        await check("t", {"type": "object", "required": ["x"]}, {})


texts = st.text(alphabet="aé😀\n", max_size=30)
blocks = st.one_of(
    texts.map(lambda text: {"type": "text", "text": text}),
    texts.map(lambda text: {"type": "resource", "resource": {"uri": "x:y", "text": text}}),
    st.just({"type": "image", "data": "AAAA", "mimeType": "image/png"}),
    st.just({"type": "hologram", "depth": 3}),
)


@given(
    st.lists(blocks, max_size=5),
    st.none() | st.dictionaries(texts, texts, max_size=3),
    st.integers(0, 60),
)
def test_a_result_is_whole_or_says_what_is_missing(
    content: list[dict[str, Any]], structured: dict[str, str] | None, most: int
) -> None:
    result: dict[str, Any] = {"content": content, "isError": True}
    if structured is not None:
        result["structuredContent"] = structured
    before = json.dumps(result)
    shown = limited(result, most)
    assert json.dumps(result) == before
    if shown is result:
        return
    *kept, note = shown["content"]
    assert note["text"].startswith("[Cut by MCP Hub: ")
    assert shown["isError"] is True
    assert (
        sum(len(block.get("text") or block.get("resource", {}).get("text", "")) for block in kept)
        <= most
    )
    assert len(json.dumps(shown.get("structuredContent", ""), ensure_ascii=False)) <= max(most, 2)
    # What has no text is there still.
    assert [b for b in kept if b["type"] in ("image", "hologram")] == [
        b for b in content if b["type"] in ("image", "hologram")
    ]
