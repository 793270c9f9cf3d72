"""Pages of lists, and errors on the wire."""

import pytest
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS

from mcp_hub.adapters.errors import InvalidArgument, NotFound, Unavailable
from mcp_hub.server.protocol import PAGE_SIZE, page, protocol_error
from mcp_hub.services.pages import encode_cursor


@pytest.mark.parametrize("count", [0, 1, PAGE_SIZE, PAGE_SIZE + 1, 3 * PAGE_SIZE])
def test_pages_make_up_the_list(count: int) -> None:
    items = list(range(count))
    found: list[int] = []
    cursor = None
    while True:
        part, cursor = page(items, cursor)
        assert len(part) <= PAGE_SIZE
        found += part
        if cursor is None:
            break
        assert len(part) == PAGE_SIZE
    assert found == items


def test_a_list_that_has_shrunk_just_ends() -> None:
    assert page([1, 2], encode_cursor(PAGE_SIZE)) == ([], None)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        encode_cursor("a"),
        encode_cursor(-1),
        encode_cursor(1, 2),
        encode_cursor(True),
        encode_cursor(1.5),
    ],
)
def test_a_cursor_of_another_list_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidArgument, match="cursor"):
        page([1], cursor)


def test_errors_keep_their_form() -> None:
    error = protocol_error(NotFound("No such thing.", "Try this."), uri="a://b")
    assert (error.code, error.message) == (INVALID_PARAMS, "No such thing. Try this.")
    assert error.data == {
        "code": "not_found",
        "message": "No such thing.",
        "hint": "Try this.",
        "uri": "a://b",
    }
    assert protocol_error(Unavailable("Away.")).code == INTERNAL_ERROR
    assert protocol_error(Unavailable("Away.")).message == "Away."
