"""Containers over HTTP, as a program sees them: a real server, a real engine."""

import itertools
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from starlette.routing import Route

from mcp_hub.server.app import create_server
from mcp_hub.server.http import create_app
from mcp_hub.server.lazy_hub import lazy_hub
from mcp_hub.server.settings import Settings
from tests.processes import hub_environment
from tests.waiting import eventually

from .serving import Served, serving, wait_until_ready

ALL = "/api/containers"
ECHO = f"{ALL}/echo"
SLOW = f"{ALL}/slow"
EVENTS = {"accept": "text/event-stream"}
TOKENS = {
    "READER": ("r" * 20, "read"),
    "WRITER": ("w" * 20, "write"),
    "OPERATOR": ("o" * 20, "admin"),
}
_lines = itertools.count(3)
LOUD = """\
import sys, runpy
for n in range(30): print('line', n, file=sys.stderr, flush=True)
runpy.run_path('/servers/chatty.py', run_name='__main__')
"""


def spec(image: str, file: str, **more: Any) -> dict[str, Any]:
    return {
        "image": image, "command": ["python3", f"/servers/{file}.py"], "stop_grace_s": 0, **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, engine_url: str, python_image: str
) -> Iterator[Served]:
    """A hub with two servers deployed: chatty, which says 30 lines first, and slow."""
    variables = {"MCP_HUB_CONTAINERS__ENGINE_URL": engine_url}
    with serving(hub_environment(tmp_path_factory.mktemp("hub"), **variables)) as served:
        wait_until_ready(served)
        with httpx2.Client(base_url=served.url, timeout=60) as http:
            loud = spec(python_image, "chatty", command=["python3", "-c", LOUD])
            for name, given in (("echo", loud), ("slow", spec(python_image, "slow"))):
                made = http.put(f"{ALL}/{name}", json=given)
                assert made.status_code == 200, made.text
        yield served


@pytest.fixture(scope="module")
def documented(served: Served) -> dict[str, Any]:
    found: dict[str, Any] = httpx2.get(f"{served.url}/api/openapi.json").json()
    return found


@pytest.fixture
async def http(served: Served, documented: dict[str, Any]) -> AsyncIterator[httpx2.AsyncClient]:
    """A client that holds every answer against the document."""

    async def check(response: httpx2.Response) -> None:
        is_rest = response.request.url.path.startswith((ALL, "/api/openapi"))
        if is_rest and response.headers.get("content-type") == "application/json":
            await response.aread()
            check_documented(documented, response)

    hooks = {"response": [check]}
    async with httpx2.AsyncClient(base_url=served.url, timeout=60, event_hooks=hooks) as http:
        yield http


def check_documented(documented: dict[str, Any], response: httpx2.Response) -> None:
    request, paths = response.request, documented["paths"]
    parts = request.url.path.split("/")
    path = request.url.path
    if path not in paths:
        path = "/".join([*parts[:3], "{name}", *parts[4:]])
    told = paths[path][request.method.lower()]["responses"][str(response.status_code)]
    if "$ref" in told:
        told = documented["components"]["responses"][told["$ref"].rpartition("/")[2]]
    schema = told["content"]["application/json"]["schema"]
    whole = schema | {"components": documented["components"]}
    Draft202012Validator(whole).validate(response.json())


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, engine_url: str) -> Iterator[Served]:
    variables = {"MCP_HUB_CONTAINERS__ENGINE_URL": engine_url}
    for name, (token, scopes) in TOKENS.items():
        variables[f"MCP_HUB_AUTH__TOKENS__{name}__TOKEN"] = token
        variables[f"MCP_HUB_AUTH__TOKENS__{name}__SCOPES"] = scopes
    with serving(hub_environment(tmp_path_factory.mktemp("guarded"), **variables)) as served:
        wait_until_ready(served)
        yield served


async def called(http: httpx2.AsyncClient, path: str, tool: str, **arguments: Any) -> Any:
    response = await http.post(f"{path}/call", json={"tool": tool, "arguments": arguments})
    assert response.status_code == 200, response.text
    return response.json()


