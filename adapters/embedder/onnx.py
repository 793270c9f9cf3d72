"""Sentence models as ONNX: a transformer whose token vectors are averaged."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession, SessionOptions
from tokenizers import Tokenizer

from mcp_hub.adapters.embedder.local import LocalEmbedder, Model
from mcp_hub.adapters.errors import NotFound, Unavailable

_LONGEST = 512
_FATAL = 4


class OnnxEmbedder(LocalEmbedder):
    """The model in `folder`: `model.onnx` and `tokenizer.json`, as for a BERT-like encoder.

    The graph takes `input_ids`, `attention_mask` and perhaps `token_type_ids`, int64 [n, t]; its
    first output is the token vectors [n, t, d], or the texts' own [n, d]. Texts are cut where
    `sentence_bert_config.json` says, else where the tokenizer does, else after 512 tokens.
    """

    def __init__(self, folder: Path, *, threads: int = 0) -> None:
        """`threads` of one batch; 0 takes one per core."""
        super().__init__(f"onnx/{folder.resolve().name}")
        self._folder = folder
        self._threads = threads

    def _load(self) -> Model:
        model, tokenizer = self._folder / "model.onnx", self._folder / "tokenizer.json"
        for file in (model, tokenizer):
            if not file.is_file():
                raise NotFound(
                    f"{file} does not exist.", "Name a folder with model.onnx and tokenizer.json."
                )
        options = SessionOptions()
        options.intra_op_num_threads = self._threads
        # Spinning threads take the cores from the other sessions and the event loop.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = _FATAL
        try:
            session = InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
            return _MeanPooling(session, self._tokenizer(tokenizer))
        # Neither library gives its errors a base of their own.
        except Exception as error:
            raise Unavailable(
                f"The sentence model in {self._folder} cannot be loaded: {error}.",
                "Export it again, with one input per tokenizer output and a batch of any size.",
            ) from error

    def _tokenizer(self, file: Path) -> Tokenizer:
        tokenizer = Tokenizer.from_file(str(file))
        longest = (tokenizer.truncation or {}).get("max_length", _LONGEST)
        config = self._folder / "sentence_bert_config.json"
        if config.is_file():
            longest = json.loads(config.read_text()).get("max_seq_length") or longest
        tokenizer.enable_truncation(longest)
        padding = tokenizer.padding or {}
        tokenizer.enable_padding(
            pad_id=padding.get("pad_id", 0), pad_token=padding.get("pad_token", "[PAD]")
        )
        return tokenizer


class _MeanPooling:
    def __init__(self, session: InferenceSession, tokenizer: Tokenizer) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self._inputs = {entry.name for entry in session.get_inputs()}
        self._output = session.get_outputs()[0].name
        self.dimensions: int = self.encode(["a"]).shape[1]

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        encoded = self._tokenizer.encode_batch(texts)
        mask = np.array([text.attention_mask for text in encoded], np.int64)
        inputs: dict[str, NDArray[Any]] = {
            "input_ids": np.array([text.ids for text in encoded], np.int64),
            "attention_mask": mask,
            "token_type_ids": np.array([text.type_ids for text in encoded], np.int64),
        }
        given = {name: value for name, value in inputs.items() if name in self._inputs}
        tokens: NDArray[np.float32] = self._session.run([self._output], given)[0]
        if tokens.ndim == 2:
            return tokens
        weights = mask[:, :, np.newaxis].astype(np.float32)
        sums: NDArray[np.float32] = (tokens * weights).sum(axis=1)
        sums /= np.maximum(weights.sum(axis=1), 1)
        return sums
