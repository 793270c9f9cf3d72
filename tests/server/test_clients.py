import json
import os
import stat
import sys
from pathlib import Path

import pytest

from mcp_hub.adapters.errors import InvalidArgument, Unavailable
from mcp_hub.server import clients


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "client" / "config.json"


def change(file: Path, *arguments: str) -> Path | None:
    return clients.apply(clients.adding(file, clients.entry(arguments)))


def servers(file: Path) -> dict[str, object]:
    read: dict[str, object] = json.loads(file.read_text())["mcpServers"]
    return read


def test_the_entry_starts_this_hub_by_absolute_path() -> None:
    entry = clients.entry(["--root", "/data"])
    assert Path(entry["command"]).is_absolute()
    assert Path(entry["command"]).exists()
    assert entry["args"][-2:] == ["--root", "/data"]


def test_a_file_that_is_not_there_is_made(file: Path) -> None:
    assert change(file) is None
    assert list(servers(file)) == ["mcp-hub"]


def test_what_else_is_in_the_file_stays(file: Path) -> None:
    file.parent.mkdir()
    before = {
        "theme": "dark",
        "mcpServers": {"other": {"command": "x", "args": ["é"]}},
        "last": [1, None],
    }
    file.write_text(json.dumps(before))
    backup = change(file)
    after = json.loads(file.read_text())
    assert list(after) == ["theme", "mcpServers", "last"]
    assert after["mcpServers"].pop("mcp-hub") == clients.entry()
    assert after == before
    assert backup is not None
    assert json.loads(backup.read_text()) == before


def test_doing_it_twice_changes_nothing(file: Path) -> None:
    change(file)
    text = file.read_text()
    assert clients.adding(file, clients.entry()).text is None
    assert change(file) is None
    assert file.read_text() == text
    assert list(file.parent.iterdir()) == [file]


def test_new_flags_replace_the_old_and_keep_what_the_user_added(file: Path) -> None:
    change(file, "--root", "/a")
    values = json.loads(file.read_text())
    values["mcpServers"]["mcp-hub"]["env"] = {"MCP_HUB_LOG_LEVEL": "debug"}
    file.write_text(json.dumps(values))
    change(file, "--root", "/b")
    assert servers(file)["mcp-hub"] == {
        **clients.entry(["--root", "/b"]),
        "env": {"MCP_HUB_LOG_LEVEL": "debug"},
    }


def test_removing_undoes_adding(file: Path) -> None:
    file.parent.mkdir()
    file.write_text('{"mcpServers": {"other": {"command": "x"}}}')
    before = json.loads(file.read_text())
    change(file)
    clients.apply(clients.removing(file))
    assert json.loads(file.read_text()) == before
    assert clients.removing(file).text is None


def test_removing_from_a_file_that_is_not_there(file: Path) -> None:
    assert clients.apply(clients.removing(file)) is None
    assert not file.exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"mcpServers": []}', "\xff"])
def test_a_file_that_no_client_could_read_is_left_alone(file: Path, text: str) -> None:
    file.parent.mkdir()
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidArgument, match=r"config\.json"):
        change(file)
    assert file.read_bytes() == text.encode("latin-1")
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("text", ["", "  \n", "\ufeff{}"])
def test_an_empty_file_and_a_byte_order_mark_are_read(file: Path, text: str) -> None:
    file.parent.mkdir()
    file.write_text(text, encoding="utf-8")
    change(file)
    assert list(servers(file)) == ["mcp-hub"]


def test_a_link_stays_a_link_and_modes_are_kept(file: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.json"
    real.write_text("{}")
    real.chmod(0o600)
    file.parent.mkdir()
    file.symlink_to(real)
    change(file)
    assert file.is_symlink()
    assert list(servers(real)) == ["mcp-hub"]
    assert stat.S_IMODE(real.stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(file: Path) -> None:
    file.parent.mkdir()
    file.parent.chmod(0o500)
    with pytest.raises(Unavailable, match="cannot be written"):
        change(file)


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "client").write_text("")
    with pytest.raises((Unavailable, InvalidArgument), match="cannot be"):
        change(tmp_path / "client" / "config.json")


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CONFIG_HOME": "/x/config"}, "/x/config/Claude"),
        ("linux", {"HOME": "/home/a"}, "/home/a/.config/Claude"),
    ],
)
def test_claude_desktop_s_file(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
) -> None:
    if sys.platform != platform:
        pytest.skip(f"only on {platform}")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert clients.desktop_file() == Path(expected) / "claude_desktop_config.json"


@pytest.fixture
def claude(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for Claude Code's command that notes how it was called."""
    program = tmp_path / "bin" / "claude"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@" >> "$0.calls"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    return program


def test_claude_code_adds_a_user_s_server_itself(claude: Path) -> None:
    entry = clients.entry(["--read-only"])
    clients.run_claude(clients.claude_command(entry))
    calls = claude.with_suffix(".calls").read_text().splitlines()
    assert calls == [
        "mcp remove --scope user mcp-hub",
        f"mcp add --scope user mcp-hub -- {entry['command']} --read-only",
    ]


def test_claude_code_s_refusal_is_passed_on(claude: Path) -> None:
    claude.write_text("#!/bin/sh\necho no such scope >&2\nexit 3\n")
    with pytest.raises(Unavailable, match="no such scope"):
        clients.run_claude(clients.claude_command(None))


def test_without_claude_code_the_other_way_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable) as caught:
        clients.run_claude(clients.claude_command(None))
    assert "--scope project" in (caught.value.hint or "")


def test_which_clients_are_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    project = clients.project_file(tmp_path)
    change(project)
    (tmp_path / ".claude.json").write_text('{"mcpServers": {"mcp-hub": {"command": "/gone"}}}')
    found = {client.name: client for client in clients.configured_clients(tmp_path)}
    assert found["Claude Desktop"].status == "not configured"
    assert found["Claude Code (project)"].status == "configured"
    assert found["Claude Code (user)"].status == "broken"
    assert "/gone" in found["Claude Code (user)"].detail
    project.write_text("{")
    found = {client.name: client for client in clients.configured_clients(tmp_path)}
    assert found["Claude Code (project)"].status == "broken"
