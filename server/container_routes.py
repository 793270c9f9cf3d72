"""/api/containers: what the toolset of that name does, for programs that speak HTTP."""

from functools import partial
from typing import Annotated, Any

from mcp.types import CLIENT_CAPABILITIES_META_KEY, CallToolResult
from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, RootModel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from mcp_hub.adapters.errors import Conflict, HubError, InvalidArgument
from mcp_hub.server.rest import Asked, Emit, Operation, Result, Work
from mcp_hub.services.containers.specs import ContainerSpec
from mcp_hub.services.containers.tailing import Streams
from mcp_hub.services.containers.views import (
    Approved,
    ContainerLine,
    ContainerLogs,
    ContainerStats,
    ContainerSummary,
    ContainerView,
    Deployed,
    FoundTools,
    Removed,
    Revision,
    Switched,
)
from mcp_hub.services.containers.wire.messages import RpcError
from mcp_hub.services.hub import HubProvider, containers_of
from mcp_hub.services.views import Page
from mcp_hub.tools.container_client import session_named

_ALL = "/api/containers"
_ONE = f"{_ALL}/{{name}}"


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PageQuery(_Asked):
    limit: Annotated[int, Field(ge=1, le=200)] = 20
    cursor: Annotated[str | None, Field(description="next_cursor of the page before")] = None


class ToolsQuery(PageQuery):
    query: Annotated[str | None, Field(description="What the tool should do")] = None
    schemas: Annotated[
        bool | None, Field(description="Show input schemas; else of a query's best 3")
    ] = None


class LogsQuery(_Asked):
    tail: Annotated[
        int, Field(ge=1, le=1000, description="Of each container where lines are followed")
    ] = 100
    cursor: Annotated[
        str | None, Field(description="Go on from a next_cursor, or from an event's id")
    ] = None
    stream: Annotated[Streams | None, Field(description="stderr where stdout is the protocol")] = (
        None
    )


