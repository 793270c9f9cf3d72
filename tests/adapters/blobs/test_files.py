import os
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import anyio
import pytest

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.errors import Unavailable
from tests.adapters.blobs.contract import MIB, BlobStoreContract
from tests.spawning import Processes, file_size_limit


class TestFileBlobStore(BlobStoreContract):
    @pytest.fixture
    def open_blobs(self, tmp_path: Path) -> Callable[[], FileBlobStore]:
        return partial(FileBlobStore, tmp_path / "blobs")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


async def test_a_blob_is_one_file_in_a_folder_of_its_first_digits(
    blobs: FileBlobStore, root: Path
) -> None:
    blob = await blobs.put(b"hello")
    await blobs.put(b"hello")
    assert _files(root) == [root / "2c" / blob.sha256]


async def test_the_same_bytes_are_not_written_again(blobs: FileBlobStore, root: Path) -> None:
    blob = await blobs.put(b"hello")
    before = _inode(root / "2c" / blob.sha256)
    await blobs.put(b"hello")
    await blobs.put(_one(b"hello"))
    assert _inode(root / "2c" / blob.sha256) == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: content[:100] + b"x" + content[101:],
        lambda content: b"",
    ],
    ids=["cut short", "longer", "a byte changed", "emptied"],
)
@pytest.mark.parametrize("size", [1000, 3 * MIB])
async def test_a_damaged_blob_is_unavailable(
    blobs: FileBlobStore,
    root: Path,
    tmp_path: Path,
    damage: Callable[[bytes], bytes],
    size: int,
) -> None:
    content = bytes(size)
    blob = await blobs.put(content)
    place = root / blob.sha256[:2] / blob.sha256
    place.write_bytes(damage(content))
    with pytest.raises(Unavailable, match=f"{blob.sha256} is damaged") as raised:
        await blobs.get(blob.sha256)
    assert str(place) in (raised.value.hint or "")
    with pytest.raises(Unavailable, match="damaged"):
        await blobs.fetch(blob.sha256, tmp_path / "copy")
    assert _files(tmp_path) == [place]
    received: list[bytes] = []
    with pytest.raises(Unavailable, match="damaged"):
        await _collect(blobs, blob.sha256, received)
    # Whoever counts on the last part has not received it.
    assert not received or len(b"".join(received)) < len(damage(content))


async def test_storing_a_blob_again_repairs_one_cut_short(blobs: FileBlobStore, root: Path) -> None:
    blob = await blobs.put(b"hello")
    (root / "2c" / blob.sha256).write_bytes(b"hel")
    await blobs.put(b"hello")
    assert await blobs.get(blob.sha256) == b"hello"


async def test_a_full_disk_is_unavailable_and_leaves_no_part(
    root: Path, tmp_path: Path, processes: Processes
) -> None:
    work = partial(_overfill, root, tmp_path)
    for messages in await processes.run(work, work):
        assert messages[:3] == [f"The disk that holds {root} is full."] * 3
        assert messages[3] == f"The disk that holds {tmp_path} is full."
    [stored] = _files(root)
    assert _size(stored) == 20_001


async def test_a_file_in_place_of_the_folder_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    blobs = FileBlobStore(tmp_path / "file")
    for attempt in (blobs.put(b"x"), blobs.put(_one(b"x")), blobs.check(), blobs.get("0" * 64)):
        with pytest.raises(Unavailable, match=f"{tmp_path}/file"):
            await attempt


async def test_nothing_is_left_of_what_failed_or_was_cancelled(
    blobs: FileBlobStore, root: Path
) -> None:
    async def fails() -> AsyncIterator[bytes]:
        yield b"part"
        raise KeyError

    with pytest.raises(KeyError):
        await blobs.put(fails())
    with anyio.CancelScope() as scope:

        async def stalls() -> AsyncIterator[bytes]:
            yield b"part"
            scope.cancel()
            await anyio.sleep_forever()

        await blobs.put(stalls())
    await blobs.check()
    assert _files(root) == []


async def test_a_large_copy_ends_when_it_is_cancelled(
    blobs: FileBlobStore, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "endless").symlink_to("/dev/zero")
    with anyio.fail_after(10), anyio.move_on_after(0.05) as scope:
        await blobs.put_file(tmp_path / "endless")
    assert scope.cancelled_caught
    assert _files(root) == []


async def test_sweeps_what_killed_processes_left_a_day_ago(
    blobs: FileBlobStore, root: Path
) -> None:
    await blobs.check()
    old, recent = root / "incoming" / "old", root / "incoming" / "recent"
    old.touch()
    recent.touch()
    os.utime(old, (time.time() - 90_000,) * 2)
    await blobs.put(b"hello")
    assert not _exists(old)
    assert _exists(recent)


async def _one(part: bytes) -> AsyncIterator[bytes]:
    yield part


async def _collect(blobs: FileBlobStore, sha256: str, received: list[bytes]) -> None:
    async for part in blobs.stream(sha256):
        received.append(part)


async def _overfill(root: Path, folder: Path) -> list[str]:
    """What is said to a process whose files may not grow beyond 10,000 bytes."""
    blobs = FileBlobStore(root)
    source = folder / f"source-{os.getpid()}"
    source.write_bytes(bytes(20_000))
    stored = await blobs.put(bytes(20_001))
    messages = []
    with file_size_limit(10_000):
        for attempt in (
            blobs.put(bytes(20_000)),
            blobs.put(_one(bytes(20_000))),
            blobs.put_file(source),
            blobs.fetch(stored.sha256, folder / "copy"),
        ):
            try:
                await attempt
            except Unavailable as error:
                messages.append(error.message)
    source.unlink()
    return messages


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _size(path: Path) -> int:
    return path.stat().st_size


def _inode(path: Path) -> int:
    return path.stat().st_ino


def _exists(path: Path) -> bool:
    return path.exists()
