"""Building an image of an MCP server, from a folder or of a package."""

import configparser
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from anyio import to_thread

from mcp_hub.adapters.containers.port import ContainerEngine, Image
from mcp_hub.adapters.errors import InvalidArgument, NotFound
from mcp_hub.services.containers.building import dockerfiles
from mcp_hub.services.containers.building.bases import ask_node, ask_python, shown
from mcp_hub.services.containers.building.context import Context, Ignored
from mcp_hub.services.containers.building.fetching import (
    OnProgress,
    fetch_packages,
    fetch_wheels,
    package_name,
)
from mcp_hub.services.containers.building.projects import (
    Kind,
    Project,
    choose_script,
    deployment_name,
    detect,
    node_program,
    read_package,
)

_BASES: Mapping[Kind, str] = {"python": "python:3.13-slim", "node": "node:24-slim"}
_NPM = "npm:"
_LOCAL = "localhost/"
"""No registry has images of such names, should one be missing here."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What may be said of a build; None: as it is found."""

    name: str | None = None
    """Of the deployment to come, which the tag is made of."""
    tag: str | None = None
    base: str | None = None
    kind: Kind | None = None
    script: str | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """An image that was built. `size` is in bytes; `command` is what it runs."""

    name: str
    tag: str
    id: str
    size: int
    command: tuple[str, ...]


class Builder:
    """Builds images on an engine."""

    def __init__(self, engine: ContainerEngine) -> None:
        self._engine = engine

    async def build_folder(self, folder: Path, choices: Choices, told: OnProgress) -> Built:
        """Build an image of a folder with a Python or Node server, or by its own Dockerfile.

        Raises:
            InvalidArgument: there is no server, it does not say what starts it, what it needs is
                not to be had, or a step of the build failed.
            LimitExceeded: the folder is too large.
            NotFound: the base image is nowhere.
            Unavailable: the engine, pip or npm is not there.
        """
        project = await to_thread.run_sync(
            partial(detect, folder, kind=choices.kind, script=choices.script)
        )
        if project.kind == "docker":
            context = await to_thread.run_sync(_whole, folder)
            return await self._build(project, choices, context, told)
        with TemporaryDirectory(prefix="mcp-hub-build-") as work:
            make = self._python if project.kind == "python" else self._node
            context = await make(project, folder, choices, Path(work), told)
        return await self._build(project, choices, context, told)

    async def build_package(self, package: str, choices: Choices, told: OnProgress) -> Built:
        """Build an image of a package of PyPI, or with `npm:` before it of npm.

        Raises: as `build_folder`.
        """
        requirement = package.removeprefix(_NPM)
        name = package_name(requirement)
        project = Project(
            "node" if package.startswith(_NPM) else "python",
            deployment_name(name.rpartition("/")[2]),
            requirements=(requirement,),
        )
        with TemporaryDirectory(prefix="mcp-hub-build-") as work:
            if project.kind == "python":
                context = await self._python(project, None, choices, Path(work), told)
            else:
                context = await self._node_package(name, requirement, choices, Path(work), told)
        return await self._build(project, choices, context, told)

    async def _python(
        self,
        project: Project,
        folder: Path | None,
        choices: Choices,
        work: Path,
        told: OnProgress,
    ) -> bytes:
        base = await ask_python(self._engine, await self._base("python", choices, told))
        await told(f"Base {shown(base.image)}: Python {base.version}, {base.platforms[0]}")
        wheels = work / "wheels"
        names = await fetch_wheels(project.requirements, base, wheels, told)
        if folder is None:
            scripts = await to_thread.run_sync(_console_scripts, wheels, project.requirements[0])
            package = package_name(project.requirements[0])
            project = replace(project, command=(choose_script(scripts, choices.script, package),))
        command = dockerfiles.python_command(project)
        source = project.command[0].endswith(".py")
        text = dockerfiles.python_dockerfile(
            project,
            base.image,
            pip=next(name for name in names if name.startswith("pip-")),
            command=command,
            source=source,
        )

        def context() -> bytes:
            context = Context()
            context.add_text("Dockerfile", text)
            context.add_text("wheels/requirements.txt", "\n".join((*project.requirements, "")))
            context.add_folder(wheels, Ignored(()), "wheels")
            if folder is not None:
                context.add_folder(folder, Ignored.of(folder, defaults=True), "source")
            return context.finish()

        return await to_thread.run_sync(context)

    async def _node(
        self, project: Project, folder: Path, choices: Choices, work: Path, told: OnProgress
    ) -> bytes:
        base = await ask_node(self._engine, await self._base("node", choices, told))
        await told(f"Base {shown(base.image)}: Node {base.version}, {base.os}-{base.cpu}")
        await to_thread.run_sync(_copy_manifests, folder, work)
        await told("Installing what package.json names, without install scripts")
        await fetch_packages(work, None, base, told)
        text = dockerfiles.node_dockerfile(base.image, ("node", f"/app/{project.command[0]}"))

        def context() -> bytes:
            context = Context()
            context.add_text("Dockerfile", text)
            context.add_folder(folder, Ignored.of(folder, defaults=True), "app")
            _add_modules(context, work)
            return context.finish()

        return await to_thread.run_sync(context)

    async def _node_package(
        self, name: str, requirement: str, choices: Choices, work: Path, told: OnProgress
    ) -> bytes:
        base = await ask_node(self._engine, await self._base("node", choices, told))
        await told(f"Base {shown(base.image)}: Node {base.version}, {base.os}-{base.cpu}")
        await told(f"Installing {requirement}, without install scripts")
        await fetch_packages(work, requirement, base, told)
        package = await to_thread.run_sync(read_package, work / "node_modules" / name)
        program = node_program(package, choices.script)
        if program is None:
            raise InvalidArgument(f"{name} has no program.", "Name a package with a bin.")
        command = ("node", f"/app/node_modules/{name}/{program.removeprefix('./')}")
        text = dockerfiles.node_dockerfile(base.image, command)

        def context() -> bytes:
            context = Context()
            context.add_text("Dockerfile", text)
            _add_modules(context, work)
            return context.finish()

        return await to_thread.run_sync(context)

    async def _base(self, kind: Kind, choices: Choices, told: OnProgress) -> Image:
        reference = choices.base or _BASES[kind]
        try:
            return await self._engine.image(reference)
        except NotFound:
            if reference.startswith(_LOCAL):
                raise
        await told(f"Pulling {reference}")
        async for _ in self._engine.pull(reference):
            pass
        return await self._engine.image(reference)

    async def _build(
        self, project: Project, choices: Choices, context: bytes, told: OnProgress
    ) -> Built:
        name = choices.name or project.name
        tag = choices.tag or f"{_LOCAL}{name}:latest"
        await told(f"Building {tag}")
        labels = {"org.opencontainers.image.title": name}
        async for line in self._engine.build(context, tag, labels):
            if line.startswith("Step "):
                await told(line)
        image = await self._engine.image(tag)
        return Built(name, tag, image.id, image.size, (*image.entrypoint, *image.command))


