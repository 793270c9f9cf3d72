"""How resources, prompts and the completions of their arguments are declared."""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, get_args

from mcp.server.mcpserver import Context
from mcp.shared.uri_template import UriTemplate
from mcp.types import (
    ContentBlock,
    EmbeddedResource,
    GetPromptResult,
    InputRequiredResult,
    Prompt,
    PromptArgument,
    PromptMessage,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mcp_hub.adapters.errors import InvalidArgument, names_hint
from mcp_hub.services.hub import Hub, HubProvider

JSON = "application/json"
NEWEST = 50
"""How many data sets, models and jobs, each, `resources/list` names."""

Completer = Callable[[Hub, str, Mapping[str, str]], Awaitable[Sequence[str]]]
"""The values of an argument that go on from what was typed, given the arguments before it."""

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])
_RESOURCE = "__mcp_hub_resource__"
_PROMPT = "__mcp_hub_prompt__"


@dataclass(frozen=True, slots=True)
class ResourceDeclaration:
    uri: str
    title: str
    completers: Mapping[str, Completer]


@dataclass(frozen=True, slots=True)
class PromptDeclaration:
    title: str
    read_only: bool
    completers: Mapping[str, Completer]


def resource(
    uri: str, *, title: str, complete: Mapping[str, Completer] | None = None
) -> Callable[[F], F]:
    """Declare a method of a `ResourceSet` as what is read at `uri`, which may be a template.

    The method takes the template's variables and returns a view, which is served as JSON. Its
    docstring is the description.
    """
    declaration = ResourceDeclaration(uri, title, complete or {})

    def mark(function: F) -> F:
        setattr(function, _RESOURCE, declaration)
        return function

    return mark


def prompt(
    *, title: str, read_only: bool = False, complete: Mapping[str, Completer] | None = None
) -> Callable[[F], F]:
    """Declare a method of a `ResourceSet` as a prompt; its parameters are the arguments.

    It returns messages. `read_only` says that following them needs no tool that changes anything.
    """
    declaration = PromptDeclaration(title, read_only, complete or {})

    def mark(function: F) -> F:
        setattr(function, _PROMPT, declaration)
        return function

    return mark


@dataclass(frozen=True, slots=True)
class BoundResource:
    """A resource, or a template of resources, ready to be served."""

    definition: Resource | ResourceTemplate
    template: UriTemplate
    read: Callable[[str, dict[str, str]], Awaitable[ReadResourceResult]]
    """Takes the URI and what it gives for the template's variables."""
    completers: Mapping[str, Completer]

    @property
    def uri(self) -> str:
        return str(self.template)

    def match(self, uri: str) -> dict[str, str] | None:
        """The template's variables as `uri` gives them, or None if it is not one of these."""
        values = self.template.match(uri)
        if values is None:
            return None
        return {name: value for name, value in values.items() if isinstance(value, str)}


@dataclass(frozen=True, slots=True)
class BoundPrompt:
    """A prompt ready to be served."""

    definition: Prompt
    read_only: bool
    render: Callable[
        [dict[str, str], Context[Any]], Awaitable[GetPromptResult | InputRequiredResult]
    ]
    completers: Mapping[str, Completer]

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def arguments(self) -> list[str]:
        return [argument.name for argument in self.definition.arguments or []]


class ResourceSet:
    """The resources and prompts of one toolset; subclasses mark their methods."""

    name: ClassVar[str]

    def __init__(self, hub: HubProvider) -> None:
        self.hub = hub

    async def newest(self) -> list[Resource]:
        """The newest resources that the templates give, at most `NEWEST`, for `resources/list`."""
        return []

    def resources(self) -> list[BoundResource]:
        return [
            _bind_resource(getattr(self, name), declaration)
            for name, member in vars(type(self)).items()
            if (declaration := getattr(member, _RESOURCE, None)) is not None
        ]

    def prompts(self) -> list[BoundPrompt]:
        return [
            _bind_prompt(getattr(self, name), declaration)
            for name, member in vars(type(self)).items()
            if (declaration := getattr(member, _PROMPT, None)) is not None
        ]


def _bind_resource(
    method: Callable[..., Awaitable[BaseModel]], declared: ResourceDeclaration
) -> BoundResource:
    template = UriTemplate.parse(declared.uri)
    name, title, description = method.__name__, declared.title, inspect.getdoc(method)
    definition: Resource | ResourceTemplate
    if template.variables:
        definition = ResourceTemplate(
            uri_template=declared.uri,
            name=name,
            title=title,
            description=description,
            mime_type=JSON,
        )
    else:
        definition = Resource(
            uri=declared.uri, name=name, title=title, description=description, mime_type=JSON
        )

    async def read(uri: str, values: dict[str, str]) -> ReadResourceResult:
        return ReadResourceResult(contents=[_contents(uri, await method(**values))])

    return BoundResource(definition, template, read, declared.completers)


def _bind_prompt(
    method: Callable[..., Awaitable[list[PromptMessage]]], declared: PromptDeclaration
) -> BoundPrompt:
    parameters = inspect.signature(method).parameters.values()
    definition = Prompt(
        name=method.__name__,
        title=declared.title,
        description=inspect.getdoc(method),
        arguments=[_argument(parameter) for parameter in parameters],
    )

    async def render(arguments: dict[str, str], context: Context[Any]) -> GetPromptResult:
        _check(definition, arguments)
        messages = await method(**arguments)
        return GetPromptResult(description=definition.description, messages=messages)

    return BoundPrompt(definition, declared.read_only, render, declared.completers)


def _argument(parameter: inspect.Parameter) -> PromptArgument:
    notes = [note for note in get_args(parameter.annotation) if isinstance(note, FieldInfo)]
    return PromptArgument(
        name=parameter.name,
        description=notes[0].description if notes else None,
        required=parameter.default is inspect.Parameter.empty,
    )


def _check(prompt: Prompt, arguments: Mapping[str, str]) -> None:
    taken = {argument.name: argument for argument in prompt.arguments or []}
    for name in arguments:
        if name not in taken:
            raise InvalidArgument(
                f"The prompt {prompt.name} has no argument {name!r}.",
                names_hint(name, taken, "arguments"),
            )
    for name, argument in taken.items():
        if argument.required and not arguments.get(name):
            raise InvalidArgument(
                f"The prompt {prompt.name} needs the argument {name!r}.", argument.description
            )


def listed(uri: str, title: str, description: str) -> Resource:
    """A resource that a template gives, as `resources/list` names it."""
    name = uri.partition("://")[2].partition("/")[2] or uri.partition("://")[2]
    return Resource(uri=uri, name=name, title=title, description=description, mime_type=JSON)


def say(text: str) -> PromptMessage:
    """A message of the user's."""
    return _message(TextContent(type="text", text=text))


def show(uri: str, view: BaseModel) -> PromptMessage:
    """A message that carries what is read at `uri`."""
    return _message(EmbeddedResource(type="resource", resource=_contents(uri, view)))


def _contents(uri: str, view: BaseModel) -> TextResourceContents:
    return TextResourceContents(uri=uri, mime_type=JSON, text=view.model_dump_json())


def _message(content: ContentBlock) -> PromptMessage:
    return PromptMessage(role="user", content=content)
