"""Blobs as objects of an S3 bucket: MinIO, AWS, and whatever else speaks S3."""

import os
from asyncio import CancelledError
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from hashlib import md5
from hashlib import sha256 as new_sha256
from io import BytesIO
from pathlib import Path
from tempfile import gettempdir
from typing import BinaryIO, TypeVar, cast

from anyio import CapacityLimiter, from_thread, to_thread
from minio.commonconfig import ENABLED, Filter
from minio.datatypes import Object
from minio.error import S3Error
from minio.lifecycleconfig import AbortIncompleteMultipartUpload, LifecycleConfig, Rule
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from mcp_hub.adapters.blobs import s3_client
from mcp_hub.adapters.blobs.local import blob_of, open_source, reporting, spooled
from mcp_hub.adapters.blobs.port import Blob
from mcp_hub.adapters.blobs.remote import RemoteBlobStore
from mcp_hub.adapters.blobs.verifying import CHUNK, Verifier, check_address
from mcp_hub.adapters.errors import Conflict, InvalidArgument, NotFound, Unavailable

T = TypeVar("T")

TIMEOUT_S = 30.0
_ONE_REQUEST = 5 * CHUNK
"""Up to here an object is sent whole; a larger one in parts of at least this size."""
_BROKEN_READS = 3
_NO_OBJECT = ("NoSuchKey", "NoSuchBucket")
_MAX_EXPIRY_S = 7 * 24 * 3600


