"""The one root of the hub's errors: what a caller is told, and nothing of a driver's own."""

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches
from typing import Any, ClassVar

_NAMES_SHOWN = 20


class HubError(Exception):
    """What went wrong, under a code that programs may rely on, and what to do about it.

    `message` says what was wrong; `hint` says what would be right and which names exist.
    """

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def as_dict(self) -> dict[str, Any]:
        """`{code, message, hint}`, the form in which tools, HTTP and the CLI report it."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class InvalidArgument(HubError):
    """The request itself is wrong; the same request will fail again."""

    code = "invalid_argument"


class NotFound(HubError):
    """What the request names does not exist."""

    code = "not_found"


class Conflict(HubError):
    """The request is sound but the state of what it names forbids it."""

    code = "conflict"


class Denied(HubError):
    """The caller may not do this."""

    code = "denied"


class LimitExceeded(HubError):
    """A size, count or rate limit was passed."""

    code = "limit_exceeded"


class Unavailable(HubError):
    """Something the hub stands on does not answer; the same request may succeed later."""

    code = "unavailable"


class TimedOut(HubError):
    """A deadline passed."""

    code = "timeout"


class Internal(HubError):
    """A fault of the hub's own; the details are in its log."""

    code = "internal"


ERROR_TYPES: dict[str, type[HubError]] = {
    kind.code: kind
    for kind in (
        InvalidArgument, NotFound, Conflict, Denied, LimitExceeded, Unavailable, TimedOut, Internal,
    )
}  # fmt: skip


def names_hint(name: str, existing: Iterable[str], what: str) -> str:
    """The hint for an unknown `name`: the nearest of the `existing` names, or all of them."""
    known = sorted(existing)
    if not known:
        return f"There are no {what} yet."
    shown = ", ".join(known[:_NAMES_SHOWN])
    more = f" and {len(known) - _NAMES_SHOWN} more" if len(known) > _NAMES_SHOWN else ""
    spellings = {existing.lower(): existing for existing in known}
    close = get_close_matches(name.lower(), spellings)
    if not close:
        return f"Existing {what}: {shown}{more}."
    # Of those that are equally near, the first: of duration_ms and duration_ns, milliseconds.
    nearest = max(sorted(close), key=lambda one: SequenceMatcher(None, one, name.lower()).ratio())
    return f"Did you mean {spellings[nearest]!r}? Existing {what}: {shown}{more}."


def error_of(code: str, message: str, hint: str | None) -> HubError:
    """The error that was reported as `{code, message, hint}`; an unknown code is `internal`."""
    return ERROR_TYPES.get(code, Internal)(message, hint)
