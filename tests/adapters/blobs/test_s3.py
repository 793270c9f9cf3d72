import asyncio
import hashlib
import io
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import anyio
import pytest
import urllib3
from minio import Minio

from mcp_hub.adapters.blobs.port import PresignedDownloads, Provisioned
from mcp_hub.adapters.blobs.s3 import S3BlobStore
from mcp_hub.adapters.errors import Conflict, HubError, InvalidArgument, NotFound, Unavailable
from tests import servers
from tests.adapters.blobs.contract import ABSENT, MIB, BlobStoreContract
from tests.certificates import write_certificate
from tests.proxy import Proxy
from tests.servers import ACCESS_KEY, SECRET_KEY, STRANGER_KEY, Server
from tests.spawning import Processes
from tests.waiting import eventually

BUCKET = "hub"


class TestS3BlobStore(BlobStoreContract):
    @pytest.fixture
    def open_blobs(self, s3_server: Server) -> Callable[[], S3BlobStore]:
        return partial(S3BlobStore, f"{s3_server.url}&prefix={uuid4()}")


@pytest.fixture
def url(s3_server: Server) -> str:
    return f"{s3_server.url}&region=us-east-1&prefix={uuid4()}"


@pytest.fixture
async def blobs(url: str) -> AsyncIterator[S3BlobStore]:
    blobs = S3BlobStore(url)
    yield blobs
    await blobs.close()


@pytest.fixture
def client(s3_server: Server) -> Minio:
    """The server, as somebody else sees it."""
    return Minio(f"127.0.0.1:{s3_server.port}", ACCESS_KEY, SECRET_KEY, secure=False)


@pytest.fixture
async def proxy(s3_server: Server) -> AsyncIterator[Proxy]:
    async with Proxy(s3_server.port).running() as proxy:
        yield proxy


@pytest.fixture
async def through_proxy(
    url: str, s3_server: Server, proxy: Proxy, blobs: S3BlobStore
) -> AsyncIterator[S3BlobStore]:
    """The same blobs as `blobs`, by way of the proxy."""
    await blobs.provision()
    store = S3BlobStore(url.replace(f":{s3_server.port}/", f":{proxy.port}/"), timeout_s=5)
    yield store
    await store.close()


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file of 200 MB."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        for number in range(200):
            file.write(hashlib.sha256(bytes([number])).digest() * (MIB // 32))
    return path


def names(client: Minio, url: str) -> list[str]:
    """The objects below the URL's prefix, without it."""
    prefix = url.rpartition("prefix=")[2] + "/"
    found = client.list_objects(BUCKET, prefix, recursive=True)
    return [(item.object_name or "").removeprefix(prefix) for item in found]


# What is stored, and how it comes back.


async def test_a_blob_is_one_object_in_a_folder_of_its_first_digits(
    blobs: S3BlobStore, client: Minio, url: str
) -> None:
    blob = await blobs.put(b"hello")
    await blobs.put(b"hello")
    assert names(client, url) == [f"2c/{blob.sha256}"]


async def test_the_same_bytes_are_not_sent_again(
    through_proxy: S3BlobStore, proxy: Proxy, tmp_path: Path
) -> None:
    (tmp_path / "content").write_bytes(bytes(2 * MIB))
    await through_proxy.put_file(tmp_path / "content")
    assert proxy.sent > 2 * MIB
    proxy.reset()
    await through_proxy.put_file(tmp_path / "content")
    await through_proxy.put(bytes(2 * MIB))
    await through_proxy.put(_one(bytes(2 * MIB)))
    assert proxy.sent < 10_000


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: b"x" + content[1:],
    ],
    ids=["cut short", "longer", "a byte changed"],
)
@pytest.mark.parametrize("size", [1000, 2 * MIB])
async def test_a_damaged_blob_is_unavailable(
    blobs: S3BlobStore,
    client: Minio,
    url: str,
    tmp_path: Path,
    damage: Callable[[bytes], bytes],
    size: int,
) -> None:
    content = bytes(size)
    blob = await blobs.put(content)
    damaged = damage(content)
    name = f"{url.rpartition('=')[2]}/{blob.sha256[:2]}/{blob.sha256}"
    client.put_object(BUCKET, name, io.BytesIO(damaged), len(damaged))
    with pytest.raises(Unavailable, match=f"{blob.sha256} is damaged") as raised:
        await blobs.get(blob.sha256)
    assert name in (raised.value.hint or "")
    with pytest.raises(Unavailable, match="damaged"):
        await blobs.fetch(blob.sha256, tmp_path / "copy")
    assert _files(tmp_path) == []


