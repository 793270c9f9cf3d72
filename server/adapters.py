"""The adapters that the settings choose: the only place that names them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.blobs.port import BlobStore
from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.bus.port import Bus
from mcp_hub.adapters.containers.port import ContainerEngine
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.embedder.port import Embedder
from mcp_hub.adapters.errors import Denied, Unavailable
from mcp_hub.adapters.queue.database import DatabaseQueue
from mcp_hub.adapters.queue.divided import DividedQueue
from mcp_hub.adapters.queue.port import Queue
from mcp_hub.adapters.records.port import RecordStore
from mcp_hub.adapters.records.sandbox import Sandbox
from mcp_hub.adapters.records.sqlite import SqliteRecordStore
from mcp_hub.adapters.records.sqlite_sandbox import SqliteSandbox
from mcp_hub.adapters.sources.port import DataSource, Source
from mcp_hub.adapters.sources.sqlite import SqliteSource
from mcp_hub.adapters.stream.database import DatabaseStream
from mcp_hub.adapters.stream.port import Stream
from mcp_hub.adapters.vectors.port import Vectors
from mcp_hub.server.settings import Settings
from mcp_hub.server.settings_sections import MONGODB, POSTGRESQL, REDIS, S3, ConnectorSettings
from mcp_hub.services.data.sources import Sources
from mcp_hub.services.training.frameworks.registry import OWN_WORK

JOBS_QUEUE = "mcp-hub-jobs"
"""The queue's name, under which other BullMQ programs find it on Redis."""
OWN_QUEUE = f"{JOBS_QUEUE}-own"
"""The name of that on Redis which holds the jobs that only hubs can do."""


@dataclass(frozen=True, slots=True)
class Adapters:
    """What a hub process stands on."""

    database: Database
    blobs: BlobStore
    queue: Queue
    bus: Bus


@asynccontextmanager
async def open_adapters(settings: Settings) -> AsyncIterator[Adapters]:
    """The adapters that `settings` choose, the database at this program's revision.

    Raises:
        Unavailable: the database cannot be opened, or an adapter's package is not installed.
        Conflict: the database is newer than this program.
    """
    settings.ensure_folders()
    async with AsyncExitStack() as stack:
        database = choose_database(settings)
        stack.push_async_callback(database.close)
        await database.upgrade()
        blobs = choose_blobs(settings)
        stack.push_async_callback(blobs.close)
        bus = _choose_bus(settings, database)
        stack.push_async_callback(bus.close)
        queue = _choose_queue(settings, database)
        stack.push_async_callback(queue.close)
        yield Adapters(database=database, blobs=blobs, queue=queue, bus=bus)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What telemetry's templates are embedded by, and where the vectors are kept."""

    embedder: Embedder
    vectors: Vectors


@asynccontextmanager
async def open_meaning(settings: Settings, database: Database) -> AsyncIterator[Meaning]:
    """The embedder and the vectors that `settings` choose; the model is loaded at first use.

    Raises:
        Unavailable: an adapter's package is not installed.
    """
    async with AsyncExitStack() as stack:
        embedder = choose_embedder(settings)
        stack.push_async_callback(embedder.close)
        # Rows of different embedders cannot be compared.
        collection = f"telemetry-{embedder.name.replace('/', '-')}"
        vectors = choose_vectors(settings, database, collection)
        stack.push_async_callback(vectors.close)
        yield Meaning(embedder, vectors)


def choose_database(settings: Settings) -> Database:
    """PostgreSQL for a `postgresql://` URL, else the embedded file."""
    url = settings.database_url
    if url is None or url.startswith("sqlite:"):
        return SqliteDatabase(settings.database_path)
    with _extra("postgres"):
        from mcp_hub.adapters.database.postgresql import PostgresDatabase
    return PostgresDatabase(url)


async def provision_database(settings: Settings) -> bool:
    """Make the database that the settings name, if it is absent; whether this made it.

    Raises:
        Denied: it is absent, and the user may not make it.
        Unavailable: the server cannot be reached or refuses the user.
    """
    url = settings.database_url
    if url is None or url.startswith("sqlite:"):
        return not settings.database_path.exists()
    with _extra("postgres"):
        from mcp_hub.adapters.database.provisioning import provision
    return await provision(url)


def choose_blobs(settings: Settings) -> BlobStore:
    """S3 for an `s3://` URL, GridFS for one of MongoDB, else a folder."""
    url = settings.blobs_url or ""
    if url.startswith("s3://"):
        with _extra("minio"):
            from mcp_hub.adapters.blobs.s3 import S3BlobStore
        return S3BlobStore(url)
    if url.startswith(("mongodb://", "mongodb+srv://")):
        with _extra("mongodb"):
            from mcp_hub.adapters.blobs.gridfs import GridFSBlobStore
        return GridFSBlobStore(url)
    return FileBlobStore(settings.blobs_dir)


def choose_records(database: Database) -> RecordStore:
    """What keeps telemetry records in `database`."""
    if database.dialect == "sqlite":
        return SqliteRecordStore()
    with _extra("postgres"):
        from mcp_hub.adapters.records.postgresql import PostgresRecordStore
    return PostgresRecordStore()


def choose_sandbox(settings: Settings, database: Database) -> Sandbox:
    """What runs a SELECT of a caller's own on `database`."""
    if database.dialect == "sqlite":
        return SqliteSandbox(settings.database_path)
    with _extra("postgres"):
        from mcp_hub.adapters.records.postgresql_sandbox import PostgresSandbox
    return PostgresSandbox(database)


