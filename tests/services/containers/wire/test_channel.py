"""What a channel makes of a server that behaves in any way."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest

from mcp_hub.adapters.errors import TimedOut, Unavailable
from mcp_hub.services.background import in_background
from mcp_hub.services.containers.wire.channel import Channel
from mcp_hub.services.containers.wire.messages import RpcError
from tests.services.containers.wire.processes import RecordingCaller
from tests.services.containers.wire.scripted import Scripted
from tests.waiting import eventually

Outcomes = list[dict[str, Any] | Exception]


class Talk:
    """A channel, its server, and requests that run beside the test."""

    def __init__(self, max_line: int) -> None:
        self.server = Scripted()
        self.logged: list[str] = []
        self.notices: list[tuple[str, dict[str, Any]]] = []
        self.channel = Channel(
            self.server,
            log=self.logged.append,
            notified=lambda *notice: self.notices.append(notice),
            max_line=max_line,
        )
        self.outcomes: Outcomes = []

    async def request(
        self,
        method: str = "tools/call",
        caller: RecordingCaller | None = None,
        timeout_s: float = 5,
        **params: Any,
    ) -> None:
        try:
            result = await self.channel.request(method, params, caller=caller, timeout_s=timeout_s)
            self.outcomes.append(result)
        except (RpcError, TimedOut, Unavailable) as error:
            self.outcomes.append(error)


@asynccontextmanager
async def talking(max_line: int = 10_000) -> AsyncIterator[tuple[Talk, anyio.abc.TaskGroup]]:
    talk = Talk(max_line)
    try:
        async with in_background(talk.channel.run), anyio.create_task_group() as tasks:
            yield talk, tasks
    finally:
        talk.server.close()


async def test_a_request_and_its_answer() -> None:
    async with talking() as (talk, tasks):
        tasks.start_soon(lambda: talk.request(x=1))
        asked = await talk.server.next()
        assert asked == {
            "jsonrpc": "2.0", "id": asked["id"], "method": "tools/call", "params": {"x": 1},
        }  # fmt: skip
        await talk.server.answer(asked, {"y": [2]})
    assert talk.outcomes == [{"y": [2]}]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"error": {"code": -1, "message": "no", "data": {"a": 1}}}, (-1, "no", {"a": 1})),
        ({"error": {"code": "x"}}, (-32603, "An error without a message.", None)),
        ({"error": "nonsense"}, (-32603, "nonsense", None)),
        ({"error": None}, (-32603, "None", None)),
        ({"result": [1]}, (-32603, "The server's result is not an object.", None)),
        ({"result": None}, (-32603, "The server's result is not an object.", None)),
    ],
)
async def test_an_error_or_what_stands_for_one(answer: dict[str, Any], expected: Any) -> None:
    async with talking() as (talk, tasks):
        tasks.start_soon(talk.request)
        asked = await talk.server.next()
        await talk.server.write({"id": asked["id"], **answer})
    [error] = talk.outcomes
    assert isinstance(error, RpcError)
    assert (error.code, error.message, error.data) == expected


async def test_answers_to_nothing_are_counted_and_dropped() -> None:
    async with talking() as (talk, tasks):
        tasks.start_soon(talk.request)
        asked = await talk.server.next()
        for wrong in (1, None, "other-1", asked["id"] + "0", [asked["id"]], {"id": asked["id"]}):
            await talk.server.write({"id": wrong, "result": {"wrong": True}})
        answers = [{"id": asked["id"], "result": {which: True}} for which in ("right", "twice")]
        await talk.server.write(b"\n".join(map(msgspec.json.encode, answers)) + b"\n")
        await talk.server.answer(asked, {"late": True})
        await eventually(lambda: talk.channel.strays == 8)
    assert talk.outcomes == [{"right": True}]


async def test_an_answer_after_the_time_is_dropped_and_the_server_told() -> None:
    async with talking() as (talk, tasks):
        tasks.start_soon(lambda: talk.request(timeout_s=0.05))
        asked = await talk.server.next()
        told = await talk.server.next()
        assert told["method"] == "notifications/cancelled"
        assert told["params"] == {"requestId": asked["id"], "reason": "The request timed out."}
        await talk.server.answer(asked)
        await eventually(lambda: talk.channel.strays == 1)
        assert isinstance(talk.outcomes[0], TimedOut)
        tasks.start_soon(talk.request)
        await talk.server.answer(await talk.server.next(), {"next": 1})
    assert talk.outcomes[1] == {"next": 1}


async def test_a_caller_that_is_cancelled_cancels_at_the_server() -> None:
    async with talking() as (talk, _):
        async with anyio.create_task_group() as own:
            own.start_soon(talk.request)
            asked = await talk.server.next()
            own.cancel_scope.cancel()
        told = await talk.server.next()
        assert told["params"]["requestId"] == asked["id"]
        assert talk.channel.in_flight == 0


@pytest.mark.parametrize("method", ["initialize", "server/discover"])
async def test_a_greeting_is_never_cancelled(method: str) -> None:
    async with talking() as (talk, tasks):
        await talk.request(method, timeout_s=0.01)
        tasks.start_soon(talk.request)
        assert (await talk.server.next())["method"] == method
        asked = await talk.server.next()
        assert asked["method"] == "tools/call"
        await talk.server.answer(asked)


async def test_what_is_no_message_is_kept_for_the_error() -> None:
    async with talking(max_line=600) as (talk, tasks):
        tasks.start_soon(talk.request)
        asked = await talk.server.next()
        await talk.server.write(
            b"Starting\xff up\r\n\n", b'{"level": "info"}\n', b'{"id": 1', b"\n", b"[1]\n", b"[\n",
            b"x" * 1000, b"y" * 1000 + b"\n", b'{"params": [1], "method": "a"}\n',
        )  # fmt: skip
        await eventually(lambda: talk.channel.noise_count == 7)
        assert talk.channel.noise[0] == "Starting\ufffd up"
        assert any("beyond the limit" in line for line in talk.channel.noise)
        assert len(talk.logged) == 7
        await talk.server.write(b"about to fail\n")
        talk.server.end()
        assert asked
    [error] = talk.outcomes
    assert isinstance(error, Unavailable)
    assert error.message == "The server ended."
    assert error.hint
    assert error.hint.endswith("about to fail")
    with pytest.raises(Unavailable, match="The server ended"):
        await talk.channel.request("ping", {}, timeout_s=1)


async def test_an_answer_without_a_line_end_counts_when_the_server_ends() -> None:
    async with talking() as (talk, tasks):
        tasks.start_soon(talk.request)
        asked = await talk.server.next()
        await talk.server.write(b'{"id": "%s", "result": {"last": 1}}' % asked["id"].encode())
        talk.server.end()
    assert talk.outcomes == [{"last": 1}]


async def test_bytes_that_are_no_text_and_batches_do_not_lose_an_answer() -> None:
    async with talking() as (talk, tasks):
        for _ in range(3):
            tasks.start_soon(talk.request)
        ids = [(await talk.server.next())["id"].encode() for _ in range(3)]
        await talk.server.write(
            b'{"id": "%s", "result": {"text": "caf\xe9"}}\n' % ids[0],
            b'[{"id": "%s", "result": {"a": 1}}, {"id": "%s", "result": {"b": 2}}]\n' % (*ids[1:],),
        )
    assert talk.outcomes == [{"text": "caf\ufffd"}, {"a": 1}, {"b": 2}]


async def test_notices_go_where_they_belong() -> None:
    one, other = RecordingCaller(), RecordingCaller()
    async with talking() as (talk, tasks):
        tasks.start_soon(lambda: talk.request(caller=one, _meta={"progressToken": "own", "k": 1}))
        first = await talk.server.next()
        assert first["params"]["_meta"] == {"progressToken": first["id"], "k": 1}
        log = {"method": "notifications/message", "params": {"level": "info", "data": "alone"}}
        await talk.server.write(log)
        await eventually(lambda: len(one.logged) == 1)
        tasks.start_soon(lambda: talk.request(caller=other))
        second = await talk.server.next()
        for token, value in ((first["id"], 1), (second["id"], 2), ("unknown", 3), ([], 4)):
            params = {"progressToken": token, "progress": value}
            await talk.server.write({"method": "notifications/progress", "params": params})
        changed = {"method": "notifications/tools/list_changed"}
        await talk.server.write(log, changed)
        await eventually(lambda: len(talk.notices) == 2)
        await talk.server.answer(first)
        await talk.server.answer(second)
    assert one.progressed == [{"progress": 1, "progressToken": "own"}]
    assert other.progressed == [{"progress": 2}]
    assert talk.notices == [
        ("notifications/message", log["params"]), ("notifications/tools/list_changed", {}),
    ]  # fmt: skip


ELICIT = {"jsonrpc": "2.0", "id": 5, "method": "elicitation/create", "params": {"message": "?"}}


async def test_a_question_goes_to_the_one_who_can_be_meant() -> None:
    caller = RecordingCaller({"action": "decline"}, RecordingCaller.SILENT)
    async with talking() as (talk, tasks):
        await talk.server.write(ELICIT)
        assert "no call is in flight" in (await talk.server.next())["error"]["message"]

        tasks.start_soon(lambda: talk.request("tools/list", caller=RecordingCaller()))
        listing = await talk.server.next()
        tasks.start_soon(lambda: talk.request(caller=caller))
        asked = await talk.server.next()
        await talk.server.write(ELICIT)
        assert await talk.server.next() == {
            "jsonrpc": "2.0", "id": 5, "result": {"action": "decline"},
        }  # fmt: skip
        assert caller.asked == [("elicitation/create", {"message": "?"})]

        await talk.server.write({**ELICIT, "id": "ping", "method": "ping"})
        assert (await talk.server.next())["result"] == {}
        await talk.server.write({**ELICIT, "method": "tasks/get"})
        assert (await talk.server.next())["error"]["code"] == -32601

        # Withdrawn by the server; the id may then be used again, and meanwhile not.
        await talk.server.write(ELICIT, ELICIT)
        await eventually(lambda: caller.waiting == 1 and talk.channel.noise_count == 1)
        cancelled = {"method": "notifications/cancelled", "params": {"requestId": 5}}
        await talk.server.write(cancelled)
        await eventually(lambda: caller.waiting == 0)

        tasks.start_soon(lambda: talk.request(caller=caller))
        another = await talk.server.next()
        await talk.server.write(ELICIT)
        refused = await talk.server.next()
        assert 'state="per_session"' in refused["error"]["message"]
        for request in (listing, asked, another):
            await talk.server.answer(request)


async def test_a_question_ends_with_the_call_it_belongs_to() -> None:
    caller = RecordingCaller(RecordingCaller.SILENT)
    async with talking() as (talk, tasks):
        tasks.start_soon(lambda: talk.request(caller=caller))
        asked = await talk.server.next()
        await talk.server.write(ELICIT)
        await eventually(lambda: caller.waiting == 1)
        await talk.server.answer(asked)
        await eventually(lambda: caller.waiting == 0)
        assert talk.server.unread == 0


async def test_a_caller_that_fails_answers_with_an_error() -> None:
    caller = RecordingCaller(ZeroDivisionError(), Unavailable("away"), RpcError(-5, "no"))
    async with talking() as (talk, tasks):
        tasks.start_soon(lambda: talk.request(caller=caller))
        asked = await talk.server.next()
        codes = []
        for _ in range(3):
            await talk.server.write(ELICIT)
            codes.append((await talk.server.next())["error"]["code"])
        assert codes == [-32603, -32603, -5]
        await talk.server.answer(asked)


async def test_a_slow_caller_holds_nobody_else_up() -> None:
    slow = RecordingCaller()
    slow.may_go_on = anyio.Event()
    async with talking() as (talk, tasks):
        tasks.start_soon(lambda: talk.request(caller=slow))
        first = await talk.server.next()
        params = {"progressToken": first["id"], "progress": 1}
        for _ in range(1000):
            await talk.server.write({"method": "notifications/progress", "params": params})
        await talk.server.answer(first, {"slow": 1})
        tasks.start_soon(talk.request)
        await talk.server.answer(await talk.server.next(), {"quick": 1})
        await eventually(lambda: talk.outcomes == [{"quick": 1}])
        slow.may_go_on.set()
    assert talk.outcomes == [{"quick": 1}, {"slow": 1}]
    assert 0 < len(slow.progressed) < 1000


async def test_letting_go_fails_what_waits() -> None:
    talk = Talk(1000)
    async with anyio.create_task_group() as tasks:
        async with in_background(talk.channel.run):
            tasks.start_soon(talk.request)
            await talk.server.next()
        await eventually(lambda: len(talk.outcomes) == 1)
    talk.server.close()
    assert isinstance(talk.outcomes[0], Unavailable)
    assert talk.channel.ended == "The hub let go of the server."