@asynccontextmanager
async def events(
    http: httpx2.AsyncClient, path: str, method: str = "GET", **given: Any
) -> AsyncIterator[AsyncIterator[dict[str, str]]]:
    """The events of a stream: their fields, and comments as `comment`."""
    headers = EVENTS | given.pop("headers", {})
    async with http.stream(method, path, headers=headers, **given) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")

        async def each() -> AsyncIterator[dict[str, str]]:
            fields: dict[str, str] = {}
            async for line in response.aiter_lines():
                if line:
                    key, _, value = line.partition(": ")
                    fields[key or "comment"] = value
                elif fields:
                    yield fields
                    fields = {}

        yield each()


async def settled(http: httpx2.AsyncClient) -> None:
    """Let ECHO say something that it has not said, and wait until the engine has all of it."""
    lines = next(_lines)
    await called(http, ECHO, "chat", lines=lines)
    await last_is(http, lines - 1)


async def last_is(http: httpx2.AsyncClient, number: int) -> None:
    async def is_there() -> bool:
        page = (await http.get(f"{ECHO}/logs", params={"tail": 1})).json()
        texts: list[str] = [line["text"] for line in page["lines"]]
        return texts == [f"line {number} of much that is said"]

    await eventually(is_there)


async def next_lines(stream: AsyncIterator[dict[str, str]], count: int) -> list[tuple[str, str]]:
    """The ids and texts of the next lines of a followed log."""
    found: list[tuple[str, str]] = []
    with anyio.fail_after(20):
        async for event in stream:
            if event.get("event") == "line":
                found.append((event["id"], json.loads(event["data"])["text"]))
                if len(found) == count:
                    break
    return found


async def test_deployments_are_listed_and_changed(
    http: httpx2.AsyncClient, python_image: str
) -> None:
    listed = (await http.get(ALL, params={"limit": 1})).json()
    assert [one["name"] for one in listed["items"]] == ["echo"]
    rest = (await http.get(ALL, params={"cursor": listed["next_cursor"]})).json()
    assert [one["name"] for one in rest["items"]] == ["slow"]

    given = spec(python_image, "counter", state="per_session")
    path = f"{ALL}/counter"
    async with events(http, path, "PUT", json=given) as stream:
        told = [event async for event in stream]
    assert "Starting counter once" in json.loads(told[0]["data"])["message"]
    made = json.loads(told[-1]["data"])
    assert (told[-1]["event"], made["revision"], made["changed"]) == ("result", 1, True)
    again = (await http.put(path, json=given)).json()
    assert (again["revision"], again["changed"]) == (1, False)
    second = (await http.put(path, json=given | {"tools": ["v*"]})).json()
    assert (second["revision"], second["tools"]) == (2, ["value"])
    back = (await http.post(f"{path}/rollback", json={"revision": 1})).json()
    assert back["revision"] == 3
    newest = (await http.get(f"{path}/revisions", params={"limit": 2})).json()
    assert [one["revision"] for one in newest["items"]] == [3, 2]
    assert newest["items"][0]["deployed_by"].startswith("python-httpx2")
    rest = (await http.get(f"{path}/revisions", params={"cursor": newest["next_cursor"]})).json()
    assert ([one["revision"] for one in rest["items"]], rest["next_cursor"]) == ([1], None)

    for session, expected in (("a", 1), ("a", 2), ("b", 1)):
        body = {"tool": "increment", "session": session}
        result = (await http.post(f"{path}/call", json=body)).json()
        assert result["structuredContent"] == {"result": expected}
    nameless = await http.post(f"{path}/call", json={"tool": "increment"})
    assert (nameless.status_code, nameless.json()["code"]) == (400, "invalid_argument")

    stopped = (await http.post(f"{path}/stop")).json()
    assert (stopped["status"], stopped["running"]) == ("stopped", 0)
    refused = await http.post(f"{path}/call", json={"tool": "value", "session": "a"})
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert (await http.post(f"{path}/start")).json()["enabled"] is True
    assert (await http.delete(path)).json()["removed"] is True
    gone = await http.get(path)
    assert (gone.status_code, gone.json()["code"]) == (404, "not_found")


