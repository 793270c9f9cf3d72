from collections.abc import Callable
from functools import partial
from uuid import uuid4

import pytest

from mcp_hub.adapters.blobs.s3 import S3BlobStore
from tests.adapters.blobs.contract import BlobStoreContract
from tests.servers import Server


class TestS3BlobStore(BlobStoreContract):
    @pytest.fixture
    def open_blobs(self, s3_server: Server) -> Callable[[], S3BlobStore]:
        return partial(S3BlobStore, f"{s3_server.url}&prefix={uuid4()}")