class S3BlobStore(RemoteBlobStore):
    """Objects named `{prefix}{first two digits}/{SHA-256}` in one bucket, made at the first write.

    An object is sent under its own name, in parts that the server puts together at the end: it
    is there whole or not at all. The name must be known before, so that a stream is first
    spooled to a local temporary file. (The other way, a temporary object that the server copies
    to its name, would send again what is stored already, leave objects behind where a process
    was killed, and need a copy in parts above 5 GB.)

    Each request carries the checksum of its body (SHA-256 signed in, over TLS the MD5) for the
    server to compare, and the ETag it answers with is compared with the parts' MD5; each blob
    that is read is compared with its address. The key must be allowed to list, read, write and
    delete objects.
    """

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """`timeout_s`: for connecting, sending a part, and each wait for an answer.

        Raises:
            InvalidArgument: `url` names no bucket, or there are no credentials.
        """
        self._target = s3_client.parse_url(url, os.environ)
        self._http = s3_client.open_pool(timeout_s)
        self._client = s3_client.connect(self._target, self._http)
        self._bucket = self._target.bucket
        self._has_bucket = False
        self._threads = CapacityLimiter(s3_client.CONNECTIONS)

    async def put(self, data: bytes | AsyncIterable[bytes]) -> Blob:
        if isinstance(data, bytes):
            return await self._run(self._store, BytesIO(data))
        async with spooled(data) as spool:
            return await self._run(self._store, spool, Path(gettempdir()))

    async def put_file(self, path: Path) -> Blob:
        def store() -> Blob:
            with open_source(path) as file:
                return self._store(file, path.parent)

        return await self._run(store)

    async def stream(self, sha256: str) -> AsyncGenerator[bytes, None]:
        verifier = Verifier(
            check_address(sha256),
            f"Restore the object {self._name(sha256)} of the bucket {self._bucket} from a backup.",
        )
        parts = self._parts(sha256)
        try:
            while part := await self._run(partial(next, parts, b"")):
                if before := verifier.push(part):
                    yield before
        finally:
            parts.close()
        if last := verifier.last():
            yield last

    async def exists(self, sha256: str) -> bool:
        name = self._name(sha256)
        return await self._run(partial(self._stat, name), abandon=True) is not None

    async def delete(self, sha256: str) -> None:
        await self._run(partial(self._delete, self._name(sha256)))

    async def download_url(self, sha256: str, expires_s: int = 3600) -> str:
        if not 1 <= expires_s <= _MAX_EXPIRY_S:
            raise InvalidArgument(
                f"expires_s is {expires_s}.", f"It must be from 1 to {_MAX_EXPIRY_S} seconds."
            )
        name = self._name(sha256)

        def sign() -> str:
            if self._stat(name) is None:
                raise NotFound(f"There is no blob {sha256}.")
            return self._client.presigned_get_object(
                self._bucket, name, timedelta(seconds=expires_s)
            )

        return await self._run(sign)

    async def provision(self) -> list[str]:
        made = await self._run(self._provide_bucket)
        return [f"bucket {self._bucket}"] if made else []

    async def check(self) -> str:
        return await self._run(self._check, abandon=True)

    async def close(self) -> None:
        self._http.clear()

    async def _run(self, work: Callable[..., T], *args: object, abandon: bool = False) -> T:
        """The result of `work`, run in a thread; with `abandon` a cancelled one is left alone."""

        def run() -> T:
            with s3_client.translated(self._target):
                return work(*args)

        return await to_thread.run_sync(run, limiter=self._threads, abandon_on_cancel=abandon)

    def _name(self, sha256: str) -> str:
        return f"{self._target.prefix}{check_address(sha256)[:2]}/{sha256}"

    def _store(self, file: BinaryIO, folder: Path = Path()) -> Blob:
        """Store the content of `file`, which lies in the local `folder`, if anywhere."""
        with reporting(folder):
            return self._store_readable(file)

    def _store_readable(self, file: BinaryIO) -> Blob:
        blob = blob_of(file)
        name = self._name(blob.sha256)
        # One of another size was damaged: storing it again repairs it.
        found = self._stat(name)
        if found is not None and found.size == blob.size:
            return blob
        self._ensure_bucket()
        try:
            self._upload(name, file, blob)
        except S3Error as error:
            if error.code != "NoSuchBucket":
                raise
            self._has_bucket = False
            self._ensure_bucket()
            self._upload(name, file, blob)
        return blob

    def _upload(self, name: str, file: BinaryIO, blob: Blob) -> None:
        headers: dict[str, str | list[str] | tuple[str]] = {}
        if blob.size <= _ONE_REQUEST:
            headers["x-amz-checksum-sha256"] = b64encode(bytes.fromhex(blob.sha256)).decode()
        file.seek(0)
        source = _Source(file, blob)
        try:
            # One part at a time: the client's own threads would outlive a cancelled upload.
            etag = self._client.put_object(
                self._bucket,
                name,
                cast(BinaryIO, source),
                blob.size,
                metadata=headers,
                num_parallel_uploads=1,
            ).etag
        except (_Cancelled, HTTPError):
            from_thread.check_cancelled()
            # An answer that was lost may have told of success.
            found = self._stat(name)
            if found is None or found.size != blob.size:
                raise
            etag = found.etag
        if etag != source.etag():
            self._compare(name, blob)

    def _compare(self, name: str, blob: Blob) -> None:
        """Read back what an ETag does not vouch for; it does not where the server encrypts."""
        digest = new_sha256()
        for part in self._parts(blob.sha256):
            from_thread.check_cancelled()
            digest.update(part)
        if digest.hexdigest() != blob.sha256:
            self._client.remove_object(self._bucket, name)
            raise Unavailable(
                f"The blob {blob.sha256} was changed on its way to S3 at {self._target.shown}.",
                "Try again; if that fails too, see what changes it on the way, or use TLS.",
            )

    def _parts(self, sha256: str) -> Generator[bytes, None, None]:
        """The object's bytes; where the connection breaks off, the rest comes on another."""
        name = self._name(sha256)
        offset = broken = 0
        while True:
            response = self._open(sha256, name, offset)
            try:
                while part := response.read(CHUNK):
                    offset += len(part)
                    broken = 0
                    yield part
                return
            except HTTPError:
                broken += 1
                if broken > _BROKEN_READS:
                    raise
            finally:
                response.close()
                response.release_conn()

    def _open(self, sha256: str, name: str, offset: int) -> BaseHTTPResponse:
        try:
            return self._client.get_object(self._bucket, name, offset)
        except S3Error as error:
            if error.code in _NO_OBJECT:
                raise NotFound(f"There is no blob {sha256}.") from error
            raise

    def _stat(self, name: str) -> Object | None:
        """What the server says of the object, None where there is none."""
        try:
            return self._client.stat_object(self._bucket, name)
        except S3Error as error:
            if error.code in _NO_OBJECT:
                return None
            self._ask_why(error)
            raise

    def _ask_why(self, error: S3Error) -> None:
        """Raise the reason for which a HEAD request was refused, if a GET request tells it."""
        if error.code == "AccessDenied" and s3_client.is_bare(error):
            for _ in self._client.list_objects(self._bucket, self._name("0" * 64)):
                return

    def _ensure_bucket(self) -> None:
        if not self._has_bucket:
            self._provide_bucket()

    def _provide_bucket(self) -> bool:
        """Make the bucket where there is none; whether it was made now, by this process."""
        made = not self._bucket_exists() and self._make_bucket()
        self._has_bucket = True
        return made

    def _bucket_exists(self) -> bool:
        try:
            return self._client.bucket_exists(self._bucket)
        except S3Error as error:
            self._ask_why(error)
            raise

    def _make_bucket(self) -> bool:
        try:
            self._client.make_bucket(self._bucket, self._target.region)
        except S3Error as error:
            # Another process was first, or has just begun.
            if error.code == "BucketAlreadyOwnedByYou" or self._client.bucket_exists(self._bucket):
                return False
            raise
        rule = Rule(
            ENABLED,
            rule_filter=Filter(prefix=self._target.prefix),
            rule_id="mcp-hub: uploads that were broken off",
            abort_incomplete_multipart_upload=AbortIncompleteMultipartUpload(1),
        )
        # MinIO refuses the rule: it removes such uploads by itself.
        with suppress(S3Error):
            self._client.set_bucket_lifecycle(self._bucket, LifecycleConfig([rule]))
        return True

    def _delete(self, name: str) -> None:
        try:
            self._client.remove_object(self._bucket, name)
        except S3Error as error:
            if error.code not in _NO_OBJECT:
                raise

    def _check(self) -> str:
        try:
            found = self._client.stat_object(self._bucket, f"{self._target.prefix}mcp-hub")
            headers = found.metadata or {}
        except S3Error as error:
            if error.code not in _NO_OBJECT:
                self._ask_why(error)
                raise
            headers = error.response.headers
        return f"{headers.get('Server', 'S3')}, {self._target.shown}"


class _Cancelled(Exception):
    """The caller's cancellation, as an exception on which the client gives an upload up."""


class _Source:
    """A file on its way up: still what it was when it was named, and as long as it is wanted."""

    def __init__(self, file: BinaryIO, blob: Blob) -> None:
        self._file = file
        self._blob = blob
        self._digest = new_sha256()
        self._parts: list[bytes] = []
        self._size = 0

    def read(self, size: int) -> bytes:
        try:
            from_thread.check_cancelled()
        except CancelledError as error:
            raise _Cancelled from error
        part = self._file.read(size)
        self._digest.update(part)
        self._size += len(part)
        if len(part) < size or (
            self._size == self._blob.size and self._digest.hexdigest() != self._blob.sha256
        ):
            raise Conflict("The file changed while it was stored.", "Try again.")
        self._parts.append(md5(part, usedforsecurity=False).digest())
        return part

    def etag(self) -> str:
        """The ETag that S3 gives to an object sent in the parts that were read."""
        if len(self._parts) <= 1:
            return b"".join(self._parts).hex() or md5(usedforsecurity=False).hexdigest()
        whole = md5(b"".join(self._parts), usedforsecurity=False)
        return f"{whole.hexdigest()}-{len(self._parts)}"
