"""Moving a hub from a laptop to servers and back, also when it is killed half way."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from anyio import to_thread
from sqlalchemy import Connection, Table, insert, select, update

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.database.metadata import metadata, now_ms
from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.provisioning import provision
from mcp_hub.adapters.database.schema import changes, datasets, jobs, queue_messages, workers
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.database.telemetry_schema import telemetry_resources
from mcp_hub.adapters.errors import Conflict, InvalidArgument, NotFound, Unavailable
from mcp_hub.server.moving import copy_hub, settings_of_end
from mcp_hub.server.settings import Settings
from mcp_hub.services.moving import tables
from mcp_hub.services.moving.views import Moved
from tests.processes import hub_environment
from tests.server.filling import fill_hub
from tests.servers import Server

MB = 1_000_000


async def silently(_step: str, _done: int, _total: int) -> None:
    """Tells nobody."""


def on_servers(postgres: Server, s3: Server) -> tuple[str, str]:
    """The URLs of a database and a bucket that do not exist yet."""
    name = f"copy-{uuid4().hex[:12]}"
    return (
        postgres.url.rpartition("/")[0] + f"/{name}",
        s3.url.replace("/hub?", f"/{name}?"),
    )


async def laptop(folder: Path, runs: int = 60, blobs: int = 3) -> Settings:
    await fill_hub(folder, runs=runs, metrics=5, blobs=blobs, blob_bytes=1000)
    return Settings(data_dir=folder)


async def change(settings: Settings, work: Callable[[Connection], object]) -> None:
    database = SqliteDatabase(settings.database_path)
    await database.write(work)
    await database.close()


async def rows_of(settings: Settings, table: Table) -> list[Any]:
    database = SqliteDatabase(settings.database_path)
    rows = await database.read(lambda c: c.execute(select(table)).all())
    await database.close()
    return list(rows)


class KilledCopies:
    """`mcp-hub copy` in a process of its own, killed or left to end."""

    def __init__(self, folder: Path, *arguments: str | Path) -> None:
        self._command = [sys.executable, "-m", "mcp_hub", "copy", *map(str, arguments), "--json"]
        # Killed runs print lines, which say when to kill.
        self._watched = self._command[:-1]
        self._environment = hub_environment(folder)

    def kill_at(self, step: str, share: float) -> float:
        """Run it, and kill it when `share` of `step` is done; how many of it were done a second."""
        with subprocess.Popen(
            self._watched,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as copy:
            assert copy.stderr is not None
            said = []
            first: tuple[float, int] | None = None
            for line in copy.stderr:
                said.append(line)
                name, _, counted = line.rstrip().rpartition(" ")
                if name != step:
                    continue
                done, total = (int(part.replace(",", "")) for part in counted.split("/"))
                now = time.monotonic()
                first = first or (now, done)
                if share * total <= done < total:
                    copy.send_signal(signal.SIGKILL)
                    break
            else:
                pytest.fail(f"It ended before {step} was at {share:.0%}:\n{''.join(said)}")
        assert copy.returncode == -signal.SIGKILL
        return (done - first[1]) / (now - first[0])

    def finish(self) -> Moved:
        done = subprocess.run(
            self._command, env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return Moved.model_validate(json.loads(done.stdout))


async def move_there_and_back(
    folder: Path, there: tuple[str, str], *, runs: int, metrics: int, blobs: int, blob_bytes: int
) -> None:
    """Copy a hub to servers and back, killed half way in each step and run again; print figures."""
    first, last = folder / "first", folder / "last"
    await fill_hub(first, runs=runs, metrics=metrics, blobs=blobs, blob_bytes=blob_bytes)
    database, bucket = there
    for direction, copies in (
        ("SQLite → PostgreSQL + S3",
         KilledCopies(folder, "--from", first, "--to", database, "--to-blobs", bucket)),
        ("PostgreSQL + S3 → SQLite",
         KilledCopies(folder, "--from", database, "--from-blobs", bucket, "--to", last)),
    ):  # fmt: skip
        blobs_s = await to_thread.run_sync(copies.kill_at, "blobs", 0.4)
        rows_s = await to_thread.run_sync(copies.kill_at, "job_metrics", 0.5)
        began = time.monotonic()
        moved = await to_thread.run_sync(copies.finish)
        assert moved.equal
        assert moved.blobs == 0
        assert 0 < moved.rows <= runs * metrics * 0.6
        assert moved.blob_comparison.verified == blobs
        print(
            f"\n{direction}: {rows_s:,.0f} metrics/s, {blobs_s * blob_bytes / MB:,.0f} MB/s; "
            f"killed twice, then finished with {moved.rows:,} rows, comparison included, in "
            f"{time.monotonic() - began:.0f} s; equal"
        )
    ends = await copy_hub(Settings(data_dir=first), Settings(data_dir=last), silently)
    assert ends.equal
    assert ends.rows == ends.blobs == 0
    sent, came = [
        [json.loads(row.attributes)["text"] for row in await rows_of(end, telemetry_resources)]
        for end in (Settings(data_dir=first), Settings(data_dir=last))
    ]
    assert came == [text.replace("\0", "\ufffd") for text in sent]
    counts = {table.table: table.target_rows for table in ends.tables}
    assert (counts["jobs"], counts["job_metrics"]) == (runs, runs * metrics)


async def test_a_hub_moves_to_servers_and_back_though_it_is_killed(
    tmp_path: Path, postgres_server: Server, s3_server: Server
) -> None:
    there = on_servers(postgres_server, s3_server)
    await move_there_and_back(tmp_path, there, runs=1000, metrics=12, blobs=40, blob_bytes=100_000)


async def test_a_hub_moves_to_gridfs_and_back_though_it_is_killed(
    tmp_path: Path, postgres_server: Server, mongodb_server: Server
) -> None:
    name = f"copy-{uuid4().hex[:12]}"
    database = postgres_server.url.rpartition("/")[0] + f"/{name}"
    there = database, mongodb_server.url.replace("/hub?", f"/{name}?")
    await move_there_and_back(tmp_path, there, runs=1000, metrics=12, blobs=40, blob_bytes=100_000)


@pytest.mark.soak
async def test_100_000_runs_and_1_gb_move_to_servers_and_back(
    tmp_path: Path, postgres_server: Server, s3_server: Server
) -> None:
    there = on_servers(postgres_server, s3_server)
    await move_there_and_back(
        tmp_path, there, runs=100_000, metrics=10, blobs=250, blob_bytes=4 * MB
    )


async def test_what_describes_running_processes_stays_behind(tmp_path: Path) -> None:
    source, target = await laptop(tmp_path / "a"), Settings(data_dir=tmp_path / "b")
    moved = await copy_hub(source, target, silently)
    assert moved.equal
    assert await rows_of(target, workers) == []
    assert await rows_of(target, queue_messages) == []
    queued = [job for job in await rows_of(target, jobs) if job.status == "queued"]
    assert [job.enqueued for job in queued] == [False]


async def test_a_copy_that_was_complete_is_only_compared(tmp_path: Path) -> None:
    source, target = await laptop(tmp_path / "a"), Settings(data_dir=tmp_path / "b")
    await copy_hub(source, target, silently)
    again = await copy_hub(source, target, silently)
    assert (again.equal, again.rows, again.blobs) == (True, 0, 0)


async def test_a_target_with_other_data_is_refused(tmp_path: Path) -> None:
    source = await laptop(tmp_path / "a")
    target = await laptop(tmp_path / "b", runs=61)
    with pytest.raises(Conflict, match=r"already holds other data: 1 datasets, .*61 jobs"):
        await copy_hub(source, target, silently)


async def test_another_hub_s_unfinished_copy_is_refused(tmp_path: Path) -> None:
    source, target = await laptop(tmp_path / "a"), Settings(data_dir=tmp_path / "b")
    await change(source, lambda c: c.execute(update(datasets).values(sha256="0" * 64)))
    with pytest.raises(NotFound):
        await copy_hub(source, target, silently)
    other = await laptop(tmp_path / "c")
    with pytest.raises(Conflict, match=f"unfinished copy of another hub, {tmp_path}/a"):
        await copy_hub(other, target, silently)


async def test_a_running_job_is_refused_and_a_lost_one_moves(tmp_path: Path) -> None:
    source, target = await laptop(tmp_path / "a"), Settings(data_dir=tmp_path / "b")

    def lease(ends_in_ms: int) -> Callable[[Connection], object]:
        queued = update(jobs).where(jobs.c.name == "job-59")
        return lambda c: c.execute(
            queued.values(status="running", lease_expires_at=now_ms() + ends_in_ms)
        )

    await change(source, lease(60_000))
    with pytest.raises(Conflict, match="Jobs are running"):
        await copy_hub(source, target, silently)
    await change(source, lease(-1))
    assert (await copy_hub(source, target, silently)).equal


async def test_a_blob_that_the_source_lacks_is_named(tmp_path: Path) -> None:
    source, target = await laptop(tmp_path / "a"), Settings(data_dir=tmp_path / "b")
    sha256 = (await rows_of(source, datasets))[0].sha256
    blobs = FileBlobStore(source.blobs_dir)
    content = await blobs.get(sha256)
    await blobs.delete(sha256)
    with pytest.raises(NotFound, match=f"lacks 1 of the blobs that its rows name: {sha256}"):
        await copy_hub(source, target, silently)
    await blobs.put(content)
    assert (await copy_hub(source, target, silently)).equal


async def test_a_damaged_blob_is_not_copied(tmp_path: Path) -> None:
    source, target = await laptop(tmp_path / "a"), Settings(data_dir=tmp_path / "b")
    sha256 = (await rows_of(source, datasets))[0].sha256
    (source.blobs_dir / sha256[:2] / sha256).write_bytes(b"something else")
    with pytest.raises(Unavailable, match=f"The blob {sha256} is damaged"):
        await copy_hub(source, target, silently)
    assert not await FileBlobStore(target.blobs_dir).exists(sha256)


async def test_what_is_written_meanwhile_shows_and_the_next_run_brings_it(tmp_path: Path) -> None:
    source, target = await laptop(tmp_path / "a"), Settings(data_dir=tmp_path / "b")
    rename = update(jobs).where(jobs.c.name == "job-1").values(name="other")

    async def interfere(step: str, _done: int, _total: int) -> None:
        if step == "job_attempts":
            await change(source, lambda c: c.execute(rename))

    moved = await copy_hub(source, target, interfere)
    assert not moved.equal
    assert [table.table for table in moved.tables if not table.equal] == ["jobs"]
    assert (await copy_hub(source, target, silently)).equal


async def test_an_older_schema_is_refused(tmp_path: Path) -> None:
    source = Settings(data_dir=tmp_path / "a")
    await change(source, lambda _: None)
    with pytest.raises(Conflict, match=r"at revision none; this mcp-hub copies \d+"):
        await copy_hub(source, Settings(data_dir=tmp_path / "b"), silently)


async def test_there_must_be_a_hub_to_copy(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="There is no hub at"):
        await copy_hub(
            Settings(data_dir=tmp_path / "a"), Settings(data_dir=tmp_path / "b"), silently
        )
    assert not (tmp_path / "a").exists()


async def test_a_hub_is_not_copied_onto_itself(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="are the same hub"):
        await copy_hub(Settings(data_dir=tmp_path), Settings(data_dir=tmp_path), silently)


async def test_postgresql_numbers_on_after_copied_numbers(postgres_server: Server) -> None:
    url = postgres_server.url.rpartition("/")[0] + f"/serial-{uuid4().hex[:8]}"
    await provision(url)
    database = PostgresDatabase(url)
    await database.upgrade()
    row = {"topic": "t", "origin": "o", "created_at": 1}
    await database.write(lambda c: c.execute(insert(changes).values(**row, id=41)))
    await database.write(lambda c: tables.set_serial(c, changes))
    await database.write(lambda c: c.execute(insert(changes).values(**row)))
    numbers = await database.read(lambda c: list(c.execute(select(changes.c.id)).scalars()))
    assert sorted(numbers) == [41, 42]
    await database.close()


def test_every_table_is_moved_or_left_out_for_a_reason() -> None:
    names = [table.name for table in tables.moved_tables()]
    assert sorted([*names, *tables.LEFT_OUT]) == sorted(metadata.tables)
    assert names.index("jobs") < names.index("job_metrics")


def test_an_end_is_a_folder_a_file_or_a_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Settings(data_dir=tmp_path / "here")

    def end(given: str | None, blobs: str | None = None) -> Settings:
        return settings_of_end(given, blobs, "--to", lambda: here)

    assert end(None) is here
    assert end(str(tmp_path / "there")).database_path == tmp_path / "there" / "hub.db"
    url = end("postgresql://me@host/hub", "s3://k:s@host/bucket")
    assert (url.database_url, url.blobs_url) == ("postgresql://me@host/hub", "s3://k:s@host/bucket")
    file = tmp_path / "team.toml"
    file.write_text('data_dir = "elsewhere"')
    monkeypatch.setenv("MCP_HUB_DATA_DIR", str(tmp_path / "here"))
    assert end(str(file)).data_dir == tmp_path / "elsewhere"


@pytest.mark.parametrize(
    ("given", "blobs", "contains"),
    [
        ("postgresql://me:pass@host/hub", None, "postgresql://me:***@host/hub names a database"),
        ("mysql://host/hub", "/blobs", "must be sqlite:///path/to/hub.db or postgresql://"),
        ("folder", "/blobs", "says itself where the blobs are"),
        (None, "/blobs", "--to-blobs needs --to"),
        ("no-such.toml", None, "no-such.toml."),
    ],
)
def test_a_wrong_end_is_explained(given: str | None, blobs: str | None, contains: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        settings_of_end(given, blobs, "--to", Settings)
    assert contains in caught.value.message
    assert caught.value.hint is None or "pass" not in caught.value.hint
