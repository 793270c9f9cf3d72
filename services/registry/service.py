"""The model registry: versions, aliases, promotion, lineage."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from anyio import to_thread
from sqlalchemy import Connection

from mcp_hub.adapters.blobs.port import BlobStore
from mcp_hub.adapters.bus.port import Bus
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.pages import check_limit, decode_cursor, encode_cursor
from mcp_hub.services.registry import deleting, listing
from mcp_hub.services.registry.artifacts import read_artifact
from mcp_hub.services.registry.gates import Approval, Gates, parse_gates
from mcp_hub.services.registry.labels import (
    LONGEST_DESCRIPTION,
    LONGEST_REASON,
    change_tags,
    check_metrics,
    check_tags,
    check_text,
)
from mcp_hub.services.registry.lineage import lineage
from mcp_hub.services.registry.promoting import Judged, decisions, judge, promote
from mcp_hub.services.registry.references import (
    RESERVED_ALIAS,
    Reference,
    check_alias,
    check_name,
    parse_reference,
)
from mcp_hub.services.registry.store import NewVersion, add_version
from mcp_hub.services.registry.versions import VersionReader, model_names, version_states
from mcp_hub.services.registry.views import (
    SERVED_MODEL,
    Artifact,
    Deleted,
    Lineage,
    ModelComparison,
    ModelSummary,
    ModelView,
    Promotion,
    Signature,
)
from mcp_hub.services.roots import Roots
from mcp_hub.services.telemetry.own.own import SILENT, OwnTelemetry
from mcp_hub.services.views import Page

Names = list[str]
"""Named, because `list` is a method in the class below."""


class RegistryService:
    """Model versions, and the aliases that say which of them is in use.

    Every method that takes a reference raises InvalidArgument where it is malformed and NotFound
    where it names nothing, or something that was deleted.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        bus: Bus,
        *,
        roots: Sequence[Path],
        own: OwnTelemetry = SILENT,
    ) -> None:
        self._own = own
        self._database = database
        self._blobs = blobs
        self._bus = bus
        self._roots = Roots(roots)
        self._versions = VersionReader(database)

    async def get(self, reference: str, artifact: str | None = None) -> ModelView:
        """The version that `reference` names, with the content of one artifact where asked for.

        Raises as `read_artifact`.
        """
        view = await self._versions.get(reference)
        if artifact is None:
            return view
        content = await read_artifact(view, artifact, self._blobs)
        return view.model_copy(update={"content": content})

    async def list(
        self,
        limit: int = 50,
        cursor: str | None = None,
        name: str | None = None,
        tag: str | None = None,
    ) -> Page[ModelSummary]:
        """Models by name: those whose name contains `name` and whose newest version has `tag`.

        Raises:
            InvalidArgument: the limit, the cursor or the tag (`key` or `key=value`) is malformed.
        """
        check_limit(limit)
        after = decode_cursor(cursor, str)[0] if cursor else ""
        found = await self._database.read(
            partial(listing.list_models, limit=limit + 1, after=after, name=name, tag=tag)
        )
        more = len(found) > limit
        items = found[:limit]
        return Page(items=items, next_cursor=encode_cursor(items[-1].name) if more else None)

    async def names(self, prefix: str = "") -> Names:
        """The names of models that begin with `prefix`, in any case."""
        known = await self._database.read(model_names)
        return [name for name in known if name.lower().startswith(prefix.lower())]

    async def register(
        self,
        name: str,
        path: str,
        *,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        created_by: str,
    ) -> ModelView:
        """Add the ONNX file at `path`, inside the roots, as the next version of `name`.

        Raises:
            InvalidArgument: the name, the path or the file will not do; nothing is written.
            Denied, NotFound: the file is outside the roots, may not be read, or is not there.
            LimitExceeded: the file, the description, a tag or the metrics are too large.
            Unavailable: the blobs or the database cannot be written.
        """
        check_name(name)
        described = check_text(description, "description", LONGEST_DESCRIPTION)
        tags, metrics = check_tags(tags or {}), check_metrics(metrics or {})
        model, signature = await to_thread.run_sync(_read_model, self._roots, path)
        blob = await self._blobs.put(model)
        new = NewVersion(
            name=name,
            flavor="onnx",
            signature=signature,
            artifacts=[Artifact(name=SERVED_MODEL, sha256=blob.sha256, bytes=blob.size)],
            created_by=created_by,
            metrics=metrics,
            tags=tags,
            description=described,
        )
        version = await self._database.write(partial(add_version, new=new))
        self._own.event(
            "model.registered",
            {"mcp_hub.model.name": name, "mcp_hub.model.version": version},
        )
        await self._publish(name, listed=version == 1)
        return await self.get(f"{name}:{version}")

    async def promote(
        self,
        reference: str,
        alias: str,
        *,
        gates: Gates | Mapping[str, Any] | None = None,
        reason: str = "",
        decided_by: str,
        approval: Approval | None = None,
    ) -> Promotion:
        """Move `alias` to the version if every gate passes; the decision is kept either way.

        To roll back, promote the version that `previous` names.

        Raises:
            InvalidArgument: the alias or a gate is malformed.
        """
        decision = await self._database.write(
            partial(
                promote,
                reader=self._versions,
                reference=parse_reference(reference),
                alias=_settable(alias),
                gates=parse_gates(gates),
                reason=check_text(reason, "reason", LONGEST_REASON),
                decided_by=decided_by,
                approval=approval,
            )
        )
        self._own.event(
            "model.promotion",
            {
                "mcp_hub.model.name": decision.name,
                "mcp_hub.model.version": decision.version,
                "mcp_hub.model.alias": decision.alias,
                "mcp_hub.promoted": decision.promoted,
            },
        )
        if decision.promoted:
            await self._publish(decision.name)
        return decision

    async def lacks_approval(
        self, reference: str, alias: str, *, gates: Gates | Mapping[str, Any] | None
    ) -> Judged | None:
        """The promotion that a person has to be asked about: all its gates pass but their own.

        None where no gate asks for a person, or another has failed. Raises as `promote`.
        """
        parsed = parse_gates(gates)
        if not parsed.human_approval:
            return None
        judged = await self._database.read(
            partial(
                judge,
                reader=self._versions,
                reference=parse_reference(reference),
                alias=_settable(alias),
                gates=parsed,
            )
        )
        return judged if judged.lacks_only_approval else None

    async def promotions(
        self, name: str, limit: int = 50, cursor: str | None = None
    ) -> Page[Promotion]:
        """The decisions about a model's aliases, newest first.

        Raises:
            NotFound: there is no such model.
        """
        check_limit(limit)
        before = decode_cursor(cursor, int)[0] if cursor else None

        def work(connection: Connection) -> list[tuple[int, Promotion]]:
            version_states(connection, name)
            return decisions(connection, name, before=before, limit=limit + 1)

        found = await self._database.read(work)
        more = len(found) > limit
        items = found[:limit]
        return Page(
            items=[promotion for _, promotion in items],
            next_cursor=encode_cursor(items[-1][0]) if more else None,
        )

    async def compare(self, references: Sequence[str]) -> ModelComparison:
        """Two to twenty versions side by side.

        Raises:
            InvalidArgument: there are fewer or more, or two references name one version.
        """
        parsed = listing.check_compared([parse_reference(text) for text in references])

        def work(connection: Connection) -> list[ModelView]:
            return [self._versions.read(connection, reference) for reference in parsed]

        return listing.compare(await self._database.read(work))

    async def lineage(self, reference: str) -> Lineage:
        """Where a version came from and what was decided about it."""
        parsed = parse_reference(reference)
        return await self._database.read(
            lambda connection: lineage(connection, self._versions.read(connection, parsed))
        )

    async def tag(self, reference: str, tags: Mapping[str, str | None]) -> ModelView:
        """Set each tag to its value, or remove it where that is None.

        Raises:
            LimitExceeded: the version would have more than 50 tags, or a value is too long.
        """
        parsed = parse_reference(reference)
        view = await self._database.write(
            partial(change_tags, reader=self._versions, reference=parsed, changes=tags)
        )
        await self._publish(view.name)
        return view

    async def delete(
        self, reference: str, *, force: bool = False, restore: bool = False
    ) -> Deleted:
        """Delete an alias, a version, or all versions of a model; or bring versions back.

        Versions are deleted softly: their numbers stay taken and their files stay stored.

        Raises:
            Conflict: aliases point at what would be deleted, and `force` does not remove them.
            InvalidArgument: an alias is to be restored.
        """
        parsed = parse_reference(reference)
        result = await self._database.write(partial(_delete_or_restore, parsed, force, restore))
        if result.deleted or result.restored:
            await self._publish(parsed.name, listed=parsed.alias is None)
        return result

    async def _publish(self, name: str, *, listed: bool = False) -> None:
        """Tell that the model changed and, if `listed`, perhaps the list of models too."""
        await self._bus.publish(f"models://{name}")
        if listed:
            await self._bus.publish("resources/list_changed")


def _settable(alias: str) -> str:
    if alias == RESERVED_ALIAS:
        raise InvalidArgument(
            f"{alias!r} cannot be an alias: it would not follow the newest version.",
            "The plain name is the newest version; use an alias such as 'champion'.",
        )
    return check_alias(alias)


def _read_model(roots: Roots, path: str) -> tuple[bytes, Signature]:
    from mcp_hub.services.registry import inspection

    return inspection.read_model(roots, path)


def _delete_or_restore(
    reference: Reference, force: bool, restore: bool, connection: Connection
) -> Deleted:
    if restore:
        return deleting.restore_versions(connection, reference)
    if reference.alias is not None:
        return deleting.delete_alias(connection, reference)
    return deleting.delete_versions(connection, reference, force=force)
