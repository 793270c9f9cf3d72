"""A filter's conditions on values in memory: true in the same cases as `filter_sql`'s."""

import operator
from collections.abc import Callable
from typing import Any

from mcp_hub.services.telemetry.filtering.filters import NEGATIVE, Condition

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "contains": operator.contains,
    "prefix": str.startswith,
}


def fits(value: Any, condition: Condition) -> bool:
    """Whether a JSON value, None where there is none, meets the condition."""
    op, sought = condition.op, condition.value
    if op == "exists":
        return (value is not None) == sought
    if op in NEGATIVE:
        return not fits(value, Condition(condition.field, NEGATIVE[op], sought))
    if isinstance(sought, tuple):
        return any(_compares(value, "eq", one) for one in sought)
    return _compares(value, op, sought)


def _compares(value: Any, op: str, sought: Any) -> bool:
    """Values compare within their type only: text, number, or true and false."""
    if isinstance(sought, bool) or isinstance(value, bool):
        return value is sought and op == "eq"
    if isinstance(sought, str):
        return isinstance(value, str) and _COMPARE[op](value, sought)
    return isinstance(value, int | float) and _COMPARE[op](value, sought)
