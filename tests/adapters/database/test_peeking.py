"""What can be told of a database that nobody has opened yet."""

import sqlite3
from contextlib import closing
from pathlib import Path

from mcp_hub.adapters.database.peeking import may_have_rows


def test_rows_are_seen_also_while_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "hub #1.db"
    assert not may_have_rows(path, "containers")
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        assert not may_have_rows(path, "containers")
        database.execute("CREATE TABLE containers (name TEXT)")
        assert not may_have_rows(path, "containers")
        database.execute("INSERT INTO containers VALUES ('echo')")
        database.commit()
        assert may_have_rows(path, "containers")
    assert may_have_rows(path, "containers")


def test_what_cannot_be_read_may_have_rows(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    path.write_bytes(b"no database at all" * 100)
    assert may_have_rows(path, "containers")
