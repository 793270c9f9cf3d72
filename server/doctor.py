"""What `mcp-hub doctor` looks at, and the remedy for what is amiss."""

import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from anyio import to_thread
from pydantic import Field
from sqlalchemy import Connection, func, select

from mcp_hub.adapters.database.schema import workers
from mcp_hub.adapters.errors import HubError
from mcp_hub.server.adapters import open_adapters
from mcp_hub.server.clients import configured_clients
from mcp_hub.server.composition import open_hub
from mcp_hub.server.settings import WITHOUT_EFFECT, Settings
from mcp_hub.services.data.sources import Sources
from mcp_hub.services.disk import room_of
from mcp_hub.services.training.liveness import live_workers
from mcp_hub.services.views import View

_LOW_DISK_BYTES = 1 << 30


class Check(View):
    """One thing that was looked at. `broken` means that the hub cannot do its work."""

    name: str
    status: Literal["ok", "warning", "broken"]
    detail: str
    hint: str | None = None


class Setting(View):
    value: Any
    origin: str = Field(description="A file, a variable, the command line, or default")


class Report(View):
    """The hub's configuration and the state of what it stands on."""

    status: Literal["ok", "broken"]
    version: str
    settings: dict[str, Setting]
    checks: list[Check]


async def examine(settings: Settings) -> Report:
    """Look at everything; what does not work is a finding, never an exception."""
    checks = [
        *_check_python(),
        *_check_settings(settings),
        *await to_thread.run_sync(lambda: list(_check_folders(settings))),
        *await _check_hub(settings),
        *await to_thread.run_sync(lambda: list(_check_clients())),
    ]
    return Report(
        status="broken" if any(check.status == "broken" for check in checks) else "ok",
        version=metadata.version("mcp-hub"),
        settings={
            key: Setting(value=value, origin=settings.origin(key))
            for key, value in settings.shown().items()
        },
        checks=checks,
    )


def _check_python() -> Iterator[Check]:
    yield Check(
        name="python",
        status="ok",
        detail=f"{platform.python_version()} at {sys.executable}, {platform.platform()}",
    )
    missing = [name for name in _requirements() if not _is_installed(name)]
    if missing:
        yield Check(
            name="packages",
            status="broken",
            detail=f"Not installed: {', '.join(missing)}.",
            hint=f"{sys.executable} -m pip install {' '.join(missing)}",
        )
    else:
        yield Check(name="packages", status="ok", detail="All that the hub needs is installed.")


def _requirements() -> list[str]:
    """The distributions that the hub needs in any case, extras left out."""
    lines = [line for line in metadata.requires("mcp-hub") or [] if "extra ==" not in line]
    return [name.group() for line in lines if (name := re.match(r"[A-Za-z0-9._-]+", line))]


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _check_settings(settings: Settings) -> Iterator[Check]:
    idle = [
        key
        for key in settings.shown()
        if key.startswith(WITHOUT_EFFECT) and settings.origin(key) != "default"
    ]
    if idle:
        yield Check(
            name="settings",
            status="warning",
            detail=f"Read, but nothing in this release acts on it: {', '.join(idle)}.",
        )

    connectors = settings.data.connectors
    wanted = [name for name in type(connectors).model_fields if getattr(connectors, name).enabled]
    if wanted and not settings.data.sources:
        yield Check(
            name="settings",
            status="warning",
            detail=f"data.connectors.{wanted[0]}.enabled is true, but no source is named.",
            hint='Name one: [data.sources.NAME] url = "postgresql://user@host/database".',
        )


async def _check_source(sources: Sources, name: str) -> Check:
    try:
        return Check(name=f"source {name}", status="ok", detail=await sources.check(name))
    except HubError as error:
        return Check(name=f"source {name}", status="warning", detail=error.message, hint=error.hint)


def _check_folders(settings: Settings) -> Iterator[Check]:
    try:
        settings.ensure_folders()
    except HubError as error:
        yield _broken("folders", error)
    yield _check_writable(settings.data_dir)
    yield _check_disk(settings.data_dir)
    for root in settings.roots:
        readable = root.is_dir() and os.access(root, os.R_OK | os.X_OK)
        yield Check(
            name="root",
            status="ok" if readable else "broken",
            detail=str(root) if readable else f"{root} cannot be read.",
            hint=None if readable else "Name another with --root or MCP_HUB_ROOTS.",
        )


def _check_writable(folder: Path) -> Check:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Check(name="data_dir", status="ok", detail=f"{folder} can be written.")
    except OSError as error:
        return Check(
            name="data_dir",
            status="broken",
            detail=f"{folder} cannot be written: {error.strerror}.",
            hint="Set MCP_HUB_DATA_DIR or --data-dir to a folder that can.",
        )


def _check_disk(folder: Path) -> Check:
    free, least = room_of(folder)
    detail = f"{free / (1 << 30):.1f} GB free for {folder}."
    if free < least:
        return Check(name="disk", status="broken", detail=detail, hint="Free some disk space.")
    return Check(name="disk", status="warning" if free < _LOW_DISK_BYTES else "ok", detail=detail)


async def _check_hub(settings: Settings) -> list[Check]:
    try:
        async with (
            open_hub(settings, local=True) as hub,
            open_adapters(settings) as adapters,
        ):
            health = await hub.health.check()
            checks = [
                Check(
                    name=name,
                    status="ok" if adapter.status == "ok" else "broken",
                    detail=f"{adapter.detail} ({adapter.latency_ms:.1f} ms)",
                    hint=adapter.hint,
                )
                for name, adapter in health.adapters.items()
            ]
            checks += [
                Check(
                    name=f"framework {framework.name}",
                    status="ok" if framework.available else "warning",
                    detail=framework.description if framework.available else "Not available.",
                    hint=framework.missing,
                )
                for framework in (await hub.training.frameworks()).items
            ]
            checks += [await _check_source(hub.data.sources, n) for n in hub.data.sources.names]
            jobs = (await hub.health.counts()).jobs
            silence_ms = int(settings.training.worker_silence_s * 1000)
            alive, known = await adapters.database.read(lambda c: _count_workers(c, silence_ms))
            return [*checks, _check_workers(settings, jobs.get("queued", 0), alive, known)]
    except HubError as error:
        return [_broken("hub", error)]


def _count_workers(connection: Connection, silence_ms: int) -> tuple[int, int]:
    known = connection.execute(select(func.count()).select_from(workers)).scalar_one()
    return len(live_workers(connection, silence_ms)), known


def _check_workers(settings: Settings, queued: int, alive: int, known: int) -> Check:
    stale = f", {known - alive} that ended without saying so" if known > alive else ""
    detail = f"{alive} at work{stale}; {queued} jobs queued."
    if queued and not alive:
        return Check(
            name="workers",
            status="warning",
            detail=detail,
            hint=f"Start one: mcp-hub --data-dir {settings.data_dir} worker",
        )
    return Check(name="workers", status="ok", detail=detail)


def _check_clients() -> Iterator[Check]:
    for client in configured_clients(Path.cwd()):
        broken = client.status == "broken"
        yield Check(
            name=client.name,
            status="warning" if broken else "ok",
            detail=client.detail if broken else f"{client.status}, {client.path}",
            hint="Repair the file, then run `mcp-hub install`." if broken else None,
        )


def _broken(name: str, error: HubError) -> Check:
    return Check(name=name, status="broken", detail=error.message, hint=error.hint)
