"""Calls of tools in containers: checked, passed on, and their results passed back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypedDict, Unpack

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.remembering import Remembered
from mcp_hub.adapters.errors import Conflict, InvalidArgument, Unavailable
from mcp_hub.services.containers import catalog, store
from mcp_hub.services.containers.checking import check
from mcp_hub.services.containers.store import Deployment
from mcp_hub.services.containers.wire.calls import Caller
from mcp_hub.services.containers.wire.input_required import resolving
from mcp_hub.services.containers.wire.messages import METHOD_NOT_FOUND, RpcError
from mcp_hub.services.telemetry.own.own import SILENT, OwnTelemetry

MAX_CHARACTERS = 25_000
"""Of a result's text, unless more is asked for."""

_INVALID_PARAMS = -32602
_LACKS_CAPABILITY = -32021
_URL_ELICITATION_REQUIRED = -32042

Result = dict[str, Any]


class Requests(Protocol):
    """What carries requests to a deployment's containers, starting one where none is there."""

    async def request(
        self,
        name: str,
        session: str | None,
        method: str,
        params: dict[str, Any],
        caller: Caller | None,
        timeout_s: float,
        *,
        is_repeatable: bool | None = None,
        revision: int | None = None,
    ) -> Result:
        """A server's result; `revision` is what was just seen to be in force.

        Raises RpcError where it answers with an error, else HubErrors.
        """
        ...


class More(TypedDict, total=False):
    """What a request may be made with besides what it is for, as `Calling.call` describes."""

    session: str | None
    caller: Caller | None
    timeout_s: float | None
    given: Mapping[str, Any] | None
    meta: Mapping[str, Any] | None
    may_ask_back: bool


