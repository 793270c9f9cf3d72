"""Finding the right one among the tools of all deployments."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from anyio import to_thread
from numpy.typing import NDArray

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.embedder.port import Embedder
from mcp_hub.adapters.errors import InvalidArgument, NotFound, Unavailable
from mcp_hub.services.containers import catalog, store
from mcp_hub.services.containers.catalog import Offer
from mcp_hub.services.containers.views import UNTRUSTED, FoundTool, FoundTools
from mcp_hub.services.pages import check_limit, decode_cursor, encode_cursor
from mcp_hub.services.telemetry.templates.bm25 import Bm25, split
from mcp_hub.services.telemetry.templates.similar import fused

MAX_TEXT = 2_000
SCHEMAS = 3
"""Of so many of the best are the input schemas shown without being asked for."""

_SHOWN = 160
_VECTORS_KEPT = 20_000
_EMBEDDED = 1_000


@dataclass(frozen=True, slots=True)
class _Candidate:
    container: str
    offer: Offer

    @property
    def text(self) -> str:
        description = str(self.offer.definition.get("description") or "")
        title = str(self.offer.definition.get("title") or "")
        words = split(f"{self.container} {self.offer.name} {title} {description[:_EMBEDDED]}")
        return " ".join(words)


class Finding:
    """Lists the tools of deployments, or ranks them by a question: by its words and its meaning."""

    def __init__(self, database: Database, embedder: Embedder) -> None:
        self._database = database
        self._embedder = embedder
        self._vectors: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    async def find(
        self,
        name: str | None = None,
        query: str | None = None,
        *,
        schemas: bool | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> FoundTools:
        """The tools of one deployment or of all: by name, or the best for `query` first.

        Input schemas are shown if `schemas`, and of the best few for a query unless it is False.

        Raises:
            NotFound: there is no such deployment.
            InvalidArgument: the query, the limit or the cursor is malformed.
        """
        check_limit(limit)
        candidates = await self._candidates(name)
        if query is not None:
            if cursor is not None:
                raise InvalidArgument("With a query there is one page.", "Raise limit instead.")
            return await self._ranked(candidates, query, schemas, limit)
        after = tuple(decode_cursor(cursor, str, str)) if cursor else ("", "")
        rest = [one for one in candidates if (one.container, one.offer.name) > after]
        shown = rest[:limit]
        more = len(rest) > limit
        return FoundTools(
            items=[_found(one, with_schema=bool(schemas)) for one in shown],
            next_cursor=encode_cursor(shown[-1].container, shown[-1].offer.name) if more else None,
        )

    async def _candidates(self, name: str | None) -> list[_Candidate]:
        if name is None:
            deployments = await self._database.read(store.page)
        else:
            deployments = [await self._database.read(lambda c: store.get(c, name))]
        return [
            _Candidate(deployment.name, offer)
            for deployment in deployments
            for offer in catalog.offers(deployment)
        ]

    async def _ranked(
        self, candidates: Sequence[_Candidate], query: str, schemas: bool | None, limit: int
    ) -> FoundTools:
        if not query.strip() or len(query) > MAX_TEXT:
            raise InvalidArgument(f"query has {len(query)} characters; it has 1 to {MAX_TEXT:,}.")
        texts = [one.text for one in candidates]
        words = await to_thread.run_sync(lambda: Bm25(texts).scores(query))
        note = UNTRUSTED
        try:
            scores = fused(words, await self._cosines(texts, query))
        except (Unavailable, NotFound) as error:
            scores, note = words, f"{UNTRUSTED} Found by words alone: {error.message}"
        order = np.lexsort((np.arange(len(scores)), -scores))[:limit]
        items = [
            _found(
                candidates[at],
                with_schema=schemas if schemas is not None else place < SCHEMAS,
                score=round(float(scores[at]), 3),
            )
            for place, at in enumerate(order)
            if scores[at] > 0
        ]
        return FoundTools(items=items, note=note)

    async def _cosines(self, texts: Sequence[str], query: str) -> NDArray[np.float64]:
        missing = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        rows = await self._embedder.embed([query, *missing])
        new = dict(zip(missing, rows[1:], strict=True))
        known = {
            text: self._vectors[text] if text in self._vectors else new[text] for text in texts
        }
        self._vectors.update(known)
        while len(self._vectors) > _VECTORS_KEPT:
            self._vectors.popitem(last=False)
        matrix = np.array([known[text] for text in texts], np.float64).reshape(len(texts), -1)
        cosines: NDArray[np.float64] = matrix @ rows[0]
        return cosines


def _found(one: _Candidate, *, with_schema: bool, score: float | None = None) -> FoundTool:
    definition = one.offer.definition
    annotations: Any = definition.get("annotations")
    read_only = annotations.get("readOnlyHint") if isinstance(annotations, dict) else None
    text = str(definition.get("description") or definition.get("title") or "")
    return FoundTool(
        container=one.container,
        tool=one.offer.name,
        description=text if with_schema else _first_line(text),
        score=score,
        quarantined=True if one.offer.quarantined else None,
        read_only=read_only if isinstance(read_only, bool) else None,
        input_schema=definition.get("inputSchema") if with_schema else None,
    )


def _first_line(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
