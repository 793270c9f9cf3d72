"""Room on a disk: a small one is mounted for it, and filled."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_hub.adapters.errors import Unavailable
from mcp_hub.services.disk import check_room, room_of

MB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


async def test_a_disk_with_too_little_room_is_failing(small_disk: Path) -> None:
    folder = small_disk / "not" / "made yet"
    assert await check_room(folder) == f"40 MB are free for {folder}."
    assert room_of(folder) == (40 * MB, 2 * MB)
    (small_disk / "large").write_bytes(os.urandom(39 * MB))
    with pytest.raises(Unavailable, match="1 MB are free") as raised:
        await check_room(folder)
    assert raised.value.hint
