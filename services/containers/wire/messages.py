"""JSON-RPC 2.0 as MCP uses it: messages to and from lines."""

from typing import Any

import msgspec

INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INTERNAL_ERROR = -32603

Id = int | str


class RpcError(Exception):
    """An error that the other side answered with, in JSON-RPC's terms."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def as_dict(self) -> dict[str, Any]:
        """`{code, message, data?}`, as it is on the wire."""
        known = {"code": self.code, "message": self.message}
        return known if self.data is None else {**known, "data": self.data}


class Message(msgspec.Struct):
    """Any message; a field that is not there is None. `result` and `error` are as they came."""

    id: Any = None
    method: str | None = None
    params: dict[str, Any] | None = None
    result: Any = msgspec.UNSET
    error: Any = msgspec.UNSET

    @property
    def is_answer(self) -> bool:
        return self.method is None and (
            self.result is not msgspec.UNSET or self.error is not msgspec.UNSET
        )


_one = msgspec.json.Decoder(Message)
_several = msgspec.json.Decoder(list[Message])
_encode = msgspec.json.Encoder().encode


def parse(line: bytes) -> list[Message]:
    """The messages of a line: one, or as the protocol had it in 2025-03-26, a batch of them.

    Bytes that are not UTF-8 are replaced.

    Raises:
        ValueError: the line is no message.
    """
    decode = _several.decode if line.startswith(b"[") else _one.decode
    try:
        found = decode(line)
    except UnicodeDecodeError:
        found = decode(line.decode(errors="replace").encode())
    messages = found if isinstance(found, list) else [found]
    if not all(message.method is not None or message.is_answer for message in messages):
        raise ValueError("neither a request nor an answer")
    return messages


def error_of_wire(error: Any) -> RpcError:
    """The error of an answer, whatever a server put there."""
    if not isinstance(error, dict):
        return RpcError(INTERNAL_ERROR, str(error)[:1000])
    code, message = error.get("code"), error.get("message")
    return RpcError(
        code if isinstance(code, int) else INTERNAL_ERROR,
        message if isinstance(message, str) else "An error without a message.",
        error.get("data"),
    )


def request_line(id: Id, method: str, params: dict[str, Any]) -> bytes:
    return _line({"jsonrpc": "2.0", "id": id, "method": method, "params": params})


def notification_line(method: str, params: dict[str, Any] | None = None) -> bytes:
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    return _line(message if params is None else {**message, "params": params})


def result_line(id: Id, result: dict[str, Any]) -> bytes:
    return _line({"jsonrpc": "2.0", "id": id, "result": result})


def error_line(id: Id, error: RpcError) -> bytes:
    return _line({"jsonrpc": "2.0", "id": id, "error": error.as_dict()})


def _line(message: dict[str, Any]) -> bytes:
    return _encode(message) + b"\n"
