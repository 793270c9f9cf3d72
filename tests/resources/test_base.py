"""How resources and prompts are declared."""

import json
from typing import Annotated, Any

import pytest
from mcp.server.mcpserver import Context
from mcp.types import (
    GetPromptResult,
    PromptMessage,
    Resource,
    ResourceTemplate,
    TextResourceContents,
)
from pydantic import Field

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.resources.base import ResourceSet, listed, prompt, resource, say, show
from mcp_hub.services.views import View


class Thing(View):
    name: str
    part: str | None = None


class Things(ResourceSet):
    name = "things"

    @resource("things://all", title="All things")
    async def everything(self) -> Thing:
        """Everything
        there is."""
        return Thing(name="everything")

    @resource("things://{name}/parts/{part}", title="A part")
    async def part(self, name: str, part: str) -> Thing:
        """A part of a thing."""
        return Thing(name=name, part=part)

    @prompt(title="Mend", read_only=True)
    async def mend(
        self, thing: Annotated[str, Field(description="What is broken")], tool: str = "glue"
    ) -> list[PromptMessage]:
        """Mend a thing."""
        return [show("things://all", Thing(name=thing)), say(f"Mend {thing} with {tool}.")]

    async def helper(self) -> None:
        """Neither."""


@pytest.fixture
def things() -> Things:
    async def no_hub() -> Any:
        raise AssertionError

    return Things(no_hub)


def test_a_set_has_its_marked_methods(things: Things) -> None:
    everything, part = (bound.definition for bound in things.resources())
    assert isinstance(everything, Resource)
    assert (everything.uri, everything.name, everything.title) == (
        "things://all", "everything", "All things",
    )  # fmt: skip
    assert everything.description == "Everything\nthere is."
    assert everything.mime_type == "application/json"
    assert isinstance(part, ResourceTemplate)
    assert part.uri_template == "things://{name}/parts/{part}"
    (mend,) = things.prompts()
    assert mend.arguments == ["thing", "tool"]
    assert mend.read_only
    first, second = mend.definition.arguments or []
    assert (first.description, first.required, second.required) == ("What is broken", True, False)


@pytest.mark.parametrize(
    ("uri", "values"),
    [
        ("things://a/parts/b", {"name": "a", "part": "b"}),
        ("things://a%2Fc/parts/%C3%A9", {"name": "a/c", "part": "é"}),
        ("things://a/parts", None),
        ("things://a/b/parts/c", None),
        ("things://all", None),
        ("other://a/parts/b", None),
        ("", None),
    ],
)
def test_a_template_takes_only_what_it_says(
    things: Things, uri: str, values: dict[str, str] | None
) -> None:
    assert things.resources()[1].match(uri) == values


async def test_reading_gives_json_under_the_uri_that_was_asked_for(things: Things) -> None:
    _, part = things.resources()
    result = await part.read("things://a/parts/b", {"name": "a", "part": "b"})
    (contents,) = result.contents
    assert isinstance(contents, TextResourceContents)
    assert str(contents.uri) == "things://a/parts/b"
    assert json.loads(contents.text) == {"name": "a", "part": "b"}


async def test_a_prompt_is_made_of_its_arguments(things: Things) -> None:
    (mend,) = things.prompts()
    result = await mend.render({"thing": "cup"}, Context())
    assert isinstance(result, GetPromptResult)
    assert [message.content.type for message in result.messages] == ["resource", "text"]
    assert result.messages[1].content.text == "Mend cup with glue."  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({}, "needs the argument 'thing'"), ({"thing": ""}, "needs"), ({"thnig": "x"}, "no argument")],
)
async def test_a_prompt_says_which_argument_is_wrong(
    things: Things, arguments: dict[str, str], message: str
) -> None:
    (mend,) = things.prompts()
    with pytest.raises(InvalidArgument, match=message):
        await mend.render(arguments, Context())


async def test_a_set_without_templates_has_no_newest(things: Things) -> None:
    assert await things.newest() == []


def test_a_listed_resource_is_named_after_its_uri() -> None:
    assert listed("training://jobs/job_1", "Job", "").name == "job_1"
    assert listed("models://iris", "Model", "").name == "iris"
