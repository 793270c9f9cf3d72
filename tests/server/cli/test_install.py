import json
from pathlib import Path
from typing import Any

from mcp_hub.server import clients

from .conftest import Shell


def server(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())["mcpServers"]["mcp-hub"]
    return found


def test_claude_desktop(mcp_hub: Shell, folder: Path) -> None:
    done = mcp_hub("install", "claude-desktop", "--root", ".", "--data-dir", "state")
    assert done.status == 0
    assert "Quit and reopen Claude Desktop" in done.out
    entry = server(clients.desktop_file())
    assert entry["args"] == ["--data-dir", str(folder / "state"), "--root", str(folder)]
    again = mcp_hub("install", "claude-desktop", "--root", ".", "--data-dir", "state")
    assert "is as it should be" in again.out
    removed = mcp_hub("install", "claude-desktop", "--remove")
    assert "Removed mcp-hub" in removed.out
    assert json.loads(clients.desktop_file().read_text()) == {"mcpServers": {}}
    assert "does not name mcp-hub" in mcp_hub("install", "claude-desktop", "--remove").out


def test_a_dry_run_writes_nothing(mcp_hub: Shell, folder: Path) -> None:
    file = folder / "config.json"
    done = mcp_hub("install", "claude-desktop", "--path", file, "--dry-run")
    text = done.out.partition("would become:\n")[2]
    assert "mcp-hub" in json.loads(text)["mcpServers"]
    assert not file.exists()


def test_claude_code_in_a_project(mcp_hub: Shell, folder: Path) -> None:
    done = mcp_hub("install", "claude-code", "--read-only", "--toolsets", "data,hub")
    assert done.status == 0
    entry = server(folder / ".mcp.json")
    assert entry["type"] == "stdio"
    assert entry["args"] == ["--toolsets", "data,hub", "--read-only"]


def test_claude_code_for_a_user_is_left_to_claude_code(mcp_hub: Shell) -> None:
    done = mcp_hub("install", "claude-code", "--scope", "user", "--dry-run")
    remove, add = done.out.splitlines()
    assert remove == "claude mcp remove --scope user mcp-hub"
    assert add.startswith("claude mcp add --scope user mcp-hub -- /")


def test_json_to_paste(mcp_hub: Shell, folder: Path) -> None:
    (folder / "hub.toml").write_text("port = 1")
    done = mcp_hub("install", "json", "--config", "hub.toml")
    entry = json.loads(done.out)["mcpServers"]["mcp-hub"]
    assert Path(entry["command"]).is_absolute()
    assert entry["args"] == ["--config", str(folder / "hub.toml")]


def test_flags_before_the_command_are_passed_on_too(mcp_hub: Shell, folder: Path) -> None:
    done = mcp_hub("--data-dir", "state", "install", "json")
    entry = json.loads(done.out)["mcpServers"]["mcp-hub"]
    assert entry["args"] == ["--data-dir", str(folder / "state")]


def test_a_broken_file_is_left_alone(mcp_hub: Shell, folder: Path) -> None:
    file = folder / "config.json"
    file.write_text("{")
    done = mcp_hub("install", "claude-desktop", "--path", file)
    assert done.status == 1
    assert "is not JSON" in done.err
    assert file.read_text() == "{"
