"""What a folder holds: a Python or Node MCP server, what it needs, and what starts it."""

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mcp_hub.adapters.errors import InvalidArgument

Kind = Literal["docker", "python", "node"]

_PYTHON_FILES = ("server.py", "main.py")
_NODE_FILES = ("server.js", "index.js")
_FILES: dict[Kind, tuple[str, ...]] = {
    "python": ("pyproject.toml", "requirements.txt", *_PYTHON_FILES),
    "node": ("package.json",),
}
_SCRIPT_METADATA = re.compile(r"(?m)^# /// script\s*$\n((?:^#(?:| .*)$\n)+?)^# ///\s*$")
_UNUSABLE = re.compile(r"[^a-z0-9]+")
_SETUPTOOLS = ("setuptools>=64",)


@dataclass(frozen=True, slots=True)
class Project:
    """A server to make an image of."""

    kind: Kind
    name: str
    """Fit for a deployment."""
    command: tuple[str, ...] = ()
    """What starts it: for Python a console script's name or a file's, for Node a file's; nothing
    for an image of its own Dockerfile, which says it."""
    requirements: tuple[str, ...] = ()
    """Python: what pip fetches for it, as it stands in a requirements file."""
    installs_itself: bool = False
    """Python: whether the folder is a distribution, and not only a file to run."""


def detect(folder: Path, *, kind: Kind | None = None, script: str | None = None) -> Project:
    """The project in a folder. `script` names what starts it, where there are several.

    Raises:
        InvalidArgument: there is none, it does not say what starts it, or it is of two kinds.
    """
    if not folder.is_dir():
        raise InvalidArgument(f"{folder} is no folder.", "Name the one that holds the server.")
    if kind is None:
        kind = _kind(folder)
    if kind == "docker":
        return Project("docker", deployment_name(folder.resolve().name))
    return (_python if kind == "python" else _node)(folder, script)


def _kind(folder: Path) -> Kind:
    if (folder / "Dockerfile").is_file():
        return "docker"
    found = {
        kind: [name for name in names if (folder / name).is_file()]
        for kind, names in _FILES.items()
    }
    if found["python"] and found["node"]:
        raise InvalidArgument(
            f"{folder} holds both {found['python'][0]} and {found['node'][0]}.",
            "Say which one the server is: --kind python or --kind node.",
        )
    if found["node"]:
        return "node"
    if found["python"]:
        return "python"
    raise InvalidArgument(
        f"{folder} holds no MCP server that can be built.",
        "It needs pyproject.toml, requirements.txt with server.py, server.py alone, package.json, "
        "or a Dockerfile.",
    )


def deployment_name(text: str) -> str:
    """A name that a deployment may have, as near to `text` as can be."""
    name = _UNUSABLE.sub("-", text.lower()).strip("-")[:40].rstrip("-")
    return name if len(name) > 1 and name[0].isalpha() else f"mcp-{name or 'server'}"[:40]


def _python(folder: Path, script: str | None) -> Project:
    pyproject = _toml(folder / "pyproject.toml")
    listed = _requirements(folder / "requirements.txt")
    project = pyproject.get("project")
    if project is None:
        file = _file(folder, script, _PYTHON_FILES)
        needs = listed or _inline(folder / file)
        return Project("python", deployment_name(folder.resolve().name), (file,), needs)
    name = str(project.get("name", folder.resolve().name))
    scripts = sorted(project.get("scripts", {}))
    if scripts or script not in (None, *_PYTHON_FILES):
        command = _choose(scripts, script, name, "pyproject.toml's [project.scripts]")
    else:
        command = _file(folder, script, _PYTHON_FILES)
    if "dependencies" in project.get("dynamic", ()) and not listed:
        raise InvalidArgument(
            "pyproject.toml leaves its dependencies to the build (dynamic).",
            "List them in [project] dependencies, or in requirements.txt.",
        )
    build = pyproject.get("build-system", {}).get("requires", _SETUPTOOLS)
    needs = (*project.get("dependencies", ()), *listed, *build)
    return Project("python", deployment_name(name), (command,), needs, installs_itself=True)


