import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from .conftest import Shell

COMMANDS = [
    "serve",
    "worker",
    "up",
    "migrate",
    "copy",
    "doctor",
    "info",
    "train",
    "demo",
    "install",
]
HEAVY = {
    "alembic", "numpy", "onnx", "onnxruntime", "polars", "rich", "skl2onnx", "sklearn",
    "sqlalchemy",
}  # fmt: skip


def heavy_modules(program: str, folder: Path) -> list[str]:
    """Which heavy libraries a fresh Python has imported after `program`."""
    program += f"\nimport sys; print(*sorted({HEAVY} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=folder
    )
    return done.stderr.split()


def test_help_names_every_command(mcp_hub: Shell) -> None:
    done = mcp_hub("--help")
    assert done.status == 0
    for command in COMMANDS:
        assert f"\n  {command} " in done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(mcp_hub: Shell, command: str) -> None:
    done = mcp_hub(command, "--help")
    assert done.status == 0
    assert f"Usage: mcp-hub {command}" in done.out


def test_version(mcp_hub: Shell) -> None:
    assert mcp_hub("--version").out == f"mcp-hub {version('mcp-hub')}\n"


def test_an_unknown_command_names_the_right_ones(mcp_hub: Shell) -> None:
    done = mcp_hub("trian")
    assert done.status == 2
    assert done.out == ""
    assert "No such command 'trian'. The commands are serve, worker" in done.err


def test_an_unknown_flag_names_the_right_one(mcp_hub: Shell) -> None:
    done = mcp_hub("serve", "--prot", "1")
    assert done.status == 2
    assert "--port" in done.err


def test_a_wrong_setting_is_an_error_not_a_traceback(mcp_hub: Shell) -> None:
    done = mcp_hub("--toolsets", "dat", "info")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("error: command line: toolsets: Input should be 'training'")
    assert "hint: " in done.err
    assert "Traceback" not in done.err


def test_a_flag_counts_before_and_after_the_command(mcp_hub: Shell, folder: Path) -> None:
    before = mcp_hub("--data-dir", folder / "one", "info").out
    after = mcp_hub("--data-dir", folder / "one", "info", "--data-dir", folder / "two").out
    assert f'data_dir = "{folder / "one"}"' in before
    assert f'data_dir = "{folder / "two"}"' in after


def test_the_stdio_server_starts_light(folder: Path) -> None:
    assert heavy_modules("import mcp_hub.server.cli.stdio", folder) == []


def test_help_starts_light(folder: Path) -> None:
    program = (
        "import sys; sys.argv = ['mcp-hub', '--help']\n"
        "from mcp_hub.server.cli import main\n"
        "try: main()\nexcept SystemExit: pass"
    )
    assert heavy_modules(program, folder) == []


def test_info_lists_every_setting_with_its_variable(mcp_hub: Shell) -> None:
    out = mcp_hub("info").out
    assert "training.concurrency = 2\n  Attempts that one worker runs at once" in out
    assert "MCP_HUB_TRAINING__CONCURRENCY; now from: MCP_HUB_TRAINING__CONCURRENCY" in out
    assert "nothing in this release acts on it" in out


def test_a_profile_is_chosen_and_shown(mcp_hub: Shell, folder: Path) -> None:
    file = folder / "mcp-hub.toml"
    file.write_text("[profiles.team]\nport = 5\n[profiles.other]\nport = 6\n")
    for arguments in (("--profile", "team", "info"), ("info", "--profile", "team")):
        out = mcp_hub(*arguments).out
        assert 'profile = "team"\n' in out
        assert f"MCP_HUB_PORT; now from: {file}, profile team" in out
    assert f"5  ({file}, profile team)" in mcp_hub("doctor", "--profile", "team").out
    entry = mcp_hub("install", "json", "--profile", "team").out
    assert '"--profile",\n        "team"' in entry
    wrong = mcp_hub("info", "--profile", "taem")
    assert (wrong.status, wrong.out) == (1, "")
    assert f"error: command line: there is no profile 'taem' in {file}." in wrong.err
    assert "Did you mean 'team'? Existing profiles: other, team." in wrong.err


def test_a_worker_ends_when_it_is_idle(mcp_hub: Shell) -> None:
    assert mcp_hub("worker", "--idle-exit", "0.1").status == 0
