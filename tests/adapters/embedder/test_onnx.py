import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mcp_hub.adapters.embedder.onnx import OnnxEmbedder
from mcp_hub.adapters.embedder.port import Embedder
from mcp_hub.adapters.embedder.sentence_transformer import SentenceTransformerEmbedder
from mcp_hub.adapters.errors import NotFound, Unavailable
from tests.adapters.embedder.contract import TEXTS, EmbedderContract


class TestOnnxEmbedder(EmbedderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def open_embedder(cls, onnx_folder: Path) -> Callable[[], Embedder]:
        return partial(OnnxEmbedder, onnx_folder)

    async def test_agrees_with_sentence_transformers(
        self, embedder: Embedder, minilm_folder: Path
    ) -> None:
        theirs = SentenceTransformerEmbedder(minilm_folder, device="cpu")
        texts = [*TEXTS, "word and another " * 120]
        assert await embedder.embed(texts) == pytest.approx(await theirs.embed(texts), abs=1e-4)
        await theirs.close()

    async def test_cuts_texts_where_the_model_says(self, onnx_folder: Path, tmp_path: Path) -> None:
        shutil.copytree(onnx_folder, tmp_path, dirs_exist_ok=True)
        (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 5}))
        short = OnnxEmbedder(tmp_path)
        rows = await short.embed(["one two three four", "one two three"])
        assert rows[0] == pytest.approx(rows[1], abs=1e-5)
        await short.close()


async def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"model\.onnx"):
        await OnnxEmbedder(tmp_path).embed(["a"])


async def test_a_file_that_is_no_model(tmp_path: Path, onnx_folder: Path) -> None:
    shutil.copy(onnx_folder / "tokenizer.json", tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"nonsense")
    with pytest.raises(Unavailable, match="cannot be loaded"):
        await OnnxEmbedder(tmp_path).embed(["a"])
    shutil.copy(onnx_folder / "model.onnx", tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(Unavailable, match="cannot be loaded"):
        await OnnxEmbedder(tmp_path).dimensions()
