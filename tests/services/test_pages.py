"""Cursors: whatever goes in comes out, and anything else is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.pages import check_limit, decode_cursor, encode_cursor


@given(st.integers(), st.text())
def test_a_cursor_leads_back_to_its_position(number: int, text: str) -> None:
    assert decode_cursor(encode_cursor(number, text), int, str) == [number, text]


@given(st.text())
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="cursor"):
        decode_cursor(text, int, str)


@pytest.mark.parametrize("position", [(), (1,), ("a", 1), (1, None), (True, "a"), (1, "a", 2)])
def test_a_cursor_of_another_list_is_refused(position: tuple[object, ...]) -> None:
    with pytest.raises(InvalidArgument, match="cursor"):
        decode_cursor(encode_cursor(*position), int, str)


def test_a_limit_is_from_1_to_200() -> None:
    assert [check_limit(limit) for limit in (1, 200)] == [1, 200]
    for limit in (0, 201, -1):
        with pytest.raises(InvalidArgument, match="1 to 200"):
            check_limit(limit)