async def test_storing_a_blob_again_repairs_one_cut_short(
    blobs: S3BlobStore, client: Minio, url: str
) -> None:
    blob = await blobs.put(b"hello")
    name = f"{url.rpartition('=')[2]}/2c/{blob.sha256}"
    client.put_object(BUCKET, name, io.BytesIO(b"hel"), 3)
    await blobs.put(b"hello")
    assert await blobs.get(blob.sha256) == b"hello"


@pytest.mark.parametrize("size", [1000, 4 * MIB, 12 * MIB])
async def test_what_changes_on_the_way_up_is_not_stored(
    through_proxy: S3BlobStore, blobs: S3BlobStore, proxy: Proxy, size: int
) -> None:
    content = bytes(size)
    # Behind the headers of the request that asks for the blob, and of the one that sends it.
    proxy.flip = 2000 + size // 2 if size > 1000 else 1700
    with pytest.raises(Unavailable, match="S3 at") as raised:
        await through_proxy.put(content)
    _check_says_what_to_do(raised.value)
    assert not await blobs.exists(hashlib.sha256(content).hexdigest())


async def test_a_file_that_changes_while_it_is_stored_is_a_conflict(
    through_proxy: S3BlobStore, blobs: S3BlobStore, proxy: Proxy, tmp_path: Path
) -> None:
    path = tmp_path / "growing"
    path.write_bytes(bytes(12 * MIB))

    def change(_: int) -> None:
        proxy.on_sent = None
        path.write_bytes(bytes(12 * MIB - 1) + b"x")

    proxy.on_sent = change
    with pytest.raises(Conflict, match="changed"):
        await through_proxy.put_file(path)
    for content in (bytes(12 * MIB), bytes(12 * MIB - 1) + b"x"):
        assert not await blobs.exists(hashlib.sha256(content).hexdigest())


async def test_a_presigned_url_gives_the_bytes_to_anybody(blobs: S3BlobStore) -> None:
    assert isinstance(blobs, PresignedDownloads)
    blob = await blobs.put(b"hello")
    url = await blobs.download_url(blob.sha256, expires_s=60)
    assert SECRET_KEY not in url
    assert await anyio.to_thread.run_sync(_download, url) == (200, b"hello")
    status, _ = await anyio.to_thread.run_sync(_download, url.replace(blob.sha256[4:8], "0000"))
    assert status == 403
    with pytest.raises(NotFound, match=ABSENT):
        await blobs.download_url(ABSENT)
    for expires_s in (0, -1, 604_801):
        with pytest.raises(InvalidArgument, match="expires_s"):
            await blobs.download_url(blob.sha256, expires_s=expires_s)


async def test_a_presigned_url_ends(blobs: S3BlobStore) -> None:
    blob = await blobs.put(b"hello")
    url = await blobs.download_url(blob.sha256, expires_s=1)

    async def has_ended() -> bool:
        return (await anyio.to_thread.run_sync(_download, url))[0] == 403

    await eventually(has_ended)


# The bucket.


async def test_the_bucket_is_made_when_it_is_absent(s3_server: Server, client: Minio) -> None:
    blobs = S3BlobStore(_with_bucket(s3_server.url, "made-later"))
    assert isinstance(blobs, Provisioned)
    assert not await blobs.exists(ABSENT)
    await blobs.delete(ABSENT)
    with pytest.raises(NotFound):
        await blobs.get(ABSENT)
    assert await blobs.check()
    assert not client.bucket_exists("made-later")
    blob = await blobs.put(b"first")
    assert await blobs.get(blob.sha256) == b"first"
    assert await blobs.provision() == []
    client.remove_object("made-later", f"{blob.sha256[:2]}/{blob.sha256}")
    client.remove_bucket("made-later")
    # It remembers that there was one; an operator may remove it all the same.
    assert await blobs.put(b"first") == blob
    assert await blobs.get(blob.sha256) == b"first"
    await blobs.close()


