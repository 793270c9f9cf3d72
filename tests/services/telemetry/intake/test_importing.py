import gzip
import json
from pathlib import Path

import pytest

from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.adapters.records.sqlite import SqliteRecordStore
from mcp_hub.services.telemetry.intake.importing import MAX_LINE, Imported, import_file
from mcp_hub.services.telemetry.intake.ingest import Ingest

LOGS = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "x"}}] * 3}]}]}


@pytest.fixture
def ingest(database: SqliteDatabase) -> Ingest:
    return Ingest(database, SqliteRecordStore())


async def imported(ingest: Ingest, file: Path) -> tuple[int, int, int]:
    done = await import_whole(ingest, file)
    return done.accepted, done.repeated, done.rejected


async def import_whole(ingest: Ingest, file: Path) -> Imported:
    steps: list[tuple[int, int]] = []

    async def told(_name: str, done: int, total: int) -> None:
        steps.append((done, total))

    result = await import_file(ingest, file, told)
    assert steps[-1][0] == steps[-1][1]
    assert steps == sorted(steps)
    return result


def write(file: Path, *lines: object) -> Path:
    text = "".join(line if isinstance(line, str) else f"{json.dumps(line)}\n" for line in lines)
    file.write_bytes(gzip.compress(text.encode()) if file.suffix == ".gz" else text.encode())
    return file


@pytest.mark.parametrize("name", ["records.jsonl", "records.jsonl.gz"])
async def test_a_file_is_kept_once(ingest: Ingest, tmp_path: Path, name: str) -> None:
    lines = [{"name": "a", "time": 1_790_000_000}, {"name": "a"}, {"name": "a"}, LOGS]
    file = write(tmp_path / name, *lines, "\n")
    assert await imported(ingest, file) == (6, 0, 0)
    assert await imported(ingest, file) == (0, 6, 0)


async def test_a_file_that_grew_adds_what_is_new(ingest: Ingest, tmp_path: Path) -> None:
    lines = [{"name": "a", "time": 1_790_000_000 + n} for n in range(2_500)]
    file = write(tmp_path / "f.jsonl", *lines[:1_200])
    assert await imported(ingest, file) == (1_200, 0, 0)
    write(file, *lines)
    assert await imported(ingest, file) == (1_300, 1_200, 0)


async def test_lines_that_are_wrong_are_named(ingest: Ingest, tmp_path: Path) -> None:
    spans = {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "00"}]}]}]}
    file = write(tmp_path / "f.jsonl", {"name": "a"}, "\n", "nope\n", {"nam": 1}, spans)
    done = await import_whole(ingest, file)
    assert (done.accepted, done.rejected) == (1, 3)
    assert [one.index for one in done.problems] == [3, 4, 5]
    assert "trace_id" in done.problems[2].message


async def test_a_line_without_end_takes_no_memory(ingest: Ingest, tmp_path: Path) -> None:
    file = write(tmp_path / "f.jsonl", "x" * (2 * MAX_LINE + 7) + "\n", {"name": "a"})
    assert await imported(ingest, file) == (1, 0, 1)


async def test_what_comes_before_damage_is_kept(ingest: Ingest, tmp_path: Path) -> None:
    file = write(tmp_path / "f.jsonl.gz", *[{"name": f"a{n}", "time": 1e9} for n in range(50_000)])
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(InvalidArgument, match="cannot be read"):
        await import_file(ingest, file, lambda *_: _nothing())
    assert ingest.counts.accepted > 0


async def _nothing() -> None:
    pass