def _node(folder: Path, script: str | None) -> Project:
    package = read_package(folder)
    name = str(package.get("name") or folder.resolve().name)
    file = node_program(package, script) or _file(folder, None, _NODE_FILES)
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise InvalidArgument(
            f"package.json starts {file}, which is not there.",
            "Build it first, as with: npm install && npm run build",
        )
    return Project("node", deployment_name(name.rpartition("/")[2]), (file,))


def read_package(folder: Path) -> dict[str, Any]:
    """A folder's package.json. Raises InvalidArgument where it is not JSON of an object."""
    try:
        package = json.loads((folder / "package.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"{folder / 'package.json'} cannot be read: {error}") from error
    if not isinstance(package, dict):
        raise InvalidArgument(f"{folder / 'package.json'} is not an object.")
    return package


def node_program(package: dict[str, Any], script: str | None) -> str | None:
    """The file that a package.json starts: of its `bin`, else its `main`.

    Raises:
        InvalidArgument: there are several, and none is named as the package or `script`.
    """
    name = str(package.get("name", "")).rpartition("/")[2]
    programs = package.get("bin") or {}
    if isinstance(programs, str):
        programs = {name: programs}
    if programs:
        return str(programs[_choose(sorted(programs), script, name, "package.json's bin")])
    return package.get("main")


def choose_script(scripts: list[str], script: str | None, package: str) -> str:
    """The console script that starts an installed package. Raises InvalidArgument."""
    return _choose(scripts, script, package, f"{package}'s console scripts")


def _choose(scripts: list[str], script: str | None, name: str, where: str) -> str:
    wanted = script or (scripts[0] if len(scripts) == 1 else name)
    if wanted in scripts:
        return wanted
    shown = ", ".join(scripts) or "none"
    raise InvalidArgument(
        f"What starts the server is not among {where}: {shown}."
        if script or not scripts
        else f"{where} name several programs: {shown}.",
        f"Name one: --script {scripts[0]}" if scripts else "Add one, or a server.py.",
    )


def _file(folder: Path, script: str | None, names: tuple[str, ...]) -> str:
    """The file that is run. Raises InvalidArgument where it is not in the folder."""
    for name in (script,) if script else names:
        path = (folder / name).resolve()
        if path.is_file() and path.is_relative_to(folder.resolve()):
            return name
    raise InvalidArgument(
        f"{folder} does not say what starts the server.",
        f"It needs {' or '.join(names)}, or a script in its metadata; or name one: --script FILE",
    )


def _toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InvalidArgument(f"{path} cannot be read: {error}") from error


def _requirements(path: Path) -> tuple[str, ...]:
    """The lines of a requirements file. Raises InvalidArgument for one that names another place."""
    if not path.is_file():
        return ()
    text = re.sub(r"\\\n", " ", path.read_text("utf-8"))
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()]
    # An option of one requirement, such as its hashes, comes after it.
    lines = [re.sub(r"\s--hash[= ]\S+", "", line).strip() for line in lines if line]
    for line in lines:
        if line.startswith(("-", ".", "/")):
            raise InvalidArgument(
                f"requirements.txt has a line that is no requirement: {line}",
                "Name packages only; indexes and constraints belong into pip's configuration.",
            )
    return tuple(lines)


def _inline(path: Path) -> tuple[str, ...]:
    """The dependencies that a script names at its head, as PEP 723 has it."""
    match = _SCRIPT_METADATA.search(path.read_text("utf-8"))
    if match is None:
        return ()
    text = "\n".join(line[2:] for line in match.group(1).splitlines())
    try:
        return tuple(tomllib.loads(text).get("dependencies", ()))
    except ValueError as error:
        raise InvalidArgument(f"The metadata of {path} cannot be read: {error}") from error
