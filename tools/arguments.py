"""A call's arguments, and what an agent is told when they are wrong."""

import json
from collections.abc import Iterable, Mapping
from inspect import Parameter, Signature
from typing import Any

from mcp.server.mcpserver import Context
from mcp.types import Tool
from pydantic import BaseModel, ValidationError, create_model

from mcp_hub.adapters.errors import InvalidArgument, names_hint

_FAULTS_SHOWN = 3
_INPUT_SHOWN = 80


def arguments_model(signature: Signature) -> tuple[type[BaseModel], str | None]:
    """A model of what a caller gives for `signature`, and which parameter takes the context."""
    context = None
    fields: dict[str, Any] = {}
    for parameter in signature.parameters.values():
        annotation = parameter.annotation
        if isinstance(annotation, type) and issubclass(annotation, Context):
            context = parameter.name
        else:
            required = parameter.default is Parameter.empty
            fields[parameter.name] = (annotation, ... if required else parameter.default)
    return create_model("Arguments", **fields), context


def validated(tool: Tool, model: type[BaseModel], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as the tool's function takes them.

    Some clients send an object or a list as JSON in a string; it is parsed where the string is
    not valid as it is. A string where a list of strings is taken is its only item.

    Raises:
        InvalidArgument: one is unknown, missing or wrong; says what would be right.
    """
    _check_names(tool, arguments)
    try:
        try:
            valid = model.model_validate(arguments)
        except ValidationError as error:
            valid = model.model_validate(_mended(tool, arguments, error))
    except ValidationError as error:
        raise _explain(tool, arguments, error) from None
    return {name: getattr(valid, name) for name in model.model_fields}


def _check_names(tool: Tool, arguments: Mapping[str, Any]) -> None:
    known = tool.input_schema.get("properties", {})
    unknown = [name for name in arguments if name not in known]
    if not unknown:
        return
    message = f"{tool.name} has no parameter {', '.join(map(repr, unknown))}."
    if not known:
        raise InvalidArgument(message, f"{tool.name} takes no parameters.")
    raise InvalidArgument(message, names_hint(unknown[0], known, "parameters"))


def _mended(tool: Tool, arguments: Mapping[str, Any], error: ValidationError) -> dict[str, Any]:
    refused = {fault["loc"][0] for fault in error.errors() if fault["loc"]}
    return {
        name: _parsed(value, _schema_at(tool.input_schema, [name]))
        if name in refused and isinstance(value, str)
        else value
        for name, value in arguments.items()
    }


def _parsed(text: str, schema: Mapping[str, Any]) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if isinstance(value, dict | list) or value is None:
        return value
    return [text] if schema.get("items", {}).get("type") == "string" else text


def _explain(tool: Tool, arguments: Mapping[str, Any], error: ValidationError) -> InvalidArgument:
    """What is wrong with each argument, what it is for, and the nearest right value or key."""
    messages: list[str] = []
    hints: list[str] = []
    for fault in error.errors(include_url=False, include_context=False)[:_FAULTS_SHOWN]:
        path = _path(arguments, fault["loc"])
        message, hint = _fault(tool.input_schema, path, fault)
        messages.append(message)
        hints.append(hint)
    return InvalidArgument(
        f"{tool.name}: {' '.join(_unique(messages))}", " ".join(_unique(hints)) or None
    )


def _fault(root: Mapping[str, Any], path: list[str | int], fault: Any) -> tuple[str, str]:
    where, value = _dotted(path), fault["input"]
    described = _describe(root, path[0]) if path else ""
    if fault["type"] == "missing":
        return f"{where} is required.", described
    if fault["type"] == "extra_forbidden":
        known = _schema_at(root, path[:-1]).get("properties", {})
        return f"{where} is not a known key.", names_hint(str(path[-1]), known, "keys")
    allowed = _schema_at(root, path).get("enum")
    if allowed:
        message = f"{where} is {_shown(value)}, which is not one of its values."
        return message, names_hint(str(value), map(str, allowed), f"values of {where}")
    complaint = fault["msg"].removeprefix("Value error, ").rstrip(".")
    complaint = complaint.replace("valid dictionary", "JSON object").replace("valid list", "list")
    return f"{where} is {_shown(value)}: {complaint[:1].lower()}{complaint[1:]}.", described


def _describe(root: Mapping[str, Any], parameter: str | int) -> str:
    description = _schema_at(root, [parameter]).get("description")
    return f"{parameter}: {description.rstrip('.')}." if description else ""


def _path(arguments: Any, location: Iterable[str | int]) -> list[str | int]:
    """The keys and indexes of `location`, without the names of the union members tried."""
    path: list[str | int] = []
    value, parts = arguments, list(location)
    for position, part in enumerate(parts):
        if _contains(value, part):
            value = value[part]
        elif position < len(parts) - 1 or not isinstance(value, Mapping):
            continue
        path.append(part)
    return path


def _contains(value: Any, part: str | int) -> bool:
    if isinstance(value, list):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, Mapping) and part in value


def _schema_at(root: Mapping[str, Any], path: list[str | int]) -> Mapping[str, Any]:
    """The schema of what `path` leads to, or an empty one where the schema does not say."""
    schema: Mapping[str, Any] = root
    for part in path:
        if isinstance(part, int):
            found = [option["items"] for option in _options(root, schema) if "items" in option]
        else:
            found = [
                option["properties"][part]
                for option in _options(root, schema)
                if part in option.get("properties", {})
            ]
        schema = found[0] if found else {}
    merged: dict[str, Any] = {}
    for option in (*_options(root, schema), schema):
        merged |= option
    return merged


def _options(root: Mapping[str, Any], schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The schemas that `schema` stands for: itself, what it refers to, or its alternatives."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _options(root, root["$defs"][name])
    if "anyOf" in schema:
        return [found for option in schema["anyOf"] for found in _options(root, option)]
    return [schema]


def _dotted(path: list[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _INPUT_SHOWN else f"{text[:_INPUT_SHOWN]}…"


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(text for text in texts if text))
