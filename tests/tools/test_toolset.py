"""How a tool is declared, called and answered."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import pytest
from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, Implementation
from pydantic import BaseModel, ConfigDict, Field

from mcp_hub.adapters.errors import Conflict
from mcp_hub.services.views import Name, View
from mcp_hub.tools.toolset import MAX_CHARACTERS, BoundTool, Toolset, caller, tool


class Gates(BaseModel):
    model_config = ConfigDict(extra="forbid")
    min_metric: dict[str, float] = {}
    better: str | None = None


class Row(View):
    kind: Literal["a", "b"]
    value: float | None = None


class Table(View):
    """For the reader of the code."""

    rows: list[Row]
    note: str | None = Field(default=None, description="Set when something is left out")


class Echo(View):
    given: dict[str, Any]


class Examples(Toolset):
    name = "examples"

    @tool(title="Echo", read_only=True)
    async def echo(
        self,
        name: Annotated[Name, Field(description="What to call it.")],
        kind: Annotated[
            Literal["classification", "regression"] | None, Field(description="What to train")
        ] = None,
        content: Annotated[str | None, Field(description="Data as text")] = None,
        gates: Gates | None = None,
        rows: list[dict[str, Any]] | None = None,
        limit: Annotated[int, Field(ge=1, le=5)] = 3,
    ) -> Echo:
        """Give back what was given."""
        given = {"name": name, "kind": kind, "content": content, "rows": rows, "limit": limit}
        if gates is not None:
            given["gates"] = gates.model_dump()
        return Echo(given=given)

    @tool(title="Tell", destructive=True)
    async def tell(self, ctx: Context[Any], length: int = 1, limit: int = 1) -> Table:
        """Say as much as is asked for."""
        return Table(rows=[Row(kind="a", value=1)] * length)

    @tool(title="Fail", idempotent=True, open_world=True)
    async def fail(self, how: str) -> Table:
        """Fail in one of several ways."""
        if how == "conflict":
            raise Conflict("It cannot be.", "Try another.")
        if how == "nan":
            return Table(rows=[Row(kind="a", value=float("nan"))])
        raise RuntimeError("secret")

    def helper(self) -> None:
        """Not a tool."""


@pytest.fixture
def tools() -> dict[str, BoundTool]:
    async def no_hub() -> Any:
        raise AssertionError

    return {bound.name: bound for bound in Examples(no_hub).tools()}


@pytest.fixture
def call(tools: dict[str, BoundTool]) -> Callable[..., Any]:
    async def call(name: str, /, **arguments: Any) -> CallToolResult:
        result = await tools[name].call(arguments, Context())
        assert isinstance(result, CallToolResult)
        return result

    return call


def error_of(result: CallToolResult) -> dict[str, Any]:
    assert result.is_error
    assert result.structured_content is None
    error: dict[str, Any] = json.loads(result.content[0].text)  # type: ignore[union-attr]
    return error


def test_a_toolset_has_its_marked_methods_in_their_order(tools: dict[str, BoundTool]) -> None:
    assert list(tools) == ["echo", "tell", "fail"]
    assert [bound.read_only for bound in tools.values()] == [True, False, False]


def test_annotations_are_all_stated(tools: dict[str, BoundTool]) -> None:
    def hints(name: str) -> dict[str, Any]:
        annotations = tools[name].definition.annotations
        assert annotations is not None
        return annotations.model_dump(exclude_none=True)

    assert hints("echo") == {
        "read_only_hint": True,
        "destructive_hint": False,
        "idempotent_hint": True,
        "open_world_hint": False,
    }
    assert hints("tell")["destructive_hint"]
    assert hints("fail")["idempotent_hint"]
    assert hints("fail")["open_world_hint"]


def test_schemas_hold_what_a_caller_needs_and_no_more(tools: dict[str, BoundTool]) -> None:
    definition = tools["echo"].definition
    assert definition.input_schema == {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {
            "name": {
                "type": "string",
                "description": "What to call it.",
                "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$",
            },
            "kind": {
                "type": "string",
                "enum": ["classification", "regression"],
                "description": "What to train",
            },
            "content": {"type": "string", "description": "Data as text"},
            "gates": {"$ref": "#/$defs/Gates"},
            "rows": {"type": "array", "items": {"type": "object"}},
            "limit": {"type": "integer", "minimum": 1, "maximum": 5, "default": 3},
        },
        "$defs": {
            "Gates": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "min_metric": {
                        "type": "object",
                        "additionalProperties": {"type": "number"},
                        "default": {},
                    },
                    "better": {"type": "string"},
                },
            }
        },
    }
    assert tools["tell"].definition.output_schema == {
        "type": "object",
        "required": ["rows"],
        "properties": {
            "rows": {"type": "array", "items": {"$ref": "#/$defs/Row"}},
            "note": {
                "anyOf": [{"type": "string"}, {"type": "null"}],
                "description": "Set when something is left out",
            },
        },
        "$defs": {
            "Row": {
                "type": "object",
                "required": ["kind"],
                "properties": {
                    "kind": {"type": "string", "enum": ["a", "b"]},
                    "value": {"anyOf": [{"type": "number"}, {"type": "null"}]},
                },
            }
        },
    }
    assert "ctx" not in tools["tell"].definition.input_schema["properties"]


async def test_json_in_a_string_is_parsed_only_where_a_string_is_wrong(
    call: Callable[..., Any],
) -> None:
    result = await call(
        "echo",
        name="a",
        content="[1, 2]",
        rows='[{"x": 1}]',
        gates='{"min_metric": {"accuracy": 0.9}}',
        kind="null",
        limit="2",
    )
    given = result.structured_content["given"]
    assert given["content"] == "[1, 2]"
    assert given["rows"] == [{"x": 1}]
    assert given["gates"] == {"min_metric": {"accuracy": 0.9}, "better": None}
    assert given["kind"] is None
    assert given["limit"] == 2


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ({}, "name is required", "name: What to call it."),
        ({"nmae": "a"}, "no parameter 'nmae'", "Did you mean 'name'?"),
        ({"name": "a b"}, 'name is "a b": string should match', "What to call it"),
        ({"name": 5}, "name is 5: input should be a valid string", "What to call it"),
        (
            {"name": "a", "kind": "classify"},
            'kind is "classify", which is not one of its values',
            "Did you mean 'classification'?",
        ),
        (
            {"name": "a", "gates": {"min_metrics": {}}},
            "gates.min_metrics is not a known key",
            "Did you mean 'min_metric'?",
        ),
        (
            {"name": "a", "gates": {"min_metric": {"f1": "high"}}},
            'gates.min_metric.f1 is "high": input should be a valid number',
            None,
        ),
        ({"name": "a", "rows": [{}, 1]}, "rows[1] is 1: input should be a JSON object", None),
        ({"name": "a", "rows": "[1"}, "rows is", None),
        ({"name": "a", "limit": 7}, "limit is 7: input should be less than or equal to 5", None),
        ({"name": "a", "content": {"x": "y" * 200}}, "…: input should be a valid string", "text"),
    ],
)
async def test_wrong_arguments_are_named_with_what_would_be_right(
    call: Callable[..., Any], arguments: dict[str, Any], message: str, hint: str | None
) -> None:
    error = error_of(await call("echo", **arguments))
    assert error["code"] == "invalid_argument"
    assert error["message"].startswith("echo")
    assert message in error["message"]
    assert hint is None or hint in error["hint"]


async def test_several_faults_are_told_at_once(call: Callable[..., Any]) -> None:
    error = error_of(await call("echo", kind="x", limit="many"))
    for name in ("name", "kind", "limit"):
        assert name in error["message"]


async def test_an_error_is_told_as_it_is(call: Callable[..., Any]) -> None:
    assert error_of(await call("fail", how="conflict")) == {
        "code": "conflict",
        "message": "It cannot be.",
        "hint": "Try another.",
    }


async def test_a_fault_is_logged_and_told_without_its_details(
    call: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    error = error_of(await call("fail", how="crash"))
    assert error["code"] == "internal"
    assert "secret" not in json.dumps(error)
    assert "secret" in caplog.text


async def test_a_result_is_json_whatever_its_numbers(call: Callable[..., Any]) -> None:
    result = await call("fail", how="nan")
    assert result.structured_content == {"rows": [{"kind": "a", "value": None}], "note": None}


async def test_text_leaves_out_what_is_null(call: Callable[..., Any]) -> None:
    result = await call("tell")
    assert json.loads(result.content[0].text) == {"rows": [{"kind": "a", "value": 1.0}]}


async def test_a_result_is_short_unless_more_is_asked_for(call: Callable[..., Any]) -> None:
    error = error_of(await call("tell", length=2000))
    assert error["code"] == "limit_exceeded"
    assert "25,000" in error["message"]
    assert "limit" in error["hint"]
    longer = await call("tell", length=2000, limit=2000)
    assert not longer.is_error
    assert len(longer.content[0].text) > MAX_CHARACTERS


def test_the_caller_is_the_client_and_its_token() -> None:
    def context(client_info: Implementation | None) -> Any:
        params = SimpleNamespace(client_info=client_info) if client_info else None
        return SimpleNamespace(session=SimpleNamespace(client_params=params))

    client = Implementation(name="agent", version="1.2")
    assert caller(context(client)) == "agent 1.2"
    assert caller(context(None)) == "unknown client"
    user = AuthenticatedUser(AccessToken(token="t" * 16, client_id="alice", scopes=["write"]))
    token = auth_context_var.set(user)
    try:
        assert caller(context(client)) == "alice (agent 1.2)"
        assert caller(context(None)) == "alice"
    finally:
        auth_context_var.reset(token)
