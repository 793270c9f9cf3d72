"""The embedder port: texts as rows of numbers that are near where the texts mean the same."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Embedder(Protocol):
    """One model. It is loaded at first use, and none of its work keeps the event loop waiting."""

    @property
    def name(self) -> str:
        """Which model it is: rows of embedders of different names must not be compared."""
        ...

    async def dimensions(self) -> int:
        """The length of a row. Raises as `embed` does."""
        ...

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """A row for each text: float32 [n, d], each of length 1, so that a product is a cosine.

        The same text gives the same row (but for rounding), whatever it is embedded with. A text
        in which the model finds no token is a row of zeros. What is longer than the model reads is
        cut.

        Raises:
            InvalidArgument: a text is no valid Unicode (a lone surrogate).
            NotFound: the model is not where it was said to be.
            Unavailable: the model cannot be loaded, or a package for it is not installed.
        """
        ...

    async def close(self) -> None:
        """Let go of the model's memory."""
        ...
