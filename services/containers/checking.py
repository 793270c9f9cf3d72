"""A call's arguments against the schema that its tool's server published.

Such a schema is a stranger's: no pattern of it is tried, which could take for ever, nothing that it
refers to is fetched, and its references are followed a bounded number of times. What is not checked
here, the server checks.
"""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from anyio import to_thread

from mcp_hub.adapters.errors import InvalidArgument, names_hint

_REFERENCES = 2_000
_SHOWN = 300
_KEPT = 512


_QUICK = 100_000
"""Characters of a schema times those of arguments, up to which a check takes a few milliseconds."""
_seen: dict[str, None] = {}
"""Schemas whose validators were made."""


class _TooMuch(Exception):
    pass


def prepare() -> None:
    """Load what checks: it takes longer than a call of a server that is warm."""
    _fault("{}", {})


async def check(tool: str, schema: Any, arguments: Mapping[str, Any]) -> None:
    """Check arguments against a tool's input schema; a schema that is none permits everything.

    It is done in a thread unless it is surely quick.

    Raises:
        InvalidArgument: they do not fit; says where and what would.
    """
    if not isinstance(schema, dict):
        return
    text = json.dumps(schema, sort_keys=True)
    is_quick = '"$ref"' not in text and '"uniqueItems"' not in text and text in _seen
    if is_quick and len(text) * len(json.dumps(arguments)) < _QUICK:
        _check(tool, schema, text, arguments)
        return
    await to_thread.run_sync(_check, tool, schema, text, arguments)
    if len(_seen) >= _KEPT:
        _seen.clear()
    _seen[text] = None


def _check(tool: str, schema: dict[str, Any], text: str, arguments: Mapping[str, Any]) -> None:
    fault = _fault(text, arguments)
    if fault is None:
        return
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault.path)
    message = f"arguments{where} of {tool}: {_short(fault.message)}."
    known = schema.get("properties")
    if fault.validator == "additionalProperties" and not fault.path and isinstance(known, dict):
        unknown = next((name for name in arguments if name not in known), "")
        raise InvalidArgument(message, names_hint(unknown, known, f"arguments of {tool}"))
    part = fault.schema if fault.path else known or fault.schema
    raise InvalidArgument(message, f"Its schema there: {_short(json.dumps(part))}")


def _fault(schema: str, arguments: Mapping[str, Any]) -> Any:
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    try:
        made, begin = _validator(schema)
        begin()
        return best_match(made.iter_errors(dict(arguments)))
    except (_TooMuch, _NoSchema, Unresolvable, RecursionError):
        return None


class _NoSchema(Exception):
    pass


@lru_cache(maxsize=_KEPT)
def _validator(text: str) -> tuple[Any, Callable[[], None]]:
    """A validator of a schema, and what to call before each use."""
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import extend, validator_for
    from referencing import Registry

    schema = json.loads(text)
    base: Any = validator_for(schema, default=Draft202012Validator)
    try:
        base.check_schema(schema)
    except SchemaError as error:
        raise _NoSchema from error
    left = [_REFERENCES]

    def begin() -> None:
        left[0] = _REFERENCES

    def refer(validator: Any, reference: Any, instance: Any, schema: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise _TooMuch
        yield from base.VALIDATORS["$ref"](validator, reference, instance, schema)

    def ignore(*_: Any) -> None:
        return None

    own = {
        "$ref": refer, "$dynamicRef": ignore, "$recursiveRef": ignore, "pattern": ignore,
        "patternProperties": ignore, "additionalProperties": _additional(base),
    }  # fmt: skip
    return extend(base, own)(schema, registry=Registry()), begin


def _additional(base: Any) -> Any:
    """`additionalProperties` looks at `patternProperties` too: where there are some, leave it."""

    def check(validator: Any, allowed: Any, instance: Any, schema: Any) -> Any:
        if "patternProperties" not in schema:
            yield from base.VALIDATORS["additionalProperties"](validator, allowed, instance, schema)

    return check


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
