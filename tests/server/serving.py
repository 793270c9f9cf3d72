"""`mcp-hub serve` as a process of its own, for tests that need a real server on a real port."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[2]
SERVE = ("-m", "mcp_hub", "serve", "--port", "0")

_START_S = 60.0


class Served(NamedTuple):
    """A serving process: where it listens, and what it has logged so far."""

    url: str
    process: "subprocess.Popen[str]"
    log: list[str]


@contextmanager
def serving(environment: Mapping[str, str], command: Sequence[str] = SERVE) -> Iterator[Served]:
    """A serving process that has said where it listens; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, *command],
        env=dict(environment),
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    log: list[str] = []
    heard = threading.Event()
    found: list[str] = []

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            log.append(line)
            if not found and (match := re.search(r"MCP at (http://\S+)/mcp", line)):
                found.append(match[1])
                heard.set()
        heard.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        heard.wait(_START_S)
        assert found, f"it did not start:\n{''.join(log)}"
        yield Served(found[0], process, log)
    finally:
        process.kill()
        process.wait()
        reader.join()
        assert process.stderr is not None
        process.stderr.close()
