"""The vectors port: rows of numbers with what is known of each, and the nearest of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Where = Mapping[str, str | int | bool]
"""Keys of the payload and the value that each must have: `1`, `True` and `"1"` are three values;
a list has each of its elements as a value."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A row that was found; `score` is the cosine of its angle to the query, -1 to 1."""

    id: str
    score: float
    payload: dict[str, Any]


class Vectors(Protocol):
    """One collection of rows of one length, shared by any number of hub processes.

    The first row makes the collection and fixes its dimensions. What an `upsert` or `delete` that
    has returned did, every later call sees, in any process. Every method raises Unavailable when
    the store does not answer in time.
    """

    async def upsert(
        self,
        ids: Sequence[str],
        matrix: NDArray[np.float32],
        payloads: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Store each row of `matrix` [n, d] with its id and JSON payload, in place of what the id
        had before.

        A row is written whole or not at all. Of many rows, some may be there when this raises;
        doing it again does no harm.

        Raises:
            InvalidArgument: the lengths differ, an id is empty, longer than 256 characters or given
                twice, a number is not finite, or a payload is no JSON object.
            Conflict: the collection has other dimensions.
        """
        ...

    async def delete(self, ids: Sequence[str]) -> None:
        """Remove the rows; removing what is not there is no error."""
        ...

    async def present(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that have a row."""
        ...

    async def search(
        self, vector: NDArray[np.float32], *, limit: int = 10, where: Where | None = None
    ) -> list[Hit]:
        """The rows nearest to `vector` [d] among those with the values `where`, nearest first.

        A row of zeros has no angle, and scores 0.

        Raises:
            InvalidArgument: `limit` is below 1, `vector` is no row of finite numbers, or `where`
                asks for what is no text, whole number or boolean.
            Conflict: the collection has other dimensions.
        """
        ...

    async def count(self) -> int:
        """How many rows there are, exactly."""
        ...

    async def check(self) -> str:
        """Make one round trip; what the store is. Raises Unavailable."""
        ...

    async def close(self) -> None: ...
