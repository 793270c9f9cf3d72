"""What is built from the sources, and that it works where there are no sources."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import mcp_hub

REPOSITORY = Path(__file__).parent.parent
FOLDERS = ("server", "tools", "resources", "services", "adapters", "migrations")


def python(*arguments: str | Path, of: Path | None = None, cwd: Path | None = None) -> str:
    """The output of a Python, that of the virtual environment `of` or this one."""
    executable = of / "bin" / "python" if of else sys.executable
    done = subprocess.run(
        [executable, *map(str, arguments)], capture_output=True, text=True, cwd=cwd
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the sdist and the wheel, the wheel built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    python("-m", "build", "--no-isolation", "--outdir", folder, REPOSITORY)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Iterator[zipfile.ZipFile]:
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        yield wheel


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mcp_hub"}


def test_the_wheel_holds_every_file_of_every_folder(wheel: zipfile.ZipFile) -> None:
    sources = {
        f"mcp_hub/{path.relative_to(REPOSITORY).as_posix()}"
        for folder in FOLDERS
        for path in (REPOSITORY / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    own = {f"mcp_hub/{name}" for name in ("__init__.py", "__main__.py", "py.typed")}
    held = {name for name in wheel.namelist() if name.startswith("mcp_hub/")}
    assert held == sources | own
    assert "mcp_hub/migrations/script.py.mako" in held


def test_the_wheel_names_its_command_and_its_frameworks(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    text = wheel.read(name).decode()
    assert "[console_scripts]\nmcp-hub = mcp_hub.__main__:main" in text
    (frameworks,) = re.findall(r"\[mcp_hub.frameworks\]\n((?:\w+ = .*\n?)+)", text)
    names = {line.split(" = ")[0] for line in frameworks.splitlines()}
    assert names >= {"nodejs", "script", "sklearn"}


def test_the_sdist_holds_what_a_packager_needs(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"README.md", "CHANGELOG.md", "LICENSE", "Makefile", "pyproject.toml"} <= names
    assert {"tests/conftest.py", "benchmarks/startup.py", "src/mcp_hub/py.typed"} <= names
    assert "examples/custom_framework/pyproject.toml" in names
    assert not any("__pycache__" in name for name in names)


def test_the_wheel_works_without_the_sources(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    python("-m", "venv", "--without-pip", tmp_path / "venv")
    python("-m", "pip", "--python", tmp_path / "venv", "install", "--no-deps", "--quiet", wheel)
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(dependencies())
    venv = tmp_path / "venv"
    found = python("-c", "import mcp_hub; print(mcp_hub.__file__)", of=venv, cwd=tmp_path)
    assert Path(found).is_relative_to(tmp_path)
    every_module = (
        "import importlib, pkgutil, mcp_hub\n"
        "for module in pkgutil.walk_packages(mcp_hub.__path__, 'mcp_hub.'):\n"
        "    if not module.name.endswith(('__main__', 'migrations.env')):\n"
        "        importlib.import_module(module.name)\n"
    )
    python("-c", every_module, of=venv, cwd=tmp_path)
    command = [venv / "bin" / "mcp-hub", "--data-dir", tmp_path / "data", "migrate"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.startswith("Applied 0001")


def dependencies() -> str:
    """The folders that this Python's packages come from, without the ones that lead to us."""
    ours = Path(mcp_hub.__file__).parent.parent.resolve()
    folders = [Path(entry).resolve() for entry in sys.path if entry]
    return "\n".join(
        str(folder) for folder in folders if folder.name == "site-packages" and folder != ours
    )


def test_what_is_declared() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    assert mcp_hub.__version__ == project["version"]
