"""Blobs as files of a local folder, sharded by the first two digits of their address."""

import hashlib
import os
import tempfile
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from anyio import CancelScope, from_thread, to_thread

from mcp_hub.adapters.blobs.local import Copy, open_source, reporting, write_whole
from mcp_hub.adapters.blobs.port import Blob
from mcp_hub.adapters.blobs.verifying import CHUNK, Verifier, check_address
from mcp_hub.adapters.errors import NotFound

_ABANDONED_AFTER_S = 24 * 3600


class FileBlobStore:
    """A folder of files named by their SHA-256, shared by any number of processes.

    A blob is written to the folder `incoming`, forced to the disk and then renamed into place:
    neither a reader nor a machine that lost its power ever sees a part of it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, data: bytes | AsyncIterable[bytes]) -> Blob:
        if isinstance(data, bytes):
            return await to_thread.run_sync(self._put_bytes, data)
        upload = await to_thread.run_sync(_Upload, self._root)
        try:
            async for part in data:
                await to_thread.run_sync(upload.write, part)
            return await to_thread.run_sync(upload.commit)
        finally:
            with CancelScope(shield=True):
                await to_thread.run_sync(upload.discard)

    async def put_file(self, path: Path) -> Blob:
        return await to_thread.run_sync(self._put_file, path)

    async def stream(self, sha256: str) -> AsyncIterator[bytes]:
        with await to_thread.run_sync(self._open, sha256) as file:
            parts = self._verified(sha256, file)
            while part := await to_thread.run_sync(next, parts, b""):
                yield part

    async def get(self, sha256: str) -> bytes:
        return await to_thread.run_sync(self._get, sha256)

    async def fetch(self, sha256: str, path: Path) -> None:
        await to_thread.run_sync(self._fetch, sha256, path)

    async def exists(self, sha256: str) -> bool:
        return await to_thread.run_sync(self._place(sha256).is_file)

    async def delete(self, sha256: str) -> None:
        await to_thread.run_sync(self._delete, sha256)

    async def check(self) -> str:
        return await to_thread.run_sync(self._check)

    async def close(self) -> None:
        """There is nothing to close."""

    def _place(self, sha256: str) -> Path:
        return _place(self._root, check_address(sha256))

    def _put_bytes(self, data: bytes) -> Blob:
        blob = Blob(hashlib.sha256(data).hexdigest(), len(data))
        with reporting(self._root):
            if _is_stored(self._root, blob):
                return blob
        return self._put_parts([data])

    def _put_file(self, path: Path) -> Blob:
        with open_source(path) as file:
            return self._put_parts(iter(lambda: file.read(CHUNK), b""))

    def _put_parts(self, parts: "Iterator[bytes] | list[bytes]") -> Blob:
        upload = _Upload(self._root)
        try:
            for part in parts:
                upload.write(part)
                from_thread.check_cancelled()
            return upload.commit()
        finally:
            upload.discard()

    def _open(self, sha256: str) -> BinaryIO:
        place = self._place(sha256)
        with reporting(self._root):
            try:
                return place.open("rb")
            except FileNotFoundError as error:
                raise NotFound(f"There is no blob {sha256}.") from error

    def _verified(self, sha256: str, file: BinaryIO) -> Iterator[bytes]:
        """The parts of `file`. The last one is held back until the whole was verified."""
        verifier = Verifier(sha256, f"Restore {self._place(sha256)} from a backup.")
        with reporting(self._root):
            while part := file.read(CHUNK):
                if before := verifier.push(part):
                    yield before
        if last := verifier.last():
            yield last

    def _get(self, sha256: str) -> bytes:
        with self._open(sha256) as file:
            return b"".join(_cancellable(self._verified(sha256, file)))

    def _fetch(self, sha256: str, path: Path) -> None:
        with self._open(sha256) as file:
            copy = Copy(path)
            try:
                for part in _cancellable(self._verified(sha256, file)):
                    copy.write(part)
                copy.commit()
            finally:
                copy.discard()

    def _delete(self, sha256: str) -> None:
        place = self._place(sha256)
        with reporting(self._root):
            place.unlink(missing_ok=True)

    def _check(self) -> str:
        upload = _Upload(self._root)
        try:
            upload.write(b"mcp-hub")
        finally:
            upload.discard()
        return f"files in {self._root}"


class _Upload:
    """A file in `incoming` that becomes the blob of what is written to it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._digest = hashlib.sha256()
        self._size = 0
        with reporting(root):
            incoming = root / "incoming"
            incoming.mkdir(parents=True, exist_ok=True)
            _sweep(incoming)
            descriptor, name = tempfile.mkstemp(dir=incoming)
            self._path = Path(name)
            # Unbuffered: a full disk must be met by `write`, not by `close`.
            self._file = os.fdopen(descriptor, "wb", buffering=0)

    def write(self, part: bytes) -> None:
        self._digest.update(part)
        self._size += len(part)
        with reporting(self._root):
            write_whole(self._file, part)

    def commit(self) -> Blob:
        blob = Blob(self._digest.hexdigest(), self._size)
        with reporting(self._root):
            if not _is_stored(self._root, blob):
                os.fsync(self._file.fileno())
                place = _place(self._root, blob.sha256)
                place.parent.mkdir(exist_ok=True)
                self._path.replace(place)
                _sync_folder(place.parent)
        return blob

    def discard(self) -> None:
        """Remove what was not committed."""
        with suppress(OSError):
            self._file.close()
            self._path.unlink(missing_ok=True)


def _place(root: Path, sha256: str) -> Path:
    return root / sha256[:2] / sha256


def _is_stored(root: Path, blob: Blob) -> bool:
    """Whether the blob is there; one cut short is not, so that storing it again repairs it."""
    try:
        return _place(root, blob.sha256).stat().st_size == blob.size
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    """Force a rename in `folder` to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(incoming: Path) -> None:
    """Remove what processes that were killed left behind."""
    oldest = time.time() - _ABANDONED_AFTER_S
    for path in incoming.iterdir():
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()


def _cancellable(parts: Iterator[bytes]) -> Iterator[bytes]:
    """The same parts, ending with the caller's cancellation: a blob may take minutes."""
    for part in parts:
        from_thread.check_cancelled()
        yield part
