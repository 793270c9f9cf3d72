"""A look into the embedded database before it is opened: by the standard library alone, since a
server process that has just started has nothing else loaded."""

import sqlite3
from contextlib import closing
from pathlib import Path


def may_have_rows(path: Path, table: str) -> bool:
    """Whether a table has a row; True also where that cannot be told."""
    if not path.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            named = "SELECT 1 FROM sqlite_master WHERE name = ?"
            if database.execute(named, (table,)).fetchone() is None:
                return False
            return database.execute(f'SELECT 1 FROM "{table}" LIMIT 1').fetchone() is not None
    except sqlite3.Error:
        return True
