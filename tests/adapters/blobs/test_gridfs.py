import gc
import hashlib
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest
from gridfs import AsyncGridFSBucket
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from mcp_hub.adapters.blobs.gridfs import GridFSBlobStore
from mcp_hub.adapters.blobs.port import Provisioned
from mcp_hub.adapters.errors import Conflict, HubError, InvalidArgument, NotFound, Unavailable
from tests import servers
from tests.adapters.blobs.contract import ABSENT, MIB, BlobStoreContract
from tests.certificates import write_certificate
from tests.proxy import Proxy
from tests.servers import SECRET_KEY, Server
from tests.spawning import killed_process
from tests.waiting import eventually

Database = AsyncDatabase[dict[str, Any]]

# The driver leaves the socket of a connection that it gives up to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(autouse=True, scope="module")
def _sockets_are_collected() -> Iterator[None]:
    """Here, and not in a test that has nothing to do with it."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


class TestGridFSBlobStore(BlobStoreContract):
    @pytest.fixture
    def open_blobs(self, mongodb_server: Server) -> Callable[[], GridFSBlobStore]:
        return partial(GridFSBlobStore, f"{mongodb_server.url}&bucket=b{uuid4().hex}")


@pytest.fixture
def bucket() -> str:
    return f"b{uuid4().hex}"


@pytest.fixture
def url(mongodb_server: Server, bucket: str) -> str:
    # Past the proxy, too, the driver goes where the URL says and not where the server says.
    return f"{mongodb_server.url}&directConnection=true&bucket={bucket}"


@pytest.fixture
async def blobs(url: str) -> AsyncIterator[GridFSBlobStore]:
    blobs = GridFSBlobStore(url)
    yield blobs
    await blobs.close()


@pytest.fixture
async def database(mongodb_server: Server) -> AsyncIterator[Database]:
    """The server's database, as somebody else sees it."""
    async with AsyncMongoClient[dict[str, Any]](mongodb_server.url) as client:
        yield client.get_default_database()


@pytest.fixture
async def proxy(mongodb_server: Server) -> AsyncIterator[Proxy]:
    async with Proxy(mongodb_server.port).running() as proxy:
        yield proxy


@pytest.fixture
async def through_proxy(
    url: str, mongodb_server: Server, proxy: Proxy, blobs: GridFSBlobStore
) -> AsyncIterator[GridFSBlobStore]:
    """The same blobs as `blobs`, by way of the proxy."""
    await blobs.provision()
    store = GridFSBlobStore(_past(url, mongodb_server, proxy), timeout_s=3)
    yield store
    await store.close()


# What is stored, and how it comes back.


async def test_a_blob_is_a_file_that_any_gridfs_client_reads(
    blobs: GridFSBlobStore, database: Database, bucket: str
) -> None:
    content = bytes(range(256)) * 10_000
    blob = await blobs.put(content)
    await blobs.put(content)
    gridfs = AsyncGridFSBucket(database, bucket)
    (file,) = await gridfs.find({}).to_list()
    assert (file.filename, file.length) == blob
    age = datetime.now(UTC) - file.upload_date.replace(tzinfo=UTC)
    assert abs(age) < timedelta(minutes=1)
    stream = await gridfs.open_download_stream_by_name(blob.sha256)
    assert await stream.read() == content


async def test_the_same_bytes_are_not_sent_again(
    through_proxy: GridFSBlobStore, proxy: Proxy, tmp_path: Path
) -> None:
    (tmp_path / "content").write_bytes(bytes(2 * MIB))
    await through_proxy.put_file(tmp_path / "content")
    assert proxy.sent > 2 * MIB
    proxy.reset()
    await through_proxy.put_file(tmp_path / "content")
    await through_proxy.put(bytes(2 * MIB))
    await through_proxy.put(_one(bytes(2 * MIB)))
    assert proxy.sent < 10_000


async def test_many_that_store_the_same_leave_one_file_and_its_chunks(
    blobs: GridFSBlobStore, database: Database, bucket: str
) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(blobs.put, bytes(2 * MIB))
    assert await _counts(database, bucket) == (1, 2, 0)


