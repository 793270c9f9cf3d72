"""JSON that any database keeps."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.adapters.database.nul import without_nul

pieces = st.lists(st.sampled_from(["\0", "\\", "u0000", "0", '"', "é", "\n"]), max_size=8)
texts = pieces.map("".join) | st.text()
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=10,
)


def replaced(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, list):
        return [replaced(one) for one in value]
    if isinstance(value, dict):
        return {replaced(key): replaced(one) for key, one in value.items()}
    return value


@given(values, st.booleans())
def test_nul_is_replaced_and_nothing_else(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert json.loads(without_nul(text)) == replaced(value)
    assert (without_nul(text) == text) is (value == replaced(value))


@given(texts, st.integers(0, 3))
def test_json_inside_json_keeps_what_it_says(text: str, times: int) -> None:
    value = text
    for _ in range(times):
        value = msgspec.json.encode(value).decode()
    encoded = msgspec.json.encode(value).decode()
    assert msgspec.json.decode(without_nul(encoded)) == replaced(value)


@pytest.mark.parametrize("backslashes", range(6))
def test_of_backslashes_each_two_are_one(backslashes: int) -> None:
    before = "\\" * backslashes
    without = before[1:] + "\ufffd" if backslashes % 2 else before + "u0000"
    assert without_nul(f'"{before}u0000"') == f'"{without}"'
