"""Why an attempt ended as it did: causes that can be told from its end and its last lines."""

import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from mcp_hub.adapters.errors import HubError
from mcp_hub.services.training.views import Cause, JobStatus

_LINES_SHOWN = 5
_LINE_CHARACTERS = 160
_MB = 1_000_000

EXTRAS = {
    "torch": "pytorch", "onnxscript": "pytorch", "optuna": "sweep", "river": "analytics",
    "ruptures": "analytics", "sentence_transformers": "embeddings", "pymongo": "mongodb",
    "asyncpg": "postgres", "redis": "redis", "minio": "minio", "qdrant_client": "qdrant",
    "docker": "docker",
}  # fmt: skip
"""The hub's extra that brings a module."""
PACKAGES = {
    "sklearn": "scikit-learn", "cv2": "opencv-python-headless", "PIL": "pillow", "yaml": "pyyaml",
    "bs4": "beautifulsoup4", "skimage": "scikit-image", "dateutil": "python-dateutil",
    "Crypto": "pycryptodome", "dotenv": "python-dotenv", "git": "gitpython",
}  # fmt: skip
"""The package that brings a module, where their names differ."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known of an attempt that has ended; memory in bytes, times in seconds."""

    status: JobStatus
    error: HubError | None = None
    reported: bool = False
    """Whether the attempt itself said what `error` was."""
    exit_status: int | None = None
    """Negative for a signal; None where the hub ended it."""
    lines: Sequence[str] = ()
    """The last lines it printed."""
    cause: Cause | None = None
    """Where the hub ended it: why."""
    columns: Sequence[str] = ()
    peak_memory: int = 0
    memory_limit_mb: int | None = None
    machine_memory: int = 0
    oom_kills: int = 0
    """How often the kernel killed a process of this machine for want of memory meanwhile."""
    elapsed_s: float = 0
    timeout_s: float = 0
    progress: tuple[float, float | None] | None = None

    @property
    def text(self) -> str:
        return "\n".join((*self.lines, self.error.message if self.error else ""))


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The cause of an end, and what would change it."""

    cause: Cause
    hint: str


def diagnose(ending: Ending) -> Diagnosis | None:
    """Why the attempt ended; None if it succeeded, was cancelled or given up.

    The hint ends with the last lines that the attempt printed.
    """
    if ending.status not in ("failed", "timed_out"):
        return None
    if ending.reported and ending.error is not None and ending.error.code not in _UNSURE:
        return None
    for cause, tell in CAUSES.items():
        if ending.cause not in (None, cause):
            continue
        hint = tell(ending)
        if hint is not None:
            return Diagnosis(cause, f"{hint}{_last_lines(ending.lines)}")
    return None


_UNSURE = frozenset({"internal", "limit_exceeded", "unavailable"})
"""Codes of reported errors that more can be said about: others come with their own hint."""


def _timeout(ending: Ending) -> str | None:
    if ending.status != "timed_out":
        return None
    if ending.progress is None or not ending.progress[0] > 0:
        return (
            "It reported no progress, so that nobody can say how long it needs: give it less to "
            "do, or a larger timeout_s, or look in its log for where it hangs."
        )
    done, total = ending.progress
    rate = done / ending.elapsed_s
    reached = f"It had done {done:g}{f' of {total:g}' if total else ''} at {rate:.3g} a second"
    if not total or total <= done:
        return f"{reached}. Submit it with a larger timeout_s, or give it less to do."
    needed = total / rate
    return (
        f"{reached}: all of it takes about {needed:,.0f} s. Submit it with timeout_s="
        f"{needed * 1.25:.0f}, or give it less to do."
    )


_NO_MEMORY = re.compile(
    r"MemoryError|bad_alloc|[Cc]annot allocate memory|out of memory|OutOfMemory|Unable to allocate|"
    r"failed to allocate|heap limit"
)


def _out_of_memory(ending: Ending) -> str | None:
    ours = ending.cause == "out_of_memory"
    killed = ending.exit_status == -signal.SIGKILL
    most = ending.machine_memory
    by_kernel = killed and (ending.oom_kills > 0 or 0 < most * 0.8 < ending.peak_memory)
    if not (ours or by_kernel or _NO_MEMORY.search(ending.text)):
        return None
    peak = f" It held {ending.peak_memory // _MB:,} MB at most."
    if by_kernel:
        return (
            f"The machine was out of memory and the kernel killed it.{peak} Give it less data, "
            "smaller batches or a smaller model, or run fewer jobs at a time."
        )
    if "CUDA" in ending.text or "cuda" in ending.text:
        return "The GPU's memory did not do: use smaller batches or a smaller model."
    limit = ending.memory_limit_mb
    allowed = f" It may hold {limit:,} MB: raise limits.memory_mb, or" if limit else " Give it"
    return f"It ran out of memory.{peak}{allowed} less data, smaller batches or a smaller model."


_NO_ROOM = re.compile(r"No space left on device|File too large|Disk quota exceeded")


def _disk_full(ending: Ending) -> str | None:
    if ending.cause == "disk_full":
        return _own_hint(ending)
    if _NO_ROOM.search(ending.text) or ending.exit_status == -signal.SIGXFSZ:
        return (
            "It could not write a file: the disk is full, or the file is larger than "
            "training.disk_mb allows. Have it write less."
        )
    return None


def _too_much_output(ending: Ending) -> str | None:
    return _own_hint(ending) if ending.cause == "too_much_output" else None


def _broken_report(ending: Ending) -> str | None:
    return _own_hint(ending) if ending.cause == "broken_report" else None


def _own_hint(ending: Ending) -> str | None:
    """What the hub said when it ended the attempt."""
    return ending.error.hint if ending.error else None


_NO_MODULE = re.compile(r"No module named '([\w.]+)'|Cannot find (?:module|package) '([^']+)'")


def _missing_module(ending: Ending) -> str | None:
    if ending.cause == "missing_module":
        return _own_hint(ending)
    found = _NO_MODULE.findall(ending.text)
    if not found:
        return None
    python, node = found[-1]
    if node:
        return f"Node has no module {node!r}: npm install {node} where the script is."
    module = python.partition(".")[0]
    if module in EXTRAS:
        how = f'pip install "mcp-hub[{EXTRAS[module]}]"'
    else:
        how = f"pip install {PACKAGES.get(module, module)}"
    return f"Python has no module {python!r}: {how} where the worker runs, and restart the worker."


_NO_COLUMN = re.compile(
    r"""ColumnNotFoundError:\ (?:unable\ to\ find\ column\ )?["']?([^"'\n;]+)
      | KeyError:\ ["']{1,2}\[?["']?([^"'\]\n]+)
      | no\ column\ (?:named\ )?["']([^"']+)["']
      | columns?\ ["']([^"'\n]+)["']\ (?:is\ |was\ )?not\ (?:found|exist|in)""",
    re.VERBOSE,
)


def _bad_column(ending: Ending) -> str | None:
    if not ending.columns:
        return None
    by_fold = {column.casefold(): column for column in ending.columns}
    for groups in reversed(_NO_COLUMN.findall(ending.text)):
        name = next(filter(None, groups)).strip()
        close = get_close_matches(name.casefold(), by_fold, n=3)
        from_table = re.search(r"pandas|polars|ColumnNotFoundError|no column", ending.text)
        if name in ending.columns or not (close or from_table):
            continue
        nearest = [by_fold[fold] for fold in close] or list(ending.columns[:20])
        return f"The data set has no column {name!r}; nearest: {', '.join(nearest)}."
    return None


_NAN = re.compile(
    r"(?:contains?|found|has|is|are|became|loss:?)\s+(?:NaN|nan|infinity|inf\b)|Input X contains|"
    r"NaN loss|loss is not finite"
)


def _nan_loss(ending: Ending) -> str | None:
    if ending.cause == "nan_loss":
        return _own_hint(ending)
    if _NAN.search(ending.text):
        return (
            "A value is NaN or infinite: see dataset_profile for missing values, impute or drop "
            "them; if it is the loss, lower the learning rate."
        )
    return None


def _killed(ending: Ending) -> str | None:
    if ending.exit_status is None or ending.exit_status >= 0:
        return None
    number = -ending.exit_status
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    if number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT):
        return (
            f"{name}: native code of the job crashed, a library of its framework most likely; it "
            "is not the hub that ended it. Try other versions, less data, or limits.cpus=1."
        )
    return (
        f"{name}, not sent by the hub: the job itself did it, or somebody or something else on "
        f"the worker's machine. It held {ending.peak_memory // _MB:,} MB at most."
    )


def _exit_status(ending: Ending) -> str | None:
    if not ending.exit_status or ending.exit_status < 0 or ending.reported:
        return None
    printed = any(line.strip() for line in ending.lines)
    said = "its last lines may say why" if printed else "it printed nothing"
    return f"It ended with status {ending.exit_status} by itself; {said}."


_RAISED = re.compile(
    r"(?:[A-Za-z_][\w.]*\w(?:Error|Interrupt|Warning)|[A-Za-z_][\w.]*Exception|Exception)(?::|$)"
)
_TRACEBACK = "Traceback (most recent call last):"
_ANY_NAME = re.compile(r"[A-Za-z_][\w.]*(?::|$)")
"""What a traceback ends with, whatever the exception is called."""


def _exception(ending: Ending) -> str | None:
    last = next((line for line in reversed(ending.lines) if line.strip()), "")
    name = _ANY_NAME if _TRACEBACK in ending.lines else _RAISED
    if ending.exit_status == 1 and not ending.reported and name.match(last):
        return f"The program raised {last[:_LINE_CHARACTERS]}"
    # A framework's own error says itself what would help.
    if not ending.reported or ending.error is None or ending.error.code != "internal":
        return None
    return f"The training raised {ending.error.message[:_LINE_CHARACTERS]}"


CAUSES: dict[Cause, Callable[[Ending], str | None]] = {
    "timeout": _timeout,
    "too_much_output": _too_much_output,
    "broken_report": _broken_report,
    "disk_full": _disk_full,
    "missing_module": _missing_module,
    "out_of_memory": _out_of_memory,
    "bad_column": _bad_column,
    "nan_loss": _nan_loss,
    "killed": _killed,
    "exception": _exception,
    "exit_status": _exit_status,
}
"""Each cause and what tells it from an ending, surest first."""


def _last_lines(lines: Sequence[str]) -> str:
    shown = [line[:_LINE_CHARACTERS] for line in lines if line.strip()][-_LINES_SHOWN:]
    return "\nLast lines:\n" + "\n".join(shown) if shown else ""
