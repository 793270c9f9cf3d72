"""Why nothing fits: a value of a type that its attribute never has."""

from sqlalchemy import Connection, select

from mcp_hub.adapters.database.telemetry_schema import telemetry_attributes
from mcp_hub.services.telemetry.filtering.filters import FIELDS, Condition, Filter, Scalar

_HOLDS = {"string": "text", "number": "numbers", "boolean": "true or false"}


def mismatch(connection: Connection, filter: Filter) -> str | None:
    """What to write instead, if a condition is on another type than its attribute has."""
    for one in filter.of("attribute", "resource").conditions:
        key = f"resource.{one.field.key}" if one.field.source == "resource" else one.field.key
        found = select(telemetry_attributes.c.types).where(telemetry_attributes.c.key == key)
        types = {word for said in connection.execute(found).scalars() for word in said.split()}
        wanted = [_type_of(value) for value in _values(one)]
        if types and wanted and types.isdisjoint(wanted):
            name = f"attributes.{key}" if key in FIELDS else key
            holds = " or ".join(_HOLDS.get(word, f"an {word}") for word in sorted(types))
            return f"{name!r} holds {holds}: {_instead(one, types)}"
    return None


def _values(condition: Condition) -> tuple[Scalar, ...]:
    if condition.op == "exists":
        return ()
    return condition.value if isinstance(condition.value, tuple) else (condition.value,)


def _type_of(value: Scalar) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "string" if isinstance(value, str) else "number"


def _instead(condition: Condition, types: set[str]) -> str:
    (value, *_) = _values(condition)
    if condition.op in ("contains", "prefix"):
        return "use eq, in, gte or lt."
    if "number" in types and isinstance(value, str) and _is_number(value):
        return f"write {value}."
    if "boolean" in types and str(value).lower() in ("true", "false"):
        return f"write {str(value).lower()}."
    if "string" in types:
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        return f'write "{shown}".'
    return f"{value!r} is none."


def _is_number(text: str) -> bool:
    try:
        return float(text) == float(text)
    except ValueError:
        return False
