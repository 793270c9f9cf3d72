"""Why an instance came to its end, in words for whoever waited for it."""

import signal
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mcp_hub.adapters.containers.port import Container, ContainerEngine
from mcp_hub.adapters.errors import HubError, InvalidArgument, NotFound, TimedOut, Unavailable

Kind = Literal["idle", "stopped", "failed", "exited", "unhealthy", "gone", "lost"]
"""`failed`: it never was ready. `exited`: it was, and ended unasked. `gone`: whoever is to end it
found no container. `lost`: it is another process's now."""

_LINES = 50
_SHOWN = 20
_LINE_CHARACTERS = 500
_LOG_TAIL = 200


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of an instance; `error` is for the calls that it did not answer."""

    kind: Kind
    error: HubError
    out_of_memory: bool = False

    @property
    def is_failure(self) -> bool:
        """Whether the next start is to wait for it."""
        return self.kind in ("failed", "exited", "unhealthy")


class Stderr:
    """The last lines that a server wrote to its standard error."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._rest = b""

    def take(self, data: bytes) -> None:
        *ended, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-_LINE_CHARACTERS:]
        for line in ended[-_LINES:]:
            self._keep(line)

    def _keep(self, line: bytes) -> None:
        if text := line.rstrip()[:_LINE_CHARACTERS].decode(errors="replace"):
            self._lines.append(text)

    @property
    def lines(self) -> list[str]:
        rest = self._rest.rstrip()[:_LINE_CHARACTERS].decode(errors="replace")
        return [*self._lines, *([rest] if rest else ())]


def hint_of(stderr: Sequence[str], noise: Sequence[str] = ()) -> str | None:
    """What a server wrote last, for its caller."""
    parts = []
    if noise:
        shown = "\n".join(noise[-_SHOWN:])
        parts.append(f"Its last lines on stdout that are no MCP:\n{shown}")
    if stderr:
        shown = "\n".join(stderr[-_SHOWN:])
        parts.append(f"Its last lines on stderr:\n{shown}")
    return "\n".join(parts) or None


async def last_stderr(engine: ContainerEngine, container: str, heard: Stderr) -> list[str]:
    """The last lines of stderr, from the engine's log where none was heard."""
    if heard.lines:
        return heard.lines
    try:
        lines = [
            line.text[:_LINE_CHARACTERS]
            async for line in engine.logs(container, tail=_LOG_TAIL)
            if line.stream == "stderr"
        ]
    except HubError:
        return []
    return lines[-_LINES:]


def exit_reason(container: Container) -> str:
    """How a container that does not run ended, as the end of a sentence."""
    if container.out_of_memory:
        return "was killed for want of memory; deploy it with a larger memory_mb, if it needs that"
    if container.error:
        return f"could not be run: {container.error}"
    code = container.exit_code
    if code is None:
        return f"is {container.status}"
    if 128 < code < 160:
        try:
            return f"was ended by {signal.Signals(code - 128).name}"
        except ValueError:
            pass
    return f"exited with code {code}"


def failure(name: str, error: HubError, stderr: Sequence[str], noise: Sequence[str]) -> HubError:
    """The error of a start that failed, with what the server wrote meanwhile."""
    kind = type(error) if isinstance(error, InvalidArgument | NotFound | TimedOut) else Unavailable
    written = hint_of(stderr, noise)
    hint = "\n".join(part for part in (error.hint if not written else None, written) if part)
    return kind(f"{name} could not be started: {error.message}", hint or None)
