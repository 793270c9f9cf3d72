"""Questions that are results, for a caller who is asked instead."""

from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from mcp_hub.adapters.errors import TimedOut
from mcp_hub.services.containers.wire.calls import Caller
from mcp_hub.services.containers.wire.input_required import MAX_ROUNDS, resolving
from mcp_hub.services.containers.wire.messages import RpcError
from tests.services.containers.wire.processes import RecordingCaller

ELICIT = {"method": "elicitation/create", "params": {"message": "?"}}


class Server:
    """Answers with the results it is given, the last for ever."""

    def __init__(self, *results: dict[str, Any]) -> None:
        self.results = list(results)
        self.called: list[dict[str, Any]] = []

    async def request(
        self, method: str, params: Mapping[str, Any], *, caller: Caller | None, timeout_s: float
    ) -> dict[str, Any]:
        assert method == "tools/call"
        self.called.append(dict(params))
        return self.results[0] if len(self.results) == 1 else self.results.pop(0)


def required(**fields: Any) -> dict[str, Any]:
    return {"resultType": "input_required", **fields}


async def resolve(server: Server, caller: RecordingCaller, timeout_s: float = 5) -> dict[str, Any]:
    return await resolving(
        server.request, "tools/call", {"name": "t"}, caller=caller, timeout_s=timeout_s
    )


async def test_all_is_answered_and_the_state_given_back() -> None:
    server = Server(
        required(inputRequests={"a": ELICIT, "b": {"method": "roots/list"}}, requestState="s1"),
        required(requestState="s2"),
        required(inputRequests={"c": ELICIT}),
        {"content": []},
    )
    caller = RecordingCaller({"n": 1}, {"n": 2}, {"n": 3})
    assert await resolve(server, caller) == {"content": []}
    assert server.called == [
        {"name": "t"},
        {"name": "t", "requestState": "s1", "inputResponses": {"a": {"n": 1}, "b": {"n": 2}}},
        {"name": "t", "requestState": "s2"},
        {"name": "t", "inputResponses": {"c": {"n": 3}}},
    ]
    assert caller.asked[1] == ("roots/list", {})


async def test_a_caller_that_refuses_ends_it_and_is_asked_nothing_more() -> None:
    server = Server(required(inputRequests={"a": ELICIT, "b": ELICIT}))
    caller = RecordingCaller(RecordingCaller.SILENT, RpcError(-1, "no"))
    with pytest.raises(RpcError, match="no"):
        await resolve(server, caller)
    assert caller.waiting == 0


async def test_a_server_that_asks_without_end_is_given_up() -> None:
    server = Server(required(inputRequests={"a": ELICIT}))
    with pytest.raises(RpcError, match=f"{MAX_ROUNDS} times"):
        await resolve(server, RecordingCaller(*[{"n": 1}] * 20))
    assert len(server.called) == MAX_ROUNDS + 1


async def test_a_question_without_a_method_is_the_servers_fault() -> None:
    with pytest.raises(RpcError, match="has no method"):
        await resolve(Server(required(inputRequests={"a": 5})), RecordingCaller())


async def test_a_caller_that_keeps_silent_runs_out_of_time() -> None:
    server = Server(required(inputRequests={"a": ELICIT}))
    caller = RecordingCaller(RecordingCaller.SILENT)
    with anyio.fail_after(5), pytest.raises(TimedOut, match=r"within 0\.05 s"):
        await resolve(server, caller, timeout_s=0.05)
