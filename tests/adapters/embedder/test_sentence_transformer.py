from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mcp_hub.adapters.embedder.port import Embedder
from mcp_hub.adapters.embedder.sentence_transformer import SentenceTransformerEmbedder
from mcp_hub.adapters.errors import Unavailable
from tests.adapters.embedder.contract import EmbedderContract


class TestSentenceTransformerEmbedder(EmbedderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def open_embedder(cls, minilm_folder: Path) -> Callable[[], Embedder]:
        return partial(SentenceTransformerEmbedder, minilm_folder, device="cpu")


async def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be loaded") as raised:
        await SentenceTransformerEmbedder(tmp_path).embed(["a"])
    assert "folder" in (raised.value.hint or "")


async def test_a_name_that_was_never_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The Hub's client reads its settings once, when it is imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(Unavailable, match=r"nobody/nothing.*cannot be loaded"):
        await SentenceTransformerEmbedder("nobody/nothing").embed(["a"])
