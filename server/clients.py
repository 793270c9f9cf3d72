"""Puts the hub into the configuration of the MCP clients that people use, and takes it out."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_config_dir

from mcp_hub.adapters.errors import InvalidArgument, Unavailable

NAME = "mcp-hub"
Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """What a change makes of a client's configuration file: its new `text`, None if it is so."""

    path: Path
    text: str | None


@dataclass(frozen=True, slots=True)
class Client:
    """A client that could start this hub, and whether it is set to."""

    name: str
    path: Path
    status: Literal["configured", "not configured", "broken"]
    detail: str


def entry(arguments: Sequence[str] = ()) -> Entry:
    """How a client starts this hub: by absolute path, since a client's PATH is not a shell's."""
    script = shutil.which(NAME, path=sysconfig.get_path("scripts"))
    if script is None:
        return {"command": sys.executable, "args": ["-m", "mcp_hub", *arguments]}
    return {"command": os.path.abspath(script), "args": list(arguments)}  # noqa: PTH100 - keep links


def desktop_file() -> Path:
    """Claude Desktop's configuration on this platform, whether or not it exists."""
    folder = user_config_dir("Claude", appauthor=False, roaming=True)
    return Path(folder) / "claude_desktop_config.json"


def project_file(folder: Path) -> Path:
    """The file in which Claude Code looks for a project's servers."""
    return folder / ".mcp.json"


def adding(path: Path, added: Entry) -> Change:
    """The change that makes `added` this hub's entry; whatever else is in the file stays.

    Raises:
        InvalidArgument: the file is not what a client would read; nothing is changed.
    """
    before = _read(path)
    servers = _servers(before, path)
    old = servers.get(NAME)
    new = {**old, **added} if isinstance(old, dict) else added
    return _change(path, before, {**before, "mcpServers": {**servers, NAME: new}})


def removing(path: Path) -> Change:
    """The change that takes this hub out of the file. Raises as `adding`."""
    before = _read(path)
    servers = _servers(before, path)
    if NAME not in servers:
        return Change(path, None)
    rest = {name: server for name, server in servers.items() if name != NAME}
    return _change(path, before, {**before, "mcpServers": rest})


def apply(change: Change) -> Path | None:
    """Write the change, whole or not at all; the copy that was kept of the file before.

    Raises:
        Unavailable: the file cannot be written; it is as it was.
    """
    if change.text is None:
        return None
    path = change.path.resolve()  # the file behind a link is the one to replace
    backup = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            backup = path.with_name(f"{path.name}.{datetime.now(UTC):%Y%m%dT%H%M%S%f}.bak")
            shutil.copy2(path, backup)
        written = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        written.write_text(change.text, encoding="utf-8")
        if backup:
            shutil.copymode(backup, written)
        written.replace(path)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}.") from error
    return backup


def claude_command(added: Entry | None) -> list[list[str]]:
    """The commands by which Claude Code itself adds (or, for None, removes) a user's server."""
    remove = ["claude", "mcp", "remove", "--scope", "user", NAME]
    if added is None:
        return [remove]
    started = [added["command"], *added["args"]]
    return [remove, ["claude", "mcp", "add", "--scope", "user", NAME, "--", *started]]


def run_claude(commands: Sequence[Sequence[str]]) -> None:
    """Run Claude Code's own commands; only the last one's outcome counts.

    Raises:
        Unavailable: Claude Code is not on the PATH, or it refused.
    """
    program = shutil.which("claude")
    if program is None:
        raise Unavailable(
            "Claude Code's command `claude` is not on the PATH.",
            "Install Claude Code, or use --scope project, which writes .mcp.json.",
        )
    for command in commands:
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise Unavailable(f"`{' '.join(commands[-1])}` failed: {said}")


def configured_clients(folder: Path) -> list[Client]:
    """The clients of this user and of the project in `folder`, as they are set now."""
    files = {
        "Claude Desktop": desktop_file(),
        "Claude Code (project)": project_file(folder),
        "Claude Code (user)": Path.home() / ".claude.json",
    }
    return [_client(name, path) for name, path in files.items()]


def _client(name: str, path: Path) -> Client:
    try:
        server = _servers(_read(path), path).get(NAME)
    except InvalidArgument as error:
        return Client(name, path, "broken", error.message)
    if server is None:
        return Client(name, path, "not configured", str(path))
    command = server.get("command") if isinstance(server, dict) else None
    if not isinstance(command, str) or shutil.which(command) is None:
        return Client(name, path, "broken", f"{path} starts {command}, which cannot be run.")
    return Client(name, path, "configured", str(path))


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        values = json.loads(text) if text.strip() else {}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InvalidArgument(
            f"{path} is not JSON: {error}.", "Repair it first; nothing was changed."
        ) from error
    if not isinstance(values, dict):
        raise InvalidArgument(f"{path} does not hold an object; nothing was changed.")
    return values


def _servers(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    servers = values.get("mcpServers", {})
    if not isinstance(servers, dict):
        raise InvalidArgument(f"mcpServers in {path} is not an object; nothing was changed.")
    return servers


def _change(path: Path, before: Mapping[str, Any], after: Mapping[str, Any]) -> Change:
    if before == after:
        return Change(path, None)
    return Change(path, json.dumps(after, indent=2, ensure_ascii=False) + "\n")
