"""What every blob store promises. An implementation's test class gives `open_blobs`."""

import hashlib
import json
import random
import re
import sys
import tracemalloc
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import anyio
import pytest

from mcp_hub.adapters.blobs.port import Blob, BlobStore
from mcp_hub.adapters.errors import InvalidArgument, NotFound, Unavailable
from tests.spawning import Processes, killed_process
from tests.waiting import eventually

OpenBlobs = Callable[[], BlobStore]

MIB = 1 << 20
ABSENT = hashlib.sha256(b"never stored").hexdigest()
MALFORMED = [
    "",
    "abc",
    ABSENT[:-1],
    ABSENT + "0",
    ABSENT.upper(),
    ABSENT + "\n",
    "g" * 64,
    "../" + ABSENT[3:],
    "../../../../etc/passwd",
    "é" * 64,
]


class BlobStoreContract:
    @pytest.fixture
    def open_blobs(self) -> OpenBlobs:
        """A picklable function that opens the same empty store, in any process."""
        raise NotImplementedError

    @pytest.fixture
    async def blobs(self, open_blobs: OpenBlobs) -> AsyncIterator[BlobStore]:
        blobs = open_blobs()
        yield blobs
        await blobs.close()

    @pytest.mark.parametrize(
        "content", [b"", b"\0", b"hello", "ü🚀\r\n".encode(), bytes(range(256)) * 10_000]
    )
    async def test_gives_back_what_was_put(
        self, blobs: BlobStore, content: bytes, tmp_path: Path
    ) -> None:
        expected = Blob(hashlib.sha256(content).hexdigest(), len(content))
        assert await blobs.put(content) == expected
        assert await blobs.get(expected.sha256) == content
        assert b"".join([part async for part in blobs.stream(expected.sha256)]) == content
        await blobs.fetch(expected.sha256, tmp_path / "copy")
        assert _read(tmp_path / "copy") == content
        assert await blobs.exists(expected.sha256)

    async def test_another_process_reads_what_was_put(
        self, blobs: BlobStore, open_blobs: OpenBlobs, processes: Processes
    ) -> None:
        blob = await blobs.put(b"shared")
        read = partial(_get, open_blobs, blob.sha256)
        assert await processes.run(read, read) == (b"shared", b"shared")

    @pytest.mark.parametrize("part", [1, 1000, MIB, 3 * MIB + 1])
    async def test_takes_parts_of_any_size(self, blobs: BlobStore, part: int) -> None:
        content = random.Random(part).randbytes(min(300 * part, 7 * MIB + 5))
        blob = await blobs.put(_parts(content, part))
        assert blob == (hashlib.sha256(content).hexdigest(), len(content))
        assert await blobs.get(blob.sha256) == content

    async def test_takes_no_parts_and_empty_parts(self, blobs: BlobStore) -> None:
        async def some() -> AsyncIterator[bytes]:
            for part in (b"", b"a", b"", b"b", b""):
                yield part

        assert (await blobs.put(_parts(b"", 1))).size == 0
        assert await blobs.get((await blobs.put(some())).sha256) == b"ab"

    async def test_streams_in_parts_of_at_most_a_mebibyte(self, blobs: BlobStore) -> None:
        content = random.Random(0).randbytes(3 * MIB + 1)
        blob = await blobs.put(content)
        sizes = [len(part) async for part in blobs.stream(blob.sha256)]
        assert sum(sizes) == len(content)
        assert max(sizes) <= MIB
        assert min(sizes) > 0

    async def test_large_blobs_need_little_memory(self, blobs: BlobStore, tmp_path: Path) -> None:
        part = random.Random(1).randbytes(MIB)

        async def large() -> AsyncIterator[bytes]:
            for _ in range(48):
                yield part

        tracemalloc.start()
        try:
            blob = await blobs.put(large())
            read = 0
            async for chunk in blobs.stream(blob.sha256):
                read += len(chunk)
            await blobs.fetch(blob.sha256, tmp_path / "copy")
            await blobs.delete(blob.sha256)
            again = await blobs.put_file(tmp_path / "copy")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (blob.size, read, again) == (48 * MIB, 48 * MIB, blob)
        # A server may want a part of several MiB whole, and its checksum before it.
        assert peak < 16 * MIB

    @pytest.mark.skipif(sys.platform != "linux", reason="Linux tells the peak of a process")
    async def test_200_megabytes_need_little_memory(
        self, open_blobs: OpenBlobs, tmp_path: Path
    ) -> None:
        result = tmp_path / "growth"
        with killed_process(_growth, open_blobs, 200, result):
            await eventually(result.exists, within_s=120)
        blob, growth = json.loads(_read(result))
        assert blob == 200 * MIB
        assert growth < 64 * MIB

    async def test_the_same_bytes_are_the_same_blob(self, blobs: BlobStore) -> None:
        first = await blobs.put(b"same")
        assert await blobs.put(b"same") == first
        assert await blobs.put(_parts(b"same", 1)) == first
        assert await blobs.get(first.sha256) == b"same"

    async def test_put_file_stores_a_copy(self, blobs: BlobStore, tmp_path: Path) -> None:
        source = tmp_path / "ü source.csv"
        source.write_bytes(b"a,b\n" * MIB)
        blob = await blobs.put_file(source)
        source.write_bytes(b"changed since")
        assert await blobs.get(blob.sha256) == b"a,b\n" * MIB

    async def test_put_file_says_what_is_wrong_with_the_file(
        self, blobs: BlobStore, tmp_path: Path
    ) -> None:
        with pytest.raises(NotFound, match="nowhere"):
            await blobs.put_file(tmp_path / "nowhere")
        with pytest.raises(InvalidArgument, match="cannot be read"):
            await blobs.put_file(tmp_path)

    async def test_fetch_replaces_a_file_whole(self, blobs: BlobStore, tmp_path: Path) -> None:
        blob = await blobs.put(b"new")
        path = tmp_path / "file"
        path.write_bytes(b"old and longer")
        await blobs.fetch(blob.sha256, path)
        assert _read(path) == b"new"
        path.write_bytes(b"a fetched copy may be changed")
        assert await blobs.get(blob.sha256) == b"new"

    async def test_fetch_that_fails_leaves_nothing(self, blobs: BlobStore, tmp_path: Path) -> None:
        folder = tmp_path / "copies"
        folder.mkdir()
        with pytest.raises(NotFound):
            await blobs.fetch(ABSENT, folder / "copy")
        assert list(folder.iterdir()) == []
        blob = await blobs.put(b"there")
        with pytest.raises(Unavailable, match="nowhere"):
            await blobs.fetch(blob.sha256, tmp_path / "nowhere" / "copy")

    async def test_an_absent_blob_is_not_found(self, blobs: BlobStore, tmp_path: Path) -> None:
        assert not await blobs.exists(ABSENT)
        with pytest.raises(NotFound, match=ABSENT):
            await blobs.get(ABSENT)
        with pytest.raises(NotFound, match=ABSENT):
            await _drain(blobs, ABSENT)

    @pytest.mark.parametrize("address", MALFORMED)
    async def test_a_malformed_address_is_refused(
        self, blobs: BlobStore, address: str, tmp_path: Path
    ) -> None:
        for attempt in (
            blobs.get(address),
            blobs.exists(address),
            blobs.delete(address),
            blobs.fetch(address, tmp_path / "copy"),
            _drain(blobs, address),
        ):
            with pytest.raises(InvalidArgument, match="address"):
                await attempt

    async def test_deletes_once_and_again(self, blobs: BlobStore) -> None:
        blob = await blobs.put(b"short-lived")
        await blobs.delete(blob.sha256)
        assert not await blobs.exists(blob.sha256)
        await blobs.delete(blob.sha256)
        assert await blobs.put(b"short-lived") == blob
        assert await blobs.exists(blob.sha256)

    async def test_a_source_that_fails_stores_nothing(self, blobs: BlobStore) -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield b"first part"
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            await blobs.put(broken())
        assert not await blobs.exists(hashlib.sha256(b"first part").hexdigest())

    async def test_a_cancelled_put_stores_nothing(self, blobs: BlobStore) -> None:
        with anyio.CancelScope() as scope:
            await blobs.put(_stalls(b"first part", scope.cancel))
        assert scope.cancelled_caught
        assert not await blobs.exists(hashlib.sha256(b"first part").hexdigest())

    async def test_a_put_cancelled_on_its_way_stores_nothing(
        self, blobs: BlobStore, tmp_path: Path
    ) -> None:
        content = random.Random(2).randbytes(24 * MIB)
        sha256 = hashlib.sha256(content).hexdigest()
        path = tmp_path / "content"
        path.write_bytes(content)
        for delay_s in (0.001, 0.01, 0.05, 0.1):
            with anyio.move_on_after(delay_s) as scope:
                await blobs.put_file(path)
            # Whole or not at all: it may have been done before.
            if scope.cancelled_caught and not await blobs.exists(sha256):
                continue
            assert await blobs.get(sha256) == content
            await blobs.delete(sha256)
        await blobs.put_file(path)
        assert await blobs.get(sha256) == content

    async def test_a_stream_may_be_left_early(self, blobs: BlobStore) -> None:
        blob = await blobs.put(bytes(3 * MIB))
        stream = blobs.stream(blob.sha256)
        assert await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        await blobs.delete(blob.sha256)

    async def test_a_process_killed_in_a_put_stores_nothing(
        self, blobs: BlobStore, open_blobs: OpenBlobs, tmp_path: Path
    ) -> None:
        sign = tmp_path / "half way"
        with killed_process(_put_half, open_blobs, sign):
            await eventually(sign.exists)
        assert not await blobs.exists(hashlib.sha256(b"half").hexdigest())
        blob = await blobs.put(b"half")
        assert await blobs.get(blob.sha256) == b"half"

    async def test_processes_may_put_and_read_the_same_blobs(
        self, open_blobs: OpenBlobs, processes: Processes
    ) -> None:
        work = partial(_put_and_read, open_blobs, 60)
        assert await processes.run(work, work) == (60, 60)

    async def test_many_tasks_may_put_the_same_blob(self, blobs: BlobStore) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(blobs.put, b"popular" * 50_000)
        blob = await blobs.put(b"popular" * 50_000)
        assert await blobs.get(blob.sha256) == b"popular" * 50_000

    async def test_says_what_it_is(self, blobs: BlobStore) -> None:
        assert await blobs.check()


