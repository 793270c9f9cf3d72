"""Fetches what a server needs, on the hub's machine and as its user's pip and npm are set up.

Nothing that is fetched is run: wheels and packages without their install scripts.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from anyio import fail_after, open_process, to_thread
from anyio.streams.text import TextReceiveStream

from mcp_hub.adapters.errors import InvalidArgument, TimedOut, Unavailable
from mcp_hub.services.containers.building import pip_for
from mcp_hub.services.containers.building.bases import NodeBase, PythonBase

OnProgress = Callable[[str], Awaitable[None]]
"""Is told in a line what is going on."""

_FETCH_S = 900.0
_LINES_SHOWN = 12
_ERRORS = ("ERROR: ", "npm error ")
_NPM = (
    "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier",
)  # fmt: skip


async def fetch_wheels(
    requirements: Sequence[str], base: PythonBase, into: Path, told: OnProgress
) -> list[str]:
    """Put the wheels of `requirements`, all that they need, and pip into a folder; their names.

    Raises:
        InvalidArgument: a package is not there, or has no wheel for the base image.
        Unavailable: the hub's Python has no pip.
        TimedOut: it took more than a quarter of an hour.
    """
    if find_spec("pip") is None:
        raise Unavailable(
            f"The hub's Python, {sys.executable}, has no pip to fetch packages with.",
            f'Install it: pip install "mcp-hub[docker]", or {sys.executable} -m ensurepip',
        )
    listed = into.parent / "requirements.txt"
    await to_thread.run_sync(listed.write_text, "\n".join([*requirements, "pip"]))
    command = [
        sys.executable, "-I", pip_for.__file__, json.dumps(dict(base.markers)),
        "download", "--no-input", "--progress-bar=off", "--only-binary=:all:",
        "--dest", str(into), "--requirement", str(listed),
        "--python-version", base.version, "--implementation", "cp",
        *(f"--platform={tag}" for tag in base.platforms),
    ]  # fmt: skip
    await _run(command, into.parent, told, "pip", {"Collecting": "Fetching"})
    return sorted(await to_thread.run_sync(os.listdir, into))


async def fetch_packages(
    folder: Path, package: str | None, base: NodeBase, told: OnProgress
) -> None:
    """Install into a folder what its package.json names, or one `package` alone.

    Raises:
        InvalidArgument: npm refuses; the message has its last lines.
        Unavailable: npm is not installed.
        TimedOut: it took more than a quarter of an hour.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable(
            "npm is not on the hub's PATH, and it fetches what a Node server needs.",
            "Install Node with npm where this command runs.",
        )
    target = (f"--os={base.os}", f"--cpu={base.cpu}", f"--libc={base.libc}")
    if package is not None:
        arguments = ["install", *_NPM, *target, "--", package]
    elif await to_thread.run_sync((folder / "package-lock.json").is_file):
        arguments = ["ci", *_NPM, *target]
    else:
        arguments = ["install", *_NPM, *target]
    await _run([npm, *arguments], folder, told, "npm", {})


async def _run(
    command: Sequence[str], cwd: Path, told: OnProgress, name: str, shown: dict[str, str]
) -> None:
    """Run a program, and tell those lines of it that begin with a word of `shown`, put so."""
    lines: list[str] = []
    try:
        with fail_after(_FETCH_S):
            async with await open_process(
                command, cwd=cwd, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT
            ) as process:
                assert process.stdout is not None
                rest = ""
                async for text in TextReceiveStream(process.stdout, errors="replace"):
                    *whole, rest = (rest + text).split("\n")
                    lines += whole
                    for line in whole:
                        word, _, what = line.partition(" ")
                        if word in shown:
                            await told(f"{shown[word]} {what.partition(' (')[0]}")
    except TimeoutError as error:
        raise TimedOut(f"{name} took more than {_FETCH_S:g} s.") from error
    if process.returncode != 0:
        lines = [line for line in [*lines, rest] if line.strip()]
        said = [line for line in lines if line.startswith(_ERRORS)] or lines[-_LINES_SHOWN:]
        raise InvalidArgument("\n".join((f"{name} could not fetch what the server needs:", *said)))


def package_name(requirement: str) -> str:
    """The name within `name`, `name==1.0`, `name[extra]` or `@scope/name@1.0`.

    Raises:
        InvalidArgument: it names no package of a registry.
    """
    match = re.match(
        r"(@[a-z0-9._~-]+/[a-z0-9._~-]+|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
        r"(?:\[[A-Za-z0-9,._ -]*\])?\s*(?:[@=<>!~].*)?\Z",
        requirement,
    )
    if match is None or "://" in requirement:
        raise InvalidArgument(
            f"{requirement!r} is no package.",
            "Name one of PyPI, such as mcp-server-time or mcp-server-time==2026.1.14, or one of "
            "npm, such as npm:@modelcontextprotocol/server-everything.",
        )
    return match.group(1)
