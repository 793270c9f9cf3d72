"""What the engine tells of images, containers and their use, in the port's terms."""

from collections.abc import Mapping
from typing import Any

from aiodocker.containers import DockerContainer

from mcp_hub.adapters.containers.docker_streams import milliseconds
from mcp_hub.adapters.containers.port import Container, EngineEvent, Image, Stats, Status

_ENDED = ("exited", "dead")


def image(told: Mapping[str, Any]) -> Image:
    """Of `images/{name}/json`."""
    config = told.get("Config") or {}
    return Image(
        id=told["Id"],
        tags=tuple(told.get("RepoTags") or ()),
        digests=tuple(told.get("RepoDigests") or ()),
        architecture=told.get("Architecture") or "",
        user=config.get("User") or "",
        entrypoint=tuple(config.get("Entrypoint") or ()),
        command=tuple(config.get("Cmd") or ()),
        size=told.get("Size") or 0,
        labels=config.get("Labels") or {},
    )


def container(told: Mapping[str, Any]) -> Container:
    """Of `containers/{name}/json`."""
    state: Mapping[str, Any] = told["State"]
    status: Status = state["Status"]
    networks: Mapping[str, Any] = told["NetworkSettings"].get("Networks") or {}
    return Container(
        id=told["Id"],
        name=told["Name"].removeprefix("/"),
        image=told["Image"],
        labels=told["Config"].get("Labels") or {},
        status=status,
        exit_code=state["ExitCode"] if status in _ENDED else None,
        out_of_memory=state["OOMKilled"],
        error=state["Error"],
        started_at=milliseconds(state["StartedAt"]),
        finished_at=milliseconds(state["FinishedAt"]),
        addresses={
            name: network["IPAddress"] for name, network in networks.items() if network["IPAddress"]
        },
    )


def listed(told: DockerContainer) -> Container:
    """Of one in `containers/json`, which says less."""
    return Container(
        id=told["Id"],
        name=told["Names"][0].removeprefix("/") if told["Names"] else "",
        image=told["ImageID"],
        labels=told["Labels"] or {},
        status=told["State"],
    )


def event(told: Mapping[str, Any]) -> EngineEvent:
    """Of a line of `events`, whose attributes are the labels and some of the engine's own."""
    return EngineEvent(
        action=told["Action"],
        container_id=told["Actor"]["ID"],
        labels=told["Actor"].get("Attributes") or {},
        time_ns=told["timeNano"],
    )


def stats(told: Mapping[str, Any]) -> Stats:
    """Of `containers/{name}/stats`, of either version of control groups."""
    memory: Mapping[str, Any] = told.get("memory_stats") or {}
    detail: Mapping[str, int] = memory.get("stats") or {}
    # What the kernel can drop at once, as Docker's own command counts it.
    cache = detail.get("total_inactive_file", detail.get("inactive_file", 0))
    networks: list[Mapping[str, int]] = list((told.get("networks") or {}).values())
    return Stats(
        memory=max(0, memory.get("usage", 0) - cache),
        memory_limit=memory.get("limit", 0),
        pids=told["pids_stats"].get("current", 0),
        cpu_s=told["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9,
        received=sum(network["rx_bytes"] for network in networks),
        sent=sum(network["tx_bytes"] for network in networks),
        read=_block_io(told, "read"),
        written=_block_io(told, "write"),
    )


def _block_io(told: Mapping[str, Any], operation: str) -> int:
    entries = (told.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ()
    return sum(entry["value"] for entry in entries if entry["op"].lower() == operation)