class Deployment(RootModel[dict[str, Any]]):
    """A ContainerSpec, whose name is the path's."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = dict(handler.resolve_ref_schema(handler(ContainerSpec.__pydantic_core_schema__)))
        return schema | {"title": "Deployment", "description": cls.__doc__, "required": ["image"]}


class Rollback(_Asked):
    revision: Annotated[int, Field(ge=1)]


class Approval(_Asked):
    tools: Annotated[list[str] | None, Field(description="Only these; else all")] = None


class ToolCall(_Asked):
    tool: str
    arguments: dict[str, Any] = {}
    timeout_s: Annotated[float | None, Field(gt=0, le=3600)] = None
    session: Annotated[
        str | None, Field(description="Your own text for calls that share state")
    ] = None


class Progress(BaseModel):
    """How far a deployment or a call is, in the words of who tells it."""

    progress: float | None = None
    total: float | None = None
    message: str | None = None


class LogMessage(BaseModel):
    """What a server says to its client."""

    level: str = "info"
    data: Any = None
    logger: str | None = None


class ContainerRoutes:
    """The operations on containers; `hub` is opened by the first request that needs it."""

    def __init__(self, hub: HubProvider) -> None:
        self._containers = partial(containers_of, hub)

    def operations(self) -> list[Operation]:
        """All of them. `-` stands for all containers: no name is that."""
        told = {"progress": Progress}
        return [
            Operation(
                "GET", _ALL, "listContainers", "Deployed MCP servers, and how they are",
                Page[ContainerSummary], self._list, query=PageQuery,
            ),
            Operation(
                "GET", f"{_ALL}/-/tools", "findTools", "Tools of all: by name, or for a query",
                FoundTools, self._tools, query=ToolsQuery,
            ),
            Operation(
                "GET", _ONE, "getContainer", "Spec, status, instances and tools",
                ContainerView, self._get,
            ),
            Operation(
                "PUT", _ONE, "deployContainer",
                "Deploy a server, or change one; what weakens its isolation needs the scope admin",
                Deployed, work=self._deploy, body=Deployment, changes=True, events=told,
            ),
            Operation(
                "DELETE", _ONE, "removeContainer", "Stop it, and forget it with its revisions",
                Removed, self._remove, changes=True,
            ),
            Operation(
                "POST", f"{_ONE}/start", "startContainer", "Let it run again",
                Switched, self._start, changes=True,
            ),
            Operation(
                "POST", f"{_ONE}/stop", "stopContainer", "Let it run no more, after its calls",
                Switched, self._stop, changes=True,
            ),
            Operation(
                "GET", f"{_ONE}/revisions", "listRevisions", "Its revisions, newest first",
                Page[Revision], self._revisions, query=PageQuery,
            ),
            Operation(
                "POST", f"{_ONE}/rollback", "rollBackContainer",
                "Bring an earlier revision into force, as a new one",
                Deployed, work=self._roll_back, body=Rollback, changes=True, events=told,
            ),
            Operation(
                "GET", f"{_ONE}/logs", "readLogs",
                "What its containers wrote; followed, where events are accepted",
                ContainerLogs, self._logs, self._follow, query=LogsQuery,
                events={"line": ContainerLine}, endless=True,
            ),
            Operation(
                "GET", f"{_ONE}/stats", "readStats", "What its containers use now",
                ContainerStats, self._stats,
            ),
            Operation(
                "GET", f"{_ONE}/tools", "listTools", "Its tools: by name, or for a query",
                FoundTools, self._tools, query=ToolsQuery,
            ),
            Operation(
                "POST", f"{_ONE}/approve", "approveTools", "Let changed tools through",
                Approved, self._approve, body=Approval, changes=True,
            ),
            Operation(
                "POST", f"{_ONE}/call", "callTool", "Call a tool; the result is the tool's own",
                CallToolResult, work=self._call, body=ToolCall, changes=True,
                events=told | {"log": LogMessage},
            ),
        ]  # fmt: skip

    async def _list(self, asked: Asked) -> Result:
        query: PageQuery = asked.query
        return await (await self._containers()).showing.list(query.limit, query.cursor)

    async def _get(self, asked: Asked) -> Result:
        return await (await self._containers()).showing.get(asked.name)

    async def _deploy(self, asked: Asked) -> Work:
        said = {"name": asked.name} | asked.body.root
        if said["name"] != asked.name:
            raise InvalidArgument(
                f"The body names {said['name']!r}, the path {asked.name!r}.",
                "Leave the name out of the body.",
            )
        deploying = (await self._containers()).deploying
        await deploying.check(said, admin=asked.is_admin)

        async def work(emit: Emit) -> Result:
            return await deploying.deploy(
                said, by=asked.by, admin=asked.is_admin, told=partial(_told, emit)
            )

        return work

    async def _roll_back(self, asked: Asked) -> Work:
        containers = await self._containers()
        await containers.showing.check(asked.name)

        async def work(emit: Emit) -> Result:
            return await containers.deploying.roll_back(
                asked.name, asked.body.revision,
                by=asked.by, admin=asked.is_admin, told=partial(_told, emit),
            )  # fmt: skip

        return work

    async def _remove(self, asked: Asked) -> Result:
        return await (await self._containers()).deploying.remove(asked.name)

    async def _start(self, asked: Asked) -> Result:
        return await (await self._containers()).deploying.start(asked.name)

    async def _stop(self, asked: Asked) -> Result:
        return await (await self._containers()).deploying.stop(asked.name)

    async def _revisions(self, asked: Asked) -> Result:
        query: PageQuery = asked.query
        showing = (await self._containers()).showing
        return await showing.revisions(asked.name, query.limit, query.cursor)

    async def _logs(self, asked: Asked) -> Result:
        query: LogsQuery = asked.query
        logs = (await self._containers()).logs
        return await logs.read(
            asked.name, tail=query.tail, cursor=query.cursor, stream=query.stream
        )

    async def _follow(self, asked: Asked) -> Work:
        query: LogsQuery = asked.query
        cursor = asked.request.headers.get("last-event-id") or query.cursor
        logs = (await self._containers()).logs
        tailing = await logs.following(
            asked.name, tail=query.tail, cursor=cursor, stream=query.stream
        )

        async def work(emit: Emit) -> None:
            await tailing.run(lambda cursor, line: emit("line", line, cursor))

        return work

    async def _stats(self, asked: Asked) -> Result:
        return await (await self._containers()).showing.stats(asked.name)

    async def _tools(self, asked: Asked) -> Result:
        query: ToolsQuery = asked.query
        finding = (await self._containers()).finding
        return await finding.find(
            asked.request.path_params.get("name"), query.query,
            schemas=query.schemas, limit=query.limit, cursor=query.cursor,
        )  # fmt: skip

    async def _approve(self, asked: Asked) -> Result:
        return await (await self._containers()).catalogs.approve(asked.name, asked.body.tools)

    async def _call(self, asked: Asked) -> Work:
        body: ToolCall = asked.body
        containers = await self._containers()
        await containers.showing.check(asked.name)
        session = None if body.session is None else session_named(asked.principal, body.session)

        async def work(emit: Emit) -> Result:
            client = _Client(emit)
            try:
                return await containers.calling.call(
                    asked.name, body.tool, body.arguments,
                    session=session, caller=client, timeout_s=body.timeout_s,
                    meta={CLIENT_CAPABILITIES_META_KEY: {}},
                )  # fmt: skip
            except RpcError as error:
                raise _to_visit(error) from error
            except HubError as error:
                # What the server says of having been refused is not the reason.
                raise (client.refused or error) from error

        return work


class _Client:
    """The `Caller` of a request over REST, which can be told things but not be asked."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self.refused: Conflict | None = None

    async def progress(self, params: dict[str, Any]) -> None:
        known = {key: value for key, value in params.items() if key in Progress.model_fields}
        await self._emit("progress", known)

    async def log(self, params: dict[str, Any]) -> None:
        known = {key: value for key, value in params.items() if key in LogMessage.model_fields}
        await self._emit("log", known)

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self.refused = Conflict(
            f"The server asks for {method}, which no client of this API can answer.",
            "Call the tool over MCP.",
        )
        raise self.refused


async def _told(emit: Emit, line: str) -> None:
    await emit("progress", {"message": line})


def _to_visit(error: RpcError) -> Conflict:
    """The server's error -32042: URLs are to be visited before the call is made again."""
    asked = error.data.get("elicitations") if isinstance(error.data, dict) else None
    urls = [str(one.get("url")) for one in asked or () if isinstance(one, dict)]
    return Conflict(error.message, f"Visit {', '.join(urls)}; then call again." if urls else None)