class Calling:
    def __init__(self, database: Database, requests: Requests, own: OwnTelemetry = SILENT) -> None:
        self._deployments: Remembered[Deployment] = Remembered(database)
        self._requests = requests
        self._own = own

    async def call(
        self,
        name: str,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        session: str | None = None,
        caller: Caller | None = None,
        timeout_s: float | None = None,
        given: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
        may_ask_back: bool = False,
    ) -> Result:
        """The called tool's own result, as MCP's JSON.

        Args:
            session: Whose call it is; what a deployment keeps per session is kept by this.
            timeout_s: For everything, also what the caller takes to answer; the spec's if None.
            given: `inputResponses` and `requestState` of a call that is repeated with them.
            meta: What the call's `_meta` says of the client, such as its capabilities.
            may_ask_back: Whether a result that asks for further input is returned as it is; else
                the caller is asked, and the call repeated.

        Raises:
            NotFound: there is no such deployment, or it offers no such tool.
            Denied: the tool is not as it was approved.
            InvalidArgument: the arguments do not fit the tool, or a session has to be named.
            Conflict: the deployment is stopped, or asks what the client cannot be asked.
            Unavailable, TimedOut: its container cannot be started, ended, or did not answer; with
                the last lines of its standard error.
            RpcError: URLs have to be visited first (-32042).
        """
        deployment = await self._deployment(name)
        offer = catalog.usable(deployment, tool)
        _check_runs(deployment, session)
        schema = offer.definition.get("inputSchema")
        await check(tool, schema, arguments)
        asked = _Asked(
            "tools/call", f"the call of {tool!r}", {"name": tool, "arguments": dict(arguments)},
            is_repeatable=offer.is_repeatable,
        )  # fmt: skip
        about = {**_about(deployment), "mcp_hub.container.tool": tool}
        with self._own.span("container.call", about) as span:
            result = await self._ask(
                deployment, asked, session=session, caller=caller, timeout_s=timeout_s,
                given=given, meta=meta, may_ask_back=may_ask_back,
            )  # fmt: skip
            if result.get("isError") is True:
                span.fail("tool_error")
            return result

    async def get_prompt(
        self, name: str, prompt: str, arguments: Mapping[str, str], **more: Unpack[More]
    ) -> Result:
        """The server's own result of `prompts/get`. Arguments and errors as of `call`."""
        deployment = await self._deployment(name)
        catalog.usable(deployment, prompt, "prompts")
        params = {"name": prompt, "arguments": dict(arguments)}
        asked = _Asked("prompts/get", f"the request for the prompt {prompt!r}", params)
        return await self._fetch("container.prompt", deployment, asked, more)

    async def read(self, name: str, uri: str, **more: Unpack[More]) -> Result:
        """The server's own result of `resources/read`. Arguments and errors as of `call`."""
        deployment = await self._deployment(name)
        catalog.check_readable(deployment, uri)
        asked = _Asked("resources/read", f"the reading of {uri!r}", {"uri": uri})
        return await self._fetch("container.read", deployment, asked, more)

    async def _deployment(self, name: str) -> Deployment:
        return await self._deployments.read(name, partial(store.get, name=name))

    async def _fetch(
        self, name: str, deployment: Deployment, asked: "_Asked", more: "More"
    ) -> Result:
        _check_runs(deployment, more.get("session"))
        with self._own.span(name, _about(deployment)):
            return await self._ask(deployment, asked, **more)

    async def _ask(
        self,
        deployment: Deployment,
        asked: "_Asked",
        *,
        session: str | None = None,
        caller: Caller | None = None,
        timeout_s: float | None = None,
        given: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
        may_ask_back: bool = False,
    ) -> Result:
        params = {**asked.params, **(given or {})}
        if meta:
            params["_meta"] = dict(meta)
        carry = partial(self._carry, deployment, session, asked.is_repeatable)
        limit_s = timeout_s or deployment.spec.call_timeout_s
        try:
            if may_ask_back or caller is None:
                return await carry(asked.method, params, caller=caller, timeout_s=limit_s)
            return await resolving(carry, asked.method, params, caller=caller, timeout_s=limit_s)
        except RpcError as error:
            raise _explained(error, deployment.name, asked.what) from error

    async def _carry(
        self,
        deployment: Deployment,
        session: str | None,
        is_repeatable: bool,
        method: str,
        params: Mapping[str, Any],
        *,
        caller: Caller | None,
        timeout_s: float,
    ) -> Result:
        whose = session if deployment.spec.state == "per_session" else None
        return await self._requests.request(
            deployment.name, whose, method, dict(params), caller, timeout_s,
            is_repeatable=is_repeatable, revision=deployment.revision,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request of a server; `what` says in words what it is."""

    method: str
    what: str
    params: Mapping[str, Any]
    is_repeatable: bool = True


def _about(deployment: Deployment) -> dict[str, Any]:
    return {
        "mcp_hub.container.name": deployment.name,
        "mcp_hub.container.revision": deployment.revision,
    }


def _explained(error: RpcError, name: str, what: str) -> Exception:
    """What a server's error means to the hub's client; that of URLs to visit is for its program."""
    if error.code == _URL_ELICITATION_REQUIRED:
        return error
    if error.code == _LACKS_CAPABILITY:
        return Conflict(
            f"{name} has to ask its caller something, which this client cannot be asked: "
            f"{error.message}",
            "Call it over MCP, by a client that offers what it asks for.",
        )
    said = f"{name} answered {what} with an error: {error.message}"
    if error.code in (_INVALID_PARAMS, METHOD_NOT_FOUND):
        return InvalidArgument(said, "container_tools shows what it takes.")
    return Unavailable(f"{said} ({error.code})", "container_logs may say more.")


def _check_runs(deployment: Deployment, session: str | None) -> None:
    name = deployment.name
    if not deployment.enabled:
        raise Conflict(
            f"The container {name!r} is stopped.", f"container_start({name!r}) lets it run again."
        )
    if deployment.spec.state == "per_session" and session is None:
        raise InvalidArgument(
            f"{name!r} keeps its state per session, and this connection has none.",
            "Use container_call with session: any text of your own, and the same again in the "
            "calls that belong together.",
        )


def limited(result: Result, most: int) -> Result:
    """`result` with at most `most` characters of text, and as many of structured content.

    It is left as it is where it has no more; else it ends with what was left out, and how to get
    it.
    """
    structured = result.get("structuredContent")
    packed = json.dumps(structured, ensure_ascii=False) if structured is not None else ""
    blocks = [block for block in result.get("content") or [] if isinstance(block, dict)]
    total = sum(len(_text(block)) for block in blocks)
    if total <= most and len(packed) <= most:
        return result
    cut = {**result}
    notes = []
    if total > most:
        blocks = _shortened(blocks, most)
        notes.append(f"{most:,} of {total:,} characters of text are shown")
    if len(packed) > most:
        del cut["structuredContent"]
        notes.append(f"structured content of {len(packed):,} characters is left out")
        if not total:
            blocks.append({"type": "text", "text": packed[:most]})
    advice = "Call again with max_characters for more, or ask the tool for less."
    note = {"type": "text", "text": f"[Cut by MCP Hub: {'; '.join(notes)}. {advice}]"}
    return {**cut, "content": [*blocks, note]}


def _text(block: Mapping[str, Any]) -> str:
    holder = block.get("resource") if block.get("type") == "resource" else block
    text = holder.get("text") if isinstance(holder, Mapping) else None
    return text if isinstance(text, str) else ""


def _shortened(blocks: list[Result], most: int) -> list[Result]:
    """The blocks, their text cut where `most` characters have been; those of none stay."""
    left, shown = most, []
    for block in blocks:
        text = _text(block)
        kept = text[:left]
        left -= len(kept)
        if kept == text:
            shown.append(block)
        elif kept and block.get("type") == "resource":
            shown.append({**block, "resource": {**block["resource"], "text": kept}})
        elif kept:
            shown.append({**block, "text": kept})
    return shown
