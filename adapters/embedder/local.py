"""What every embedder that computes in this process shares."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import anyio
import numpy as np
from anyio import to_thread
from numpy.typing import NDArray

from mcp_hub.adapters.errors import InvalidArgument

_TEXTS_PER_BATCH = 32


class Model(Protocol):
    """A loaded model, which one thread uses at a time."""

    @property
    def dimensions(self) -> int: ...

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """A row for each of some texts of like length, [n, dimensions], of any length."""
        ...


class LocalEmbedder(ABC):
    """Texts go through the model in batches of like length, each on a thread; callers take turns
    batch by batch."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._model: Model | None = None
        self._loading = anyio.Lock()
        self._one_batch = anyio.CapacityLimiter(1)

    @abstractmethod
    def _load(self) -> Model:
        """Load the model; runs on a thread. Raises NotFound and Unavailable."""

    async def dimensions(self) -> int:
        return (await self._loaded()).dimensions

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        model = await self._loaded()
        rows = np.zeros((len(texts), model.dimensions), np.float32)
        order = await to_thread.run_sync(_by_length, texts)
        for start in range(0, len(order), _TEXTS_PER_BATCH):
            places = order[start : start + _TEXTS_PER_BATCH]
            batch = [texts[place] for place in places]
            rows[places] = await to_thread.run_sync(_encode, model, batch, limiter=self._one_batch)
        return rows

    async def close(self) -> None:
        self._model = None

    async def _loaded(self) -> Model:
        if self._model is not None:
            return self._model
        async with self._loading:
            if self._model is None:
                self._model = await to_thread.run_sync(self._load)
            return self._model


def _by_length(texts: Sequence[str]) -> list[int]:
    """The places of the texts, short ones first, so that a batch needs little padding."""
    for place, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgument(
                f"Text {place + 1} is no valid Unicode: {error.reason} at character {error.start}.",
                "Leave out lone surrogates (\\ud800 to \\udfff).",
            ) from error
    return sorted(range(len(texts)), key=lambda place: len(texts[place]))


def _encode(model: Model, texts: list[str]) -> NDArray[np.float32]:
    rows = np.asarray(model.encode(texts), np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.zeros_like(rows)
    np.divide(rows, lengths, out=unit, where=lengths > 0)
    return unit
