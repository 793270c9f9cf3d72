"""A build's context: the files of a folder as a tar archive, the same for the same files."""

import io
import os
import re
import stat
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from posixpath import normpath

from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded

MAX_CONTEXT = 512 << 20
"""Bytes: an archive is held in memory."""

_MB = 1 << 20
_NEVER = (
    "**/.git", "**/.hg", "**/.svn", "**/.venv", "**/venv", "**/node_modules", "**/__pycache__",
    "**/*.pyc", "**/.env", "**/.env.*", "**/.npmrc", "**/.pypirc", "**/.DS_Store", "**/.tox",
    "**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache", "**/*.egg-info",
)  # fmt: skip


class Ignored:
    """The paths that a `.dockerignore` leaves out: the last pattern that fits a path decides."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._rules: list[tuple[re.Pattern[str], bool]] = []
        for line in patterns:
            pattern = line.strip()
            if not pattern or pattern.startswith("#"):
                continue
            negated = pattern.startswith("!")
            path = normpath("/" + pattern.removeprefix("!").strip()).lstrip("/")
            self._rules.append((re.compile(_regex(path)), not negated))
        self.has_exceptions = any(not ignored for _, ignored in self._rules)

    @classmethod
    def of(cls, folder: Path, *, defaults: bool) -> "Ignored":
        """Those of a folder; with `defaults` also what no image needs, or may have."""
        file = folder / ".dockerignore"
        own = file.read_text("utf-8-sig").splitlines() if file.is_file() else []
        return cls([*(_NEVER if defaults else ()), *own])

    def has(self, path: str) -> bool:
        """Whether a path is left out: by itself, or with a folder that it is in."""
        ignored = False
        for pattern, ignores in self._rules:
            if ignores != ignored and pattern.match(path):
                ignored = ignores
        return ignored


def _regex(pattern: str) -> str:
    """A regular expression for a pattern of Go's filepath.Match with `**`, or what is below it."""
    out, i = "", 0
    while i < len(pattern):
        if pattern.startswith("**/", i):
            out, i = out + "(?:.*/)?", i + 3
        elif pattern.startswith("**", i):
            out, i = out + ".*", i + 2
        elif pattern[i] == "[" and (end := pattern.find("]", i + 2)) > 0:
            inner = pattern[i + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
            out, i = out + f"[{inner}]", end + 1
        elif pattern[i] == "\\" and i + 1 < len(pattern):
            out, i = out + re.escape(pattern[i + 1]), i + 2
        else:
            out += {"*": "[^/]*", "?": "[^/]"}.get(pattern[i], re.escape(pattern[i]))
            i += 1
    return out + r"(?:/.*)?\Z"


class Context:
    """The archive of one build, made of folders and texts; files keep nothing but their content
    and whether they can be executed."""

    def __init__(self, limit: int = MAX_CONTEXT) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.TarFile(fileobj=self._buffer, mode="w", format=tarfile.PAX_FORMAT)
        self._limit = limit

    def add_text(self, name: str, text: str) -> None:
        data = text.encode()
        self._tar.addfile(_entry(name, len(data)), io.BytesIO(data))

    def add_folder(self, folder: Path, ignored: Ignored, under: str = "") -> None:
        """Add what is in a folder, below the path `under` of the archive.

        Raises:
            InvalidArgument: a symbolic link leads out of the folder.
            LimitExceeded: the archive would get too large.
        """
        root = folder.resolve()
        for path in _files(root, ignored):
            name = str(PurePosixPath(under) / path.relative_to(root).as_posix())
            if path.is_symlink():
                self._add_link(path, root, name)
                continue
            info = path.stat()
            if self._buffer.tell() + info.st_size > self._limit:
                raise LimitExceeded(
                    f"{folder} is over {self._limit // _MB} MB with {path.relative_to(root)} "
                    f"({info.st_size / _MB:.0f} MB).",
                    "Leave out in its .dockerignore what the server does not need.",
                )
            with path.open("rb") as file:
                # What grows meanwhile is read as far as it was.
                self._tar.addfile(_entry(name, info.st_size, bool(info.st_mode & 0o111)), file)

    def _add_link(self, path: Path, root: Path, name: str) -> None:
        target = path.readlink()
        if target.is_absolute() or not path.resolve().is_relative_to(root):
            raise InvalidArgument(
                f"{path.relative_to(root)} is a symbolic link out of the folder, to {target}.",
                "Put a copy in its place, or leave it out in .dockerignore.",
            )
        entry = _entry(name, 0)
        entry.type, entry.linkname = tarfile.SYMTYPE, target.as_posix()
        self._tar.addfile(entry)

    def finish(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()


def _entry(name: str, size: int, executable: bool = False) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o755 if executable else 0o644
    return entry


def _files(root: Path, ignored: Ignored) -> Iterator[Path]:
    """The files and symbolic links of a folder that are not left out, in a lasting order."""
    for at, folders, files in os.walk(root):
        here = Path(at)
        relative = here.relative_to(root)
        links = [name for name in folders if (here / name).is_symlink()]
        folders[:] = sorted(
            name
            for name in folders
            if name not in links
            # An exception may bring back what is below a folder that is left out.
            and (ignored.has_exceptions or not ignored.has((relative / name).as_posix()))
        )
        for name in sorted([*files, *links]):
            path = here / name
            if not ignored.has((relative / name).as_posix()) and _can_be_kept(path):
                yield path


def _can_be_kept(path: Path) -> bool:
    mode = path.lstat().st_mode
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)
