"""What a base image has: asked of its own Python or Node, in a container without network."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from anyio import CancelScope, fail_after

from mcp_hub.adapters.containers.port import ContainerConfig, ContainerEngine, Image
from mcp_hub.adapters.errors import InvalidArgument, TimedOut
from mcp_hub.services.containers.labels import ROLE

_ASK_S = 60.0
_OLDEST_GLIBC = 5
"""Of the manylinux tags: 2.5."""

# The names of PEP 508's environment markers.
_ASK_PYTHON = """
import json, os, platform, sys
version = ".".join(platform.python_version_tuple()[:2])
libc, libc_version = platform.libc_ver()
print(json.dumps({"libc": libc, "libc_version": libc_version, "markers": {
    "implementation_name": sys.implementation.name,
    "implementation_version": platform.python_version(),
    "os_name": os.name,
    "platform_machine": platform.machine(),
    "platform_python_implementation": platform.python_implementation(),
    "platform_release": "", "platform_version": "",
    "platform_system": platform.system(),
    "python_full_version": platform.python_version(),
    "python_version": version,
    "sys_platform": sys.platform,
}}))
"""
_ASK_NODE = """
const libc = process.report.getReport().header.glibcVersionRuntime ? "glibc" : "musl";
console.log(JSON.stringify(
  {version: process.versions.node, os: process.platform, cpu: process.arch, libc}));
"""


@dataclass(frozen=True, slots=True)
class PythonBase:
    """A base image's Python."""

    image: Image
    markers: Mapping[str, str]
    """What environment markers are there, by PEP 508's names."""
    platforms: tuple[str, ...]
    """The platform tags of the wheels that it can install, best first."""

    @property
    def version(self) -> str:
        return self.markers["python_version"]


@dataclass(frozen=True, slots=True)
class NodeBase:
    """A base image's Node, in npm's words."""

    image: Image
    version: str
    os: str
    cpu: str
    libc: str


async def ask_python(engine: ContainerEngine, image: Image) -> PythonBase:
    """Raises InvalidArgument where the image has no Python 3 as `python3`."""
    told = await _ask(engine, image, ("python3", "-I", "-c", _ASK_PYTHON), "python3")
    markers = told["markers"]
    return PythonBase(
        image, markers, _platforms(told["libc"], told["libc_version"], markers["platform_machine"])
    )


async def ask_node(engine: ContainerEngine, image: Image) -> NodeBase:
    """Raises InvalidArgument where the image has no Node as `node`."""
    return NodeBase(image, **await _ask(engine, image, ("node", "-e", _ASK_NODE), "node"))


def _platforms(libc: str, version: str, machine: str) -> tuple[str, ...]:
    if libc != "glibc":
        # Python does not tell musl's version; 1.2 is that of every Alpine since 2021.
        return (*(f"musllinux_1_{minor}_{machine}" for minor in (2, 1)), f"linux_{machine}")
    newest = int(version.split(".")[1])
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(newest, _OLDEST_GLIBC - 1, -1)]
    older = [f"{name}_{machine}" for name in ("manylinux2014", "manylinux2010", "manylinux1")]
    return (*tags, *older, f"linux_{machine}")


async def _ask(
    engine: ContainerEngine, image: Image, command: tuple[str, ...], program: str
) -> dict[str, Any]:
    name = f"mcphub-ask-{uuid4().hex}"
    lines: list[str] = []
    answers: list[str] = []
    try:
        with fail_after(_ASK_S):
            await engine.create(
                ContainerConfig(
                    name, image.id, entrypoint=command, command=(), labels={ROLE: "asked"}
                )
            )
            await engine.start(name)
            # A warning of the runtime's is no answer.
            async for line in engine.logs(name, follow=True):
                lines.append(line.text)
                answers += [line.text] if line.stream == "stdout" else []
        return dict(json.loads(answers[-1]))
    except TimeoutError:
        raise TimedOut(f"The base image did not answer within {_ASK_S:g} s.") from None
    except (InvalidArgument, ValueError, IndexError) as error:
        said = error.message if isinstance(error, InvalidArgument) else "; ".join(lines[-3:])
        said = said or "it said nothing."
        raise InvalidArgument(
            f"The base image {shown(image)} has no {program} that runs: {said}",
            "Name one that has it: --base python:3.13-slim, --base node:24-slim",
        ) from error
    finally:
        with CancelScope(shield=True):
            await engine.remove(name)


def shown(image: Image) -> str:
    """An image as people know it."""
    return image.tags[0] if image.tags else image.id[:19]
