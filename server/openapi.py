"""What the hub serves over HTTP besides MCP, as an OpenAPI 3.1 document."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import mcp_hub
from mcp_hub.server.endpoints import JSON, STATUSES
from mcp_hub.server.rest import EVENTS, Operation
from mcp_hub.server.telemetry_routes import DOCUMENTED
from mcp_hub.services.views import Error

Json = dict[str, Any]


def document(operations: Sequence[Operation]) -> Json:
    """The document: these operations, and the routes by which telemetry comes in."""
    modelled = [Error, *(model for one in operations for model in _models(one))]
    references, definitions = models_json_schema(
        [
            (model, "validation" if _is_given(model, operations) else "serialization")
            for model in dict.fromkeys(modelled)
        ],
        ref_template="#/components/schemas/{model}",
    )
    schemas = {model: schema for (model, _), schema in references.items()}
    paths: dict[str, Json] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(
            operation, schemas
        )
    for path, (summary, types) in DOCUMENTED.items():
        paths[path] = {"post": _telemetry(path, summary, types)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "MCP Hub", "version": mcp_hub.__version__},
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {"Error": _content("Why it failed", {JSON: schemas[Error]})},
        },
    }


def _models(operation: Operation) -> list[Any]:
    found = [operation.body, operation.result, *operation.events.values()]
    return [model for model in found if _is_model(model)]


def _is_model(candidate: Any) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, BaseModel)


def _is_given(model: Any, operations: Sequence[Operation]) -> bool:
    return any(one.body is model for one in operations)


def _operation(operation: Operation, schemas: Mapping[Any, Json]) -> Json:
    names = re.findall(r"{(\w+)}", operation.path)
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ] + _query(operation)
    content: Json = {JSON: schemas.get(operation.result, {"type": "object"})}
    if operation.work is not None:
        content[EVENTS] = {"type": "string", "description": _events(operation)}
    told: Json = {
        "operationId": operation.id,
        "summary": operation.summary,
        "description": f"Needs the scope {'write' if operation.changes else 'read'}.",
        "responses": {"200": _content("Done", content)} | _errors(),
    }
    if operation.endless:
        parameters.append({"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}})
    if parameters:
        told["parameters"] = parameters
    if operation.body is not None:
        told["requestBody"] = {"content": {JSON: {"schema": schemas[operation.body]}}}
    return told


def _query(operation: Operation) -> list[Json]:
    if operation.query is None:
        return []
    properties = operation.query.model_json_schema()["properties"]
    return [{"name": name, "in": "query", "schema": it} for name, it in properties.items()]


def _events(operation: Operation) -> str:
    named = [f"{name}: {model.__name__}" for name, model in operation.events.items()]
    if not operation.endless:
        named.append(f"result: {operation.result.__name__}")
    return f"Server-sent events with JSON: {', '.join(named)}, error: Error"


def _telemetry(path: str, summary: str, types: Sequence[str]) -> Json:
    return {
        "operationId": "push" + re.sub(r"[^a-z0-9]+(.)", lambda at: at[1].upper(), path),
        "summary": summary,
        "description": "Needs the scope write. Errors are in the protocol's own form.",
        "requestBody": {"content": {type: {"schema": {}} for type in types}},
        "responses": {
            "2XX": {"description": "Committed"},
            "4XX": {"description": "Refused, for ever"},
            "503": {"description": "To be sent again after Retry-After"},
        },
    }


def _content(description: str, schemas: Mapping[str, Json]) -> Json:
    content = {type: {"schema": schema} for type, schema in schemas.items()}
    return {"description": description, "content": content}


def _errors() -> Json:
    told = {str(status): {"$ref": "#/components/responses/Error"} for status in STATUSES.values()}
    return {"401": {"description": "A token is needed"}, **dict(sorted(told.items()))}
