"""Lines out of a stream of bytes, which come in pieces of any length."""

MAX_LINE = 16 * 1024 * 1024
"""Bytes. What is longer is no message that anyone should hold in memory."""
_HEAD = 256


class Lines:
    """Cuts what comes in into lines, which end in LF or CRLF; blank ones are left out."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        """Lines of more than `limit` bytes are thrown away as they come."""
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._skipping = False
        self.overlong: list[bytes] = []
        """The beginnings of lines that were thrown away, for the owner to take."""

    @property
    def size(self) -> int:
        """Bytes that are held of a line that has not ended."""
        return self._size

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes, without their ends."""
        *ended, rest = chunk.split(b"\n")
        lines = []
        for piece in ended:
            self._add(piece)
            if line := self._take():
                lines.append(line)
        self._add(rest)
        return lines

    def end(self) -> bytes:
        """What came after the last line end."""
        return self._take()

    def _add(self, piece: bytes) -> None:
        if self._skipping or not piece:
            return
        self._parts.append(piece)
        self._size += len(piece)
        # One more for the CR of a line that is as long as can be.
        if self._size > self._limit + piece.endswith(b"\r"):
            self.overlong.append(b"".join(self._parts)[:_HEAD])
            self._parts.clear()
            self._size = 0
            self._skipping = True

    def _take(self) -> bytes:
        line = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        self._skipping = False
        return line[:-1] if line.endswith(b"\r") else line
