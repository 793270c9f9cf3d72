"""The rules that every tool keeps, whatever its toolset."""

from pathlib import Path
from typing import Any

import pytest

from mcp_hub.server.app import create_server
from mcp_hub.server.settings import Settings
from mcp_hub.tools.toolset import BoundTool

SEEN_BY_AGENTS = 46_000
"""Bytes of names, descriptions and input schemas: what a model reads before its first call."""
PASSED_ON = {"container_call"}
"""Tools whose result is another server's, of no schema of the hub's."""
WHOLE_LIST = 115_000


def _tools() -> list[BoundTool]:
    async def no_hub() -> Any:
        raise AssertionError

    settings = Settings(data_dir=Path("data"), roots=[Path()])
    return list(create_server(settings, no_hub).tools.values())


TOOLS = _tools()


def _subschemas(schema: Any) -> list[dict[str, Any]]:
    if isinstance(schema, list):
        return [found for part in schema for found in _subschemas(part)]
    if not isinstance(schema, dict):
        return []
    inner = [found for value in schema.values() for found in _subschemas(value)]
    return [schema, *inner]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_a_tool_keeps_the_rules(tool: BoundTool) -> None:
    definition = tool.definition
    assert definition.title
    assert definition.description
    assert len(definition.description.encode()) <= 1024
    assert len(definition.input_schema["properties"]) <= 15
    assert definition.annotations is not None
    hints = definition.annotations.model_dump(exclude={"title"})
    assert all(isinstance(hint, bool) for hint in hints.values()), "a hint is not stated"
    assert not (hints["read_only_hint"] and hints["destructive_hint"])
    if tool.name not in PASSED_ON:
        assert definition.output_schema is not None
        assert definition.output_schema["type"] == "object"
    assert definition.input_schema["type"] == "object"
    assert definition.input_schema["additionalProperties"] is False


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_schemas_are_portable_and_without_noise(tool: BoundTool) -> None:
    definition = tool.definition
    for schema in _subschemas([definition.input_schema, definition.output_schema]):
        assert not isinstance(schema.get("title"), str)
        assert not isinstance(schema.get("type"), list)
    for schema in definition.input_schema["properties"].values():
        assert schema.get("default", ...) is not None
        assert {"type": "null"} not in schema.get("anyOf", [])


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_lists_take_a_cursor_and_give_the_next(tool: BoundTool) -> None:
    output = tool.definition.output_schema or {"properties": {}}
    inputs = tool.definition.input_schema["properties"]
    assert ("next_cursor" in output["properties"]) == ("cursor" in inputs)
    if tool.name.endswith("_list"):
        assert {"items", "next_cursor"} <= output["properties"].keys()
        assert {"limit", "cursor"} <= inputs.keys()


def test_the_whole_list_is_small() -> None:
    def size(*fields: str) -> int:
        return sum(
            len(
                tool.definition.model_dump_json(
                    include=set(fields), by_alias=True, exclude_none=True
                ).encode()
            )
            for tool in TOOLS
        )

    seen = size("name", "description", "input_schema")
    whole = size("name", "title", "description", "input_schema", "output_schema", "annotations")
    print(f"tools/list: {len(TOOLS)} tools, {seen} bytes for a model, {whole} in all")
    assert seen <= SEEN_BY_AGENTS
    assert whole <= WHOLE_LIST
