"""Folders and packages that images are made of, on a real engine."""

from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import pytest

from mcp_hub.adapters.containers.docker import DockerEngine
from mcp_hub.adapters.containers.port import ContainerConfig
from mcp_hub.adapters.errors import InvalidArgument, NotFound
from mcp_hub.services.containers.building.bases import PythonBase, ask_python
from mcp_hub.services.containers.building.fetching import fetch_wheels, package_name
from mcp_hub.services.containers.building.service import Builder, Choices
from tests.containers.images import BASE, TINY


class Told(list[str]):
    async def __call__(self, line: str) -> None:
        self.append(line)


def _folder(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


async def _run(engine: DockerEngine, image: str, *arguments: str) -> list[str]:
    """What an image's program writes."""
    name = f"test-{uuid4().hex}"
    await engine.create(ContainerConfig(name, image, command=arguments or None))
    try:
        await engine.start(name)
        return [line.text async for line in engine.logs(name, follow=True)]
    finally:
        await engine.remove(name)


async def test_a_distribution_is_installed_and_its_script_started(
    builder: Builder, engine: DockerEngine, python_image: str, tmp_path: Path
) -> None:
    folder = _folder(
        tmp_path,
        {
            "pyproject.toml": """
[project]
name = "Acme.Greeter"
dynamic = ["version"]
dependencies = ["six"]
[project.scripts]
greet = "greeter:main"
[build-system]
requires = ["hatchling", "hatch-vcs"]
build-backend = "hatchling.build"
[tool.hatch.version]
source = "vcs"
[tool.hatch.build.targets.wheel]
packages = ["greeter"]
""",
            "greeter/__init__.py": "import os, six, sys\ndef main():\n"
            "    print(os.getuid(), six.__name__, __file__, *sys.argv)\n",
            ".env": "TOKEN=secret",
        },
    )
    told = Told()
    built = await builder.build_folder(folder, Choices(base=BASE), told)
    assert built.tag == "localhost/acme-greeter:latest"
    assert built.command == ("/app/bin/greet",)
    (line,) = await _run(engine, built.tag)
    uid, six, file, argument = line.split()
    assert (uid, six, argument) == ("65532", "six", "/app/bin/greet")
    assert file.startswith("/app/lib/")
    assert told[0].startswith(f"Base {BASE}: Python 3.")
    assert any(line.startswith("Fetching ") for line in told)
    assert f"Building {built.tag}" in told


async def test_a_file_is_run_with_what_it_requires(
    builder: Builder, engine: DockerEngine, python_image: str, tmp_path: Path
) -> None:
    folder = _folder(
        tmp_path,
        {
            "requirements.txt": "six>=1.16  # old\n",
            "server.py": "import os, six, beside\n"
            "print(six.__name__, beside.A, sorted(os.listdir('.')))\n",
            "beside.py": "A = 1\n",
            ".env": "TOKEN=secret",
        },
    )
    choices = Choices(base=BASE, name="files", tag="hub-tests/files:2")
    built = await builder.build_folder(folder, choices, Told())
    assert (built.name, built.tag) == ("files", "hub-tests/files:2")
    assert built.command == ("/app/bin/python", "/app/source/server.py")
    (line,) = await _run(engine, built.tag)
    assert line == "six 1 ['beside.py', 'requirements.txt', 'server.py']"


async def test_a_dockerfile_is_built_without_network(
    builder: Builder, engine: DockerEngine, engine_url: str, tmp_path: Path
) -> None:
    steps = 'RUN test ! -e /sys/class/net/eth0\nCOPY . /x\nCMD ["ls", "/x"]\n'
    folder = _folder(
        tmp_path / "my-tool",
        {"Dockerfile": f"FROM {TINY}\n{steps}", "a": "", "b": "", ".dockerignore": "*\n!a"},
    )
    built = await builder.build_folder(folder, Choices(), Told())
    assert (built.tag, built.command) == ("localhost/my-tool:latest", ("ls", "/x"))
    assert await _run(engine, built.tag) == ["Dockerfile", "a"]
    (folder / "Dockerfile").write_text(f"FROM {TINY}\nRUN echo because; exit 3\n")
    with pytest.raises(InvalidArgument, match="because") as raised:
        await builder.build_folder(folder, Choices(), Told())
    assert "exit 3" in raised.value.message


async def test_node_servers_are_built_of_folders_and_packages(
    builder: Builder, engine: DockerEngine, node_base: str, tmp_path: Path
) -> None:
    folder = _folder(
        tmp_path,
        {
            "package.json": '{"name": "@acme/timer", "bin": "./main.js", "dependencies": '
            '{"ms": "2"}, "scripts": {"postinstall": "touch /tmp/ran && exit 1"}}',
            "main.js": "console.log(require('ms')('2 days'), process.getuid())",
            "node_modules/ms/index.js": "throw 'the machine's own'",
            ".npmrc": "fund=false",
        },
    )
    built = await builder.build_folder(folder, Choices(base=node_base), Told())
    assert (built.name, built.command) == ("timer", ("node", "/app/./main.js"))
    assert await _run(engine, built.tag) == ["172800000 65532"]

    semver = await builder.build_package("npm:semver@7", Choices(base=node_base), Told())
    assert semver.name == "semver"
    assert semver.command == ("node", "/app/node_modules/semver/bin/semver.js")
    assert await _run(engine, semver.tag, "--increment", "1.2.3") == ["1.2.4"]


async def test_what_cannot_be_built_is_told(
    builder: Builder, engine: DockerEngine, python_image: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgument, match=r"has no python3 that runs: .*not found"):
        await builder.build_package("mcp-server-time", Choices(base=TINY), Told())
    with pytest.raises(InvalidArgument, match=r"pip could not fetch .*\n.*docopt") as raised:
        await builder.build_package("docopt==0.6.2", Choices(base=BASE), Told())
    # It is there, but not as a wheel.
    assert "ERROR: " in raised.value.message
    with pytest.raises(InvalidArgument, match="six's console scripts: none"):
        await builder.build_package("six", Choices(base=BASE), Told())
    with pytest.raises(NotFound, match="has no image 'localhost/nowhere:1'"):
        await builder.build_package("six", Choices(base="localhost/nowhere:1"), Told())
    assert await engine.containers({"mcp-hub.role": "asked"}) == []


async def test_wheels_are_those_of_the_base_image(
    engine: DockerEngine, python_image: str, tmp_path: Path
) -> None:
    here = await ask_python(engine, await engine.image(BASE))
    old = {"python_version": "3.10", "python_full_version": "3.10.4", "sys_platform": "linux"}
    base = PythonBase(here.image, {**here.markers, **old}, ("manylinux2014_aarch64",))
    requirements = [
        'six; python_version < "3.11"', 'docopt; sys_platform == "win32"', "markupsafe==3.0.2",
    ]  # fmt: skip
    names = await fetch_wheels(requirements, base, tmp_path / "wheels", Told())
    assert [name.partition("-")[0].lower() for name in names] == ["markupsafe", "pip", "six"]
    assert "cp310-cp310-manylinux" in names[0]
    assert names[0].endswith("aarch64.whl")


@pytest.mark.parametrize(
    ("requirement", "name"),
    [("mcp-server-time", "mcp-server-time"), ("a.b[x,y] >=1,<2", "a.b"), ("x==1.0", "x"),
     ("@s/n", "@s/n"), ("@s/n@1.2.3", "@s/n"), ("n@latest", "n")],
)  # fmt: skip
def test_a_package_is_named(requirement: str, name: str) -> None:
    assert package_name(requirement) == name


@pytest.mark.parametrize(
    "requirement", ["", "--index-url=x", "-r x", "./x", "git+https://x/y", "a @ https://x", "a b"]
)
def test_what_names_no_package_is_refused(requirement: str) -> None:
    with pytest.raises(InvalidArgument, match="is no package"):
        package_name(requirement)
