"""Blobs as files of a GridFS bucket in MongoDB."""

import re
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing, suppress
from datetime import datetime, timedelta
from hashlib import sha256 as new_sha256
from io import BytesIO
from pathlib import Path
from tempfile import gettempdir
from typing import Any, BinaryIO

from anyio import move_on_after, sleep, to_thread
from bson import ObjectId
from pymongo import ReadPreference, ReturnDocument, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import (
    AutoReconnect,
    CollectionInvalid,
    CursorNotFound,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
)
from pymongo.read_concern import ReadConcern

from mcp_hub.adapters import mongodb_client
from mcp_hub.adapters.blobs.local import blob_of, open_source, reporting, spooled
from mcp_hub.adapters.blobs.port import Blob
from mcp_hub.adapters.blobs.remote import RemoteBlobStore
from mcp_hub.adapters.blobs.verifying import CHUNK, Verifier, check_address
from mcp_hub.adapters.errors import Conflict, InvalidArgument, NotFound, Unavailable

Collection = AsyncCollection[dict[str, Any]]

TIMEOUT_S = 30.0
_BUCKET = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_TRIES = 4
_PAUSE_S = 0.2
_BATCH = 4
"""Chunks that the server sends at once."""
_ABANDONED_AFTER = timedelta(hours=24)
_CLEARING_S = 5.0
_NAMESPACE_EXISTS = 48


