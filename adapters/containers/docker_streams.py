"""What the engine streams: lines of JSON, frames of two outputs, and instants in its spelling."""

import json
import re
import struct
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from aiohttp import ClientResponse

from mcp_hub.adapters.containers.port import LogLine, Stream

STREAMS: dict[int, Stream] = {1: "stdout", 2: "stderr"}
FRAME = struct.Struct(">BxxxL")
"""What goes before each piece of an output: the number of the stream, and the piece's length."""
_INSTANT = re.compile(r"(.{19})(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")


async def json_lines(response: ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """Each object that comes, one a line of any length."""
    rest = bytearray()
    async for chunk in response.content.iter_any():
        rest += chunk
        while (end := rest.find(b"\n")) >= 0:
            line = bytes(rest[:end]).strip()
            del rest[: end + 1]
            if line:
                yield json.loads(line)


async def log_lines(response: ClientResponse) -> AsyncIterator[LogLine]:
    """The lines of a log that was asked for with timestamps."""
    rest = bytearray()
    async for chunk in response.content.iter_any():
        rest += chunk
        while len(rest) >= FRAME.size:
            number, length = FRAME.unpack_from(rest)
            end = FRAME.size + length
            if len(rest) < end:
                break
            instant, _, text = bytes(rest[FRAME.size : end]).partition(b" ")
            del rest[:end]
            if number in STREAMS:
                line = text.removesuffix(b"\n").decode(errors="replace")
                yield LogLine(nanoseconds(instant.decode()) or 0, STREAMS[number], line)


def nanoseconds(instant: str) -> int | None:
    """Since the epoch, of `2026-11-28T01:08:49.123456789Z`; None for the engine's "never"."""
    parts = _INSTANT.fullmatch(instant)
    if parts is None or instant.startswith("0001-"):
        return None
    seconds = int(datetime.fromisoformat(parts[1] + parts[3]).timestamp())
    return seconds * 1_000_000_000 + int((parts[2] or "").ljust(9, "0")[:9])


def milliseconds(instant: str) -> int | None:
    """Likewise, in milliseconds."""
    since = nanoseconds(instant)
    return None if since is None else since // 1_000_000
