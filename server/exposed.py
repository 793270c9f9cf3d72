"""What deployed servers offer among the hub's own, by what the database says they listed."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from anyio import to_thread
from mcp import MCPError
from mcp.server.mcpserver import Context
from mcp.types import (
    GetPromptResult,
    InputRequiredResult,
    Prompt,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    Tool,
)
from mcp_types.methods import serialize_server_result
from pydantic import BaseModel, ValidationError

from mcp_hub.adapters.errors import HubError, NotFound, names_hint
from mcp_hub.resources.base import BoundPrompt
from mcp_hub.server.lazy_hub import LazyHub
from mcp_hub.services.hub import HubProvider, containers_of
from mcp_hub.tools.toolset import BoundTool, Given, error_result

if TYPE_CHECKING:
    from mcp_hub.services.containers.store import Deployment

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=BaseModel)

SEPARATOR = "__"
_TOLD = {
    "tools": ("title", "description", "inputSchema", "outputSchema", "annotations"),
    "prompts": ("title", "description", "arguments"),
    "resources": ("name", "title", "description", "mimeType", "annotations"),
    "resourceTemplates": ("name", "title", "description", "mimeType", "annotations"),
}
"""The fields of a definition that are shown: those that were approved."""
_EXPOSED_URI = re.compile(r"containers://[^/]+/resources/.")
_METHODS = {"resourceTemplates": "resources/templates/list"}


class Exposed:
    """Tools, prompts and resources of the deployments that are exposed, each as if of the hub.

    A list starts no container, and does not open the hub where nothing can be exposed.
    """

    def __init__(self, hub: HubProvider, may_have_any: Callable[[], bool] | None) -> None:
        """`may_have_any` tells, before the hub is open, whether anything may be deployed; None:
        nothing ever is."""
        self._hub = hub
        self._may_have_any = may_have_any
        self.known: dict[str, BoundTool] = {}
        """The tools that were listed or called last, by name."""

    @property
    def is_on(self) -> bool:
        return self._may_have_any is not None

    def has_uri(self, uri: str) -> bool:
        """Whether a resource or template of that URI would be one of a deployment's."""
        return self.is_on and _EXPOSED_URI.match(uri) is not None

    async def may_be(self) -> bool:
        """Whether anything can be exposed; also where that is not known."""
        if self._may_have_any is None:
            return False
        if isinstance(self._hub, LazyHub) and self._hub.opened:
            return True
        return await to_thread.run_sync(self._may_have_any)

    async def tools(self, version: str) -> list[BoundTool]:
        """Those that may be called, as a client of a version of the protocol takes them."""
        found = [
            self._bound(deployment, name, definition)
            for deployment in await self._deployments()
            for name, definition in _definitions(deployment, "tools", Tool, version)
        ]
        self.known = {tool.name: tool for tool in found}
        return found

    async def tool(self, name: str, version: str) -> BoundTool | None:
        """The tool of a name; also one that is held back, whose call says so."""
        from mcp_hub.services.containers import catalog, exposing

        deployment = await self._named(name)
        if deployment is None:
            return None
        for offer in catalog.offers(deployment):
            shown = exposing.exposed_name(deployment.name, offer.name)
            if shown == name:
                told = _definition("tools", offer.definition, {"name": shown})
                definition = _taken("tools", told, Tool, version)
                if definition is None:
                    return None
                tool = self.known[name] = self._bound(deployment, offer.name, definition)
                return tool
        return None

    async def prompts(self, version: str) -> list[BoundPrompt]:
        return [
            self._bound_prompt(deployment, name, definition)
            for deployment in await self._deployments()
            for name, definition in _definitions(deployment, "prompts", Prompt, version)
        ]

    async def prompt(self, name: str, version: str) -> BoundPrompt | None:
        found = await self.prompts(version) if SEPARATOR in name else []
        return next((prompt for prompt in found if prompt.name == name), None)

    async def resources(self, version: str) -> list[Resource]:
        return [
            definition
            for deployment in await self._deployments()
            for _, definition in _definitions(deployment, "resources", Resource, version)
        ]

    async def templates(self, version: str) -> list[ResourceTemplate]:
        return [
            definition
            for deployment in await self._deployments()
            for _, definition in _definitions(
                deployment, "resourceTemplates", ResourceTemplate, version
            )
        ]

    async def read(
        self, uri: str, context: Context[Any]
    ) -> ReadResourceResult | InputRequiredResult | None:
        """What a server has at an exposed URI; None if it is none.

        Raises:
            NotFound: nothing is exposed there; else as `Calling.read`.
        """
        if not self.has_uri(uri):
            return None
        from mcp_hub.services.containers import catalog, exposing

        container = exposing.container_in(uri)
        assert container is not None
        deployment = await (await self._hub()).exposing.find(container)
        own = exposing.own_uri(deployment, uri) if deployment else None
        if deployment is None or own is None:
            offers = catalog.offers(deployment, "resources") if deployment else []
            known = [exposing.exposed_uri(container, offer.name) for offer in offers]
            raise NotFound(f"There is no resource {uri!r}.", names_hint(uri, known, "resources"))
        result = await self._made(context, container, "read", own)
        if result.get("resultType") == "input_required":
            return InputRequiredResult.model_validate(result)
        return ReadResourceResult.model_validate(exposing.shown_contents(container, result))

    def _bound(self, deployment: "Deployment", name: str, definition: Tool) -> BoundTool:
        async def call(arguments: dict[str, Any], context: Context[Any]) -> Given:
            from mcp_hub.tools.container_client import passed_on

            try:
                result = await self._made(context, deployment.name, "call", name, arguments)
            except HubError as error:
                return error_result(error)
            return passed_on(result)

        return BoundTool(definition, call)

    def _bound_prompt(self, deployment: "Deployment", name: str, definition: Prompt) -> BoundPrompt:
        async def render(
            arguments: dict[str, str], context: Context[Any]
        ) -> GetPromptResult | InputRequiredResult:
            result = await self._made(context, deployment.name, "get_prompt", name, arguments)
            if result.get("resultType") == "input_required":
                return InputRequiredResult.model_validate(result)
            return GetPromptResult.model_validate(result)

        return BoundPrompt(definition, False, render, {})

    async def _made(
        self, context: Context[Any], container: str, method: str, *given: Any
    ) -> dict[str, Any]:
        """What a method of `Calling` gives for the client."""
        from mcp_hub.services.containers.wire.messages import RpcError
        from mcp_hub.tools.container_client import made

        containers = await containers_of(self._hub)
        calling = partial(getattr(containers.calling, method), container, *given)
        try:
            return await made(containers, context, container, f"{method} {given[0]}", calling)
        except RpcError as error:
            raise MCPError(error.code, error.message, error.data) from error

    async def _deployments(self) -> "list[Deployment]":
        """Those that are exposed; none where the database does not answer: the hub's own tools
        are there all the same."""
        if not await self.may_be():
            return []
        try:
            return await (await self._hub()).exposing.deployments()
        except HubError as error:
            logger.warning("What is exposed is not known: %s", error)
            return []

    async def _named(self, name: str) -> "Deployment | None":
        container, separator, _ = name.partition(SEPARATOR)
        if not separator or not self.is_on:
            return None
        return await (await self._hub()).exposing.find(container)