async def test_ten_may_make_the_bucket_at_once(s3_server: Server, processes: Processes) -> None:
    url = _with_bucket(s3_server.url, "made-at-once")
    work = partial(_provision_and_put, url, 5)
    made = [step for steps in await processes.run(work, work) for step in steps]
    # One of them made it, though several may believe so where the server does not tell.
    assert made
    assert set(made) == {"bucket made-at-once"}
    blobs = S3BlobStore(url)
    assert await blobs.provision() == []
    assert await blobs.exists(hashlib.sha256(b"4").hexdigest())
    await blobs.close()


async def test_another_accounts_bucket_is_unavailable(url: str, blobs: S3BlobStore) -> None:
    await blobs.put(b"mine")
    for region in ("region=us-east-1", ""):
        stranger = S3BlobStore(
            url.replace(ACCESS_KEY, STRANGER_KEY, 1).replace("region=us-east-1", region)
        )
        for attempt in _attempts(stranger):
            with pytest.raises(Unavailable, match="AccessDenied") as raised:
                await attempt
            assert "belongs to another account" in (raised.value.hint or "")
            _check_says_what_to_do(raised.value)
        await stranger.close()


# Servers that cannot be used.


@pytest.mark.parametrize("region", ["", "&region=us-east-1"])
@pytest.mark.parametrize(
    ("credentials", "code"),
    [
        (f"{ACCESS_KEY}:wrong-secret", "SignatureDoesNotMatch"),
        (f"nobody:{SECRET_KEY}", "InvalidAccessKeyId"),
    ],
)
async def test_wrong_credentials_are_unavailable(
    s3_server: Server, credentials: str, code: str, region: str
) -> None:
    url = s3_server.url.replace(f"{ACCESS_KEY}:{SECRET_KEY}", credentials) + region
    blobs = S3BlobStore(url)
    for attempt in _attempts(blobs):
        with pytest.raises(Unavailable, match=code) as raised:
            await attempt
        assert "Check the key and the secret" in (raised.value.hint or "")
        assert credentials.partition(":")[2] not in f"{raised.value} {raised.value.hint}"
    await blobs.close()


@pytest.mark.parametrize("host", ["127.0.0.1:1", "nowhere.invalid:9000"])
async def test_a_wrong_host_is_unavailable(host: str) -> None:
    blobs = S3BlobStore(f"s3://key:hub-tests-secret@{host}/hub?secure=false")
    with pytest.raises(Unavailable, match=f"key:\\*\\*\\*@{host}.* cannot be reached") as raised:
        await blobs.check()
    _check_says_what_to_do(raised.value)
    await blobs.close()


async def test_a_server_that_never_answers_is_unavailable_in_time(
    url: str, s3_server: Server, proxy: Proxy
) -> None:
    proxy.answers = False
    silent = S3BlobStore(url.replace(f":{s3_server.port}/", f":{proxy.port}/"), timeout_s=0.3)
    for attempt in _attempts(silent):
        with anyio.fail_after(5):
            with pytest.raises(Unavailable, match="did not answer in time") as raised:
                await attempt
            _check_says_what_to_do(raised.value)
    await silent.close()


async def test_a_check_may_be_cancelled_while_the_server_is_silent(
    url: str, s3_server: Server, proxy: Proxy
) -> None:
    proxy.answers = False
    silent = S3BlobStore(url.replace(f":{s3_server.port}/", f":{proxy.port}/"), timeout_s=3)
    with anyio.fail_after(1), anyio.move_on_after(0.1) as scope:
        await silent.check()
    assert scope.cancelled_caught
    await silent.close()


async def test_a_server_that_is_none_of_s3_is_unavailable() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        blobs = S3BlobStore(f"s3://key:hub-tests-secret@127.0.0.1:{port}/hub?secure=false")
        with pytest.raises(Unavailable, match="does not answer as S3") as raised:
            await blobs.put(b"x")
        _check_says_what_to_do(raised.value)
        await blobs.close()


