"""Questions to the user in the middle of a tool call, in either protocol's way."""

from typing import Any

import anyio
from mcp.server.mcpserver import Context
from mcp.types import (
    ClientCapabilities,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequest,
    InputRequiredResult,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

_WAIT_S = 300.0


class NeedsInput(Exception):
    """Ends a tool call whose client is to ask its user and then call again, with the answers."""

    def __init__(self, requests: dict[str, InputRequest]) -> None:
        super().__init__(f"needs {', '.join(requests)}")
        self.result = InputRequiredResult(input_requests=requests)


async def ask(
    ctx: Context[Any], key: str, message: str, schema: dict[str, Any]
) -> ElicitResult | None:
    """The user's answer to a form; None where the client cannot ask, or nobody has answered.

    From 2026-07-28 on a call does not wait for its answer: it ends with NeedsInput and is made
    again, from its beginning. `key` tells its questions apart, and what they are about: an answer
    counts only for the same key.
    """
    modern = ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
    answer = (ctx.input_responses or {}).get(key) if modern else None
    if isinstance(answer, ElicitResult):
        return answer
    if not can_ask(ctx.client_capabilities):
        return None
    if modern:
        params = ElicitRequestFormParams(message=message, requested_schema=schema)
        raise NeedsInput({key: ElicitRequest(params=params)})
    session = ctx.request_context.session
    if not session.can_send_request:
        return None
    with anyio.move_on_after(_WAIT_S):
        return await session.elicit_form(message, schema, related_request_id=ctx.request_id)
    return None


def can_ask(capabilities: ClientCapabilities | None) -> bool:
    """Whether the client shows forms; one that names no kind of elicitation means these."""
    able = capabilities.elicitation if capabilities else None
    return able is not None and (able.form is not None or able.url is None)
