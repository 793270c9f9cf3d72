"""Protocol Buffers messages that no package brings, from a few lines of their definition."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass


def messages(package: str, definitions: Mapping[str, str]) -> dict[str, Any]:
    """Classes for proto3 messages, by name.

    A definition is the message's fields as a .proto file has them: `repeated Label labels = 1;`.
    """
    file = FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in definitions.items():
        message = file.message_type.add(name=name)
        for definition in filter(None, map(str.strip, fields.split(";"))):
            _add_field(message, definition, package)
    pool = DescriptorPool()
    pool.Add(file)
    return {
        name: GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in definitions
    }


def _add_field(message: DescriptorProto, definition: str, package: str) -> None:
    *label, kind, name, _, number = definition.split()
    field = message.field.add(name=name, number=int(number))
    field.label = (
        FieldDescriptorProto.LABEL_REPEATED if label else FieldDescriptorProto.LABEL_OPTIONAL
    )
    if kind[0].isupper():
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{package}.{kind}"
    else:
        field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")


def parse(message: type[Any], data: bytes) -> Any:
    """The message that `data` holds.

    Raises:
        ValueError: it holds none; text in it that is not UTF-8 counts as that.
    """
    try:
        return message.FromString(data)
    except DecodeError as error:
        raise ValueError(f"it is no {message.__name__} message: {error}") from None


@lru_cache(maxsize=1)
def status_message() -> Any:
    """google.rpc.Status, in which OTLP tells of errors."""
    return messages("google.rpc", {"Status": "int32 code = 1; string message = 2"})["Status"]
