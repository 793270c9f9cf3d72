"""The blobs port: immutable bytes, addressed by what they are."""

from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable


class Blob(NamedTuple):
    """A stored blob: its address (lower-case hex SHA-256) and its size in bytes."""

    sha256: str
    size: int


class BlobStore(Protocol):
    """Bytes under their SHA-256. A blob is there whole or not at all, and never changes.

    Every method that takes an address raises InvalidArgument when it is none.
    """

    async def put(self, data: bytes | AsyncIterable[bytes]) -> Blob:
        """Store `data`, streamed in bounded memory; storing the same bytes twice is free.

        Raises:
            Unavailable: the store does not answer or is full.
        """
        ...

    async def put_file(self, path: Path) -> Blob:
        """Store the content of the local file `path`. Raises as `put` does, and:

        Raises:
            NotFound: there is no such file.
            InvalidArgument: it cannot be read.
            Conflict: it changed meanwhile.
        """
        ...

    def stream(self, sha256: str) -> AsyncIterator[bytes]:
        """The blob's bytes in chunks of at most 1 MiB, verified against the address.

        Raises:
            NotFound: there is no such blob.
            Unavailable: the store does not answer, or what it holds is damaged.
        """
        ...

    async def get(self, sha256: str) -> bytes:
        """The whole blob. Raises as `stream` does."""
        ...

    async def fetch(self, sha256: str, path: Path) -> None:
        """Write the blob to the local file `path`, whole or not at all. Raises as `stream`.

        The file is a copy: what happens to it does not happen to the blob.
        """
        ...

    async def exists(self, sha256: str) -> bool: ...

    async def delete(self, sha256: str) -> None:
        """Remove the blob; removing what is not there is no error."""
        ...

    async def check(self) -> str:
        """Make one round trip; what the store is. Raises Unavailable."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class PresignedDownloads(Protocol):
    """A store from which others may read without the hub in between."""

    async def download_url(self, sha256: str, expires_s: int = 3600) -> str:
        """A URL that gives the blob's bytes to whoever has it, for `expires_s` seconds.

        Raises:
            InvalidArgument: `expires_s` is not from 1 to 604,800 (7 days).
            NotFound, Unavailable: as `stream` says.
        """
        ...


@runtime_checkable
class Provisioned(Protocol):
    """A store on a server that must hold something for it first, such as a bucket."""

    async def provision(self) -> list[str]:
        """Make what is missing; what was made now, such as `bucket hub`. Raises Unavailable.

        What is written makes it, too, where it is still missing.
        """
        ...
