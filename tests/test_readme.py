"""What the README and the docs say is so: every command runs, every example loads."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import palmerpenguins
import pytest

from mcp_hub.server.settings import WITHOUT_EFFECT, Settings, describe, known_keys, load_settings
from mcp_hub.server.settings_sources import earlier_keys
from tests.containers.images import BASE
from tests.engine import ask_engine
from tests.node import CACHE
from tests.server.serving import serving, wait_until_ready

REPOSITORY = Path(__file__).parent.parent
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
IDS = [page.name for page in PAGES]


def fenced(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    return [line for block in fenced(page, "sh") for line in block.splitlines() if line]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the file that the examples name, and an environment to activate."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copy(Path(palmerpenguins.__file__).parent / "data" / "penguins.csv", folder)
    servers = {
        "files": {"command": "docker", "args": ["run", "-i", "--rm", "acme/echo:1"]},
        "time": {"command": "uvx", "args": ["mcp-server-time", "--local-timezone", "UTC"]},
    }
    (folder / "claude_desktop_config.json").write_text(json.dumps({"mcpServers": servers}))
    activate = folder / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f'PATH="{Path(sys.executable).parent}:$PATH"\n')
    (folder / "home" / "data").mkdir(parents=True)
    (folder / "state" / "blobs").mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def environment(sandbox: Path) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(sandbox / "home"),
        "MCP_HUB_DATA_DIR": str(sandbox / "state"),
        "MCP_HUB_TRAINING__IDLE_EXIT_S": "1",
        "MCP_HUB_CACHE_DIR": str(CACHE),
    }


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_command_works(
    page: Path, sandbox: Path, environment: dict[str, str], request: pytest.FixtureRequest
) -> None:
    if page.name == "containers.md":
        environment |= engine_with_images(request.getfixturevalue("engine_url"), request)
        (sandbox / "my-server").mkdir()
        (sandbox / "my-server" / "server.py").write_text("print('It only has to be built.')\n")
    for command in commands(page):
        if command.startswith("curl "):
            url: str = request.getfixturevalue("served_url")
            asks(command.replace("http://127.0.0.1:3456", url), sandbox, environment)
        elif target := re.fullmatch(r"make ([a-z]+)", command):
            assert target[1] in make_targets()
        elif "mcp-hub serve" in command:
            serves(command.replace("3456", "0"), sandbox, environment)
        else:
            done = subprocess.run(
                ["bash", "-euc", command],
                cwd=sandbox, env=environment, capture_output=True, text=True, timeout=120,
            )  # fmt: skip
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def engine_with_images(url: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """The variables of a hub whose engine has the images that the page names."""
    image = request.getfixturevalue("python_image")
    ask_engine(url, "POST", f"/images/{image}/tag", repo="acme/echo", tag="1")
    ask_engine(url, "POST", f"/images/{BASE}/tag", repo="python", tag="3.13-slim")
    return {"MCP_HUB_CONTAINERS__ENGINE_URL": url}


@pytest.fixture
def served_url(sandbox: Path, environment: dict[str, str]) -> Iterator[str]:
    """A hub over HTTP, for the page's requests to it."""
    with serving(environment) as served:
        wait_until_ready(served)
        yield served.url


def asks(command: str, folder: Path, environment: dict[str, str]) -> None:
    """Make a request; of one that goes on until it is stopped, see that an answer begins."""
    with subprocess.Popen(
        ["bash", "-euc", f"exec {command}"],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as curl:  # fmt: skip
        assert curl.stdout is not None
        if "text/event-stream" in command:
            begun = curl.stdout.readline()
            curl.terminate()
            assert begun.startswith(("retry:", "event:")), command
        told, errors = curl.communicate(timeout=120)
    if "text/event-stream" not in command:
        assert curl.returncode == 0, f"{command}\n{told}{errors}"
        assert isinstance(json.loads(told), dict)


def serves(command: str, folder: Path, environment: dict[str, str]) -> None:
    with subprocess.Popen(
        ["bash", "-euc", f"exec {command}"],
        cwd=folder, env=environment, stderr=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        assert server.stderr is not None
        try:
            assert any("/mcp" in line for line in server.stderr), command
        finally:
            server.terminate()


def test_readme_opens_with_the_two_commands() -> None:
    assert commands(PAGES[0])[:2] == ["make demo", "make test"]


def test_the_demo_keeps_its_promises(sandbox: Path, environment: dict[str, str]) -> None:
    began = time.monotonic()
    done = subprocess.run(
        ["mcp-hub", "demo"], cwd=sandbox, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - began < 180
    assert done.stderr == ""
    assert "All as promised" in done.stdout
    for call in re.findall(r"^→ ([a-z_]+)\(", fenced(PAGES[0], "text")[0], re.MULTILINE):
        assert f"→ {call}(" in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_configuration_loads(page: Path, tmp_path: Path) -> None:
    for number, text in enumerate(fenced(page, "toml")):
        file = tmp_path / f"{number}.toml"
        file.write_text(text)
        load_settings(file)
    for number, text in enumerate(fenced(page, "json")):
        if "mcpServers" in json.loads(text):
            continue
        file = tmp_path / f"{number}.json"
        file.write_text(text)
        load_settings(file)


def test_the_json_to_paste_is_what_install_prints(
    sandbox: Path, environment: dict[str, str]
) -> None:
    printed = subprocess.run(
        ["mcp-hub", "install", "json", "--root", "data"],
        cwd=sandbox, env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    (shown,) = (json.loads(text) for text in fenced(PAGES[0], "json"))
    assert shape(shown) == shape(json.loads(printed))


def shape(value: Any) -> Any:
    """A JSON value with every path made the same."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return "/" if str(value).startswith("/") else value


def test_every_setting_is_documented() -> None:
    text = (REPOSITORY / "docs" / "configuration.md").read_text()
    rows = dict(re.findall(r"^\| `(\S+)` \| .*\| (.*) \|$", text, re.MULTILINE))
    for key in known_keys():
        if key.startswith(WITHOUT_EFFECT):
            assert f"`{key}` |" in text
        else:
            assert describe(key) in rows[key]


def test_defaults_are_as_documented() -> None:
    text = (REPOSITORY / "docs" / "configuration.md").read_text()
    defaults = Settings().shown()
    rows = re.findall(r"^\| `([a-z_.]+)` \| `(\S+)` \| ", text, re.MULTILINE)
    for key, default in rows:
        if key in defaults:
            assert str(defaults[key]).lower().removesuffix(".0") == default, key


def test_every_key_of_earlier_releases_is_documented() -> None:
    text = (REPOSITORY / "docs" / "configuration.md").read_text()
    for earlier, today in earlier_keys().items():
        assert re.search(rf"^\| `{re.escape(earlier)}`( \(ms\))? \| `{today}` \|$", text, re.M)


def test_the_table_of_tools_is_complete(environment: dict[str, str]) -> None:
    listed = subprocess.run(
        [sys.executable, "-c", LIST_TOOLS],
        env=environment, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    table = re.findall(r"^\| \w+ \| ((?:`\w+` ?)+)\|$", PAGES[0].read_text(), re.MULTILINE)
    assert sorted(re.findall(r"\w+", " ".join(table))) == sorted(listed)


LIST_TOOLS = """
import sys, anyio
from mcp import Client, StdioServerParameters

async def main():
    async with Client(StdioServerParameters(command="mcp-hub")) as client:
        print(*(tool.name for tool in (await client.list_tools()).tools))

anyio.run(main)
"""


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
