"""Attempts on a disk that is, or becomes, full: that of the hub's database, too."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest

from mcp_hub.services.training.attempts import room
from mcp_hub.services.training.attempts.room import filled_by, make_room
from mcp_hub.services.training.service import TrainingService
from tests.services.training.conftest import Finish, Submit, WorkerFactory

MB = 1024 * 1024


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB, for all that is the hub's."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk can be mounted by root only")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("flag", ["", "end"])
async def test_a_job_that_fills_the_disk_ends_at_once_and_leaves_the_hub_at_work(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish,
    tmp_path: Path, flag: str,
) -> None:  # fmt: skip
    async with worker():
        with anyio.fail_after(20):
            job = await finish(await submit("fill_disk", flag=flag))
        assert (job.status, job.attempt, job.cause) == ("failed", 1, "disk_full")
        assert job.error is not None
        assert job.error.message.startswith("The disk was full: 0 MB were left, and its folder")
        assert "more room" in (job.hint or "")
        assert not list((tmp_path / "jobs").glob("*"))
        assert (await finish(await submit("succeed"))).status == "succeeded"
    assert any("The disk was full" in line.text for line in (await training.logs(job.job_id)).lines)


class Disk(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.parametrize(
    ("total_mb", "free_mb", "held_mb", "full"),
    [
        (1000, 49, 60, True), (1000, 51, 60, False), (1000, 10, 40, False),
        (100_000, 99, 101, True), (100_000, 101, 200, False), (100_000, 0, 99, False),
    ],
)  # fmt: skip
def test_a_disk_is_filled_by_who_holds_what_is_lacking(
    monkeypatch: pytest.MonkeyPatch, total_mb: int, free_mb: int, held_mb: int, full: bool
) -> None:
    disk = Disk(total_mb * MB, 0, free_mb * MB)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: disk)
    monkeypatch.setattr(room, "folder_bytes", lambda folder: held_mb * MB)
    assert (filled_by(Path()) is not None) == full


def test_of_a_folder_that_is_gone_nothing_is_told() -> None:
    assert filled_by(Path("/nowhere/at/all")) is None


def test_room_is_made_of_everything_that_is_not_spared(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("attempt")
    outside = tmp_path_factory.mktemp("outside") / "kept"
    outside.write_text("x")
    (folder / "inner").mkdir()
    (folder / "inner" / "events.jsonl").write_text("x")
    (folder / "link").symlink_to(outside.parent)
    (folder / "weights").write_text("x")
    (folder / "events.jsonl").write_text("x")
    make_room(folder, ["events.jsonl"])
    assert [path.name for path in folder.iterdir()] == ["events.jsonl"]
    assert outside.exists()
