"""The lines between hub processes."""

from typing import Any

import msgspec

from mcp_hub.adapters.errors import HubError, LimitExceeded, error_of
from mcp_hub.services.containers.wire.framing import MAX_LINE
from mcp_hub.services.containers.wire.messages import RpcError

MAX_PEER_LINE = MAX_LINE + 64 * 1024
"""Bytes: the longest message of a server, and what is around it here."""
WELCOME, STRANGER = b'"welcome"', b'"stranger"'


class Fault(msgspec.Struct, omit_defaults=True):
    """An error: one of the hub's kinds, whose code is a word, or one of JSON-RPC."""

    code: int | str
    message: str
    hint: str | None = None
    data: Any = None


class Request(msgspec.Struct, tag="request"):
    id: int
    op: str
    params: dict[str, Any]
    timeout_s: float
    traceparent: str | None = None


class Cancel(msgspec.Struct, tag="cancel"):
    id: int


class Answer(msgspec.Struct, tag="answer", omit_defaults=True):
    """What the caller of request `id` says to its question `ask`."""

    id: int
    ask: int
    result: dict[str, Any] | None = None
    fault: Fault | None = None


class Result(msgspec.Struct, tag="result"):
    id: int
    result: dict[str, Any]


class Failed(msgspec.Struct, tag="failed"):
    id: int
    fault: Fault


class Progress(msgspec.Struct, tag="progress"):
    id: int
    params: dict[str, Any]


class Log(msgspec.Struct, tag="log"):
    id: int
    params: dict[str, Any]


class Ask(msgspec.Struct, tag="ask"):
    id: int
    ask: int
    method: str
    params: dict[str, Any]


class Withdraw(msgspec.Struct, tag="withdraw"):
    """Question `ask` need not be answered any more."""

    id: int
    ask: int


ToServer = Request | Cancel | Answer
ToClient = Result | Failed | Progress | Log | Ask | Withdraw

_encode = msgspec.json.Encoder().encode
decode_to_server = msgspec.json.Decoder(ToServer).decode
decode_to_client = msgspec.json.Decoder(ToClient).decode


def line_of(message: ToServer | ToClient) -> bytes:
    """Raises LimitExceeded for what the other side would not take in."""
    line = _encode(message) + b"\n"
    if len(line) > MAX_PEER_LINE:
        raise LimitExceeded(
            f"A message of {len(line)} bytes is too long to pass on.",
            f"At most {MAX_LINE} are; ask for less at once.",
        )
    return line


def fault_of(error: HubError | RpcError) -> Fault:
    if isinstance(error, RpcError):
        return Fault(error.code, error.message, data=error.data)
    return Fault(error.code, error.message, error.hint)


def error_of_fault(fault: Fault) -> HubError | RpcError:
    if isinstance(fault.code, int):
        return RpcError(fault.code, fault.message, fault.data)
    return error_of(fault.code, fault.message, fault.hint)
