"""`mcp-hub containers`: what a person does at a shell."""

import json
from pathlib import Path

import pytest

from tests.server.cli.conftest import Shell


def test_a_deployment_goes_back_to_an_earlier_revision(
    mcp_hub: Shell,
    folder: Path,
    engine_url: str,
    python_image: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MCP_HUB_CONTAINERS__ENGINE_URL", engine_url)
    for tools in ("*", "a*"):
        options = json.dumps({"tools": [tools], "stop_grace_s": 0})
        command = ("deploy", "echo", python_image, "--options", options, "--")
        done = mcp_hub("containers", *command, "python3", "/servers/echo.py")
        assert done.status == 0, done.err
    done = mcp_hub("containers", "start", "echo", "--revision", "1")
    assert done.status == 0, done.err
    assert json.loads(done.out)["revision"] == 3
    assert json.loads(mcp_hub("containers", "get", "echo").out)["spec"]["tools"] == ["*"]
    done = mcp_hub("containers", "start", "echo", "--revision", "9")
    assert done.status == 1
    assert done.err.startswith("error: ")
    assert mcp_hub("containers", "remove", "echo").status == 0
