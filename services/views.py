"""What every toolset's results share. Imports nothing heavy: the tools need it at start."""

from datetime import UTC, datetime
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
"""What a person may call a job, a data set or a model: safe in a URI and before `@` or `:`."""


class View(BaseModel):
    """A result of a service, as an agent or a program sees it."""

    model_config = ConfigDict(extra="forbid")


class Error(View):
    """Why something failed: a stable code, what was wrong, and what to do about it."""

    code: str
    message: str
    hint: str | None = None


T = TypeVar("T")


class Page(View, Generic[T]):
    """One page of a list. Pass `next_cursor` as `cursor` to get the next page; null at the end."""

    items: list[T]
    next_cursor: str | None = None


def iso(milliseconds: int | None) -> str | None:
    """A stored time as ISO 8601 in UTC, to the second."""
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