async def test_every_route_is_documented(documented: dict[str, Any], tmp_path: Path) -> None:
    validate(documented)  # type: ignore[arg-type]
    settings = Settings(data_dir=tmp_path)
    async with lazy_hub(settings) as hub:
        app = create_app(settings, hub, create_server(settings, hub, transport="http"))
    routes = {
        (method, route.path)
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    told = {(method.upper(), path) for path, ways in documented["paths"].items() for method in ways}
    assert told == {(method, path) for method, path in routes if path.count("/") > 1}
    security = documented["components"]["securitySchemes"]["token"]
    assert security == {"type": "http", "scheme": "bearer"}


async def test_every_documented_operation_answers(
    http: httpx2.AsyncClient, documented: dict[str, Any], python_image: str
) -> None:
    bodies: dict[str, Any] = {
        "deployContainer": spec(python_image, "echo"),
        "callTool": {"tool": "echo", "arguments": {"text": "x"}},
        "rollBackContainer": {"revision": 1},
    }
    operations = [
        (method, path, told)
        for path, ways in documented["paths"].items()
        for method, told in ways.items()
    ]
    first, last = "deployContainer", ["stopContainer", "startContainer", "removeContainer"]
    operations.sort(
        key=lambda one: (
            one[2]["operationId"] != first,
            one[2]["operationId"] in last and last.index(one[2]["operationId"]) + 1,
        )
    )
    for method, path, told in operations:
        body = bodies.get(told["operationId"])
        response = await http.request(method, path.replace("{name}", "walked"), json=body)
        pushed = told["operationId"].startswith("push")
        assert response.status_code in ((400, 415) if pushed else (200,)), (told, response.text)


async def test_tools_are_found_called_and_measured(http: httpx2.AsyncClient) -> None:
    found = (await http.get(f"{ALL}/-/tools", params={"query": "how many calls"})).json()
    assert found["items"][0]["tool"] == "outcomes"
    own = (await http.get(f"{ECHO}/tools", params={"schemas": "true"})).json()
    assert [one["tool"] for one in own["items"]] == ["babble", "chat"]
    assert own["items"][1]["input_schema"]["required"] == ["lines"]

    result = await called(http, ECHO, "chat", lines=1)
    assert result["structuredContent"] == {"result": 1}
    assert result["content"] == [{"type": "text", "text": "1"}]
    stats = (await http.get(f"{ECHO}/stats")).json()
    (one,) = stats["instances"]
    assert 1_000_000 < one["memory_bytes"] <= one["memory_limit_bytes"] == 512 * 1024 * 1024
    assert one["pids"] >= 1
    assert one["cpu_s"] > 0
    shown = (await http.get(ECHO)).json()
    assert (shown["status"], shown["instances"][0]["id"]) == ("running", one["instance"])


async def test_changed_tools_are_approved(http: httpx2.AsyncClient, python_image: str) -> None:
    path = f"{ALL}/changer"
    made = await http.put(path, json=spec(python_image, "changer"))
    assert made.status_code == 200
    await called(http, path, "appear", name="fresh")

    async def held() -> bool:
        return (await http.get(path)).json()["quarantined_tools"] == ["fresh"]

    await eventually(held)
    refused = await http.post(f"{path}/call", json={"tool": "fresh"})
    assert (refused.status_code, refused.json()["code"]) == (403, "denied")
    unknown = await http.post(f"{path}/approve", json={"tools": ["frsh"]})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    approved = (await http.post(f"{path}/approve")).json()
    assert (approved["approved"], approved["quarantined"]) == (["fresh"], [])
    await http.delete(path)


@pytest.mark.parametrize("protocol", ["2025-11-25", "2026-07-28"])
async def test_a_question_that_nobody_can_answer_is_told(
    http: httpx2.AsyncClient, python_image: str, protocol: str
) -> None:
    path = f"{ALL}/asker"
    await http.put(path, json=spec(python_image, "asker", protocol=protocol))
    response = await http.post(f"{path}/call", json={"tool": "greet"})
    assert (response.status_code, response.json()["code"]) == (409, "conflict"), response.text
    assert "elicitation" in response.json()["message"]
    assert "over MCP" in response.json()["hint"]
    await http.delete(path)


def test_what_no_route_has_is_refused_as_the_routes_refuse(served: Served) -> None:
    nothing = httpx2.get(f"{served.url}/api/contain")
    assert (nothing.status_code, nothing.json()["code"]) == (404, "not_found")
    assert "/api/openapi.json" in nothing.json()["hint"]
    wrong = httpx2.post(f"{served.url}{ECHO}")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "invalid_argument")
    assert wrong.headers["allow"] in wrong.json()["message"]


