"""`mcp-hub containers build`: what it prints."""

import json
from pathlib import Path

import pytest

from tests.containers.images import TINY
from tests.server.cli.conftest import Shell


def test_it_prints_what_it_does_and_what_to_do_next(
    mcp_hub: Shell, folder: Path, engine_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine_url)
    (folder / "clock").mkdir()
    (folder / "clock" / "Dockerfile").write_text(f'FROM {TINY}\nENTRYPOINT ["date"]\nCMD ["-u"]\n')
    done = mcp_hub("containers", "build", "clock", "--name", "clock-2")
    assert done.status == 0, done.err
    built, following = done.out.splitlines()
    assert built.startswith("Built localhost/clock-2:latest (sha256:")
    assert built.endswith(" MB). It runs: date -u")
    command = "mcp-hub containers deploy clock-2 localhost/clock-2:latest"
    assert following == f"Deploy it: {command}"
    assert "Building localhost/clock-2:latest" in done.err.splitlines()

    done = mcp_hub("containers", "build", "clock", "--tag", "clock:3", "--json")
    assert (json.loads(done.out)["tag"], done.err) == ("clock:3", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "error: Name a folder or a package, and not both."),
        ((".", "--package", "x"), "error: Name a folder or a package, and not both."),
        (("nowhere",), "error: nowhere is no folder."),
        ((".",), "error: . holds no MCP server that can be built."),
        (("--package", "git+https://x"), "error: 'git+https://x' is no package."),
    ],
)
def test_what_is_wrong_is_told_with_what_would_be_right(
    mcp_hub: Shell, arguments: tuple[str, ...], message: str
) -> None:
    done = mcp_hub("containers", "build", *arguments)
    assert done.status == 1
    error, hint = done.err.splitlines()
    assert error == message
    assert hint.startswith("hint: ")
