"""`mcp-hub migrate` as a person and a program see it."""

import json
import os
import pty
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from mcp_hub.adapters.database.schema import vector_collections
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.migrations import HEAD, REVISIONS
from tests.processes import hub_environment

from .conftest import Shell

COLLECTION = {"name": "c", "dimensions": 1, "version": 1, "deletion_version": 0}


def test_it_says_what_it_did(mcp_hub: Shell) -> None:
    assert mcp_hub("migrate").out == f"Applied {', '.join(REVISIONS)}.\n"
    assert mcp_hub("migrate").out == "The schema is up to date.\n"
    down = mcp_hub("migrate", "--to", "0002").out
    assert down.startswith(f"Took back {', '.join(REVISIONS[:1:-1])}.\nDropped:\n")
    assert "\n  vectors, 0 rows\n" in down
    assert "start the older mcp-hub" in down
    assert mcp_hub("migrate").out == f"Applied {', '.join(REVISIONS[2:])}.\n"


def test_a_dry_run_prints_the_revisions_and_the_sql(mcp_hub: Shell, folder: Path) -> None:
    out = mcp_hub("migrate", "--dry-run").out
    assert "Would apply, in this order:\n  0001  The first schema" in out
    assert "CREATE TABLE jobs (" in out
    assert not (folder / "data").exists()
    mcp_hub("migrate")
    assert mcp_hub("migrate", "--dry-run").out == "Nothing would run.\n"
    out = mcp_hub("migrate", "--to", "0001", "--dry-run").out
    assert "Would take back, in this order:" in out
    assert "  0003  Vectors" in out
    assert "Would drop:" in out
    assert "  vectors, 0 rows" in out
    assert "DROP TABLE streams;" in out
    assert mcp_hub("migrate", "--dry-run").out == "Nothing would run.\n"


def test_a_program_reads_json(mcp_hub: Shell) -> None:
    planned = json.loads(mcp_hub("migrate", "--dry-run", "--json").out)
    assert (planned["before"], planned["after"], planned["done"]) == (None, HEAD, False)
    assert "CREATE TABLE" in planned["sql"]
    done = json.loads(mcp_hub("migrate", "--json").out)
    assert [step["revision"] for step in done["revisions"]] == list(REVISIONS)
    assert (done["direction"], done["done"], done["sql"]) == ("up", True, None)


def test_an_unknown_revision_is_an_error_that_names_the_others(mcp_hub: Shell) -> None:
    done = mcp_hub("migrate", "--to", "9999")
    assert (done.status, done.out) == (1, "")
    assert "There is no revision '9999'" in done.err
    assert f"Existing revisions: {', '.join(REVISIONS)}, and head" in done.err


@pytest.fixture
def filled(folder: Path) -> None:
    """A database in which revision 0002 has no place for a row."""

    async def fill() -> None:
        database = SqliteDatabase(folder / "data" / "hub.db")
        await database.upgrade()
        insert = vector_collections.insert().values(COLLECTION)
        await database.write(lambda c: c.execute(insert).close())
        await database.close()

    anyio.run(fill)


@pytest.mark.usefixtures("filled")
def test_data_is_dropped_only_with_yes(mcp_hub: Shell) -> None:
    refused = mcp_hub("migrate", "--to", "0002")
    assert refused.status == 1
    assert "vector_collections (1 rows)" in refused.err
    assert "run it again with --yes" in refused.err
    assert "Nothing would run" in mcp_hub("migrate", "--dry-run").out
    assert "vector_collections, 1 rows" in mcp_hub("migrate", "--to", "0002", "--yes").out


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(("answer", "status"), [("n", 1), ("y", 0)])
def test_a_person_is_asked(folder: Path, answer: str, status: int) -> None:
    terminal, stdin = pty.openpty()
    os.write(terminal, f"{answer}\n".encode())
    done = subprocess.run(
        [sys.executable, "-m", "mcp_hub", "migrate", "--to", "0002"],
        env=hub_environment(folder), stdin=stdin, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    os.close(terminal)
    os.close(stdin)
    assert done.returncode == status, done.stderr
    assert "vector_collections, 1 rows" in done.stdout
    assert "Drop that data?" in done.stdout
    assert ("Took back " in done.stdout) is (answer == "y")


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    "command",
    [("serve", "--port", "0"), ("worker", "--idle-exit", "0"), ("up",), ("migrate",)],
    ids=lambda command: command[0],
)
def test_no_command_touches_a_newer_schema(
    mcp_hub: Shell, folder: Path, command: tuple[str, ...]
) -> None:
    with closing(sqlite3.connect(folder / "data" / "hub.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    done = mcp_hub(*command)
    assert done.status == 1
    assert "error: The database is at revision 9999, which this mcp-hub does not know." in done.err
    assert f"hint: Upgrade mcp-hub; this version knows {HEAD}." in done.err
    assert "Traceback" not in done.err
