"""The containers port on a Docker engine, through its HTTP API."""

import asyncio
import json
import math
import os
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiodocker.containers import DockerContainer

from mcp_hub.adapters.containers import docker_views as views
from mcp_hub.adapters.containers.docker_attachment import DockerAttachment
from mcp_hub.adapters.containers.docker_client import (
    DockerClient,
    error_of,
    find_engine,
    is_full,
    pull_error,
)
from mcp_hub.adapters.containers.docker_config import (
    api_config,
    archive_of,
    files_folder,
    network_body,
)
from mcp_hub.adapters.containers.docker_streams import json_lines, log_lines
from mcp_hub.adapters.containers.port import (
    Attachment,
    Container,
    ContainerConfig,
    EngineEvent,
    Image,
    LogLine,
    Stats,
)
from mcp_hub.adapters.errors import (
    Conflict,
    HubError,
    InvalidArgument,
    NotFound,
    Unavailable,
    names_hint,
)

_STOP_S = 30.0
"""How long the engine may take to kill a container, beyond the grace that it gives."""
_LOOK_S = 0.05
_REFUSED_S = 1.0
"""How long the kernel may take to refuse a program."""
_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
_IMAGE = re.compile(
    r"[A-Za-z0-9][\w.-]*(:\d+)?(/[A-Za-z0-9][\w.-]*)*(:[\w.-]+)?(@[\w+.-]+:[0-9a-f]+)?"
)
_REFERENCE = "Write NAME:TAG, REGISTRY/NAME:TAG, or NAME@sha256:…"
_PULLED = ("id", "status", "progress")
_OUTPUT_SHOWN = 20