async def test_a_calls_progress_and_result_are_events(http: httpx2.AsyncClient) -> None:
    body = {"tool": "work", "arguments": {"seconds": 0.2, "steps": 3}}
    async with events(http, f"{SLOW}/call", "POST", json=body) as stream:
        told = [event async for event in stream]
    assert [event["event"] for event in told] == ["progress"] * 3 + ["result"]
    assert json.loads(told[1]["data"]) == {"progress": 1.0, "total": 3.0, "message": "step 1"}
    assert json.loads(told[3]["data"])["structuredContent"] == {"result": 3}

    async with events(http, f"{SLOW}/call", "POST", json={"tool": "wrok"}) as stream:
        (error,) = [event async for event in stream]
    assert error["event"] == "error"
    assert json.loads(error["data"])["code"] == "not_found"
    assert "'work'" in json.loads(error["data"])["hint"]


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_a_call_ends_with_its_client(
    http: httpx2.AsyncClient, served: Served, accept: str
) -> None:
    before = (await called(http, SLOW, "outcomes"))["structuredContent"]
    body = {"tool": "work", "arguments": {"seconds": 60, "steps": 600}, "timeout_s": 120}

    async def running() -> bool:
        shown = (await called(http, SLOW, "outcomes"))["structuredContent"]
        return bool(shown["started"] == before["started"] + 1)

    async with (
        httpx2.AsyncClient(base_url=served.url, timeout=60) as leaving,
        anyio.create_task_group() as tasks,
    ):

        async def call() -> None:
            await leaving.post(f"{SLOW}/call", json=body, headers={"accept": accept})

        tasks.start_soon(call)
        await eventually(running)
        tasks.cancel_scope.cancel()

    async def cancelled() -> bool:
        shown = (await called(http, SLOW, "outcomes"))["structuredContent"]
        return bool(shown["cancelled"] == before["cancelled"] + 1)

    await eventually(cancelled)


async def test_logs_are_paged(http: httpx2.AsyncClient) -> None:
    await settled(http)
    page = (await http.get(f"{ECHO}/logs", params={"tail": 2})).json()
    numbers = [int(line["text"].split()[1]) for line in page["lines"]]
    assert numbers[1] == numbers[0] + 1
    assert page["truncated"] is True
    after = {"cursor": page["next_cursor"]}
    assert (await http.get(f"{ECHO}/logs", params=after)).json()["lines"] == []
    async with events(http, f"{ECHO}/logs", params=after) as stream:
        await called(http, ECHO, "chat", lines=1)
        ((_, text),) = await next_lines(stream, 1)
    assert text == "line 0 of much that is said"


async def test_followed_logs_go_on_where_they_broke_off(http: httpx2.AsyncClient) -> None:
    await settled(http)
    everything = []
    async with events(http, f"{ECHO}/logs", params={"tail": 1}) as stream:
        assert (await anext(stream)) == {"retry": "1000"}
        await next_lines(stream, 1)
        await called(http, ECHO, "chat", lines=50)
        everything += await next_lines(stream, 20)
    for count in (20, 10):
        last = {"last-event-id": everything[-1][0]}
        async with events(http, f"{ECHO}/logs", headers=last) as stream:
            everything += await next_lines(stream, count)
    assert [text for _, text in everything] == [f"line {n} of much that is said" for n in range(50)]
    assert len({id for id, _ in everything}) == 50