async def test_a_server_without_tls_is_unavailable_over_tls(url: str) -> None:
    blobs = S3BlobStore(url.replace("secure=false", "secure=true"))
    with pytest.raises(Unavailable, match="No secure connection") as raised:
        await blobs.check()
    assert "?secure=false" in (raised.value.hint or "")
    _check_says_what_to_do(raised.value)
    await blobs.close()


@pytest.mark.parametrize("days", [-1, 1])
async def test_only_a_certificate_that_holds_is_trusted(
    s3_server: Server,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    days: int,
) -> None:
    certificate, key = write_certificate(tmp_path, timedelta(days=days))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with Proxy(s3_server.port).running(context) as proxy:
        secure = url.replace("secure=false", "secure=true")
        blobs = S3BlobStore(secure.replace(f":{s3_server.port}/", f":{proxy.port}/"))
        if days < 0:
            with pytest.raises(Unavailable, match="certificate has expired") as raised:
                await blobs.put(b"x")
            assert "Renew the server's certificate" in (raised.value.hint or "")
            _check_says_what_to_do(raised.value)
        else:
            content = bytes(6 * MIB)
            assert await blobs.get((await blobs.put(content)).sha256) == content
        await blobs.close()


# Connections that break, and servers that come back.


async def test_an_upload_goes_on_when_its_connection_breaks(
    through_proxy: S3BlobStore, blobs: S3BlobStore, proxy: Proxy, large: Path
) -> None:
    proxy.cut_sending, proxy.cuts = 100 * MIB, 1
    blob = await through_proxy.put_file(large)
    assert proxy.cuts == 0
    assert blob.size == 200 * MIB
    await blobs.fetch(blob.sha256, large)


async def test_an_upload_whose_connections_all_break_stores_nothing(
    through_proxy: S3BlobStore, blobs: S3BlobStore, proxy: Proxy, large: Path, client: Minio
) -> None:
    proxy.cut_sending = 100 * MIB
    with pytest.raises(Unavailable, match="cannot be reached, or broke off") as raised:
        await through_proxy.put_file(large)
    _check_says_what_to_do(raised.value)
    proxy.reset()
    sha256 = _sha256(large)
    assert not await blobs.exists(sha256)
    assert (await through_proxy.put_file(large)).sha256 == sha256
    assert await blobs.exists(sha256)


async def test_an_upload_cancelled_on_its_way_leaves_nothing(
    through_proxy: S3BlobStore, proxy: Proxy, large: Path, client: Minio, url: str
) -> None:
    with anyio.CancelScope() as scope:
        proxy.on_sent = lambda count: scope.cancel() if count > 30 * MIB else None
        await through_proxy.put_file(large)
    assert scope.cancelled_caught
    assert names(client, url) == []
    prefix = url.rpartition("=")[2]
    uploads = client._list_multipart_uploads(BUCKET, prefix=prefix).uploads
    assert uploads == []