def choose_stream(settings: Settings, database: Database, name: str) -> Stream:
    """Redis for a `redis_url`, else the database."""
    if settings.redis_url is None:
        return DatabaseStream(database, name)
    with _extra("redis"):
        from mcp_hub.adapters.stream.redis import RedisStream
    return RedisStream(settings.redis_url, name)


def choose_embedder(settings: Settings) -> Embedder:
    """wordllama, whose weights are installed with it, or the model that the settings name."""
    kind, _, model = settings.embedder.partition(":")
    if kind == "onnx":
        from mcp_hub.adapters.embedder.onnx import OnnxEmbedder

        return OnnxEmbedder(Path(model).expanduser(), threads=settings.inference.threads)
    if kind == "sentence-transformers":
        from mcp_hub.adapters.embedder.sentence_transformer import SentenceTransformerEmbedder

        folder = Path(model).expanduser()
        return SentenceTransformerEmbedder(folder if folder.is_dir() else model)
    from mcp_hub.adapters.embedder.wordllama import WordllamaEmbedder

    return WordllamaEmbedder()


def choose_vectors(settings: Settings, database: Database, collection: str) -> Vectors:
    """The collection in Qdrant for a `vectors_url`, else in the database."""
    if settings.vectors_url is None:
        from mcp_hub.adapters.vectors.database import DatabaseVectors

        return DatabaseVectors(database, collection)
    with _extra("qdrant"):
        from mcp_hub.adapters.vectors.qdrant import QdrantVectors
    return QdrantVectors(settings.vectors_url, collection)


def choose_engine(url: str | None) -> ContainerEngine:
    """The Docker engine at `url`, else the one that Docker's own command would use."""
    with _extra("docker"):
        from mcp_hub.adapters.containers.docker import DockerEngine
    return DockerEngine(url)


def choose_sources(settings: Settings) -> Sources:
    """How to open each source. Opening raises Denied where its kind is switched off."""
    openers, urls = {}, {}
    for name, source in settings.data.sources.items():
        openers[name] = partial(_open_source, settings, name, source.url)
        if source.url.startswith(S3):
            urls[_beginning_of(source.url)] = name
    return Sources(openers, urls=urls, open_sqlite=partial(_open_sqlite, settings))


def _open_sqlite(settings: Settings, path: Path) -> DataSource:
    return SqliteSource(path, timeout_s=settings.data.query_timeout_s)


def _open_source(settings: Settings, name: str, url: str) -> Source:
    setting = f"data.sources.{name}.url"
    timeout_s = settings.data.query_timeout_s
    connectors = settings.data.connectors
    if url.startswith(MONGODB):
        _check_on(connectors.mongodb, name, "MongoDB", "mongodb")
        with _extra("mongodb"):
            from mcp_hub.adapters.sources.mongodb import MongoDBSource
        return MongoDBSource(url, setting, timeout_s=timeout_s)
    if url.startswith(POSTGRESQL):
        _check_on(connectors.postgres, name, "PostgreSQL", "postgres")
        with _extra("postgres"):
            from mcp_hub.adapters.sources.postgresql import PostgresSource
        return PostgresSource(url, setting, timeout_s=timeout_s)
    if url.startswith(REDIS):
        _check_on(connectors.redis, name, "Redis", "redis")
        with _extra("redis"):
            from mcp_hub.adapters.sources.redis_stream import RedisStreamSource
        return RedisStreamSource(url, setting)
    with _extra("minio"):
        from mcp_hub.adapters.sources.s3 import S3Source
    return S3Source(url, setting)


def _check_on(connector: ConnectorSettings, name: str, kind: str, key: str) -> None:
    if connector.enabled is False:
        raise Denied(
            f"The source {name} is of {kind}, which the configuration switches off.",
            f"Whoever runs the hub can set data.connectors.{key}.enabled to true.",
        )


def _beginning_of(url: str) -> str:
    """What the URL of an object begins with in the bucket that `url` names: `s3://bucket/`."""
    parts = urlsplit(url)
    prefix = dict(parse_qsl(parts.query)).get("prefix", "").strip("/")
    return f"s3://{parts.path.strip('/')}/" + (f"{prefix}/" if prefix else "")


def _choose_queue(settings: Settings, database: Database) -> Queue:
    ageing_s = settings.training.priority_ageing_s
    if settings.redis_url is None:
        return DatabaseQueue(database, JOBS_QUEUE, ageing_s=ageing_s)
    with _extra("redis"):
        from mcp_hub.adapters.queue.bullmq import BullQueue
    shared, own = (
        BullQueue(settings.redis_url, name, ageing_s=ageing_s) for name in (JOBS_QUEUE, OWN_QUEUE)
    )
    return DividedQueue(shared, own, OWN_WORK)


def _choose_bus(settings: Settings, database: Database) -> Bus:
    if settings.redis_url is None:
        return DatabaseBus(database)
    with _extra("redis"):
        from mcp_hub.adapters.bus.redis import RedisBus
    return RedisBus(settings.redis_url)


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """Say which installation brings a package that the settings ask for and that is missing."""
    try:
        yield
    except ImportError as error:
        raise Unavailable(
            f"The settings need the package {error.name}, which is not installed.",
            f'Install it: pip install "mcp-hub[{name}]".',
        ) from error