def _definitions(
    deployment: "Deployment", key: str, kind: type[T], version: str
) -> Iterator[tuple[str, T]]:
    """What a deployment offers of a kind and is not held back: its own name, and what is shown."""
    from mcp_hub.services.containers import catalog, exposing

    for offer in catalog.offers(deployment, key):
        if offer.quarantined:
            continue
        if key == "resources":
            about = {"uri": exposing.exposed_uri(deployment.name, offer.name)}
        elif key == "resourceTemplates":
            about = {"uriTemplate": exposing.exposed_template(deployment.name, offer.name)}
        else:
            about = {"name": exposing.exposed_name(deployment.name, offer.name)}
        definition = _taken(key, _definition(key, offer.definition, about), kind, version)
        if definition is not None:
            yield offer.name, definition


def _definition(key: str, given: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    told = {field: given[field] for field in _TOLD[key] if given.get(field) is not None}
    return {**told, **about}


def _taken(key: str, definition: dict[str, Any], kind: type[T], version: str) -> T | None:
    """The definition, if clients of a version of the protocol take it: one that they do not would
    cost them the whole list. An output schema that only a later version has is left out."""
    method = _METHODS.get(key, f"{key}/list")
    without = {name: value for name, value in definition.items() if name != "outputSchema"}
    for one in (definition, without):
        result = {key: [one], "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        try:
            serialize_server_result(method, version, result)
            return kind.model_validate(one)
        except ValidationError as error:
            why = error
    logger.debug("%s is not exposed: %s", definition.get("name"), why)
    return None
