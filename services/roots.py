"""The workspace roots: the only folders whose files a caller may name."""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from mcp_hub.adapters.errors import (
    Denied,
    HubError,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    Unavailable,
    names_hint,
)

_CHUNK = 1024 * 1024
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NAMES_LOOKED_AT = 1000
_NO_SUCH_FILE = (errno.ENOENT, errno.ENOTDIR)
_WRONG_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP, errno.ENXIO, errno.ENODEV)


class Roots:
    """Opens files by what a caller calls them: absolute, `~/…`, `file://…`, or below a root.

    Symbolic links are resolved before a path is checked, and the file is then opened from its
    root down without following any, so that a link made in between leads nowhere. The methods
    block: call them in a thread.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)

    def __str__(self) -> str:
        return ", ".join(str(path) for path in self._paths) or "(none are configured)"

    @contextmanager
    def open(self, source: str) -> Iterator[tuple[Path, BinaryIO]]:
        """The regular file that `source` names: its resolved path, and itself open for reading.

        Raises:
            InvalidArgument: `source` names no regular file.
            Denied: it is outside the roots, also through a link, or may not be read.
            NotFound: there is no such file; the hint names its neighbours.
            Unavailable: it cannot be opened for another reason.
        """
        candidates = self._resolve(source)
        root, path = next((c for c in candidates if os.path.lexists(c[1])), candidates[0])
        try:
            descriptor = _open_below(root, path)
        except OSError as error:
            neighbours = {name for _, path in candidates for name in _names_in(path.parent)}
            raise self._explained(error, path, neighbours) from error
        try:
            _check_regular(path, os.fstat(descriptor).st_mode)
        except InvalidArgument:
            os.close(descriptor)
            raise
        with os.fdopen(descriptor, "rb") as file:
            yield path, file

    def find(self, source: str) -> tuple[Path, int]:
        """What `source` names, of any kind: its resolved path, and its mode as `stat` gives it.

        Raises as `open` does.
        """
        candidates = self._resolve(source)
        root, path = next((c for c in candidates if os.path.lexists(c[1])), candidates[0])
        try:
            return path, _stat_below(root, path).st_mode
        except OSError as error:
            neighbours = {name for _, path in candidates for name in _names_in(path.parent)}
            raise self._explained(error, path, neighbours) from error

    def _resolve(self, source: str) -> list[tuple[Path, Path]]:
        """The roots below which `source` may be, each with the resolved path there."""
        wanted = self._local_path(source)
        found: list[tuple[Path, Path]] = []
        for candidate in [wanted] if wanted.is_absolute() else [p / wanted for p in self._paths]:
            path = Path(os.path.realpath(candidate))
            for root in (Path(os.path.realpath(p)) for p in self._paths):
                if path.is_relative_to(root):
                    found.append((root, path))
                    break
        if not found:
            raise Denied(
                f"{source!r} is, or leads, outside the folders that the hub may read.",
                f"Allowed: {self}. Name a file in one of them, by a path relative to it, or set "
                "the roots in the hub's configuration.",
            )
        return found

    def _local_path(self, source: str) -> Path:
        text = source.strip()
        if "://" in text:
            url = urlsplit(text)
            if url.scheme != "file" or url.netloc not in ("", "localhost"):
                raise InvalidArgument(
                    f"{source!r} is not a local file.",
                    f"Pass a path below one of: {self}; or a file:/// URI.",
                )
            text = unquote(url.path)
        if not text or "\0" in text:
            raise InvalidArgument("The path is empty or holds a zero byte.", f"Roots: {self}.")
        return Path(os.path.expanduser(text))  # noqa: PTH111 - leaves an unknown ~user as it is

    def _explained(self, error: OSError, path: Path, neighbours: set[str]) -> HubError:
        if error.errno in _NO_SUCH_FILE:
            hint = names_hint(path.name, neighbours, "files there")
            return NotFound(f"There is no file {path}.", f"{hint} Roots: {self}.")
        if error.errno in (errno.EACCES, errno.EPERM):
            return Denied(f"{path} may not be read by the hub.", "Change the file's permissions.")
        if error.errno in _WRONG_NAME:
            return InvalidArgument(
                f"{str(path)[:200]} cannot be opened: {error.strerror}.", f"Roots: {self}."
            )
        return Unavailable(f"{path} cannot be opened: {error.strerror or error}.")


def copy_file(path: Path, file: BinaryIO, destination: Path, max_bytes: int) -> None:
    """Copy `file`, which was opened from `path`, to `destination`.

    Raises:
        LimitExceeded: it has more than `max_bytes`; of such a file nothing is read.
        Unavailable: reading or writing failed, for example because the disk is full.
    """
    size = os.fstat(file.fileno()).st_size
    if size > max_bytes:
        raise _too_large(path, size, max_bytes)
    try:
        with destination.open("wb") as copy:
            while chunk := file.read(_CHUNK):
                # It may have grown since.
                if copy.tell() + len(chunk) > max_bytes:
                    raise _too_large(path, copy.tell() + len(chunk), max_bytes)
                copy.write(chunk)
    except OSError as error:
        raise Unavailable(
            f"{path} cannot be copied: {error.strerror or error}.", "Check the disk's free space."
        ) from error


def _stat_below(root: Path, path: Path) -> os.stat_result:
    """Look at the resolved `path` step by step from `root`, following no link on the way."""
    if path == root:
        return path.stat()
    # A pipe, a socket or a device is looked at without being opened.
    folder = _open_below(root, path.parent) if path.parent != root else os.open(root, _FOLDER)
    try:
        return os.stat(path.name, dir_fd=folder, follow_symlinks=False)
    finally:
        os.close(folder)


def _open_below(root: Path, path: Path) -> int:
    """Open the resolved `path` step by step from `root`, following no link on the way."""
    # O_NONBLOCK: opening a pipe without a writer must not wait for one.
    last = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(root, _FOLDER)
    parts = path.relative_to(root).parts
    for number, part in enumerate(parts, start=1):
        flags = last if number == len(parts) else last | os.O_DIRECTORY
        try:
            opened = os.open(part, flags, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = opened
    return descriptor


def _check_regular(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        hint = names_hint("", _names_in(path), "files in it")
        raise InvalidArgument(f"{path} is a folder, not a file.", hint)
    if not stat.S_ISREG(mode):
        raise InvalidArgument(f"{path} is a device, a pipe or a socket.", "Name a regular file.")


def _names_in(folder: Path) -> list[str]:
    names = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    names.append(entry.name)
                if len(names) == _NAMES_LOOKED_AT:
                    break
    except OSError:
        return []
    return names


def _too_large(path: Path, size: int, max_bytes: int) -> LimitExceeded:
    return LimitExceeded(
        f"{path} has {size} bytes; at most {max_bytes} are allowed.",
        "Take a sample of it, write it as Parquet, or raise the limit in the configuration.",
    )
