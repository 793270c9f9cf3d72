"""The hub's MCP server: tools, resources and prompts, in both eras of the protocol."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mcp.server import Server, ServerRequestContext
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.extension import compose_tool_call_handler
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.mcpserver import Context
from mcp.types import (
    CallToolRequestParams,
    CallToolResult,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    EmptyResult,
    GetPromptRequestParams,
    GetPromptResult,
    InputRequiredResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    PromptReference,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    ServerCapabilities,
    SetLevelRequestParams,
    SubscribeRequestParams,
    UnsubscribeRequestParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

import mcp_hub
from mcp_hub.adapters.errors import Denied, InvalidArgument, NotFound, names_hint
from mcp_hub.resources.base import BoundPrompt, BoundResource, ResourceSet
from mcp_hub.server.client_log import ClientLog
from mcp_hub.server.completing import completed
from mcp_hub.server.exposed import Exposed
from mcp_hub.server.following import task_offers
from mcp_hub.server.legacy_tasks import CAPABILITY, LegacyTasks
from mcp_hub.server.notices import Notices
from mcp_hub.server.protocol import answering, page, serve_methods
from mcp_hub.server.settings import WRITING
from mcp_hub.server.tasks import Tasks
from mcp_hub.services.hub import HubProvider
from mcp_hub.tools.toolset import BoundTool, error_result

INSTRUCTIONS = """\
MCP Hub trains, keeps and serves machine-learning models.
The main path: dataset_register → dataset_profile → training_submit → training_status(wait_s=50)
until the job has ended → model_get → model_promote(alias="champion", gates=…) → predict.
A model is named name (its newest version), name@alias or name:version. Ids and names come from
the results and the lists; nothing has to be guessed. Tools of other MCP servers that it runs:
container_tools(query=…) → container_call. An error is {code, message, hint}: follow
the hint."""

_FIXED_LISTS: tuple[CacheableMethod, ...] = (
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/templates/list",
)
"""Without exposed deployments. A list that these change is to be asked for again each time."""
_FIXED_FOR_MS = 300_000

Ctx = ServerRequestContext[None, Any]


class HubServer(Server[None]):
    """Tools, resources and prompts behind the protocol's request handlers.

    Built on the SDK's low-level server: `MCPServer` has no pagination, ignores unknown arguments
    and has no place for `resources/subscribe`.
    """

    def __init__(
        self,
        hub: HubProvider,
        *,
        tools: Sequence[BoundTool],
        sets: Sequence[ResourceSet],
        exposed: Exposed | None = None,
        read_only: bool = False,
    ) -> None:
        self._exposed = exposed = exposed or Exposed(hub, None)
        self._read_only = read_only
        self.tools = {tool.name: tool for tool in tools if tool.read_only or not read_only}
        self.resources = [resource for group in sets for resource in group.resources()]
        self.prompts = {
            prompt.name: prompt
            for group in sets
            for prompt in group.prompts()
            if prompt.read_only or not read_only
        }
        self.changing_lists = {"tools", "prompts", "resources"} if exposed.is_on else {"resources"}
        fixed = ("server/discover",) if exposed.is_on else _FIXED_LISTS
        self.notices = Notices(hub)
        self._log = ClientLog()
        self._hub = hub
        self._sets = sets
        super().__init__(
            "mcp-hub",
            title="MCP Hub",
            version=mcp_hub.__version__,
            instructions=INSTRUCTIONS,
            lifespan=self._running,
            cache_hints={method: CacheHint(_FIXED_FOR_MS) for method in fixed},
            get_tool_input_schema=self._input_schema,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_templates,
            on_read_resource=self._read_resource,
            on_subscribe_resource=self._subscribe,
            on_unsubscribe_resource=self._unsubscribe,
            on_subscriptions_listen=self._listen,
            on_list_prompts=self._list_prompts,
            on_get_prompt=self._get_prompt,
            on_completion=self._complete,
        )
        self.add_request_handler("logging/setLevel", SetLevelRequestParams, self._set_level)
        self.middleware.append(self._log)
        self.tasks = Tasks(hub, self._call_tool, self._may_call, task_offers(hub))
        self.legacy_tasks = LegacyTasks(self.tasks)
        serve_methods(self, [*self.tasks.methods(), *self.legacy_tasks.methods()])
        call = compose_tool_call_handler([self.tasks], self._call_tool)
        self.add_request_handler("tools/call", CallToolRequestParams, call)
        self.extensions[self.tasks.identifier] = self.tasks.settings()

    def get_capabilities(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
        *,
        protocol_version: str | None = None,
    ) -> ServerCapabilities:
        """What the server does, with `list_changed` for `changing_lists` and no others."""
        capabilities = super().get_capabilities(
            notification_options,
            experimental_capabilities,
            extensions,
            protocol_version=protocol_version,
        )
        for kind in ("tools", "prompts", "resources"):
            getattr(capabilities, kind).list_changed = kind in self.changing_lists
        if protocol_version not in MODERN_PROTOCOL_VERSIONS:
            capabilities.extensions, capabilities.tasks = None, CAPABILITY
        return capabilities

    @asynccontextmanager
    async def _running(self, _: Server[None]) -> AsyncIterator[None]:
        async with self._log.attached(), self.notices.relaying():
            yield

    def known_tool(self, name: str) -> BoundTool | None:
        """A tool of the hub's own, or an exposed one that was listed or called before."""
        return self.tools.get(name) or self._exposed.known.get(name)

    @answering
    async def _list_tools(self, ctx: Ctx, params: PaginatedRequestParams) -> ListToolsResult:
        await self._follow(ctx, "tools/list_changed")
        offers = [*self.tools.values(), *await self._exposed.tools(ctx.protocol_version)]
        visible = [tool.definition for tool in offers if self._may_use(tool)]
        tools, next_cursor = page(visible, params.cursor)
        if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            tools = [self.legacy_tasks.listed(tool) for tool in tools]
        return ListToolsResult(tools=tools, next_cursor=next_cursor)

    @answering
    async def _call_tool(
        self, ctx: Ctx, params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult:
        self.notices.watch()
        tool = self.tools.get(params.name)
        if tool is None:
            tool = await self._exposed.tool(params.name, ctx.protocol_version)
        if tool is None:
            offers = {**self._exposed.known, **self.tools}
            visible = [name for name, tool in offers.items() if self._may_use(tool)]
            hint = names_hint(params.name, visible, "tools")
            return error_result(InvalidArgument(f"There is no tool {params.name!r}.", hint))
        if not self._may_use(tool):
            return error_result(_not_to_write(tool, self._read_only))
        return await tool.call(params.arguments or {}, self._context(ctx, params))

    @answering
    async def _list_resources(
        self, ctx: Ctx, params: PaginatedRequestParams
    ) -> ListResourcesResult:
        if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            await self.notices.subscribe_session(ctx.session, "resources/list_changed")
        found = [r.definition for r in self.resources if isinstance(r.definition, Resource)]
        for group in self._sets:
            found += await group.newest()
        found += await self._exposed.resources(ctx.protocol_version)
        resources, next_cursor = page(found, params.cursor)
        return ListResourcesResult(resources=resources, next_cursor=next_cursor)

    @answering
    async def _list_templates(
        self, ctx: Ctx, params: PaginatedRequestParams
    ) -> ListResourceTemplatesResult:
        found = [r.definition for r in self.resources if isinstance(r.definition, ResourceTemplate)]
        found += await self._exposed.templates(ctx.protocol_version)
        templates, next_cursor = page(found, params.cursor)
        return ListResourceTemplatesResult(resource_templates=templates, next_cursor=next_cursor)

    @answering
    async def _read_resource(
        self, ctx: Ctx, params: ReadResourceRequestParams
    ) -> ReadResourceResult | InputRequiredResult:
        found = await self._exposed.read(params.uri, self._context(ctx, params))
        if found is not None:
            return found
        resource, values = self._resource(params.uri)
        return await resource.read(params.uri, values)

    @answering
    async def _subscribe(self, ctx: Ctx, params: SubscribeRequestParams) -> EmptyResult:
        self._resource(params.uri)
        await self.notices.subscribe_session(ctx.session, params.uri)
        return EmptyResult()

    @answering
    async def _unsubscribe(self, ctx: Ctx, params: UnsubscribeRequestParams) -> EmptyResult:
        self.notices.unsubscribe_session(ctx.session, params.uri)
        return EmptyResult()

    @answering
    async def _set_level(self, ctx: Ctx, params: SetLevelRequestParams) -> EmptyResult:
        self._log.set_level(ctx.session, params.level)
        return EmptyResult()

    @answering
    async def _listen(self, ctx: Ctx, params: Any) -> Any:
        return await self.notices.listen(ctx, params)

    @answering
    async def _list_prompts(self, ctx: Ctx, params: PaginatedRequestParams) -> ListPromptsResult:
        await self._follow(ctx, "prompts/list_changed")
        offers = [*self.prompts.values(), *await self._exposed.prompts(ctx.protocol_version)]
        visible = [prompt.definition for prompt in offers if self._may_use(prompt)]
        prompts, next_cursor = page(visible, params.cursor)
        return ListPromptsResult(prompts=prompts, next_cursor=next_cursor)

    @answering
    async def _get_prompt(
        self, ctx: Ctx, params: GetPromptRequestParams
    ) -> GetPromptResult | InputRequiredResult:
        prompt = await self._prompt(params.name, ctx.protocol_version)
        return await prompt.render(params.arguments or {}, self._context(ctx, params))

    @answering
    async def _complete(self, ctx: Ctx, params: CompleteRequestParams) -> CompleteResult:
        owner: BoundPrompt | BoundResource
        if not isinstance(params.ref, PromptReference) and self._exposed.has_uri(params.ref.uri):
            return CompleteResult(completion=Completion(values=[]))
        if isinstance(params.ref, PromptReference):
            owner = await self._prompt(params.ref.name, ctx.protocol_version)
            known = owner.arguments
        else:
            owner = self._template(params.ref.uri)
            known = owner.template.variable_names
        return await completed(self._hub, owner.completers, known, params)

    def _context(self, ctx: Ctx, params: Any) -> Context[Any]:
        return Context(request_context=ctx, input_params=params, subscriptions=self.notices)

    def _may_call(self, name: str) -> bool:
        return name in self.tools and self._may_use(self.tools[name])

    def _input_schema(self, name: str) -> dict[str, Any] | None:
        tool = self.known_tool(name)
        return tool.definition.input_schema if tool else None

    async def _follow(self, ctx: Ctx, topic: str) -> None:
        """Have a client that cannot ask for it told when a list that it has seen changes."""
        if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            return
        if topic.partition("/")[0] in self.changing_lists:
            await self.notices.follow_list(ctx.session, topic, watch=await self._exposed.may_be())

    def _resource(self, uri: str) -> tuple[BoundResource, dict[str, str]]:
        for resource in self.resources:
            values = resource.match(uri)
            if values is not None:
                return resource, values
        known = (resource.uri for resource in self.resources)
        raise NotFound(f"There is no resource {uri!r}.", names_hint(uri, known, "resources"))

    def _template(self, uri: str) -> BoundResource:
        found = [resource for resource in self.resources if resource.uri == uri]
        if not found:
            known = (resource.uri for resource in self.resources)
            raise InvalidArgument(
                f"There is no template {uri!r}.", names_hint(uri, known, "templates")
            )
        return found[0]

    async def _prompt(self, name: str, version: str) -> BoundPrompt:
        prompt = self.prompts.get(name) or await self._exposed.prompt(name, version)
        if prompt is None or not self._may_use(prompt):
            visible = [name for name, prompt in self.prompts.items() if self._may_use(prompt)]
            raise InvalidArgument(
                f"There is no prompt {name!r}.", names_hint(name, visible, "prompts")
            )
        return prompt

    def _may_use(self, offer: BoundTool | BoundPrompt) -> bool:
        """Whether the hub and the caller's token permit it; without tokens (stdio, loopback)
        everything is."""
        token = get_access_token()
        is_reader = token is not None and WRITING.isdisjoint(token.scopes)
        return offer.read_only or not (self._read_only or is_reader)


def _not_to_write(tool: BoundTool, read_only: bool) -> Denied:
    if read_only:
        return Denied(f"{tool.name} may change things, and this hub only reads.")
    return Denied(
        f"{tool.name} changes things, and this token may only read.",
        "Use a token with the scope write.",
    )
