"""Completions of the arguments of prompts and templates."""

from collections.abc import Collection, Mapping

from mcp.types import CompleteRequestParams, CompleteResult, Completion

from mcp_hub.adapters.errors import InvalidArgument, names_hint
from mcp_hub.resources.base import Completer
from mcp_hub.services.hub import HubProvider

_SHOWN = 100


async def completed(
    hub: HubProvider,
    completers: Mapping[str, Completer],
    known: Collection[str],
    params: CompleteRequestParams,
) -> CompleteResult:
    """The values that go on from what was typed; none for an argument without a completer.

    Raises:
        InvalidArgument: the argument is none of the `known`.
    """
    name, typed = params.argument.name, params.argument.value
    if name not in known:
        raise InvalidArgument(
            f"There is no argument {name!r}.", names_hint(name, known, "arguments")
        )
    completer = completers.get(name)
    if completer is None:
        return CompleteResult(completion=Completion(values=[]))
    given = (params.context.arguments if params.context else None) or {}
    values = await completer(await hub(), typed, given)
    fitting = [value for value in values if value.lower().startswith(typed.lower())]
    return CompleteResult(
        completion=Completion(
            values=fitting[:_SHOWN], total=len(fitting), has_more=len(fitting) > _SHOWN
        )
    )
