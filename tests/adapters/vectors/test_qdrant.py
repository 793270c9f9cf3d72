"""No Qdrant server can be had here: the suite runs on the client's local mode, and the paths to
a server as far as its absence shows them."""

import socket
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path

import anyio
import anyio.abc
import pytest

from mcp_hub.adapters.errors import Unavailable
from mcp_hub.adapters.vectors.qdrant import QdrantVectors
from tests.adapters.vectors.contract import OpenVectors, VectorsContract, random_rows
from tests.servers import free_port
from tests.spawning import Processes


@asynccontextmanager
async def open_local(folder: Path) -> AsyncIterator[QdrantVectors]:
    vectors = QdrantVectors(str(folder), "texts")
    yield vectors
    await vectors.close()


class TestQdrantVectorsLocally(VectorsContract):
    # Local mode commits row by row.
    many = 300
    doomed = 40

    @pytest.fixture
    def open_vectors(self, tmp_path: Path) -> OpenVectors:
        return partial(open_local, tmp_path / "qdrant")

    async def test_one_process_may_open_a_folder(
        self, vectors: QdrantVectors, open_vectors: OpenVectors, processes: Processes
    ) -> None:
        await vectors.upsert(["a"], random_rows(1, 2))
        look = partial(_look, open_vectors)
        for seen in await processes.run(look, look):
            assert "another process has it open" in seen
        assert await vectors.count() == 1


async def test_collections_are_apart(tmp_path: Path) -> None:
    for name, dimensions in [("two", 2), ("three", 3)]:
        vectors = QdrantVectors(str(tmp_path), name)
        await vectors.upsert([name], random_rows(1, dimensions))
        assert await vectors.count() == 1
        await vectors.close()


async def test_nobody_listens() -> None:
    vectors = QdrantVectors(f"http://127.0.0.1:{free_port()}", "texts")
    with pytest.raises(Unavailable, match=r"Qdrant at http://127\.0\.0\.1") as raised:
        await vectors.search(random_rows(1, 2)[0])
    assert "vectors_url" in (raised.value.hint or "")
    await vectors.close()


async def test_a_server_that_accepts_and_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        vectors = QdrantVectors(url, "texts", timeout_s=0.3)
        for ask in (
            vectors.count,
            vectors.check,
            partial(vectors.upsert, ["a"], random_rows(1, 2)),
        ):
            with anyio.fail_after(5), pytest.raises(Unavailable, match="no answer within"):
                await ask()
        await vectors.close()


async def test_a_server_that_is_none_of_qdrants() -> None:
    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            request = await stream.receive()
            status = b"401 Unauthorized" if b"api-key" not in request else b"404 Not Found"
            await stream.send(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        for user, reason in [("", "401"), ("secret%2Fkey@", "404")]:
            with warnings_of_plain_http(user):
                vectors = QdrantVectors(f"http://{user}127.0.0.1:{port}", "texts")
            with pytest.raises(Unavailable, match=reason) as raised:
                await vectors.count()
            assert "secret" not in str(raised.value)
            await vectors.close()
        tasks.cancel_scope.cancel()


def warnings_of_plain_http(user: str) -> AbstractContextManager[object]:
    """The client warns where a key goes over a connection that is not encrypted."""
    return pytest.warns(UserWarning, match="insecure") if user else nullcontext()


async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    vectors = QdrantVectors(str(tmp_path / "file" / "qdrant"), "texts")
    with pytest.raises(Unavailable, match="qdrant"):
        await vectors.count()
    await vectors.close()


async def _look(open_vectors: OpenVectors) -> str:
    async with open_vectors() as vectors:
        try:
            return str(await vectors.count())
        except Unavailable as error:
            return error.message
