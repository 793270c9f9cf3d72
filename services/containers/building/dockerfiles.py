"""The Dockerfiles of servers that have none: no step has network, and none runs as root later."""

import json
from collections.abc import Sequence
from pathlib import PurePosixPath

from mcp_hub.adapters.containers.port import Image
from mcp_hub.services.containers.building.projects import Project

_USER = "USER 65532:65532"


def python_dockerfile(
    project: Project, base: Image, *, pip: str, command: Sequence[str], source: bool
) -> str:
    """For a context with `wheels/`, the wheel `pip` among them, and with `source` the folder's
    files in `source/`."""
    install = [
        "/app/bin/python", "-m", "pip", "install", "--no-index", "--find-links=/wheels",
        "--no-cache-dir", "--disable-pip-version-check", "--root-user-action=ignore",
    ]  # fmt: skip
    what = ["/source"] if project.installs_itself else ["--requirement", "/wheels/requirements.txt"]
    lines = [
        f"FROM {base.id} AS build",
        "COPY wheels /wheels",
        *(["COPY source /source"] if project.installs_itself else []),
        # pip comes along as a wheel, and is run from it: no image needs it.
        f"ENV PYTHONPATH=/wheels/{pip}",
        # The version of a distribution that would ask git for it.
        "ENV SETUPTOOLS_SCM_PRETEND_VERSION=0",
        'RUN ["python3", "-m", "venv", "--without-pip", "/app"]',
        f"RUN {json.dumps(install + what)}",
        f"FROM {base.id}",
        "COPY --from=build /app /app",
        *(["COPY source /app/source", "WORKDIR /app/source"] if source else []),
        "ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1",
        _USER,
        f"ENTRYPOINT {json.dumps(list(command))}",
        "CMD []",
    ]
    return "\n".join([*lines, ""])


def python_command(project: Project) -> tuple[str, ...]:
    """A script of the installed distribution's, or a file of the folder's."""
    (start,) = project.command
    if start.endswith(".py"):
        return ("/app/bin/python", str(PurePosixPath("/app/source") / start))
    return (f"/app/bin/{start}",)


def node_dockerfile(base: Image, command: Sequence[str]) -> str:
    """For a context with the folder's files and what they need in `app/`."""
    lines = [
        f"FROM {base.id}",
        "COPY app /app",
        "WORKDIR /app",
        "ENV NODE_ENV=production",
        _USER,
        f"ENTRYPOINT {json.dumps(list(command))}",
        "CMD []",
    ]
    return "\n".join([*lines, ""])