async def test_a_read_goes_on_when_its_connection_breaks(
    through_proxy: S3BlobStore, blobs: S3BlobStore, proxy: Proxy
) -> None:
    content = bytes(range(256)) * (12 * MIB // 256)
    blob = await blobs.put(content)
    proxy.cut_receiving, proxy.cuts = 5 * MIB, 2
    assert await through_proxy.get(blob.sha256) == content
    assert proxy.cuts == 0


async def test_a_read_whose_connections_all_break_is_unavailable(
    through_proxy: S3BlobStore, blobs: S3BlobStore, proxy: Proxy, tmp_path: Path
) -> None:
    blob = await blobs.put(bytes(12 * MIB))
    proxy.cut_receiving = 5 * MIB
    with pytest.raises(Unavailable, match="broke off") as raised:
        await through_proxy.fetch(blob.sha256, tmp_path / "copy")
    _check_says_what_to_do(raised.value)
    assert _files(tmp_path) == []


async def test_goes_on_after_the_server_was_restarted(tmp_path: Path) -> None:
    server = await anyio.to_thread.run_sync(servers.start_s3, tmp_path)
    try:
        blobs = S3BlobStore(server.url, timeout_s=5)
        blob = await blobs.put(b"before")
        server.stop()
        for attempt in (blobs.put(b"lost"), blobs.get(blob.sha256)):
            with pytest.raises(Unavailable, match="cannot be reached"):
                await attempt
        await anyio.to_thread.run_sync(server.start)
        assert await blobs.get(blob.sha256) == b"before"
        assert await blobs.get((await blobs.put(b"after")).sha256) == b"after"
        await blobs.close()
    finally:
        server.stop()


# What a URL may say.


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://key:hub-tests-secret@host/hub", "no URL of a bucket"),
        ("s3:///hub", "no URL of a bucket"),
        ("s3://key:hub-tests-secret@with@host/hub", "no URL of a bucket"),
        ("s3://key:hub-tests-secret@host/hub#x", "no URL of a bucket"),
        ("s3://key:hub-tests-secret@host", "names no bucket"),
        ("s3://key:hub-tests-secret@host/", "names no bucket"),
        ("s3://key:hub-tests-secret@host/Hub", "'Hub' cannot be"),
        ("s3://key:hub-tests-secret@host/hub/more", "'hub/more' cannot be"),
        ("s3://key:hub-tests-secret@host/10.0.0.1", "'10.0.0.1' cannot be"),
        ("s3://key:hub-tests-secret@host/hub?secured=no", "unknown option 'secured'"),
        ("s3://key:hub-tests-secret@host/hub?secure=perhaps", "secure=perhaps"),
        ("s3://key@host/hub", "no secret"),
        ("s3://host/hub", "no key"),
        ("s3://key:hub-tests-secret@host:port/hub", "host:port"),
        ("s3://key:hub-tests-secret@host/hub?region=not a region", "region"),
    ],
)
def test_a_url_says_what_is_wrong_with_it(
    url: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    with pytest.raises(InvalidArgument, match=message) as raised:
        S3BlobStore(url)
    assert raised.value.hint
    assert SECRET_KEY not in f"{raised.value} {raised.value.hint}"


async def test_credentials_may_come_from_variables(
    s3_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    blobs = S3BlobStore(s3_server.url.replace(f"{ACCESS_KEY}:{SECRET_KEY}@", ""))
    assert await blobs.get((await blobs.put(b"hello")).sha256) == b"hello"
    await blobs.close()


async def test_check_names_the_server_and_no_secret(blobs: S3BlobStore) -> None:
    detail = await blobs.check()
    assert detail.startswith("SeaweedFS")
    assert f"{ACCESS_KEY}:***@" in detail
    assert SECRET_KEY not in detail


def _attempts(blobs: S3BlobStore) -> Iterator[Awaitable[object]]:
    """One call of each kind that reaches the server."""
    yield blobs.check()
    yield blobs.provision()
    yield blobs.exists(ABSENT)
    yield blobs.get(ABSENT)
    yield blobs.put(b"x")
    yield blobs.put(_one(b"x"))
    yield blobs.delete(ABSENT)
    yield blobs.download_url(ABSENT)


def _check_says_what_to_do(error: HubError) -> None:
    assert "s3://" in error.message
    assert error.hint
    assert SECRET_KEY not in f"{error.message} {error.hint}"


def _with_bucket(url: str, bucket: str) -> str:
    parts = urlsplit(url)
    return parts._replace(path=f"/{bucket}").geturl()


async def _one(part: bytes) -> AsyncIterator[bytes]:
    yield part


def _download(url: str) -> tuple[int, bytes]:
    response = urllib3.request("GET", url, retries=False)
    return response.status, response.data


def _files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def _provision_and_put(url: str, count: int) -> list[str]:
    """Make the bucket through `count` stores at once, and put a blob through each."""
    made: list[str] = []

    async def work(number: int) -> None:
        blobs = S3BlobStore(url)
        made.extend(await blobs.provision())
        await blobs.put(str(number).encode())
        await blobs.close()

    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(work, number)
    return made
