"""The local files at either end of a blob store: what is stored, and the copies it gives out."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

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