def _whole(folder: Path) -> bytes:
    context, ignored = Context(), Ignored.of(folder, defaults=False)
    context.add_folder(folder, ignored)
    if ignored.has("Dockerfile"):
        context.add_text("Dockerfile", (folder / "Dockerfile").read_text("utf-8"))
    return context.finish()


def _console_scripts(wheels: Path, requirement: str) -> list[str]:
    """The console scripts of a package, as its wheel says."""
    wanted = _normalized(package_name(requirement))
    for wheel in wheels.glob("*.whl"):
        if _normalized(wheel.name.partition("-")[0]) != wanted:
            continue
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith(".dist-info/entry_points.txt"):
                    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
                    parser.optionxform = str  # type: ignore[assignment,method-assign]
                    parser.read_string(archive.read(name).decode("utf-8"))
                    if parser.has_section("console_scripts"):
                        return sorted(parser["console_scripts"])
    return []


def _normalized(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")


def _copy_manifests(folder: Path, work: Path) -> None:
    """What npm reads; `.npmrc` may name a registry and a token, and stays out of the image."""
    for name in ("package.json", "package-lock.json", ".npmrc"):
        if (folder / name).is_file():
            shutil.copy(folder / name, work / name)


def _add_modules(context: Context, work: Path) -> None:
    modules = work / "node_modules"
    if modules.is_dir():
        context.add_folder(modules, Ignored((".bin", ".package-lock.json")), "app/node_modules")
