"""Request bodies: read and unpacked within limits, away from the event loop."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import anyio
from anyio import to_thread
from starlette.requests import Request

from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded
from mcp_hub.services.telemetry.intake.ingest import RETRY_AFTER_S, Overloaded
from mcp_hub.services.telemetry.protocols.compression import DECODINGS

T = TypeVar("T")

MAX_BYTES = 10 * 1024 * 1024
"""Bytes of a body, as it is sent and as it is unpacked."""
_MAX_HELD = 3 * MAX_BYTES
"""Bytes of all the bodies that are held at once in one process."""
_ON_THE_LOOP = 8_192
_AT_ONCE = 2


class Unsupported(InvalidArgument):
    """A content type or encoding that is none of this route's."""


class Bodies:
    """Reads the bodies of a process. Large ones are decoded in a thread, few at once."""

    def __init__(self) -> None:
        self._held = 0
        self._threads = anyio.CapacityLimiter(_AT_ONCE)

    @contextmanager
    def holding(self, request: Request) -> Iterator["Body"]:
        """The body of `request`; its bytes count as held until the context is left.

        Raises:
            LimitExceeded: it says that it is too large.
        """
        body = Body(self, request)
        try:
            yield body
        finally:
            self._held -= body.size

    def take(self, size: int) -> None:
        if self._held and self._held + size > _MAX_HELD:
            raise Overloaded(
                f"{self._held:,} bytes of requests are being read.",
                f"Send this again after {RETRY_AFTER_S} s.",
            )
        self._held += size

    async def run(self, work: Callable[[bytes], T], data: bytes) -> T:
        if len(data) <= _ON_THE_LOOP:
            return work(data)
        return await to_thread.run_sync(work, data, limiter=self._threads)


class Body:
    """One body: how many bytes of it are held."""

    def __init__(self, bodies: Bodies, request: Request) -> None:
        self._bodies = bodies
        self._request = request
        self.size = 0

    async def read(self) -> bytes:
        """The body as it was sent.

        Raises:
            LimitExceeded: it is too large; the rest of it is not read.
            Overloaded: too much is held already.
        """
        told = self._request.headers.get("content-length", "")
        if told.isdigit() and int(told) > MAX_BYTES:
            raise _too_large(int(told))
        chunks = [chunk async for chunk in self._chunks()]
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def decode(self, work: Callable[[bytes], T], encoding: str) -> T:
        """`work` of the body as it was before it had been packed with `encoding`.

        Raises:
            InvalidArgument: it cannot be unpacked, or `work` raised a ValueError.
            LimitExceeded, Overloaded: as `read`.
        """
        data = await self.read()

        def unpack_and_work(data: bytes) -> T:
            try:
                if encoding in ("", "identity"):
                    return work(data)
                return work(DECODINGS[encoding](data, MAX_BYTES))
            except ValueError as error:
                raise InvalidArgument(f"The body is not understood: {error}.") from error

        return await self._bodies.run(unpack_and_work, data)

    async def _chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._request.stream():
            if chunk:
                self._bodies.take(len(chunk))
                self.size += len(chunk)
                if self.size > MAX_BYTES:
                    raise _too_large(self.size)
                yield chunk


def encoding_of(request: Request) -> str:
    """The Content-Encoding. Raises Unsupported where it is none that can be undone."""
    encoding: str = request.headers.get("content-encoding", "").strip().lower()
    if encoding and encoding != "identity" and encoding not in DECODINGS:
        raise Unsupported(
            f"Content-Encoding is {encoding}.", f"Use one of {', '.join(DECODINGS)}, or none."
        )
    return encoding


def type_of(request: Request, known: tuple[str, ...]) -> str:
    """The media type without its parameters. Raises Unsupported where it is none of `known`."""
    type: str = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if type not in known:
        raise Unsupported(f"Content-Type is {type or 'missing'}.", f"Use {' or '.join(known)}.")
    return type


def _too_large(size: int) -> LimitExceeded:
    return LimitExceeded(
        f"The body has {size:,} bytes or more; it has at most {MAX_BYTES:,}.",
        "Send less at once.",
    )