class DockerEngine:
    """The engine at `url`, else the one that DOCKER_HOST names, else this machine's.

    Raises:
        InvalidArgument: the URL is none of an engine.
    """

    def __init__(self, url: str | None = None, environment: Mapping[str, str] = os.environ) -> None:
        self._client = DockerClient(find_engine(url, environment))
        self._native: dict[str, bool] = {}

    async def check(self) -> str:
        async with self._client.talking() as docker:
            version = await docker.version()
        name = (version.get("Platform") or {}).get("Name") or "Docker"
        return f"{name} {version['Version']}, {version['Arch']}, {self._client.address.shown}"

    async def close(self) -> None:
        await self._client.close()

    async def image(self, reference: str) -> Image:
        return views.image(await self._image(reference))

    async def _image(self, reference: str) -> dict[str, Any]:
        if _IMAGE.fullmatch(reference):
            with suppress(NotFound):
                async with self._client.talking() as docker:
                    return await docker.images.inspect(reference)
        async with self._client.talking() as docker:
            there = await docker.images.list()
        tags = [tag for image in there for tag in image["RepoTags"] or () if tag != "<none>:<none>"]
        raise NotFound(
            f"The engine has no image {reference!r}.", names_hint(reference, tags, "images")
        )

    async def pull(self, reference: str) -> AsyncIterator[str]:
        if not _IMAGE.fullmatch(reference):
            raise NotFound(f"{reference!r} cannot be the name of an image.", _REFERENCE)
        name = reference.rpartition("/")[2]
        whole = reference if "@" in name or ":" in name else f"{reference}:latest"
        params = {"fromImage": whole}
        try:
            async with self._client.streaming("POST", "images/create", params) as response:
                async for told in json_lines(response):
                    if reason := _failure(told):
                        raise pull_error(reference, reason)
                    yield " ".join(str(told[key]) for key in _PULLED if told.get(key))
        except (NotFound, Unavailable) as error:
            raise pull_error(reference, error.message) from error

    async def build(
        self, context: bytes, tag: str, labels: Mapping[str, str]
    ) -> AsyncIterator[str]:
        params = {
            "t": tag, "labels": json.dumps(dict(labels)), "networkmode": "none", "rm": "true",
            "forcerm": "true",
        }  # fmt: skip
        last: deque[str] = deque(maxlen=_OUTPUT_SHOWN)
        async with self._client.streaming("POST", "build", params, context) as response:
            async for told in json_lines(response):
                if reason := _failure(told):
                    if is_full(reason):
                        raise error_of(500, reason)
                    said = "\n".join((*last, reason))
                    raise InvalidArgument(f"The image {tag} cannot be built:\n{said}")
                for line in str(told.get("stream") or "").splitlines():
                    if line.strip():
                        last.append(line)
                        yield line

    async def remove_image(self, reference: str) -> bool:
        if not _IMAGE.fullmatch(reference):
            return False
        try:
            async with self._client.talking() as docker:
                await docker.images.delete(reference)
        except NotFound:
            return False
        return True

    async def create(self, config: ContainerConfig) -> str:
        image = await self._image(config.image)
        body = api_config(config, (image["Config"] or {}).get("Volumes") or ())
        if config.network is not None:
            await self._network(config.network)
        async with self._client.talking() as docker:
            container = await docker.containers.create(body, name=config.name)
        folder = files_folder(config.files)
        if folder is not None:
            try:
                async with self._client.talking():
                    await container.put_archive(  # type: ignore[no-untyped-call]
                        folder, archive_of(config.files)
                    )
            except BaseException:
                with suppress(HubError):
                    await asyncio.shield(self.remove(container.id))
                raise
        return container.id

    async def start(self, container: str) -> None:
        async with self._container(container) as it:
            await it.start()
        await self._see_it_can_run(container)

    async def _see_it_can_run(self, container: str) -> None:
        """Raises InvalidArgument where the kernel refused a program of another architecture. The
        engine has called it started by then, and some machines do run such programs."""
        image = (await self.inspect(container)).image
        if image not in self._native:
            async with self._client.talking() as docker:
                engine = (await docker.version())["Arch"]
            self._native[image] = (await self.image(image)).architecture in (engine, "")
        if self._native[image]:
            return
        deadline = time.monotonic() + _REFUSED_S
        while time.monotonic() < deadline:
            if (await self.inspect(container)).status == "exited":
                async for line in self.logs(container, tail=1):
                    if "exec format error" in line.text:
                        raise error_of(400, line.text)
                return
            await asyncio.sleep(_LOOK_S)

    async def stop(self, container: str, *, grace_s: float) -> None:
        # The engine counts whole seconds.
        grace = math.ceil(grace_s)
        async with self._container(container, grace + _STOP_S) as it:
            await it.stop(t=grace)

    async def remove(self, container: str) -> bool:
        try:
            async with self._container(container) as it:
                await it.delete(force=True, v=True)
        except NotFound:
            return False
        except Conflict:
            await self._see_it_removed(container)
        return True

    async def _see_it_removed(self, container: str) -> None:
        """Return once a container is gone that another is removing."""
        try:
            async with asyncio.timeout(_STOP_S):
                while True:
                    await self.inspect(container)
                    await asyncio.sleep(_LOOK_S)
        except NotFound:
            return
        except TimeoutError:
            raise Unavailable(
                f"The engine has been removing the container {container} for {_STOP_S:g} s.",
                "See its log; it removes what is left when it is started anew.",
            ) from None

    async def inspect(self, container: str) -> Container:
        async with self._container(container) as it:
            return views.container(await it.show())

    async def containers(self, labels: Mapping[str, str]) -> list[Container]:
        async with self._client.talking() as docker:
            listed = await docker.containers.list(all=True, filters=_filters(labels))
        return [views.listed(one) for one in listed]

    @asynccontextmanager
    async def attach(self, container: str) -> AsyncIterator[Attachment]:
        _check_container(container)
        streams = dict.fromkeys(("stream", "stdin", "stdout", "stderr"), "true")
        reader, writer = await self._client.hijack(f"containers/{container}/attach", streams)
        attachment = DockerAttachment(reader, writer, lambda: self.inspect(container))
        try:
            await attachment.prepare()
            yield attachment
        finally:
            await attachment.close()

    async def logs(
        self, container: str, *, tail: int | None = None, since_ns: int = 0, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        params = {
            "stdout": "true", "stderr": "true", "timestamps": "true",
            "follow": "true" if follow else "false",
            "tail": "all" if tail is None else str(tail),
            "since": f"{since_ns // 10**9}.{since_ns % 10**9:09d}",
        }  # fmt: skip
        _check_container(container)
        path = f"containers/{container}/logs"
        async with self._client.streaming("GET", path, params) as response:
            async for line in log_lines(response):
                if line.time_ns > since_ns:
                    yield line

    async def stats(self, container: str) -> Stats:
        _check_container(container)
        path = f"containers/{container}/stats"
        # With one-shot, it does not wait a second to see a difference.
        params = {"stream": "false", "one-shot": "true"}
        async with self._client.streaming("GET", path, params) as response:
            stats = await response.json()
        if not stats.get("pids_stats"):
            raise Conflict(f"The container {container} does not run.", "Start it.")
        return views.stats(stats)

    def events(self, labels: Mapping[str, str]) -> AsyncIterator[EngineEvent]:
        # The engine repeats what happens between this call and the first wait.
        return self._events(labels, time.time())

    async def _events(self, labels: Mapping[str, str], since: float) -> AsyncIterator[EngineEvent]:
        filters = {"type": ["container"]} | json.loads(_filters(labels))
        params = {"filters": json.dumps(filters), "since": f"{since:.9f}"}
        async with self._client.streaming("GET", "events", params) as response:
            async for event in json_lines(response):
                yield views.event(event)
        raise Unavailable("The engine ended its events.", "Listen again once it is back.")

    async def create_network(
        self,
        name: str,
        labels: Mapping[str, str],
        *,
        internal: bool,
        machine: bool = True,
        peers: bool = True,
    ) -> bool:
        body = network_body(name, labels, internal=internal, machine=machine, peers=peers)
        try:
            async with self._client.talking() as docker:
                await docker.networks.create(body)
        except Conflict:
            return False
        return True

    async def connect(self, network: str, container: str, *, aliases: Sequence[str] = ()) -> None:
        _check_container(container)
        id_ = await self._network(network)
        body = {"Container": container, "EndpointConfig": {"Aliases": list(aliases)}}
        # On it already, perhaps since another process was quicker.
        with suppress(Conflict):
            async with self._client.talking() as docker:
                await (await docker.networks.get(id_)).connect(body)

    async def remove_network(self, name: str) -> bool:
        found = await self._networks_called(name)
        for id_ in found:
            with suppress(NotFound):
                async with self._client.talking() as docker:
                    await (await docker.networks.get(id_)).delete()
        return bool(found)

    async def networks(self, labels: Mapping[str, str]) -> list[str]:
        async with self._client.talking() as docker:
            listed = await docker.networks.list(filters=json.loads(_filters(labels)))
        return [network["Name"] for network in listed]

    async def _network(self, name: str) -> str:
        """The id of a network. Raises NotFound, with the names that there are."""
        if found := await self._networks_called(name):
            return found[0]
        async with self._client.talking() as docker:
            names = [network["Name"] for network in await docker.networks.list()]
        hint = names_hint(name, names, "networks")
        raise NotFound(f"The engine has no network {name!r}.", hint)

    async def _networks_called(self, name: str) -> list[str]:
        """The ids of the networks of a name, the oldest first; it should be one."""
        async with self._client.talking() as docker:
            # The engine's filter takes parts of names.
            listed = await docker.networks.list(filters={"name": [name]})
        called = [network for network in listed if network["Name"] == name]
        called.sort(key=lambda network: (network["Created"], network["Id"]))
        return [network["Id"] for network in called]

    @asynccontextmanager
    async def _container(
        self, name: str, timeout_s: float = 60.0
    ) -> AsyncIterator[DockerContainer]:
        _check_container(name)
        async with self._client.talking(timeout_s) as docker:
            yield docker.containers.container(name)


def _check_container(name: str) -> None:
    """Raises NotFound for what cannot be the name or id of a container, nor stand in a path."""
    if not _CONTAINER.fullmatch(name):
        raise NotFound(f"There is no container {name!r}.")


def _failure(told: Mapping[str, Any]) -> str:
    """What a line says went wrong after the engine had begun to answer, if anything."""
    return str((told.get("errorDetail") or {}).get("message") or told.get("error") or "")


def _filters(labels: Mapping[str, str]) -> str:
    return json.dumps({"label": [f"{name}={value}" for name, value in labels.items()]})