class GridFSBlobStore(RemoteBlobStore):
    """Files named by their SHA-256 in one bucket, which any GridFS client can read.

    The layout is that of the GridFS specification
    (https://github.com/mongodb/specifications/blob/master/source/gridfs/gridfs-spec.md) with
    chunks of 1 MiB: first the chunks, then the document in `BUCKET.files` that makes them a file.
    Readers begin at that document, so that a blob is there whole or not at all. A unique index on
    its name makes one file of the same bytes stored by many at once; the chunks of the others go.

    What is being written is noted in `BUCKET.uploads`, by the server's clock. Chunks that a killed
    process left behind are invisible; they are removed a day later, by `provision` and by the
    first write of any process.

    Everything is written with `w=majority` and journalled. The wire has no checksum of its own but
    TLS's: what was changed on the way is found when it is read, for every blob that is read is
    compared with its address.
    """

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """`timeout_s`: for each call to the server, finding and reaching it included.

        Raises:
            InvalidArgument: `url` names no database, or an option is unknown or wrong.
        """
        self._target = mongodb_client.parse_url(url, "blobs_url", ("bucket",))
        self._bucket = self._target.own.get("bucket", "mcp_hub")
        if not _BUCKET.fullmatch(self._bucket):
            raise InvalidArgument(
                f"{self._target.shown}: {self._bucket!r} cannot name a bucket.",
                "A name has 1 to 64 letters, digits, hyphens and underscores.",
            )
        self._client = mongodb_client.connect(self._target, timeout_s)
        self._database = self._client.get_database(
            self._target.database,
            read_preference=ReadPreference.PRIMARY,
            read_concern=ReadConcern("majority"),
            write_concern=WriteConcern("majority", j=True),
        )
        self._files: Collection = self._database[f"{self._bucket}.files"]
        self._chunks: Collection = self._database[f"{self._bucket}.chunks"]
        self._uploads: Collection = self._database[f"{self._bucket}.uploads"]
        self._is_ready = False

    async def put(self, data: bytes | AsyncIterable[bytes]) -> Blob:
        if isinstance(data, bytes):
            return await self._store(BytesIO(data), Path())
        async with spooled(data) as spool:
            return await self._store(spool, Path(gettempdir()))

    async def put_file(self, path: Path) -> Blob:
        file = await to_thread.run_sync(open_source, path)
        try:
            return await self._store(file, path.parent)
        finally:
            file.close()

    async def stream(self, sha256: str) -> AsyncGenerator[bytes, None]:
        verifier = Verifier(
            check_address(sha256),
            f"Restore the file {sha256} of the GridFS bucket {self._bucket} from a backup.",
        )
        with mongodb_client.translated(self._target):
            file = await self._files.find_one({"filename": sha256})
        if file is None:
            raise NotFound(f"There is no blob {sha256}.")
        async with aclosing(self._parts(file["_id"])) as parts:
            while True:
                with mongodb_client.translated(self._target):
                    part = await anext(parts, b"")
                if not part:
                    break
                if before := verifier.push(part):
                    yield before
        try:
            last = verifier.last()
        except Unavailable:
            # Somebody who deletes it takes the chunks away from under a reader.
            if not await self.exists(sha256):
                raise NotFound(f"There is no blob {sha256}.") from None
            raise
        if last:
            yield last

    async def exists(self, sha256: str) -> bool:
        name = check_address(sha256)
        with mongodb_client.translated(self._target):
            return await self._files.find_one({"filename": name}, {"_id": 1}) is not None

    async def delete(self, sha256: str) -> None:
        name = check_address(sha256)
        with mongodb_client.translated(self._target):
            file = await self._files.find_one({"filename": name}, {"_id": 1})
            if file is not None:
                await self._remove(file["_id"])

    async def provision(self) -> list[str]:
        with mongodb_client.translated(self._target):
            made = await self._provide_bucket()
        return [f"GridFS bucket {self._bucket}"] if made else []

    async def check(self) -> str:
        with mongodb_client.translated(self._target):
            await self._files.find_one({}, {"_id": 1})
            return await mongodb_client.describe(self._client, self._target)

    async def close(self) -> None:
        await self._client.close()

    async def _store(self, file: BinaryIO, folder: Path) -> Blob:
        """Store the content of `file`, which lies in the local `folder`, if anywhere."""

        def examine() -> Blob:
            with reporting(folder):
                return blob_of(file)

        blob = await to_thread.run_sync(examine)
        with mongodb_client.translated(self._target):
            if not await self._is_stored(blob):
                if not self._is_ready:
                    await self._provide_bucket()
                await self._upload(file, folder, blob)
        return blob

    async def _is_stored(self, blob: Blob) -> bool:
        """Whether it is there; one that lacks chunks is removed, so that it is stored again."""
        file = await self._files.find_one({"filename": blob.sha256}, {"length": 1})
        if file is None:
            return False
        count = await self._chunks.count_documents({"files_id": file["_id"]})
        if file["length"] == blob.size and count == -(-blob.size // CHUNK):
            return True
        await self._remove(file["_id"])
        return False

    async def _upload(self, file: BinaryIO, folder: Path, blob: Blob) -> None:
        upload = ObjectId()
        await self._note(upload)
        sent = False
        try:
            await self._send(upload, file, folder, blob)
            sent = True
        finally:
            if not sent:
                with move_on_after(_CLEARING_S, shield=True), suppress(PyMongoError):
                    await self._remove(upload)
        # From here on an answer that is lost may have told of success: what it leaves behind is
        # for the sweep, which looks first.
        await self._publish(upload, blob)

    async def _send(self, upload: ObjectId, file: BinaryIO, folder: Path, blob: Blob) -> None:
        digest = new_sha256()

        def read() -> bytes:
            with reporting(folder):
                part = file.read(CHUNK)
            digest.update(part)
            return part

        await to_thread.run_sync(file.seek, 0)
        number = 0
        while part := await to_thread.run_sync(read):
            chunk = {"_id": ObjectId(), "files_id": upload, "n": number, "data": part}
            # One that is there was sent before an answer was lost.
            with suppress(DuplicateKeyError):
                await self._insert(self._chunks, chunk)
            number += 1
        if digest.hexdigest() != blob.sha256:
            raise Conflict("The file changed while it was stored.", "Try again.")

    async def _publish(self, upload: ObjectId, blob: Blob) -> None:
        """Make the chunks of `upload` the blob, unless another process was first."""
        noted = await self._uploads.find_one_and_update(
            {"_id": upload, "abandoned": {"$exists": False}},
            {"$currentDate": {"startedAt": True}},
            return_document=ReturnDocument.AFTER,
        )
        if noted is None:
            raise Unavailable(
                f"Storing the blob {blob.sha256} took more than a day and was given up.",
                f"See what makes MongoDB at {self._target.shown} slow; then try again.",
            )
        file = {
            "_id": upload,
            "filename": blob.sha256,
            "length": blob.size,
            "chunkSize": CHUNK,
            "uploadDate": noted["startedAt"],
        }
        while True:
            try:
                await self._insert(self._files, file)
                break
            except DuplicateKeyError:
                found = await self._files.find_one({"filename": blob.sha256}, {"_id": 1})
            # None: what was there before has been deleted since.
            if found is not None:
                if found["_id"] != upload:
                    await self._remove(upload)
                break
        await self._uploads.delete_one({"_id": upload})

    async def _insert(self, collection: Collection, document: dict[str, Any]) -> None:
        """Insert `document`, again where the connection breaks off before the answer.

        Raises:
            DuplicateKeyError: it is there already, perhaps from the try before.
        """
        for _ in range(_TRIES - 1):
            try:
                await collection.insert_one(document)
                return
            except AutoReconnect as error:
                if error.timeout:
                    raise
                await sleep(_PAUSE_S)
        await collection.insert_one(document)

    async def _parts(self, file: ObjectId) -> AsyncGenerator[bytes, None]:
        """The chunks in order, up to a missing one; where the connection breaks off, the rest
        comes on another."""
        number = broken = 0
        while True:
            wanted = {"files_id": file, "n": {"$gte": number}}
            try:
                async with self._chunks.find(wanted).sort("n", 1).batch_size(_BATCH) as chunks:
                    async for chunk in chunks:
                        if chunk["n"] != number:
                            return
                        number += 1
                        broken = 0
                        yield chunk["data"]
                return
            except (AutoReconnect, CursorNotFound) as error:
                broken += 1
                if error.timeout or broken == _TRIES:
                    raise
            await sleep(_PAUSE_S)

    async def _remove(self, file: ObjectId) -> None:
        """Remove a file, so that what is left behind half way is swept."""
        await self._note(file)
        await self._files.delete_one({"_id": file})
        await self._chunks.delete_many({"files_id": file})
        await self._uploads.delete_one({"_id": file})

    async def _note(self, file: ObjectId) -> None:
        await self._uploads.update_one(
            {"_id": file}, {"$currentDate": {"startedAt": True}}, upsert=True
        )

    async def _provide_bucket(self) -> bool:
        """Make what is missing of the bucket, and sweep it; whether this made it."""
        made = False
        for collection in (self._files, self._chunks):
            made = await self._make(collection) or made
        # The first two are the specification's, for other programs' sake.
        await self._files.create_index([("filename", 1), ("uploadDate", 1)])
        await self._chunks.create_index([("files_id", 1), ("n", 1)], unique=True)
        await self._files.create_index("filename", unique=True)
        await self._sweep()
        self._is_ready = True
        return made

    async def _make(self, collection: Collection) -> bool:
        try:
            await self._database.create_collection(collection.name)
        except CollectionInvalid:
            return False
        except OperationFailure as error:
            if error.code != _NAMESPACE_EXISTS:
                raise
            return False
        return True

    async def _sweep(self) -> None:
        """Remove the chunks of uploads and deletions that were never finished."""
        before = await self._now() - _ABANDONED_AFTER
        async with self._uploads.find({"startedAt": {"$lt": before}}) as abandoned:
            async for upload in abandoned:
                # Whoever still writes it finds this and gives up.
                claimed = await self._uploads.update_one(
                    {"_id": upload["_id"], "startedAt": {"$lt": before}},
                    {"$set": {"abandoned": True}},
                )
                if claimed.matched_count:
                    if await self._files.find_one({"_id": upload["_id"]}, {"_id": 1}) is None:
                        await self._chunks.delete_many({"files_id": upload["_id"]})
                    await self._uploads.delete_one({"_id": upload["_id"]})

    async def _now(self) -> datetime:
        """The time by the server's clock: those of the hub's machines may differ."""
        now: datetime = (await self._client.admin.command("hello"))["localTime"]
        return now
