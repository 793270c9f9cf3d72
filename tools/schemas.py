"""The JSON Schemas of `tools/list`, without what only costs tokens."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

_MAPS = frozenset({"properties", "$defs", "patternProperties"})
"""Keywords whose value maps names of the author's own to schemas."""

_TYPES = ("string", "number", "boolean", "object", "array", "null")
_ANYTHING = {"anyOf": [{"type": name} for name in _TYPES]}
"""Any JSON value, in words that every client takes: not all take an empty schema."""

Schema = dict[str, Any]


def input_schema(model: type[BaseModel]) -> Schema:
    """The schema of a tool's arguments as it is published.

    Titles that only repeat names go; so does the null of an optional argument, which is left out
    instead; and the arguments that exist are all that there are.
    """
    schema = _rewritten(model.model_json_schema(), _plain)
    optional = {name: _non_null(part) for name, part in schema.get("properties", {}).items()}
    return {**schema, "properties": optional, "additionalProperties": False}


def output_schema(model: type[BaseModel]) -> Schema:
    """The schema of a tool's result as it is published.

    Without defaults, which a result always states, without the descriptions of whole objects,
    which are for the reader of the code, and open: a later release may add fields.
    """
    schema: Schema = _rewritten(model.model_json_schema(), _plain_output)
    return schema


def _rewritten(schema: Any, rewrite: Callable[[Schema], Schema]) -> Any:
    """`schema` with `rewrite` applied to it and to every schema inside it, innermost first."""
    if isinstance(schema, list):
        return [_rewritten(part, rewrite) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    inner = {
        key: {name: _rewritten(part, rewrite) for name, part in value.items()}
        if key in _MAPS
        else value
        if key == "default"
        else _rewritten(value, rewrite)
        for key, value in schema.items()
    }
    return rewrite(inner)


def _plain(schema: Schema) -> Schema:
    plain = dict(schema)
    if isinstance(plain.get("title"), str):
        del plain["title"]
    if plain.get("additionalProperties") is True or plain.get("additionalProperties") == _ANYTHING:
        del plain["additionalProperties"]
    return plain if plain.keys() - {"description", "default"} else {**_ANYTHING, **plain}


def _plain_output(schema: Schema) -> Schema:
    plain = _plain(schema)
    plain.pop("default", None)
    if plain.get("additionalProperties") is False:
        del plain["additionalProperties"]
    if "properties" in plain:
        plain.pop("description", None)
    return plain


def _non_null(schema: Schema) -> Schema:
    """An argument that is null when left out, without the null."""
    if schema.get("default", ...) is not None:
        return schema
    rest = {key: value for key, value in schema.items() if key != "default"}
    options = [option for option in rest.pop("anyOf", []) if option != {"type": "null"}]
    if len(options) == 1:
        return {**options[0], **rest}
    return {"anyOf": options, **rest} if options else rest
