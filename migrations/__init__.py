"""The schema's history, one for SQLite and PostgreSQL: Alembic revisions in `versions`."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

HEAD = "0004"
"""The revision this program needs; kept here so that checking it does not import Alembic."""


def alembic_config(connection: "Connection | None" = None) -> "Config":
    """Alembic's configuration for our revisions, run on `connection` where one is given."""
    # Alembic takes a third of a second to import, and most starts have nothing to migrate.
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config
