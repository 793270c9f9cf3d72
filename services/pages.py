"""Cursors: where a list goes on, opaque to the caller and good for any hub process."""

import base64
import json
from typing import Any

from mcp_hub.adapters.errors import InvalidArgument

MAX_LIMIT = 200


def encode_cursor(*position: Any) -> str:
    """The cursor that says "after `position`"; the position's parts are JSON scalars."""
    packed = json.dumps(position, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def decode_cursor(cursor: str, *kinds: type) -> list[Any]:
    """The position in a cursor made by `encode_cursor` with parts of these kinds.

    Raises:
        InvalidArgument: the cursor is not one of ours.
    """
    try:
        packed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        position = json.loads(packed)
    except ValueError:
        position = None
    if not isinstance(position, list) or [type(part) for part in position] != list(kinds):
        raise InvalidArgument(
            f"{cursor!r} is not a cursor of this list.",
            "Pass the next_cursor of the page before, or leave it out for the first page.",
        )
    return position


def check_limit(limit: int) -> int:
    """`limit` if a page may be that long.

    Raises:
        InvalidArgument: it is not between 1 and 200.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidArgument(f"limit is {limit}; it must be from 1 to {MAX_LIMIT}.")
    return limit
