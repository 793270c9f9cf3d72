"""Any model of sentence-transformers, from a folder or by its name."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcp_hub.adapters.embedder.local import LocalEmbedder, Model
from mcp_hub.adapters.errors import Unavailable


class SentenceTransformerEmbedder(LocalEmbedder):
    """The model in a folder, or of that name on the Hugging Face Hub.

    A folder is read and nothing fetched; a name is looked up in the cache and fetched once, or
    only looked up with HF_HUB_OFFLINE=1. `device` is torch's; the fastest there is if None.
    """

    def __init__(self, model: str | Path, *, device: str | None = None) -> None:
        self._source = str(model)
        self._is_folder = Path(model).is_dir()
        short = Path(model).resolve().name if self._is_folder else self._source
        super().__init__(f"sentence-transformers/{short}")
        self._device = device

    def _load(self) -> Model:
        # torch takes seconds to import: here it does so on a thread, and only where it is used.
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise Unavailable(
                f"The sentence model needs the package {error.name}, which is not installed.",
                'Install it: pip install "mcp-hub[embeddings]".',
            ) from error
        try:
            model = SentenceTransformer(
                self._source, device=self._device, local_files_only=self._is_folder
            )
        # torch, transformers, safetensors and the Hub's client each raise errors of their own.
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise Unavailable(
                f"The sentence model {self._source!r} cannot be loaded: {reason}",
                "Name a folder with a sentence-transformers model, or one of the Hugging Face Hub "
                "while it can be reached or has been fetched before.",
            ) from error
        return _Encoder(model)


class _Encoder:
    def __init__(self, model: Any) -> None:
        self._model = model
        self.dimensions: int = len(self.encode(["a"])[0])

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = self._model.encode(
            texts, batch_size=len(texts), show_progress_bar=False, convert_to_numpy=True
        )
        return rows