async def test_the_parts_of_a_long_line_are_each_told_once(http: httpx2.AsyncClient) -> None:
    await settled(http)
    path = f"{ECHO}/logs?stream=stdout"
    async with events(http, f"{path}&tail=1") as stream:
        ((start, _),) = await next_lines(stream, 1)
    # The engine keeps a line of a result that long in parts of 16 KiB, all of one moment.
    await called(http, ECHO, "babble", text="x" * 40_000)
    async with events(http, path, headers={"last-event-id": start}) as stream:
        whole = await next_lines(stream, 5)
    assert sum("(14,384 characters more)" in text for _, text in whole) == 4
    found: list[tuple[str, str]] = []
    for _ in whole:
        last = found[-1][0] if found else start
        async with events(http, path, headers={"last-event-id": last}) as stream:
            found += await next_lines(stream, 1)
    assert found == whole


async def test_followed_logs_go_on_in_the_next_container_and_end_with_the_last(
    http: httpx2.AsyncClient, python_image: str
) -> None:
    path = f"{ALL}/restarted"
    await http.put(path, json=spec(python_image, "chatty"))
    async with events(http, f"{path}/logs") as stream:
        for _ in range(2):
            await called(http, path, "chat", lines=1)
            lines = await next_lines(stream, 2)
            assert [text for _, text in lines] == ["chatty is up", "line 0 of much that is said"]
            await http.post(f"{path}/stop")
            await http.post(f"{path}/start")
        await http.delete(path)
        with anyio.fail_after(20):
            assert [event async for event in stream if "event" in event] == []
    gone = await http.get(f"{path}/logs", headers=EVENTS)
    assert (gone.status_code, gone.json()["code"]) == (404, "not_found")


async def test_a_follower_that_does_not_read_holds_nothing_but_itself_up(
    http: httpx2.AsyncClient, served: Served
) -> None:
    lines = 40_000
    await settled(http)
    async with events(http, f"{ECHO}/logs", params={"tail": 1}) as stream:
        await next_lines(stream, 1)
        before = resident(served)
        await called(http, ECHO, "chat", lines=lines)
        await last_is(http, lines - 1)
        grown = resident(served) - before
        texts = [text for _, text in await next_lines(stream, lines)]
    assert texts == [f"line {n} of much that is said" for n in range(lines)]
    assert grown < 8 * 1024 * 1024


def resident(served: Served) -> int:
    """Bytes of memory that the serving process has."""
    pages = int(Path(f"/proc/{served.process.pid}/statm").read_text().split()[1])
    return pages * 4096


