"""What a task is. Imports nothing heavy: the server needs it at start."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

HOLD_S = 60.0
"""How long whoever has the last answer may take to go on with the call."""

StoredStatus = Literal["followed", "asking", "completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call that waits: its arguments, and what it asks, by key, in MCP's JSON.

    `state` is what the tool wants back with the answers.
    """

    arguments: Mapping[str, Any]
    questions: Mapping[str, Any]
    state: str | None = None
    answers: Mapping[str, Any] | None = None

    @property
    def pending(self) -> dict[str, Any]:
        """The questions that have no answer yet."""
        answered = self.answers or {}
        return {key: asked for key, asked in self.questions.items() if key not in answered}


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it is kept. Times are milliseconds since the epoch."""

    id: str
    tool: str
    status: StoredStatus
    subject: str | None
    call: Call | None
    held: bool
    """Whether its questions are answered and a process goes on with the call."""
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: int
    updated_at: int
    ttl_ms: int
