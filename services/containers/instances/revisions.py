"""Specs by revision, which never change once they are written."""

from functools import partial

from mcp_hub.adapters.database.port import Database
from mcp_hub.services.containers.instances import rows
from mcp_hub.services.containers.instances.rows import Deployment, Revision

_KEPT = 1000


class Revisions:
    """The specs that were read before, without reading them again."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[tuple[str, int, int], Revision] = {}

    async def in_force(self, deployment: Deployment) -> Revision | None:
        """The revision that is in force; None if it was removed meanwhile."""
        # A name that is removed and deployed again begins anew.
        key = (deployment.name, deployment.revision, deployment.created_at)
        known = self._known.get(key)
        if known is None:
            found = partial(rows.revision_of, name=deployment.name, revision=deployment.revision)
            known = await self._database.read(found, one_statement=True)
            if known is None:
                return None
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[key] = known
        return known
