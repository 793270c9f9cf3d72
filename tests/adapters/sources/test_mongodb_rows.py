import json
import math
from datetime import datetime
from typing import Any

import pytest
from bson import Code, DatetimeMS, DBRef, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.adapters.sources.mongodb_rows import OPERATORS, parse_filter, row_of

NAMES = st.text("abc", min_size=1, max_size=2)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text("aé🚀"),
    st.binary(max_size=3), st.datetimes(),
)  # fmt: skip
DOCUMENTS = st.recursive(
    st.dictionaries(NAMES, LEAVES | st.lists(LEAVES, max_size=3), max_size=3),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


def depth_first(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for name, value in document.items():
        if isinstance(value, dict):
            found |= depth_first(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


@given(DOCUMENTS)
def test_every_leaf_is_one_cell(document: dict[str, Any]) -> None:
    row = row_of(document)
    leaves = depth_first(document)
    assert list(row) == list(leaves)
    for name, value in leaves.items():
        if isinstance(value, list):
            assert len(json.loads(str(row[name]))) == len(value)
        elif isinstance(value, float) and math.isnan(value):
            assert row[name] is None
        else:
            assert row[name] == value
            assert type(row[name]) is type(value)


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (Int64(5), 5),
        (Timestamp(0, 1), datetime(1970, 1, 1)),  # noqa: DTZ001 - in UTC, as all cells
        (DatetimeMS(10**15), "1000000000000000 ms since 1970"),
        (Regex("^a"), "/^a/"),
        (Code("f()"), "f()"),
        (DBRef("people", 1), "people/1"),
        (MinKey(), "MinKey"),
        (MaxKey(), "MaxKey"),
        ([], "[]"),
        ([b"\1", [math.inf]], '["01", ["inf"]]'),
    ],
)
def test_types_without_a_like_become_their_nearest(value: Any, cell: Any) -> None:
    assert row_of({"x": value}) == {"x": cell}


KEYS = ["a", "b.c", "$or", "$eq", "$where", "$function", "$expr", "a$b"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text("ab$", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=3))
def test_only_known_operators_pass(filter: dict[str, Any]) -> None:
    def operators(value: Any) -> set[str]:
        if isinstance(value, dict):
            inner = set().union(*map(operators, value.values())) if value else set()
            return inner | {name for name in value if name.startswith("$")}
        return set().union(*map(operators, value)) if isinstance(value, list) and value else set()

    if operators(filter) <= set(OPERATORS):
        assert parse_filter(filter) == filter
    else:
        with pytest.raises(InvalidArgument):
            parse_filter(filter)


def test_extended_json_is_understood() -> None:
    number = ObjectId()
    assert parse_filter({"_id": {"$in": [{"$oid": str(number)}]}}) == {"_id": {"$in": [number]}}
    assert parse_filter({"n": {"$gt": {"$numberLong": "5"}}}) == {"n": {"$gt": 5}}
