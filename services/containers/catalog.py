"""What servers offer: listed, kept, and held back where it changed since it was approved."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from sqlalchemy import Connection

from mcp_hub.adapters.bus.port import Bus
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import Denied, InvalidArgument, NotFound, names_hint
from mcp_hub.services.containers import store
from mcp_hub.services.containers.announcing import announce
from mcp_hub.services.containers.specs import ContainerSpec
from mcp_hub.services.containers.store import Deployment
from mcp_hub.services.containers.templates import parsed
from mcp_hub.services.containers.views import Approved
from mcp_hub.services.containers.wire.messages import METHOD_NOT_FOUND, RpcError

MAX_ITEMS = 5_000
MAX_BYTES = 8 * 1024 * 1024

Request = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
"""Makes one request of a server, such as `tools/list`, and gives its result."""
Catalog = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of thing that a server lists."""

    key: str
    method: str
    capability: str
    identity: str
    told: tuple[str, ...]
    """The fields by which a model or a client decides: what is approved."""


KINDS = (
    _Kind(
        "tools", "tools/list", "tools", "name",
        ("title", "description", "inputSchema", "outputSchema", "annotations"),
    ),
    _Kind("prompts", "prompts/list", "prompts", "name", ("title", "description", "arguments")),
    _Kind(
        "resources", "resources/list", "resources", "uri",
        ("name", "title", "description", "mimeType", "annotations"),
    ),
    _Kind(
        "resourceTemplates", "resources/templates/list", "resources", "uriTemplate",
        ("name", "title", "description", "mimeType", "annotations"),
    ),
)  # fmt: skip


_WORDS = {
    "tools": "tool",
    "prompts": "prompt",
    "resources": "resource",
    "resourceTemplates": "template",
}


async def listed(request: Request, capabilities: Mapping[str, Any]) -> Catalog:
    """All that a server lists of what it says it has, page by page.

    Raises:
        InvalidArgument: it lists more than anyone could keep, for ever, or what is no list.
    """
    catalog: Catalog = {}
    size = 0
    for kind in KINDS:
        if kind.capability not in capabilities:
            continue
        found: dict[str, dict[str, Any]] = {}
        async for items in _pages(request, kind):
            for item in items:
                if not isinstance(item, dict) or not isinstance(item.get(kind.identity), str):
                    raise InvalidArgument(f"The server's {kind.key} are not as MCP has them.")
                size += len(json.dumps(item))
                found[item[kind.identity]] = item
            if len(found) > MAX_ITEMS or size > MAX_BYTES:
                raise InvalidArgument(
                    f"The server lists more than {MAX_ITEMS:,} {kind.key}, or {MAX_BYTES:,} bytes."
                )
        catalog[kind.key] = [found[name] for name in sorted(found)]
    return catalog


async def _pages(request: Request, kind: _Kind) -> Any:
    cursors: set[str] = set()
    params: dict[str, Any] = {}
    while True:
        try:
            result = await request(kind.method, params)
        except RpcError as error:
            if error.code == METHOD_NOT_FOUND:
                return
            raise InvalidArgument(
                f"The server answered {kind.method} with an error: {error.message}"
            ) from error
        items = result.get(kind.key)
        if not isinstance(items, list):
            raise InvalidArgument(f"The server's answer to {kind.method} has no {kind.key}.")
        yield items
        cursor = result.get("nextCursor")
        if not isinstance(cursor, str):
            return
        if cursor in cursors:
            raise InvalidArgument(f"The server's pages of {kind.key} have no end.")
        cursors.add(cursor)
        params = {"cursor": cursor}


def digest(kind: _Kind, item: Mapping[str, Any]) -> str:
    """A digest of what is approved of a definition. The order of keys does not count."""
    told = {field: item[field] for field in kind.told if item.get(field) is not None}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def digests(catalog: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, str]]:
    """The digests of a whole catalog, as `Deployment.approved` keeps them."""
    return {
        kind.key: {item[kind.identity]: digest(kind, item) for item in catalog.get(kind.key, ())}
        for kind in KINDS
    }


def is_offered(spec: ContainerSpec, tool: str) -> bool:
    """Whether the spec's filter lets a tool through."""
    return spec.tools is None or any(fnmatchcase(tool, pattern) for pattern in spec.tools)


@dataclass(frozen=True, slots=True)
class Offer:
    """A definition as its server gave it, and whether it is as approved."""

    name: str
    definition: dict[str, Any]
    quarantined: bool

    @property
    def is_repeatable(self) -> bool:
        """Whether a call of it that was cut off may be made again, as its server says."""
        said = self.definition.get("annotations")
        hints = said if isinstance(said, dict) else {}
        return hints.get("readOnlyHint") is True or hints.get("idempotentHint") is True


def offers(deployment: Deployment, key: str = "tools") -> list[Offer]:
    """What a deployment offers of a kind, by name: tools only those that its filter lets through.

    `key` is one of tools, prompts, resources and resourceTemplates.
    """
    return [offer for kind, offer in _all_offers(deployment) if kind.key == key]


