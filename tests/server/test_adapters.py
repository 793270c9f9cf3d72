"""Which adapters the settings choose."""

from pathlib import Path
from typing import Any

import pytest

from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.embedder.onnx import OnnxEmbedder
from mcp_hub.adapters.embedder.sentence_transformer import SentenceTransformerEmbedder
from mcp_hub.adapters.embedder.wordllama import WordllamaEmbedder
from mcp_hub.adapters.vectors.database import DatabaseVectors
from mcp_hub.adapters.vectors.qdrant import QdrantVectors
from mcp_hub.server.adapters import choose_embedder, choose_vectors, open_meaning
from mcp_hub.server.settings import Settings


@pytest.mark.parametrize(
    ("name", "kind", "shown"),
    [
        ("wordllama", WordllamaEmbedder, "wordllama/l2_supercat_256"),
        ("onnx:/models/minilm", OnnxEmbedder, "onnx/minilm"),
        ("sentence-transformers:org/small", SentenceTransformerEmbedder, None),
    ],
)
def test_an_embedder_by_its_name(name: str, kind: type[Any], shown: str | None) -> None:
    embedder = choose_embedder(Settings(embedder=name))
    assert type(embedder) is kind
    assert embedder.name == (shown or "sentence-transformers/org/small")


async def test_vectors_are_in_the_database_or_in_qdrant(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    assert isinstance(choose_vectors(Settings(), database, "c"), DatabaseVectors)
    for url in ("https://KEY@localhost:6333", str(tmp_path / "qdrant")):
        vectors = choose_vectors(Settings(vectors_url=url), database, "c")
        assert isinstance(vectors, QdrantVectors)
        await vectors.close()


async def test_embedders_have_collections_of_their_own(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    settings = Settings(vectors_url=str(tmp_path / "qdrant"))
    async with open_meaning(settings, database) as meaning:
        row = await meaning.embedder.embed(["disk full"])
        await meaning.vectors.upsert(["a"], row)
        assert await meaning.vectors.count() == 1
    async with open_meaning(
        Settings(**settings.model_dump() | {"embedder": "onnx:x"}), database
    ) as other:
        assert await other.vectors.count() == 0


def test_the_key_of_a_qdrant_server_is_not_shown() -> None:
    shown = Settings(vectors_url="https://KEY@qdrant.example.com:6333").shown()
    assert shown["vectors_url"] == "https://***@qdrant.example.com:6333"