@pytest.mark.parametrize(
    "damage",
    [
        {"$set": {"data": b"\0" * (MIB - 1)}},
        {"$set": {"data": b"\0" * (MIB - 1) + b"x"}},
        {"$set": {"n": 7}},
    ],
    ids=["cut short", "a byte changed", "missing"],
)
async def test_a_damaged_blob_is_unavailable(
    blobs: GridFSBlobStore,
    database: Database,
    bucket: str,
    tmp_path: Path,
    damage: dict[str, Any],
) -> None:
    blob = await blobs.put(bytes(3 * MIB))
    await database[f"{bucket}.chunks"].update_one({"n": 1}, damage)
    with pytest.raises(Unavailable, match=f"{blob.sha256} is damaged") as raised:
        await blobs.get(blob.sha256)
    assert bucket in (raised.value.hint or "")
    with pytest.raises(Unavailable, match="damaged"):
        await blobs.fetch(blob.sha256, tmp_path / "copy")
    assert _files(tmp_path) == []


async def test_storing_a_blob_again_repairs_one_that_lacks_a_chunk(
    blobs: GridFSBlobStore, database: Database, bucket: str
) -> None:
    blob = await blobs.put(bytes(3 * MIB))
    await database[f"{bucket}.chunks"].delete_one({"n": 1})
    await blobs.put(bytes(3 * MIB))
    assert await blobs.get(blob.sha256) == bytes(3 * MIB)
    assert await _counts(database, bucket) == (1, 3, 0)


async def test_a_blob_that_is_deleted_under_its_reader_is_not_found(
    through_proxy: GridFSBlobStore, blobs: GridFSBlobStore, proxy: Proxy
) -> None:
    blob = await blobs.put(bytes(12 * MIB))
    # The server may keep what a cursor has begun; only where another takes over it is missed.
    proxy.cut_receiving, proxy.cuts = 6 * MIB, 1
    stream = through_proxy.stream(blob.sha256)
    await anext(stream)
    await blobs.delete(blob.sha256)
    with pytest.raises(NotFound, match=blob.sha256):
        async for _ in stream:
            pass


async def test_a_file_that_changes_while_it_is_stored_is_a_conflict(
    through_proxy: GridFSBlobStore, database: Database, bucket: str, proxy: Proxy, tmp_path: Path
) -> None:
    path = tmp_path / "growing"
    path.write_bytes(bytes(12 * MIB))

    def change(_: int) -> None:
        proxy.on_sent = None
        path.write_bytes(bytes(12 * MIB - 1) + b"x")

    proxy.on_sent = change
    with pytest.raises(Conflict, match="changed"):
        await through_proxy.put_file(path)
    assert await _counts(database, bucket) == (0, 0, 0)


# What is left behind.


async def test_what_a_killed_process_left_is_swept_a_day_later(
    url: str, blobs: GridFSBlobStore, database: Database, bucket: str, tmp_path: Path
) -> None:
    content = tmp_path / "content"
    content.write_bytes(bytes(120 * MIB))
    chunks = database[f"{bucket}.chunks"]

    async def some_are_there() -> bool:
        return await chunks.count_documents({}) > 2

    with killed_process(_put_file, url, content):
        await eventually(some_are_there)
    files, left, uploads = await _counts(database, bucket)
    assert (files, uploads) == (0, 1)
    assert left < 120
    kept = await blobs.put(b"kept")
    # What the killed process had sent may still have come in.
    assert (await _counts(database, bucket))[1] > left
    await _age(database, bucket, timedelta(hours=25))
    await blobs.provision()
    assert await _counts(database, bucket) == (1, 1, 0)
    assert await blobs.get(kept.sha256) == b"kept"


async def test_the_sweep_keeps_a_blob_whose_writer_was_killed_after_it(
    blobs: GridFSBlobStore, database: Database, bucket: str
) -> None:
    blob = await blobs.put(b"whole")
    file = await database[f"{bucket}.files"].find_one({})
    assert file is not None
    await database[f"{bucket}.uploads"].insert_one(
        {"_id": file["_id"], "startedAt": datetime.now(UTC) - timedelta(hours=25)}
    )
    await blobs.provision()
    assert await blobs.get(blob.sha256) == b"whole"
    assert await _counts(database, bucket) == (1, 1, 0)


async def test_an_upload_that_was_swept_gives_up(
    through_proxy: GridFSBlobStore,
    blobs: GridFSBlobStore,
    database: Database,
    bucket: str,
    proxy: Proxy,
) -> None:
    swept = anyio.Event()

    async def sweep() -> None:
        await _age(database, bucket, timedelta(hours=25))
        await blobs.provision()
        swept.set()

    async def slow() -> None:
        with pytest.raises(Unavailable, match="more than a day"):
            await through_proxy.put(bytes(40 * MIB))

    async with anyio.create_task_group() as tasks:

        def begin(count: int) -> None:
            if count > 5 * MIB:
                proxy.on_sent = None
                tasks.start_soon(sweep)

        proxy.on_sent = begin
        tasks.start_soon(slow)
    assert swept.is_set()
    assert (await _counts(database, bucket))[0] == 0


