from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from mcp_hub.adapters.embedder.port import Embedder
from mcp_hub.adapters.embedder.wordllama import WordllamaEmbedder
from tests.adapters.embedder.contract import TEXTS, EmbedderContract


class TestWordllamaEmbedder(EmbedderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def open_embedder(cls) -> Callable[[], Embedder]:
        return WordllamaEmbedder

    async def test_says_what_wordllama_says(self, embedder: Embedder) -> None:
        from wordllama import WordLlama

        spec = find_spec("wordllama")
        assert spec is not None
        folder = Path((spec.submodule_search_locations or [""])[0])
        theirs = WordLlama.load(cache_dir=folder, disable_download=True)
        texts = [text for text in TEXTS if text]
        assert await embedder.embed(texts) == pytest.approx(
            theirs.embed(texts, norm=True), abs=1e-5
        )

    async def test_a_text_without_tokens_is_a_row_of_zeros(self, embedder: Embedder) -> None:
        assert not np.any(await embedder.embed([""]))
