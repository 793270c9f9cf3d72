"""The real servers, each started once for all suites."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests import servers
from tests.servers import Server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = servers.start_redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    # The user that PostgreSQL runs as where the tests run as root cannot enter pytest's folders.
    with TemporaryDirectory(prefix="mcp-hub-postgres-") as folder:
        server = servers.start_postgres(Path(folder))
        yield server
        server.stop()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = servers.start_s3(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def mongodb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = servers.start_mongodb(tmp_path_factory.mktemp("mongodb"))
    yield server
    server.stop()
