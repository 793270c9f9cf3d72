from pathlib import Path

import pytest

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.services.data.service import DataService

MAX_BYTES = 5_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The workspace root of the service `data`."""
    root = tmp_path / "work"
    root.mkdir()
    return root


@pytest.fixture
def data(
    database: SqliteDatabase, blobs: FileBlobStore, bus: DatabaseBus, root: Path
) -> DataService:
    return DataService(database, blobs, bus, roots=[root], max_bytes=MAX_BYTES)