def quarantined(deployment: Deployment) -> list[str]:
    """What is held back, of all kinds: tools by their names, others as `prompts:name` and so on."""
    return [
        _shown(kind, offer.name) for kind, offer in _all_offers(deployment) if offer.quarantined
    ]


def _all_offers(deployment: Deployment) -> Iterator[tuple[_Kind, Offer]]:
    for kind in KINDS:
        for item in deployment.catalog.get(kind.key, ()):
            if kind.key != "tools" or is_offered(deployment.spec, item[kind.identity]):
                yield kind, _offer(deployment, kind, item)


def _offer(deployment: Deployment, kind: _Kind, item: dict[str, Any]) -> Offer:
    name = item[kind.identity]
    approved = deployment.approved.get(kind.key, {}).get(name)
    return Offer(name, item, approved != digest(kind, item))


def _shown(kind: _Kind, name: str) -> str:
    return name if kind.key == "tools" else f"{kind.key}:{name}"


def usable(deployment: Deployment, name: str, key: str = "tools") -> Offer:
    """The tool, or what else `key` says, of that name, which may be used.

    Raises:
        NotFound: it offers no such thing.
        Denied: it is new, or is no longer what was approved.
    """
    seen: Offer | None = deployment.offers.get((key, name))
    if seen is not None:
        return seen
    kind = next(kind for kind in KINDS if kind.key == key)
    listed = deployment.catalog.get(key, ())
    found = next((item for item in listed if item[kind.identity] == name), None)
    if found is None or (key == "tools" and not is_offered(deployment.spec, name)):
        known = [offer.name for offer in offers(deployment, key)]
        raise NotFound(
            f"{deployment.name} offers no {_WORDS[key]} {name!r}.",
            names_hint(name, known, f"{_WORDS[key]}s of {deployment.name}"),
        )
    offer = _offer(deployment, kind, found)
    if offer.quarantined:
        was = "changed" if name in deployment.approved.get(key, {}) else "is new"
        raise Denied(
            f"The {_WORDS[key]} {name!r} of {deployment.name} {was} since the deployment was "
            "approved.",
            f"Look at it with container_tools(name={deployment.name!r}, schemas=true); "
            "container_approve lets it through."
            if key == "tools"
            else f"container_approve({deployment.name!r}) lets it through.",
        )
    deployment.offers[key, name] = offer
    return offer


def check_readable(deployment: Deployment, uri: str) -> None:
    """Raises as `usable`, unless the server lists the resource or has a template that gives it."""
    if all(uri != offer.name for offer in offers(deployment, "resources")):
        for offer in offers(deployment, "resourceTemplates"):
            if _gives(offer.name, uri):
                usable(deployment, offer.name, "resourceTemplates")
                return
    usable(deployment, uri, "resources")


def _gives(template: str, uri: str) -> bool:
    found = parsed(template)
    return found is not None and found.match(uri) is not None


class Catalogs:
    """Keeps catalogs as servers change them, and what a person approves of them."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus

    async def refresh(
        self, name: str, revision: int, request: Request, capabilities: Mapping[str, Any]
    ) -> bool:
        """List again what a server of a revision offers; whether anything is new.

        What is not as approved is held back from now on. Raises as `listed`.
        """
        catalog = await listed(request, capabilities)
        changed = await self._database.write(
            partial(store.save_catalog, name=name, revision=revision, catalog=catalog)
        )
        if changed:
            await self._announce(name)
        return changed

    async def approve(self, name: str, tools: Sequence[str] | None = None) -> Approved:
        """Let through what is held back: all, or what `tools` name.

        Raises:
            NotFound: there is no such deployment, or nothing of that name is held back.
        """
        done = await self._database.write(partial(_approve, name=name, only=tools))
        if done.approved:
            await self._announce(name)
        return done

    async def _announce(self, name: str) -> None:
        deployment = await self._database.read(partial(store.find, name=name))
        exposed = deployment is not None and deployment.spec.expose
        await announce(self._bus, name, exposed=exposed)


def _approve(connection: Connection, name: str, only: Sequence[str] | None) -> Approved:
    deployment = store.get(connection, name)
    held = quarantined(deployment)
    for wanted in only or ():
        if wanted not in held:
            raise NotFound(
                f"Nothing of {name} named {wanted!r} is held back.",
                names_hint(wanted, held, "held back"),
            )
    let = [one for one in held if only is None or one in only]
    approved = {kind: dict(names) for kind, names in deployment.approved.items()}
    for kind, offer in _all_offers(deployment):
        if _shown(kind, offer.name) in let:
            approved.setdefault(kind.key, {})[offer.name] = digest(kind, offer.definition)
    if let:
        store.save_approved(connection, name, approved)
    return Approved(name=name, approved=let, quarantined=[one for one in held if one not in let])