# Making the bucket.


async def test_provisioning_makes_the_bucket_once(
    blobs: GridFSBlobStore, database: Database, bucket: str
) -> None:
    assert isinstance(blobs, Provisioned)
    assert await blobs.provision() == [f"GridFS bucket {bucket}"]
    assert await blobs.provision() == []
    indexes = await database[f"{bucket}.chunks"].index_information()
    assert indexes["files_id_1_n_1"]["unique"]


async def test_ten_at_once_may_make_the_bucket(url: str, database: Database, bucket: str) -> None:
    async def work(number: int) -> None:
        blobs = GridFSBlobStore(url)
        await blobs.provision()
        await blobs.put(str(number).encode())
        await blobs.close()

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(work, number)
    assert await _counts(database, bucket) == (10, 10, 0)


# Servers that refuse, cannot be reached, or say nothing.


async def test_a_wrong_password_is_unavailable(url: str) -> None:
    blobs = GridFSBlobStore(url.replace(SECRET_KEY, "wrong-password"))
    for attempt in _attempts(blobs):
        with pytest.raises(Unavailable, match="authentication failed") as raised:
            await attempt
        _check_says_what_to_do(raised.value)
        assert "Check the user and the password in blobs_url" in (raised.value.hint or "")
        assert "wrong-password" not in f"{raised.value} {raised.value.hint}"
    await blobs.close()


@pytest.mark.parametrize("user", ["stranger", "reader"])
async def test_a_user_without_the_right_is_unavailable(url: str, user: str) -> None:
    blobs = GridFSBlobStore(url.replace("//hub:", f"//{user}:"))
    with pytest.raises(Unavailable, match="not authorized") as raised:
        await blobs.put(b"x")
    assert "role readWrite" in (raised.value.hint or "")
    assert "database hub" in (raised.value.hint or "")
    _check_says_what_to_do(raised.value)
    await blobs.close()


@pytest.mark.parametrize("host", ["127.0.0.1:1", "nowhere.invalid:27017"])
async def test_a_wrong_host_is_unavailable(host: str) -> None:
    blobs = GridFSBlobStore(f"mongodb://hub:{SECRET_KEY}@{host}/hub", timeout_s=0.5)
    with pytest.raises(Unavailable, match=f"hub:\\*\\*\\*@{host}.* cannot be reached") as raised:
        await blobs.check()
    assert "Topology" not in raised.value.message
    _check_says_what_to_do(raised.value)
    await blobs.close()


async def test_a_server_that_never_answers_is_unavailable_in_time(
    url: str, mongodb_server: Server, proxy: Proxy
) -> None:
    proxy.answers = False
    silent = GridFSBlobStore(_past(url, mongodb_server, proxy), timeout_s=0.3)
    for attempt in _attempts(silent):
        with anyio.fail_after(5):
            with pytest.raises(Unavailable, match="did not answer in time") as raised:
                await attempt
            _check_says_what_to_do(raised.value)
    await silent.close()


async def test_a_server_that_falls_silent_is_unavailable_in_time(
    url: str, mongodb_server: Server, proxy: Proxy
) -> None:
    blobs = GridFSBlobStore(_past(url, mongodb_server, proxy), timeout_s=1)
    await blobs.put(b"x")
    proxy.answers = False
    with anyio.fail_after(20):
        for attempt in _attempts(blobs):
            with pytest.raises(Unavailable, match="did not answer in time"):
                await attempt
    await blobs.close()


async def test_a_check_may_be_cancelled_while_the_server_is_silent(
    url: str, mongodb_server: Server, proxy: Proxy
) -> None:
    proxy.answers = False
    silent = GridFSBlobStore(_past(url, mongodb_server, proxy), timeout_s=30)
    with anyio.fail_after(3), anyio.move_on_after(0.1) as scope:
        await silent.check()
    assert scope.cancelled_caught
    await silent.close()


async def test_a_server_without_tls_is_unavailable_over_tls(url: str) -> None:
    blobs = GridFSBlobStore(f"{url}&tls=true", timeout_s=0.5)
    # This server waits for more; one that hangs up is told apart as an insecure connection.
    with pytest.raises(Unavailable, match="did not answer in time") as raised:
        await blobs.check()
    assert "whether tls in blobs_url suits the server" in (raised.value.hint or "")
    _check_says_what_to_do(raised.value)
    await blobs.close()


