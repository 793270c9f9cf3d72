"""A real Docker engine for the tests: `dockerd`, started by hand, that all of a run share."""

import fcntl
import http.client
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode

import pytest

from mcp_hub.server.settings import Settings
from mcp_hub.services.containers.labels import HUB
from tests.containers import images
from tests.servers import Server, need

_REQUEST_S = 120.0
_STOP_S = 15.0
_started: list[Server] = []
"""Kept for as long as this process lives: another worker may be the last to use what it started."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("engine", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask_engine(
    url: str,
    method: str,
    path: str,
    body: bytes | IO[bytes] | None = None,
    *,
    timeout_s: float = _REQUEST_S,
    **params: Any,
) -> bytes:
    """A request outside of what is tested; RuntimeError for an answer that tells of an error."""
    connection = _UnixConnection(url.removeprefix("unix://"), timeout_s)
    try:
        headers = {"Content-Type": "application/x-tar"} if body is not None else {}
        connection.request(method, f"{path}?{urlencode(params)}", body, headers)
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status >= 400 or b'"errorDetail"' in text:
        raise RuntimeError(f"{method} {path}: {answer.status} {text.decode()[-500:]}")
    return text


def start_engine(folder: Path, *options: str) -> Server:
    """An engine with nothing in it, with a bridge and addresses of its own."""
    command = "apt-get install docker.io iptables busybox-static"
    program = need("dockerd", command)
    need("iptables", command)
    busybox = need("busybox", command)
    if os.getuid() != 0:
        message = "an engine can only be started by root; sudo make test does"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    folder.mkdir(parents=True, exist_ok=True)
    bridge, network = _make_bridge(busybox)
    (folder / "bridge").write_text(f"{bridge} {network}")
    _change_rule("-I", network)
    server = Server(
        "Docker's engine",
        f"unix://{folder / 'docker.sock'}",
        0,
        [program, "--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"),
         "--pidfile", str(folder / "pid"), "--host", f"unix://{folder / 'docker.sock'}",
         "--group", "root", "--bridge", bridge, "--userland-proxy=false",
         # All engines of a machine share the rules, and each makes them anew when it starts.
         "--iptables=false",
         "--default-address-pool", f"base={network}.64.0/18,size=26", *options],
        folder / "dockerd.log",
        is_ready=lambda server: _answers(server.url),
    )  # fmt: skip
    try:
        server.start()
    except BaseException:
        end_engine(folder)
        raise
    return server


def crash_engine(server: Server) -> None:
    """End an engine as a crash does; its containers go on, and it finds them when it starts."""
    server.stop(signal.SIGKILL)
    # Else the next takes containerd for running, where nobody has reaped it yet.
    folder = Path(server.url.removeprefix("unix://")).parent
    (folder / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)


def end_engine(folder: Path) -> None:
    """End the engine of `folder`, whichever process started it, and remove all that it made."""
    url = f"unix://{folder / 'docker.sock'}"
    with suppress(OSError, RuntimeError):
        for container in json.loads(ask_engine(url, "GET", "/containers/json", all="true")):
            ask_engine(url, "DELETE", f"/containers/{container['Id']}", force="true", v="true")
        ask_engine(url, "POST", "/networks/prune")
    with suppress(OSError, ValueError):
        _end(int((folder / "pid").read_text()))
    _end_containers(folder)
    bridge, network = (folder / "bridge").read_text().split()
    _change_rule("-D", network)
    _busybox("ip", "link", "delete", bridge)
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        if line.split()[1].startswith(f"{folder}/"):
            _busybox("umount", "-l", line.split()[1])
    shutil.rmtree(folder)


@contextmanager
def shared_engine(folder: Path) -> Iterator[str]:
    """The URL of the engine, with the image TINY, that all workers of a run share in `folder`; the
    last to leave ends it."""
    folder.mkdir(parents=True, exist_ok=True)
    _end_abandoned(folder)
    url = f"unix://{folder / 'engine' / 'docker.sock'}"
    with (folder / "users").open("w") as users:
        with locked(folder):
            fcntl.flock(users, fcntl.LOCK_SH)
            if not _answers(url):
                _started.append(start_engine(folder / "engine"))
                add_tiny(url)
        try:
            yield url
        finally:
            with locked(folder), suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                end_engine(folder / "engine")
                for server in _started:
                    server.stop()


def _end_abandoned(folder: Path) -> None:
    """End the engines of earlier runs that were killed: nobody holds their locks."""
    for other in folder.parent.parent.glob(f"*/{folder.name}/engine"):
        # One of the folders is a link to the last.
        if other.resolve() == other and other.parent != folder:
            with (other.parent / "users").open("w") as users, suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                end_engine(other)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep the other workers of a run from doing the same."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def add_tiny(url: str) -> None:
    """Have the engine keep the image TINY."""
    repository, tag = images.TINY.split(":")
    ask_engine(
        url, "POST", "/images/create", images.tiny_image(), fromSrc="-", repo=repository, tag=tag
    )


def add_foreign(url: str) -> None:
    """Have the engine keep the image FOREIGN."""
    ask_engine(url, "POST", "/images/load", images.foreign_image())


def add_python(url: str) -> None:
    """Have the engine keep the images PYTHON and BASE, if it does not."""
    with suppress(RuntimeError):
        ask_engine(url, "GET", f"/images/{images.PYTHON}/json")
        return
    repository, tag = images.BASE.split(":")
    with images.python_image().open("rb") as archive:
        ask_engine(
            url, "POST", "/images/create", archive, fromSrc="-", repo=repository, tag=tag,
            changes=f"ENV PATH={images.PATH}",
        )  # fmt: skip
    ask_engine(url, "POST", "/build", images.servers_layer(), t=images.PYTHON, networkmode="none")


def _answers(url: str) -> bool:
    with suppress(OSError, RuntimeError):
        return ask_engine(url, "GET", "/_ping", timeout_s=5) == b"OK"
    return False


def _make_bridge(busybox: str) -> tuple[str, str]:
    """A new bridge, and the first half of its addresses: engines cannot share either."""
    taken = subprocess.run([busybox, "ip", "addr"], capture_output=True, text=True, check=True)
    free = [f"10.{n}" for n in range(128, 250) if f" 10.{n}." not in taken.stdout]
    network, bridge = random.choice(free), f"hubt{random.randrange(16**6):06x}"
    for arguments in (
        ("brctl", "addbr", bridge),
        ("ip", "addr", "add", f"{network}.0.1/24", "dev", bridge),
        ("ip", "link", "set", bridge, "up"),
    ):
        subprocess.run([busybox, *arguments], check=True)
    return bridge, network


def _change_rule(change: str, network: str) -> None:
    """Let containers on one bridge talk also where another engine has closed the machine to what
    it does not know."""
    rule = ["FORWARD", "-s", f"{network}.0.0/16", "-m", "physdev", "--physdev-is-bridged"]
    command = ["iptables", "--wait", change, *rule, "-j", "ACCEPT"]
    subprocess.run(command, check=False, stderr=subprocess.DEVNULL)


def _busybox(*arguments: str) -> None:
    subprocess.run([need("busybox", "apt-get install busybox-static"), *arguments], check=False)


def _end_containers(folder: Path) -> None:
    """Kill what an engine that crashed has left: the containers, and what watches them."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes().split(b"\0")
            if b"shim" in command[0] and f"{folder}/exec".encode() in b" ".join(command):
                pid = int(process.name)
                children = (process / "task" / process.name / "children").read_text().split()
                for child in (*map(int, children), pid):
                    os.kill(child, signal.SIGKILL)


def _end(pid: int) -> None:
    """SIGTERM, then SIGKILL; returns when it has ended, also as another's child."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        os.kill(pid, number)
        deadline = time.monotonic() + _STOP_S
        while time.monotonic() < deadline:
            state = Path(f"/proc/{pid}/stat")
            if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
                return
            time.sleep(0.02)


def hub_containers(settings: Settings, *, ended: bool = True) -> list[dict[str, Any]]:
    """A hub's containers as the engine lists them: other tests have some on it too."""
    with closing(sqlite3.connect(settings.database_path)) as database:
        hub = database.execute("SELECT id FROM hub_identity").fetchone()
    if hub is None:
        return []
    labels = json.dumps({"label": [f"{HUB}={hub[0]}"]})
    url = settings.containers.engine
    found: list[dict[str, Any]] = json.loads(
        ask_engine(url, "GET", "/containers/json", all="true" if ended else "false", filters=labels)
    )
    return found
