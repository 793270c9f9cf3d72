"""The embedder that needs nothing but its wheel: the mean of a text's token vectors."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from mcp_hub.adapters.embedder.local import LocalEmbedder, Model
from mcp_hub.adapters.errors import Unavailable

_TOKENS_AT_ONCE = 8192


class WordllamaEmbedder(LocalEmbedder):
    """wordllama's `l2_supercat`, 256 dimensions, of the weights that its wheel ships.

    Their two files are read as they are: importing `wordllama` would set up logging for the whole
    process, and its batches pad every text to the longest.
    """

    def __init__(self) -> None:
        super().__init__("wordllama/l2_supercat_256")

    def _load(self) -> Model:
        spec = find_spec("wordllama")
        if spec is None or not spec.submodule_search_locations:
            raise Unavailable(
                "The package wordllama is not installed.", "Install it: pip install wordllama."
            )
        folder = Path(spec.submodule_search_locations[0])
        weights = folder / "weights" / "l2_supercat_256.safetensors"
        tokenizer = folder / "tokenizers" / "l2_supercat_tokenizer_config.json"
        for file in (weights, tokenizer):
            if not file.is_file():
                raise Unavailable(
                    f"wordllama's file {file.name} is missing.",
                    "Install it again: pip install --force-reinstall wordllama.",
                )
        table = load_file(weights)["embedding.weight"].astype(np.float32)
        return _TokenMeans(table, Tokenizer.from_file(str(tokenizer)))


class _TokenMeans:
    def __init__(self, table: NDArray[np.float32], tokenizer: Tokenizer) -> None:
        self._table = table
        self._tokenizer = tokenizer
        self.dimensions: int = table.shape[1]
        tokenizer.no_padding()
        tokenizer.no_truncation()

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return np.stack([self._mean(text.ids) for text in encoded])

    def _mean(self, ids: list[int]) -> NDArray[np.float32]:
        total = np.zeros(self.dimensions, np.float32)
        # In pieces: the vectors of a megabyte of text would take hundreds.
        for start in range(0, len(ids), _TOKENS_AT_ONCE):
            piece = np.minimum(ids[start : start + _TOKENS_AT_ONCE], len(self._table) - 1)
            total += self._table[piece].sum(axis=0)
        total /= max(len(ids), 1)
        return total
