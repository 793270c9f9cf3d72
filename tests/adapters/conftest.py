from collections.abc import Iterator

import pytest

from .processes import Processes


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    processes = Processes()
    yield processes
    processes.close()
