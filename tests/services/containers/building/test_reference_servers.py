"""The official reference servers that PyPI carries: built, listed, called, and held in."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mcp_hub.adapters.containers.docker import DockerEngine
from mcp_hub.adapters.containers.port import Mount
from tests.containers.images import BASE
from tests.engine import locked
from tests.processes import hub_environment
from tests.services.containers.building.conftest import call, serving, tools

_GIT = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
"""Has git read a repository that belongs to another user than the container's."""
_BUILD_S = 240

Images = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def images(
    engine_url: str, python_image: str, git_base: str, tmp_path_factory: pytest.TempPathFactory
) -> Images:
    """What `mcp-hub containers build` printed of each server's image."""
    environment = os.environ | hub_environment(tmp_path_factory.mktemp("hub"))
    bases = {"mcp-server-time": BASE, "mcp-server-git": git_base, "mcp-server-fetch": BASE}

    def build(package: str) -> dict[str, Any]:
        command = [
            sys.executable, "-m", "mcp_hub", "containers", "build", "--package", package,
            "--base", bases[package], "--json",
        ]  # fmt: skip
        done = subprocess.run(
            command, env=environment | {"DOCKER_HOST": engine_url}, capture_output=True, text=True,
            timeout=_BUILD_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    # Once for all workers of a run: one that builds anew takes the tags from the other's images.
    folder = Path(engine_url.removeprefix("unix://")).parent / "reference-servers"
    folder.mkdir(exist_ok=True)
    printed = folder / "printed.json"
    with locked(folder):
        if not printed.exists():
            with ThreadPoolExecutor(len(bases)) as pool:
                built = dict(zip(bases, pool.map(build, bases), strict=True))
            printed.write_text(json.dumps(built))
    return dict(json.loads(printed.read_text()))


async def test_an_image_is_what_was_said_of_it(images: Images, engine: DockerEngine) -> None:
    for package, built in images.items():
        image = await engine.image(f"localhost/{package}:latest")
        assert built == {
            "name": package, "tag": f"localhost/{package}:latest", "id": image.id,
            "size": image.size, "command": [f"/app/bin/{package}"],
        }  # fmt: skip
        assert image.user == "65532:65532"


async def test_time(images: Images, engine: DockerEngine) -> None:
    async with serving(engine, images["mcp-server-time"]["tag"]) as session:
        assert await tools(session) == {"get_current_time", "convert_time"}
        text, failed = await call(
            session, "convert_time",
            source_timezone="Europe/Berlin", time="12:00", target_timezone="Asia/Tokyo",
        )  # fmt: skip
    assert not failed
    converted = json.loads(text)
    assert converted["source"]["timezone"] == "Europe/Berlin"
    # Tokyo is 8 hours ahead of Berlin, or 7 in summer.
    assert converted["target"]["datetime"][11:16] in ("20:00", "19:00")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a commit, which the container's user can read."""
    tmp_path.chmod(0o755)
    commit = (
        "-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "--quiet", "--allow-empty",
        "--message=The first of all",
    )  # fmt: skip
    for command in (("init", "--quiet", "--initial-branch=main"), commit):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


async def test_git(images: Images, engine: DockerEngine, repository: Path) -> None:
    async with serving(
        engine, images["mcp-server-git"]["tag"],
        env=_GIT, mounts=[Mount(str(repository), "/repository")],
    ) as session:  # fmt: skip
        assert {"git_log", "git_status", "git_commit"} <= await tools(session)
        text, failed = await call(session, "git_log", repo_path="/repository")
        assert not failed
        assert "The first of all" in text
        # The mount is read-only.
        text, failed = await call(
            session, "git_create_branch", repo_path="/repository", branch_name="new"
        )
        assert failed
        assert "could not be obtained" in text
        text, failed = await call(session, "git_status", repo_path="/etc")
        assert failed


async def test_fetch_reaches_nothing(images: Images, engine: DockerEngine) -> None:
    # What the server itself would refuse is let through: the container holds it back.
    lenient = ("--ignore-robots-txt", "--allow-private-ips")
    async with serving(engine, images["mcp-server-fetch"]["tag"], command=lenient) as session:
        assert await tools(session) == {"fetch"}
        for url in ("http://192.0.2.1/", "https://example.com/", "http://172.17.0.1/"):
            text, failed = await call(session, "fetch", url=url)
            assert failed
            assert "Failed to fetch" in text, text
