"""Bodies as they were before they were compressed, within a limit that no bomb passes."""

import zlib
from collections.abc import Callable

from mcp_hub.adapters.errors import LimitExceeded


def gunzip(data: bytes, limit: int) -> bytes:
    """The content of all members of a gzip file.

    Raises:
        ValueError: it is none, or is cut short.
        LimitExceeded: it holds more than `limit` bytes; no more than that are ever made.
    """
    return _inflated(data, limit, 31, "gzip")


def inflate(data: bytes, limit: int) -> bytes:
    """The content of a zlib stream, which HTTP calls deflate. Raises as `gunzip`."""
    return _inflated(data, limit, 15, "deflate")


def unsnappy(data: bytes, limit: int) -> bytes:
    """The content of a snappy block. Raises as `gunzip`."""
    from cramjam import CompressionError, DecompressionError, snappy

    try:
        # The length that the block's first bytes tell is what would be allocated.
        if snappy.decompress_raw_len(data) > limit:
            raise _too_large(limit)
        return bytes(snappy.decompress_raw(data))
    except (CompressionError, DecompressionError, OverflowError) as error:
        raise ValueError(f"it is not compressed with snappy: {error}") from None


DECODINGS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": gunzip, "x-gzip": gunzip, "deflate": inflate, "snappy": unsnappy,
}  # fmt: skip
"""By the name that a Content-Encoding has."""


def _inflated(data: bytes, limit: int, wbits: int, name: str) -> bytes:
    parts: list[bytes] = []
    left = limit
    while data:
        stream = zlib.decompressobj(wbits)
        try:
            part = stream.decompress(data, left + 1)
        except zlib.error as error:
            raise ValueError(f"it is not compressed with {name}: {error}") from None
        left -= len(part)
        if left < 0:
            raise _too_large(limit)
        if not stream.eof:
            raise ValueError(f"it is cut short: {name} says there is more")
        parts.append(part)
        data = stream.unused_data
    return b"".join(parts)


def _too_large(limit: int) -> LimitExceeded:
    return LimitExceeded(
        f"The body is larger than {limit:,} bytes uncompressed.", "Send it in smaller batches."
    )
