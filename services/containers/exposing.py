"""Deployments whose tools, prompts and resources stand among the hub's own, under these names."""

import hashlib
import re
from collections.abc import Mapping
from functools import partial
from urllib.parse import quote, unquote

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.remembering import Remembered
from mcp_hub.services.containers import catalog, store
from mcp_hub.services.containers.store import Deployment
from mcp_hub.services.containers.templates import parsed

SEPARATOR = "__"
"""Between a deployment's name, which has no underscore, and what it offers."""
MAX_NAME = 64

_TAKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""The names that every client takes."""
_OTHERS = re.compile(r"[^A-Za-z0-9_-]")
_EXPRESSION = re.compile(r"(\{[^{}]*\})")
_URI = re.compile(r"containers://([^/]+)/resources/(.+)", re.DOTALL)


def exposed_name(container: str, name: str) -> str:
    """What a tool or prompt of a deployment is called among the hub's own.

    It is `{container}__{name}`. Where clients would refuse that, other characters are underscores,
    the end is cut, and a digest of the name keeps it apart from others.
    """
    whole = f"{container}{SEPARATOR}{name}"
    if _TAKEN.fullmatch(whole):
        return whole
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{_OTHERS.sub('_', whole)[: MAX_NAME - 9]}_{digest}"


def renamed(deployment: Deployment) -> dict[str, str]:
    """The tools that are exposed, but not as `{container}__{tool}`: the name of each → as what."""
    if not deployment.spec.expose:
        return {}
    names = {
        offer.name: exposed_name(deployment.name, offer.name)
        for offer in catalog.offers(deployment)
    }
    return {
        name: shown
        for name, shown in names.items()
        if shown != f"{deployment.name}{SEPARATOR}{name}"
    }


def exposed_uri(container: str, uri: str) -> str:
    """Where a resource of a deployment is among the hub's own."""
    return f"containers://{container}/resources/{quote(uri, safe='')}"


def exposed_template(container: str, template: str) -> str:
    """As `exposed_uri`, for a template, whose expressions are left as they are."""
    parts = _EXPRESSION.split(template)
    shown = [part if at % 2 else quote(part, safe="") for at, part in enumerate(parts)]
    return f"containers://{container}/resources/{''.join(shown)}"


def container_in(uri: str) -> str | None:
    """The deployment that a URI of `exposed_uri` or `exposed_template` is of; None for others."""
    found = _URI.fullmatch(uri)
    return found[1] if found else None


def own_uri(deployment: Deployment, uri: str) -> str | None:
    """What the server calls the resource at an exposed URI; None if it offers none such."""
    found = _URI.fullmatch(uri)
    if found is None:
        return None
    meant = unquote(found[2])
    if any(meant == offer.name for offer in catalog.offers(deployment, "resources")):
        return meant
    for offer in catalog.offers(deployment, "resourceTemplates"):
        template = parsed(offer.name)
        shown = parsed(exposed_template(deployment.name, offer.name))
        if template is None or shown is None:
            continue
        values = shown.match(uri)
        if values is not None:
            return template.expand(values)
        if template.match(meant) is not None:
            return meant
    return None


class Exposing:
    """Finds what is exposed by what the database says of it, the same in every process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._deployments: Remembered[Deployment | None] = Remembered(database)

    async def deployments(self) -> list[Deployment]:
        """Those that are exposed and not stopped, by name."""
        return await self._database.read(store.exposed)

    async def find(self, container: str) -> Deployment | None:
        """The deployment of that name, if it is exposed and not stopped."""
        found = await self._deployments.read(container, partial(store.find, name=container))
        return found if found is not None and found.enabled and found.spec.expose else None


def shown_contents(container: str, result: Mapping[str, object]) -> dict[str, object]:
    """The result of `resources/read`, its URIs those of `exposed_uri`."""
    contents = result.get("contents")
    return {
        **result,
        "contents": [
            {**one, "uri": exposed_uri(container, str(one.get("uri", "")))}
            for one in (contents if isinstance(contents, list) else ())
            if isinstance(one, dict)
        ],
    }
