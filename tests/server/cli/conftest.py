"""A shell of the test's own: home, current folder, data directory, and `mcp-hub` in process."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mcp_hub.server.cli import main
from tests.processes import PLUGINS, hub_environment


@dataclass(frozen=True, slots=True)
class Done:
    status: int
    out: str
    err: str


Shell = Callable[..., Done]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which is the hub's root; its data directory is `data` in it."""
    home = tmp_path / "home"
    folder = tmp_path / "work"
    home.mkdir()
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith(("MCP_HUB_", "XDG_"))]:
        monkeypatch.delenv(name)
    for name, value in hub_environment(folder).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.syspath_prepend(str(PLUGINS))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def mcp_hub(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    """Run the `mcp-hub` command with these arguments."""

    def run(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["mcp-hub", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Done(int(ended.value.code or 0), printed.out, printed.err)

    return run
