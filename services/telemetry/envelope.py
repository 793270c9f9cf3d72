"""The one envelope: what every event, metric, span and log record is, whatever brought it."""

import hashlib
import time
from random import getrandbits
from typing import Any, Literal, get_args
from uuid import UUID

import msgspec

Kind = Literal["event", "metric", "span", "log"]
KINDS: tuple[Kind, ...] = get_args(Kind)

MAX_NAME = 256
MAX_SERVICE = 128
MAX_UNIT = 64
MAX_BODY = 65_536
"""Characters of a body that are kept; `body.length` then tells how many there were."""
MAX_ATTRIBUTES = 1_000
MAX_ATTRIBUTES_BYTES = 262_144
OLDEST = 946_684_800 * 10**9
"""2000-01-01, in nanoseconds: what is older is a clock that was never set."""
AHEAD_NS = 24 * 3600 * 10**9
"""How far another machine's clock may be ahead."""

UNKNOWN_SERVICE = "unknown_service"
"""What OpenTelemetry calls a service that does not say its name."""

HUB_SERVICE = "mcp-hub"
WORKER_SERVICE = "mcp-hub-worker"
OWN_SERVICES = (HUB_SERVICE, WORKER_SERVICE)
"""As which the hub records what it does itself."""
OWN_LEFT_OUT = f"The hub's own were left out: service is {HUB_SERVICE!r}."

SEVERITIES = {"trace": 1, "debug": 5, "info": 9, "warn": 13, "error": 17, "fatal": 21}
"""OpenTelemetry's severity numbers; each name stands for its number and the three after it."""
ERROR = SEVERITIES["error"]
_OTHER_NAMES = {"warning": 13, "critical": 21, "err": 17, "notice": 10, "emerg": 21, "alert": 21}

_VERSION_7 = 0x7000_8000_0000_0000_0000
_RANDOM = 0x0FFF_3FFF_FFFF_FFFF_FFFF
"""The bits of a UUIDv7, after its time, that are its version and variant, and all others."""
_VERSION_8 = 0x8000_8000_0000_0000_0000
_NO_TIME = 2**63

Attributes = dict[str, Any]
"""Keys and JSON values; dots in a key are part of it."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """A valid record. Times and durations are nanoseconds, `time` since the epoch, UTC."""

    id: bytes
    """16 bytes: a UUIDv7, or another UUID where the sender gave one."""
    kind: Kind
    name: str
    time: int
    service: str = UNKNOWN_SERVICE
    severity: int | None = None
    """OpenTelemetry's number, 1 to 24."""
    trace_id: bytes | None = None
    span_id: bytes | None = None
    parent_id: bytes | None = None
    duration_ns: int | None = None
    value: float | None = None
    unit: str | None = None
    body: str | None = None
    attributes: Attributes = {}
    resource: Attributes = {}
    is_new: bool = False
    """The hub made the id, so that no record can have it already."""
    may_be_repeated: bool = False
    """The sender chose the id but not the time, so that sending it again gives another time."""

    @property
    def measure(self) -> float | None:
        """The number that rollups sum and sketch: a span's duration, else the value."""
        return self.duration_ns if self.kind == "span" else self.value


def new_id(time_ns: int | None = None) -> bytes:
    """A UUIDv7 of a time: 48 bits of milliseconds, then random bits (RFC 9562, 5.7)."""
    ms = (time_ns if time_ns is not None else time.time_ns()) // 1_000_000
    return (ms << 80 | getrandbits(80) & _RANDOM | _VERSION_7).to_bytes(16, "big")


def derived_id(time_ns: int, *parts: bytes) -> bytes:
    """The same UUIDv7 for the same time and parts, so that what is sent again is recognised."""
    tail = int.from_bytes(hashlib.blake2b(b"\0".join(parts), digest_size=10).digest(), "big")
    return (time_ns // 1_000_000 << 80 | tail & _RANDOM | _VERSION_7).to_bytes(16, "big")


def named_id(text: str) -> bytes:
    """The 16 bytes of a UUID's text, or those that stand for any other text: a UUIDv8 of it.

    Its version tells it from a UUIDv7 (RFC 9562, 5.8), which would tell of a time.
    """
    try:
        return UUID(text).bytes
    except ValueError:
        digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()
    number = int.from_bytes(digest, "big")
    return (number >> 80 << 80 | number & _RANDOM | _VERSION_8).to_bytes(16, "big")


def time_of(uuid: bytes) -> int | None:
    """The nanoseconds that a UUIDv7 tells of, to the millisecond; None for any other.

    One of a time that 63 bits do not hold tells of none.
    """
    if uuid[6] >> 4 != 7 or uuid[8] >> 6 != 2:
        return None
    told = int.from_bytes(uuid[:6], "big") * 1_000_000
    return told if told < _NO_TIME else None


def severity_of(value: str | int | None) -> int | None:
    """OpenTelemetry's number for a severity's name (`warning`, `ERROR2`) or number.

    Raises:
        ValueError: it is neither; the message names those that exist.
    """
    if value is None:
        return None
    if isinstance(value, int):
        number = value
    else:
        word = value.strip().lower()
        name = word.rstrip("234")
        first = SEVERITIES.get(name) or _OTHER_NAMES.get(name)
        if first is None:
            known = ", ".join(SEVERITIES)
            raise ValueError(f"severity is {value!r}; it is one of {known}, or 1 to 24")
        number = first + (int(word[-1]) - 1 if word != name else 0)
    if not 1 <= number <= 24:
        raise ValueError(f"severity is {number}; it is from 1 to 24")
    return number


def severity_name(number: int) -> str:
    """The name that stands for a severity's number."""
    return list(SEVERITIES)[(number - 1) // 4]


def series_key(kind: str, name: str, service: str) -> int:
    """The 63-bit number under which records of one kind, name and service are kept."""
    return stable_hash(f"{kind}\0{name}\0{service}")


def stable_hash(text: str) -> int:
    """63 bits that stand for `text` in every process."""
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
