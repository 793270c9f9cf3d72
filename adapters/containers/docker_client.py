"""Docker engines: where one is, a client with deadlines, and what its errors mean."""

import asyncio
import io
import json
import re
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import aiohttp
from aiodocker import Docker, DockerError

from mcp_hub.adapters.errors import (
    Conflict,
    HubError,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    Unavailable,
)

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 60.0
DEFAULT_URL = "unix:///var/run/docker.sock"
_FORM = "Write unix:///var/run/docker.sock or tcp://HOST:2376."
_UNREACHED = 900
"""The status that aiodocker gives to what never reached the engine."""

_FULL = "Free some space on the engine's disk; docker system df shows what takes it."
_NO_ENGINE = (
    "Start it (systemctl start docker), or name another in DOCKER_HOST or containers.engine_url."
)
_RIGHTS = "Let the hub's user use it, for example: sudo usermod -aG docker USER; then log in anew."
_TLS = (
    "Set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to a folder with the ca.pem, cert.pem and "
    "key.pem that the engine accepts."
)
_POOLS = (
    "Remove what docker network ls shows and nobody needs, or give the engine more ranges: "
    "default-address-pools in its daemon.json."
)
_TAKEN = ("already exists in network", "networks have same bridge name", "has active endpoints")
_UNRUNNABLE = (
    "executable file not found", "no such file or directory", "permission denied", "exec format",
    "unable to find user", "no matching entries in", "is a directory", "not a directory",
)  # fmt: skip
_NOT_GIVEN = (
    "not found", "manifest unknown", "does not exist", "access denied", "denied:", "unauthorized",
    "no matching manifest",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Address:
    """Where an engine listens; `tls` is the folder of the client's certificate."""

    shown: str
    socket: str | None = None
    base: str = "http://docker"
    tls: Path | None = field(default=None, repr=False)
    verify: bool = True


def find_engine(url: str | None, environment: Mapping[str, str]) -> Address:
    """The engine at `url`, or else where Docker's own command would look for it.

    Raises:
        InvalidArgument: the URL is none of an engine.
    """
    url = url or environment.get("DOCKER_HOST") or DEFAULT_URL
    parts = urlsplit(url)
    if parts.scheme == "unix" and parts.path and not parts.netloc:
        return Address(url, socket=parts.path)
    if parts.scheme not in ("tcp", "http", "https") or not parts.hostname:
        raise InvalidArgument(f"{url} is no URL of a Docker engine.", _FORM)
    verify = bool(environment.get("DOCKER_TLS_VERIFY"))
    if parts.scheme == "https" or verify or environment.get("DOCKER_TLS"):
        folder = environment.get("DOCKER_CERT_PATH") or str(Path.home() / ".docker")
        shown = parts._replace(scheme="tcp").geturl()
        base = f"https://{parts.netloc}{'' if parts.port else ':2376'}"
        return Address(shown, base=base, tls=Path(folder), verify=verify or "https" in url)
    return Address(url, base=f"http://{parts.netloc}{'' if parts.port else ':2375'}")


class DockerClient:
    """One process's connections to an engine, made when they are first needed."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._docker: Docker | None = None
        self._connector: aiohttp.BaseConnector | None = None
        self._secure: ssl.SSLContext | None = None

    @asynccontextmanager
    async def talking(self, timeout_s: float | None = ANSWER_TIMEOUT_S) -> AsyncIterator[Docker]:
        """The library's client; what goes wrong meanwhile is raised as the hub's errors."""
        with self._translated(timeout_s):
            async with asyncio.timeout(timeout_s):
                yield await self._open()

    @asynccontextmanager
    async def streaming(
        self, method: str, path: str, params: Mapping[str, str], data: bytes | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer that comes as long as it is read, which the library would collect or mix."""
        with self._translated(None):
            async with asyncio.timeout(ANSWER_TIMEOUT_S) as deadline:
                docker = await self._open()
                url = f"{docker.docker_host}/{docker.api_version}/{path}"
                content = {"Content-Type": "application/x-tar"} if data is not None else {}
                # Bytes themselves would be sent in one piece, while nothing else runs.
                body = io.BytesIO(data) if data is not None else None
                async with docker.session.request(
                    method, url, params=params, data=body, headers=content
                ) as response:
                    if response.status >= 400:
                        raise DockerError(response.status, _message(await response.text()))
                    deadline.reschedule(None)
                    yield response

    async def hijack(
        self, path: str, params: Mapping[str, str]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection that the engine gives up, for both to write what they like to.

        The library has this as well, but by the insides of aiohttp: there is no way to leave one
        while something is unsent, or to be told that it was lost.
        """
        with self._translated(ANSWER_TIMEOUT_S):
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                docker = await self._open()
                reader, writer = await self._connect_bare()
                try:
                    writer.write(
                        f"POST /{docker.api_version}/{path}?{urlencode(params)} HTTP/1.1\r\n"
                        "Host: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
                        "Content-Length: 0\r\n\r\n".encode()
                    )
                    head = await reader.readuntil(b"\r\n\r\n")
                    status = int(head.split(maxsplit=2)[1])
                    if status >= 400:
                        answer = await reader.readexactly(_content_length(head))
                        raise DockerError(status, _message(answer.decode()))
                except BaseException:
                    writer.transport.abort()
                    raise
                return reader, writer

    async def close(self) -> None:
        if self._docker is not None:
            await self._docker.close()
            self._docker = None
        if self._connector is not None:
            await self._connector.close()
            self._connector = None

    async def _open(self) -> Docker:
        """The client, which has agreed with the engine on a version of the API."""
        if self._docker is None:
            self._connector = await self._connect()
            self._docker = Docker(
                self.address.base,
                connector=self._connector,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            )
        if self._docker.api_version == "auto":
            await self._docker.version()
        return self._docker

    async def _connect(self) -> aiohttp.BaseConnector:
        # No limit to connections: some are for as long as a container runs.
        if self.address.socket is not None:
            return aiohttp.UnixConnector(self.address.socket, limit=0)
        if self.address.tls is None:
            return aiohttp.TCPConnector(limit=0)
        self._secure = await asyncio.to_thread(_secure, self.address)
        return aiohttp.TCPConnector(limit=0, ssl=self._secure)

    async def _connect_bare(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.address.socket is not None:
            return await asyncio.open_unix_connection(self.address.socket)
        parts = urlsplit(self.address.base)
        return await asyncio.open_connection(parts.hostname, parts.port, ssl=self._secure)

    @contextmanager
    def _translated(self, timeout_s: float | None) -> Iterator[None]:
        try:
            yield
        except DockerError as error:
            if error.status == _UNREACHED:
                raise self._unreached(error.__context__ or error) from error
            raise error_of(error.status, error.message) from error
        except TimeoutError as error:
            raise Unavailable(
                f"The Docker engine at {self.address.shown} did not answer"
                f"{f' within {timeout_s:g} s' if timeout_s else ' in time'}.",
                "See what keeps it busy; then try again.",
            ) from error
        except (aiohttp.ClientError, OSError, EOFError) as error:
            raise self._unreached(error) from error

    def _unreached(self, error: BaseException) -> Unavailable:
        reason = getattr(error, "os_error", error)
        shown = self.address.shown
        if isinstance(reason, PermissionError):
            return Unavailable(f"The hub may not use the Docker engine at {shown}.", _RIGHTS)
        if isinstance(reason, ssl.SSLError) or "certificate" in str(error).lower():
            return Unavailable(f"No secure connection to {shown} can be made: {reason}.", _TLS)
        if isinstance(error, aiohttp.ClientConnectorError):
            told = getattr(reason, "strerror", None) or reason
            return Unavailable(f"No Docker engine answers at {shown}: {told}.", _NO_ENGINE)
        return Unavailable(
            f"The Docker engine at {shown} broke off: {str(error) or type(error).__name__}.",
            "Try again once it is back; its log says why it stopped.",
        )


def error_of(status: int, message: str) -> HubError:
    """What the engine's answer means to a caller."""
    reason = message.strip().rstrip(".")
    told = f"{reason[:1].upper()}{reason[1:]}."
    if "HTTP request to an HTTPS server" in reason:
        return Unavailable("The Docker engine speaks TLS, and the hub did not.", _TLS)
    if is_full(reason):
        return Unavailable(f"The engine's disk is full: {reason}.", _FULL)
    if "bind source path does not exist" in reason:
        path = reason.rpartition(": ")[2]
        return NotFound(f"There is no {path} to mount.", "Paths are those of the engine's machine.")
    if any(sign in reason for sign in _UNRUNNABLE):
        return InvalidArgument(f"It cannot be run: {_runtime_reason(reason)}.", _hint_of(reason))
    if status == 404:
        return NotFound(told)
    if status == 409 or any(sign in reason for sign in _TAKEN):
        return Conflict(told)
    if "non-overlapping IPv4 address pool" in reason or "all predefined address pools" in reason:
        return LimitExceeded("The engine has no range of addresses left for a network.", _POOLS)
    if status == 400:
        return InvalidArgument(told)
    return Unavailable(f"The Docker engine answers: {reason}.", "Its log says more.")


def is_full(reason: str) -> bool:
    """Whether the engine's disk is the cause."""
    return "no space left on device" in reason


def pull_error(reference: str, reason: str) -> HubError:
    """Why a registry did not give an image."""
    reason = reason.strip().rstrip(".")
    if any(sign in reason.lower() for sign in _NOT_GIVEN):
        return NotFound(
            f"The registry gives no image {reference!r}: {reason}.",
            "Check its name; for a private one, log in on the hub's machine: docker login.",
        )
    return Unavailable(
        f"The image {reference!r} cannot be pulled: {reason}.",
        "Check that the engine reaches the registry; or docker load the image.",
    )


def _runtime_reason(reason: str) -> str:
    """What the runtime found, less the names of the layers that passed it on."""
    if found := re.search(r'exec: "(.+?)": (.+?)(: unknown)?$', reason):
        return f"{found[1]}: {found[2]}"
    reason = reason.removesuffix(": unknown")
    return (
        reason.rpartition("container process: ")[2] if "container process: " in reason else reason
    )


def _hint_of(reason: str) -> str:
    if "user" in reason or "matching entries" in reason:
        return "Name a user that the image has, or one by numbers: 65532:65532."
    if "exec format" in reason:
        return "Take an image of the engine's architecture."
    return "Name a program that the image has, by its full path or one in its PATH."


def _content_length(head: bytes) -> int:
    found = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return int(found[1]) if found else 0


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text


def _secure(address: Address) -> ssl.SSLContext:
    """What Docker's own command makes of the files in DOCKER_CERT_PATH."""
    folder = address.tls
    assert folder is not None
    context = ssl.create_default_context()
    try:
        if address.verify:
            if (folder / "ca.pem").exists():
                context.load_verify_locations(folder / "ca.pem")
        else:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if (folder / "cert.pem").exists():
            context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    except OSError as error:
        raise Unavailable(f"The certificates in {folder} cannot be used: {error}.", _TLS) from error
    return context