async def test_an_idle_stream_is_kept_alive(http: httpx2.AsyncClient) -> None:
    async with events(http, f"{SLOW}/logs") as stream:
        with anyio.fail_after(15):
            while "comment" not in (event := await anext(stream)):
                assert event.get("event", "line") == "line"
    assert event["comment"].startswith("still here")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "complaint"),
    [
        ("GET", f"{ALL}?limit=0", None, 400, "invalid_argument", "limit of the query"),
        ("GET", f"{ALL}?limt=3", None, 400, "invalid_argument", "no key 'limt' in the query"),
        ("GET", f"{ALL}?cursor=x", None, 400, "invalid_argument", "not a cursor"),
        ("GET", f"{ALL}/ehco", None, 404, "not_found", "'ehco'"),
        ("GET", f"{ECHO}/logs?cursor=x", None, 400, "invalid_argument", "not a cursor"),
        ("POST", f"{ECHO}/call", {}, 400, "invalid_argument", "tool of the body"),
        ("POST", f"{ECHO}/call", {"tool": "chat"}, 400, "invalid_argument", "lines"),
        ("POST", f"{ECHO}/call", "x", 400, "invalid_argument", "JSON"),
        ("POST", f"{ECHO}/rollback", {"revision": 9}, 404, "not_found", "no revision 9"),
        ("PUT", f"{ALL}/bad", {}, 400, "invalid_argument", "image"),
        ("PUT", f"{ALL}/bad", [], 400, "invalid_argument", "the body"),
        ("PUT", f"{ALL}/bad", {"image": "a", "name": "b"}, 400, "invalid_argument", "the path"),
        ("PUT", f"{ALL}/bad", {"image": "a", "privileged": True}, 400, "invalid_argument", "key"),
        ("PUT", f"{ALL}/bad", {"image": "no/such:1"}, 403, "denied", "pulled by its tag"),
        ("PUT", f"{ALL}/bad", {"image": "a", "memory_mb": 9999}, 413, "limit_exceeded", "4096"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_told(
    http: httpx2.AsyncClient, method: str, path: str, body: Any, status: int, code: str,
    complaint: str,
) -> None:  # fmt: skip
    content = body if isinstance(body, str) else None if body is None else json.dumps(body)
    headers = {} if body is None else {"content-type": "application/json"}
    response = await http.request(method, path, content=content, headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert complaint in response.json()["message"]


async def test_other_types_origins_and_hosts_are_refused(http: httpx2.AsyncClient) -> None:
    form = await http.post(f"{SLOW}/call", data={"tool": "outcomes"})
    assert (form.status_code, form.json()["code"]) == (415, "invalid_argument")
    for headers in ({"origin": "http://evil.example"}, {"host": "evil.example"}):
        for path in (ALL, "/api/openapi.json"):
            refused = await http.get(path, headers=headers)
            assert refused.status_code in (403, 421), headers


async def test_scopes_hold(guarded: Served, python_image: str) -> None:
    async def answers(method: str, path: str, who: str | None = None, body: Any = None) -> int:
        headers = {"authorization": f"Bearer {TOKENS[who][0]}"} if who else {}
        async with httpx2.AsyncClient(base_url=guarded.url, timeout=60) as http:
            response = await http.request(method, path, json=body, headers=headers)
        if response.status_code == 403 and who == "READER":
            assert response.json()["code"] == "denied"
        return response.status_code

    plain = spec(python_image, "echo")
    weak = plain | {"isolation": {"writable_root": True}}
    assert await answers("GET", ALL) == 401
    assert await answers("GET", "/api/openapi.json") == 401
    assert await answers("GET", ALL, "READER") == 200
    assert await answers("PUT", ECHO, "READER", plain) == 403
    assert await answers("PUT", ECHO, "WRITER", weak) == 403
    assert await answers("PUT", ECHO, "OPERATOR", weak) == 200
    assert await answers("PUT", ECHO, "WRITER", plain) == 200
    assert await answers("POST", f"{ECHO}/rollback", "WRITER", {"revision": 1}) == 403
    for path, body in (
        ("call", {"tool": "echo"}), ("stop", None), ("start", None), ("approve", {}),
        ("rollback", {"revision": 1}),
    ):  # fmt: skip
        assert await answers("POST", f"{ECHO}/{path}", "READER", body) == 403
    assert await answers("DELETE", ECHO, "READER") == 403
    assert await answers("GET", f"{ECHO}/revisions", "READER") == 200
    assert await answers("DELETE", ECHO, "WRITER") == 200


async def test_a_read_only_hub_changes_nothing(tmp_path: Path) -> None:
    with serving(hub_environment(tmp_path, MCP_HUB_READ_ONLY="true")) as served:
        wait_until_ready(served)
        async with httpx2.AsyncClient(base_url=served.url, timeout=60) as http:
            refused = await http.put(ECHO, json={"image": "acme/echo:1"})
            described = await http.get("/api/openapi.json")
    assert (refused.status_code, refused.json()["code"]) == (403, "denied")
    assert "read-only" in refused.json()["message"]
    assert described.status_code == 200


async def test_a_stopping_server_ends_streams_and_finishes_calls(
    tmp_path: Path, engine_url: str, python_image: str
) -> None:
    variables = {"MCP_HUB_CONTAINERS__ENGINE_URL": engine_url}
    with serving(hub_environment(tmp_path, **variables)) as served:
        wait_until_ready(served)
        async with httpx2.AsyncClient(base_url=served.url, timeout=60) as http:
            await http.put(SLOW, json=spec(python_image, "slow"))
            body = {"tool": "work", "arguments": {"seconds": 2, "steps": 4}}
            async with events(http, f"{SLOW}/call", "POST", json=body) as call:
                assert (await anext(call))["event"] == "progress"
                async with events(http, f"{SLOW}/logs") as log:
                    served.process.terminate()
                    with anyio.fail_after(20):
                        async for _ in log:
                            pass
                last = [event async for event in call][-1]
        assert last["event"] == "result"
        await eventually(lambda: served.process.poll() is not None)
        assert served.process.returncode == 0, "".join(served.log)
        assert not [line for line in served.log if "Traceback" in line], "".join(served.log)
