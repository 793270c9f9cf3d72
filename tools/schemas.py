"""The JSON Schemas of `tools/list`, without what only costs tokens."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

_MAPS = frozenset({"properties", "$defs", "patternProperties"})
"""Keywords whose value maps names of the author's own to schemas."""


def input_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a tool's arguments as it is published.

    Titles that only repeat names go; so does the null of an optional argument, which is left out
    instead; and the arguments that exist are all that there are.
    """
    published = _without_nulls(_compact(model.model_json_schema()))
    return {**published, "additionalProperties": False}


def output_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a tool's result as it is published: a later release may add fields."""
    published: dict[str, Any] = _open(_compact(model.model_json_schema()))
    return published


def _compact(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_compact(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: {name: _compact(part) for name, part in value.items()}
        if key in _MAPS
        else _compact(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
        and not (key == "additionalProperties" and value is True)
    }


def _without_nulls(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "properties": {
        name: _non_null(part) for name, part in schema.get("properties", {}).items()
    }}  # fmt: skip


def _non_null(schema: dict[str, Any]) -> dict[str, Any]:
    if "default" not in schema or schema["default"] is not None:
        return schema
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    options = [option for option in schema.get("anyOf", []) if option != {"type": "null"}]
    if len(options) == 1:
        return {**options[0], **rest}
    return {"anyOf": options, **rest} if options else rest


def _open(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_open(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: {name: _open(part) for name, part in value.items()} if key in _MAPS else _open(value)
        for key, value in schema.items()
        if not (key == "additionalProperties" and value is False)
    }
