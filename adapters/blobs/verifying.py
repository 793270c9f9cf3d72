"""What every blob store asks of an address, and of the bytes that are found under one."""

import hashlib
import re

from mcp_hub.adapters.errors import InvalidArgument, Unavailable

CHUNK = 1 << 20
"""The most bytes that a store hands out at once."""

_ADDRESS = re.compile(r"[0-9a-f]{64}")


def check_address(sha256: str) -> str:
    """`sha256` if it can be the address of a blob; InvalidArgument otherwise."""
    if not _ADDRESS.fullmatch(sha256):
        raise InvalidArgument(
            f"{sha256!r} is not the address of a blob.",
            "An address is a SHA-256 in 64 lower-case hexadecimal digits.",
        )
    return sha256


class Verifier:
    """Lets a blob's parts through, but the last one only if all are what the address says.

    Whoever counts on the end of a blob has therefore not received it where it is damaged.
    """

    def __init__(self, sha256: str, remedy: str) -> None:
        self._sha256 = sha256
        self._remedy = remedy
        self._digest = hashlib.sha256()
        self._held = b""

    def push(self, part: bytes) -> bytes:
        """The part before `part`; empty for the first."""
        self._digest.update(part)
        before, self._held = self._held, part
        return before

    def last(self) -> bytes:
        """The last part.

        Raises:
            Unavailable: the parts are not the blob's.
        """
        if self._digest.hexdigest() != self._sha256:
            raise Unavailable(
                f"The blob {self._sha256} is damaged: its bytes now have the SHA-256 "
                f"{self._digest.hexdigest()}.",
                self._remedy,
            )
        return self._held
