"""The local files at either end of a blob store: what is stored, and the copies it gives out."""

import errno
import os
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from hashlib import sha256 as new_sha256
from pathlib import Path
from typing import IO, BinaryIO, cast

from anyio import CancelScope, from_thread, to_thread

from mcp_hub.adapters.blobs.port import Blob
from mcp_hub.adapters.blobs.verifying import CHUNK
from mcp_hub.adapters.errors import InvalidArgument, NotFound, Unavailable

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def reporting(folder: Path) -> Iterator[None]:
    """Report what the operating system refuses in `folder` as Unavailable."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise Unavailable(
                f"The disk that holds {folder} is full.", "Free some space, then try again."
            ) from error
        raise Unavailable(
            f"The folder {folder} cannot be used: {error.strerror}.",
            "Check that it exists and may be read and written.",
        ) from error


def open_source(path: Path) -> BinaryIO:
    """The file at `path`, open for reading.

    Raises:
        NotFound: there is no such file.
        InvalidArgument: it cannot be read.
    """
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {path}.") from error
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}.") from error


@asynccontextmanager
async def spooled(data: AsyncIterable[bytes]) -> AsyncIterator[BinaryIO]:
    """The bytes of `data` in a temporary file, or in memory where they are few.

    Raises:
        Unavailable: the disk does not take them.
    """
    spool = tempfile.SpooledTemporaryFile(CHUNK)  # noqa: SIM115 - closed in a thread
    folder = Path(tempfile.gettempdir())
    try:
        async for part in data:
            await to_thread.run_sync(_write, spool, part, folder)
        yield cast(BinaryIO, spool)
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(_discard, spool)


def blob_of(file: BinaryIO) -> Blob:
    """The address and the size of what `file` holds. Run it in a thread of anyio's."""
    file.seek(0)
    digest = new_sha256()
    size = 0
    while part := file.read(CHUNK):
        from_thread.check_cancelled()
        digest.update(part)
        size += len(part)
    return Blob(digest.hexdigest(), size)


class Copy:
    """A file beside `path` that takes its place once it is whole. Raises Unavailable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with reporting(path.parent):
            descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            self._temporary = Path(name)
            # Unbuffered: a full disk must be met by `write`, not by `close`.
            self._file = os.fdopen(descriptor, "wb", buffering=0)

    def write(self, part: bytes) -> None:
        with reporting(self._path.parent):
            write_whole(self._file, part)

    def commit(self) -> None:
        with reporting(self._path.parent):
            self._file.close()
            self._temporary.replace(self._path)

    def discard(self) -> None:
        """Remove what was not committed."""
        with suppress(OSError):
            self._file.close()
            self._temporary.unlink(missing_ok=True)


def write_whole(file: BinaryIO, part: bytes) -> None:
    """Write all of `part` to an unbuffered file, whose `write` may take only some of it."""
    rest = memoryview(part)
    while rest:
        rest = rest[file.write(rest) :]


def _write(spool: IO[bytes], part: bytes, folder: Path) -> None:
    with reporting(folder):
        spool.write(part)


def _discard(spool: IO[bytes]) -> None:
    # What could not be written for a full disk is not to be flushed now.
    with suppress(OSError):
        spool.close()
