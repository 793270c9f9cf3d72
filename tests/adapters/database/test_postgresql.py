from collections.abc import Callable
from functools import partial

import pytest

from mcp_hub.adapters.database.postgresql import PostgresDatabase

from .contract import DatabaseContract


class TestPostgresDatabase(DatabaseContract):
    @pytest.fixture
    def open_database(self, postgres_url: str) -> Callable[[], PostgresDatabase]:
        return partial(PostgresDatabase, postgres_url)
