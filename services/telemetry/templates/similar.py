"""Which templates and names mean what a question asks: by their words and by an embedder."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio
import numpy as np
from anyio import to_thread
from numpy.typing import NDArray

from mcp_hub.adapters.embedder.port import Embedder
from mcp_hub.adapters.errors import InvalidArgument, NotFound, Unavailable, names_hint
from mcp_hub.adapters.vectors.port import Vectors
from mcp_hub.services.pages import check_limit
from mcp_hub.services.telemetry.envelope import (
    HUB_SERVICE,
    KINDS,
    OWN_SERVICES,
    severity_name,
)
from mcp_hub.services.telemetry.intake.masking import MASK
from mcp_hub.services.telemetry.templates.bm25 import Bm25, split
from mcp_hub.services.telemetry.templates.patterns import (
    Patterns,
    Seen,
    by_template,
    main_pattern,
    shown_minute,
    shown_services,
)
from mcp_hub.services.telemetry.templates.templates import Catalogue, Template, Templates
from mcp_hub.services.telemetry.views import Findings
from mcp_hub.services.telemetry.windows import Window

COLUMNS = [
    "template_id", "kind", "name", "template", "score", "count", "severity", "services",
    "last_seen", "example",
]  # fmt: skip

MAX_TEXT = 2_000
MEANING = 0.7
"""What the nearness of the vectors counts in the score; the rest is full text."""
EMBEDDING_S = 5.0
"""Time that one question may spend on embedding what was not embedded before."""

_NEAREST = 500
_AT_ONCE = 256
_STALE_MS = 3600 * 1000


@dataclass(frozen=True, slots=True)
class _Index:
    """The full text of a catalogue, and the templates by their places in it."""

    catalogue: Catalogue = field(default_factory=Catalogue)
    templates: Sequence[Template] = ()
    words: Bm25 = field(default_factory=lambda: Bm25([]))


class Similar:
    """Searches all templates known, and the names of events, metrics and spans.

    Their vectors are kept in `vectors`, a collection of that embedder's own, by the templates'
    ids. What has none yet gets it when a question is asked, within `EMBEDDING_S`.
    """

    def __init__(
        self, templates: Templates, patterns: Patterns, embedder: Embedder, vectors: Vectors
    ) -> None:
        self._templates = templates
        self._patterns = patterns
        self._embedder = embedder
        self._vectors = vectors
        self._index = _Index()
        self._embedding = anyio.Lock()
        self._embedded: set[str] = set()

    async def find(
        self,
        text: str,
        window: Window,
        *,
        kind: str | None = None,
        only_seen: bool = False,
        limit: int = 10,
    ) -> Findings:
        """The templates and names nearest to `text`, with how often each came in `window`; with
        `only_seen`, those alone that came. The hub's own are found where `text` names `mcp-hub`, or
        where nothing else was ever recorded.

        Raises:
            InvalidArgument: `text` is empty or too long, or there is no such kind.
        """
        check_limit(limit)
        if not text.strip() or len(text) > MAX_TEXT:
            raise InvalidArgument(f"text has {len(text)} characters; it has 1 to {MAX_TEXT:,}.")
        if kind is not None and kind not in KINDS:
            raise InvalidArgument(f"There is no kind {kind!r}.", names_hint(kind, KINDS, "kinds"))
        index = await self._current()
        catalogue = index.catalogue
        seen = await self._patterns.seen(window, catalogue, set(catalogue.series), KINDS)
        counts = {id: of for id, of in by_template(catalogue, seen).items() if of.count > 0}
        ranked, note = await self.ranked(text)
        leave_out_own = HUB_SERVICE not in text and not all(map(_is_own, index.templates))
        found = [
            (template, score)
            for template, score in ranked
            if kind in (None, template.kind) and (template.id in counts or not only_seen)
            if not (leave_out_own and _is_own(template))
        ][:limit]
        examples = await self._patterns.examples(
            [main_pattern(template, seen) for template, _ in found if template.patterns]
        )
        rows = []
        for template, score in found:
            of = counts.get(template.id, Seen())
            severity = severity_name(template.severity) if template.severity is not None else None
            rows.append(
                [
                    template.id, template.kind, template.name, template.text, round(score, 3),
                    of.count, severity, shown_services(template), shown_minute(of.last),
                    examples.get(main_pattern(template, seen)),
                ]
            )  # fmt: skip
        return Findings(columns=COLUMNS, rows=rows, note=note)

    async def ranked(self, text: str) -> tuple[list[tuple[Template, float]], str | None]:
        """All that has anything to do with `text`, best first, scored from 0 to 1; and what the
        ranking lacks, if it does."""
        index = await self._current()
        words = await to_thread.run_sync(index.words.scores, text)
        note = None
        near: dict[str, float] = {}
        try:
            missing = await self._embed(index)
            near = await self._near(text, index.catalogue)
            if missing:
                note = f"{missing:,} of {len(index.templates):,} are found by their words alone "
                note += "so far: they are embedded as questions are asked."
        except (Unavailable, NotFound) as error:
            note = f"By words alone: {error.message}"
        cosines = np.array([near.get(one.id, 0.0) for one in index.templates])
        scores = fused(words, cosines)
        order = np.lexsort((np.arange(len(scores)), -scores))
        return [(index.templates[at], float(scores[at])) for at in order if scores[at] > 0], note

    async def _current(self) -> _Index:
        catalogue = await self._templates.current()
        if catalogue is not self._index.catalogue:
            self._index = await to_thread.run_sync(_indexed, catalogue)
            # Others may have removed what they do not know any more.
            self._embedded = set()
        return self._index

    async def _near(self, text: str, catalogue: Catalogue) -> dict[str, float]:
        (vector,) = await self._embedder.embed([text])
        hits = await self._vectors.search(vector, limit=_NEAREST)
        before = _now_ms() - _STALE_MS
        stale = [
            hit.id
            for hit in hits
            if hit.id not in catalogue.templates and hit.payload["at"] < before
        ]
        if stale:
            await self._vectors.delete(stale)
        return {hit.id: hit.score for hit in hits}

    async def _embed(self, index: _Index) -> int:
        """Embed what has no vector yet, within the time for it; how many still have none."""
        async with self._embedding:
            missing = [one for one in index.templates if one.id not in self._embedded]
            if not missing:
                return 0
            self._embedded |= await self._vectors.present([one.id for one in missing])
            missing = [one for one in missing if one.id not in self._embedded]
            deadline = time.monotonic() + EMBEDDING_S
            for start in range(0, len(missing), _AT_ONCE):
                if time.monotonic() > deadline:
                    return len(missing) - start
                batch = missing[start : start + _AT_ONCE]
                matrix = await self._embedder.embed([text_of(one) for one in batch])
                at = _now_ms()
                ids = [one.id for one in batch]
                await self._vectors.upsert(ids, matrix, [{"at": at} for _ in ids])
                self._embedded.update(ids)
            return 0


def text_of(template: Template) -> str:
    """What is embedded of a template, and searched for words: its words, after where they are
    from and how severe they are."""
    severity = severity_name(template.severity) if template.severity is not None else ""
    text = f"{' '.join(template.services[:1])} {severity} {template.text.replace(MASK, ' ')}"
    return " ".join(split(text))


def fused(
    words: NDArray[np.float64], cosines: NDArray[np.float64], meaning: float = MEANING
) -> NDArray[np.float64]:
    """The scores [n] of full text and of vectors as one, by a convex combination: Bruch, Gai,
    Ingber: An Analysis of Fusion Functions for Hybrid Retrieval, ACM TOIS 42 (2023)."""
    return meaning * np.clip(cosines, 0, 1) + (1 - meaning) * words


def _is_own(template: Template) -> bool:
    return bool(template.services) and set(template.services) <= set(OWN_SERVICES)


def _indexed(catalogue: Catalogue) -> _Index:
    # A name says nothing more where the bodies of all its records have templates.
    templates = [one for one in catalogue.templates.values() if one.patterns or one.kind != "log"]
    newest_first = sorted(templates, key=lambda one: (-(one.first_time or 0), one.id))
    return _Index(catalogue, newest_first, Bm25([text_of(one) for one in newest_first]))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