async def _parts(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def _stalls(first: bytes, stalled: Callable[[], object]) -> AsyncIterator[bytes]:
    yield first
    stalled()
    await anyio.sleep_forever()


async def _drain(blobs: BlobStore, sha256: str) -> None:
    async for _ in blobs.stream(sha256):
        pass


def _read(path: Path) -> bytes:
    return path.read_bytes()


async def _get(open_blobs: OpenBlobs, sha256: str) -> bytes:
    return await open_blobs().get(sha256)


async def _growth(open_blobs: OpenBlobs, mebibytes: int, result: Path) -> None:
    """How much memory this process needs at most for a blob of this size, there and back."""
    blobs = open_blobs()
    part = random.Random(3).randbytes(MIB - 8)

    async def content(count: int) -> AsyncIterator[bytes]:
        for number in range(count):
            yield number.to_bytes(8, "big") + part

    async def there_and_back(count: int) -> Blob:
        blob = await blobs.put(content(count))
        assert sum([len(part) async for part in blobs.stream(blob.sha256)]) == blob.size
        return blob

    # What is loaded at first use does not count.
    await there_and_back(8)
    _forget_most_memory()
    before = _most_memory()
    blob = await there_and_back(mebibytes)
    growth = _most_memory() - before
    written = result.with_suffix(".part")
    written.write_text(json.dumps([blob.size, growth]))
    written.rename(result)


def _forget_most_memory() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _most_memory() -> int:
    """The peak of this process's resident memory in bytes, since it was last reset."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


async def _put_half(open_blobs: OpenBlobs, sign: Path) -> None:
    await open_blobs().put(_stalls(b"half", sign.touch))


async def _put_and_read(open_blobs: OpenBlobs, count: int) -> int:
    """Put blobs that another process puts too, reading each that is there."""
    blobs = open_blobs()
    read = 0
    for number in range(count):
        content = random.Random(number).randbytes(50_000)
        sha256 = hashlib.sha256(content).hexdigest()
        if await blobs.exists(sha256):
            assert await blobs.get(sha256) == content
        await blobs.put(_parts(content, 10_000))
        read += await blobs.get(sha256) == content
    return read
