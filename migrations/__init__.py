"""The schema's history, one for SQLite and PostgreSQL: Alembic revisions in `versions`."""

from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

REVISIONS = tuple(f"{number:04}" for number in range(1, 15))
"""Every revision, oldest first; kept here so that looking at one does not import Alembic."""

HEAD = REVISIONS[-1]
"""The revision this program needs."""


def alembic_config(
    connection: "Connection | None" = None, *, dialect: str = "sqlite", sql: TextIO | None = None
) -> "Config":
    """Alembic's configuration for our revisions, run on `connection` where one is given.

    Without one, Alembic's offline mode writes the SQL for `dialect` to `sql`.
    """
    # Alembic takes a third of a second to import, and most starts have nothing to migrate.
    from alembic.config import Config

    config = Config(output_buffer=sql)
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes |= {"connection": connection, "dialect": dialect}
    return config