@pytest.mark.parametrize("days", [-1, 1])
async def test_only_a_certificate_that_holds_is_trusted(
    mongodb_server: Server, url: str, tmp_path: Path, days: int
) -> None:
    certificate, key = write_certificate(tmp_path, timedelta(days=days))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with Proxy(mongodb_server.port).running(context) as proxy:
        secure = f"{_past(url, mongodb_server, proxy)}&tls=true&tlsCAFile={certificate}"
        blobs = GridFSBlobStore(secure, timeout_s=5 if days > 0 else 1)
        if days < 0:
            with pytest.raises(Unavailable, match="certificate has expired") as raised:
                await blobs.put(b"x")
            assert "Renew the server's certificate" in (raised.value.hint or "")
            _check_says_what_to_do(raised.value)
        else:
            content = bytes(3 * MIB)
            assert await blobs.get((await blobs.put(content)).sha256) == content
        await blobs.close()


# Connections that break, and servers that come back.


async def test_an_upload_goes_on_when_its_connection_breaks(
    through_proxy: GridFSBlobStore, blobs: GridFSBlobStore, proxy: Proxy
) -> None:
    content = bytes(range(256)) * (24 * MIB // 256)
    proxy.cut_sending, proxy.cuts = 10 * MIB, 2
    blob = await through_proxy.put(content)
    assert proxy.cuts == 0
    assert await blobs.get(blob.sha256) == content


async def test_an_upload_of_200_mb_whose_connections_all_break_stores_nothing(
    through_proxy: GridFSBlobStore, blobs: GridFSBlobStore, proxy: Proxy, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        for number in range(200):
            file.write(hashlib.sha256(bytes([number])).digest() * (MIB // 32))
    sha256 = hashlib.sha256(large.read_bytes()).hexdigest()
    proxy.cut_sending = 100 * MIB
    with pytest.raises(Unavailable, match="cannot be reached, or broke off") as raised:
        await through_proxy.put_file(large)
    _check_says_what_to_do(raised.value)
    proxy.reset()
    assert not await blobs.exists(sha256)


async def test_an_upload_cancelled_on_its_way_leaves_nothing(
    through_proxy: GridFSBlobStore, proxy: Proxy, database: Database, bucket: str
) -> None:
    with anyio.CancelScope() as scope:
        proxy.on_sent = lambda count: scope.cancel() if count > 10 * MIB else None
        await through_proxy.put(bytes(40 * MIB))
    assert scope.cancelled_caught
    assert await _counts(database, bucket) == (0, 0, 0)


async def test_a_read_goes_on_when_its_connection_breaks(
    through_proxy: GridFSBlobStore, blobs: GridFSBlobStore, proxy: Proxy
) -> None:
    content = bytes(range(256)) * (24 * MIB // 256)
    blob = await blobs.put(content)
    proxy.cut_receiving, proxy.cuts = 9 * MIB, 2
    assert await through_proxy.get(blob.sha256) == content
    assert proxy.cuts == 0


async def test_a_read_whose_connections_all_break_is_unavailable(
    through_proxy: GridFSBlobStore, blobs: GridFSBlobStore, proxy: Proxy, tmp_path: Path
) -> None:
    blob = await blobs.put(bytes(24 * MIB))
    proxy.cut_receiving = 9 * MIB
    with pytest.raises(Unavailable, match="broke off") as raised:
        await through_proxy.fetch(blob.sha256, tmp_path / "copy")
    _check_says_what_to_do(raised.value)
    assert _files(tmp_path) == []


async def test_goes_on_after_the_server_was_killed(tmp_path: Path) -> None:
    server = await anyio.to_thread.run_sync(servers.start_mongodb, tmp_path)
    try:
        blobs = GridFSBlobStore(server.url, timeout_s=2)
        blob = await blobs.put(bytes(3 * MIB))
        await anyio.to_thread.run_sync(server.restart)
        assert await blobs.get(blob.sha256) == bytes(3 * MIB)
        await anyio.to_thread.run_sync(server.stop)
        for attempt in (blobs.put(b"lost"), blobs.get(blob.sha256)):
            with pytest.raises(Unavailable, match="cannot be reached"):
                await attempt
        await anyio.to_thread.run_sync(server.start)
        assert await blobs.get((await blobs.put(b"after")).sha256) == b"after"
        await blobs.close()
    finally:
        server.stop()


# What a URL may say.


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://hub:hub-tests-secret@host/hub", "no URL of a MongoDB"),
        ("mongodb:///hub", "no URL of a MongoDB"),
        ("mongodb://hub:hub-tests-secret@with@host/hub", "no URL of a MongoDB"),
        ("mongodb://hub:hub-tests-secret/@host/hub", "no URL of a MongoDB"),
        ("mongodb://hub:hub-tests-secret#@host/hub", "no URL of a MongoDB"),
        ("mongodb://hub:hub-tests-secret@host:port/hub", "no URL of a MongoDB"),
        ("mongodb://hub:hub-tests-secret@host/hub#x", "no URL of a MongoDB"),
        ("mongodb://hub:hub-tests-secret@host", "names no database"),
        ("mongodb://hub:hub-tests-secret@host/", "names no database"),
        ("mongodb://hub:hub-tests-secret@host/hub/more", "'hub/more' cannot be"),
        ("mongodb://hub:hub-tests-secret@host/a.b", "'a.b' cannot be"),
        ("mongodb://hub:hub-tests-secret@host/hub?tsl=true", "unknown option 'tsl'"),
        ("mongodb://hub:hub-tests-secret@host/hub?timeoutMS=0", "unknown option 'timeoutMS'"),
        ("mongodb://hub:hub-tests-secret@host/hub?tls=perhaps", "the option tls is wrong"),
        ("mongodb://hub:hub-tests-secret@host/hub?tlsCAFile=/nowhere", "tlsCAFile is wrong"),
        ("mongodb://hub:hub-tests-secret@host/hub?w=0", "w=0"),
        ("mongodb://hub:hub-tests-secret@host/hub?bucket=a.b", "'a.b' cannot name a bucket"),
        ("mongodb://hub:hub-tests:secret@host/hub", "cannot be used"),
        ("mongodb+srv://hub:hub-tests-secret@host:27017/hub", "cannot be used"),
    ],
)
def test_a_url_says_what_is_wrong_with_it(url: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as raised:
        GridFSBlobStore(url)
    assert raised.value.hint
    for secret in (SECRET_KEY, "hub-tests:secret"):
        assert secret not in f"{raised.value} {raised.value.hint}"


@pytest.mark.parametrize(
    "url",
    [
        "mongodb+srv://hub:p%40ss@cluster.example.net/hub?retryWrites=true&w=majority&appName=x",
        "mongodb://one:27017,two:27018,[::1]:27019/hub?replicaSet=rs&tls=true&bucket=fs",
    ],
)
async def test_urls_of_clusters_are_taken(url: str) -> None:
    await GridFSBlobStore(url).close()


async def test_check_names_the_server_and_no_secret(blobs: GridFSBlobStore) -> None:
    detail = await blobs.check()
    assert detail.startswith("MongoDB 8.")
    assert "hub:***@" in detail
    assert SECRET_KEY not in detail


def _attempts(blobs: GridFSBlobStore) -> Iterator[Awaitable[object]]:
    """One call of each kind that reaches the server."""
    yield blobs.check()
    yield blobs.provision()
    yield blobs.exists(ABSENT)
    yield blobs.get(ABSENT)
    yield blobs.put(b"x")
    yield blobs.put(_one(b"x"))
    yield blobs.delete(ABSENT)


def _check_says_what_to_do(error: HubError) -> None:
    assert "mongodb://" in error.message or "***@" in error.message
    assert error.hint
    assert SECRET_KEY not in f"{error.message} {error.hint}"


def _past(url: str, server: Server, proxy: Proxy) -> str:
    return url.replace(f":{server.port}/", f":{proxy.port}/")


def _files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def _one(part: bytes) -> AsyncIterator[bytes]:
    yield part


async def _put_file(url: str, path: Path) -> None:
    await GridFSBlobStore(url).put_file(path)


async def _counts(database: Database, bucket: str) -> tuple[int, int, int]:
    """How many files, chunks and unfinished uploads there are."""
    counts = [
        await database[f"{bucket}.{kind}"].count_documents({})
        for kind in ("files", "chunks", "uploads")
    ]
    return counts[0], counts[1], counts[2]


async def _age(database: Database, bucket: str, age: timedelta) -> None:
    """Let every upload have begun that long ago."""
    began = datetime.now(UTC) - age
    await database[f"{bucket}.uploads"].update_many({}, {"$set": {"startedAt": began}})
