"""The objects of an S3 bucket as files."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from anyio import from_thread, to_thread
from minio.datatypes import Object
from minio.error import S3Error
from urllib3.exceptions import HTTPError

from mcp_hub.adapters.blobs import s3_client
from mcp_hub.adapters.errors import Conflict, LimitExceeded, NotFound, Unavailable, names_hint

T = TypeVar("T")

TIMEOUT_S = 30.0
_CHUNK = 1024 * 1024
_BROKEN_READS = 3
_MAX_ITEMS = 1_000
_NO_OBJECT = ("NoSuchKey", "NoSuchBucket", "NoSuchVersion")
_CHANGED = "PreconditionFailed"


class S3Source:
    """Reads objects of one bucket, below a prefix if its URL names one.

    An object is read as it was when it was asked for, by its ETag; where the connection breaks,
    the rest comes on another. The key must be allowed to list and read objects.
    """

    def __init__(self, url: str, setting: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """`setting` is what to name where `url` is wrong; `timeout_s` is for each wait.

        Raises:
            InvalidArgument: `url` names no bucket, or there are no credentials.
        """
        self._target = s3_client.parse_url(url, os.environ, setting)
        self._http = s3_client.open_pool(timeout_s)
        self._client = s3_client.connect(self._target, self._http)

    async def fetch(self, item: str, path: Path, max_bytes: int) -> str:
        return await self._run(lambda: self._fetch(item, path, max_bytes))

    async def items(self) -> list[str]:
        return await self._run(self._items)

    async def check(self) -> str:
        def look() -> str:
            next(iter(self._listed()), None)
            return f"S3, {self._target.shown}"

        return await self._run(look)

    async def close(self) -> None:
        self._http.clear()

    async def _run(self, work: Callable[[], T]) -> T:
        def run() -> T:
            with s3_client.translated(self._target):
                return work()

        return await to_thread.run_sync(run)

    def _listed(self) -> "list[Object]":
        found = self._client.list_objects(
            self._target.bucket, self._target.prefix or None, recursive=True
        )
        listed = []
        for entry in found:
            if not (entry.object_name or "").endswith("/"):
                listed.append(entry)
            if len(listed) == _MAX_ITEMS:
                break
        return listed

    def _items(self) -> list[str]:
        try:
            return sorted(
                (entry.object_name or "").removeprefix(self._target.prefix)
                for entry in self._listed()
            )
        except S3Error as error:
            if error.code in _NO_OBJECT:
                return []
            raise

    def _fetch(self, item: str, path: Path, max_bytes: int) -> str:
        name = f"{self._target.prefix}{item}"
        found = self._stat(item, name)
        size = found.size or 0
        if size > max_bytes:
            raise LimitExceeded(
                f"s3://{self._target.bucket}/{name} has {size} bytes; at most {max_bytes} are "
                "allowed.",
                "Take a sample of it, write it as Parquet, or raise data.max_mb in the "
                "configuration.",
            )
        try:
            with path.open("wb") as file:
                broken = 0
                while file.tell() < size:
                    before = file.tell()
                    try:
                        self._read(name, found.etag or "", file.tell(), file.write)
                    except HTTPError:
                        broken = 0 if file.tell() > before else broken + 1
                        if broken > _BROKEN_READS:
                            raise
        except OSError as error:
            if isinstance(error, HTTPError):
                raise
            raise Unavailable(
                f"The object cannot be written: {error.strerror or error}.",
                "Check the disk's free space.",
            ) from error
        return f"s3://{self._target.bucket}/{name} (ETag {found.etag})"

    def _stat(self, item: str, name: str) -> Object:
        try:
            return self._client.stat_object(self._target.bucket, name)
        except S3Error as error:
            if error.code not in _NO_OBJECT:
                raise
            hint = "Check its name."
            # The key may be allowed to read, but not to list.
            with suppress(S3Error):
                hint = names_hint(item, self._items(), "objects")
            raise NotFound(f"There is no object {item!r} in {self._target.shown}.", hint) from error

    def _read(self, name: str, etag: str, offset: int, write: Callable[[bytes], object]) -> None:
        try:
            response = self._client.get_object(
                self._target.bucket,
                name,
                offset,
                request_headers={"If-Match": f'"{etag}"'},
            )
        except S3Error as error:
            if error.code == _CHANGED or error.code in _NO_OBJECT:
                raise Conflict(f"{name} changed while it was read.", "Try again.") from error
            raise
        try:
            while part := response.read(_CHUNK):
                from_thread.check_cancelled()
                write(part)
        finally:
            response.close()
            response.release_conn()
