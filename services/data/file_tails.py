"""What was added to a file of lines since it was read last."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.data.options import CsvOptions, NoOptions

GROWING_FORMATS = ("csv", "tsv", "jsonl")
MAX_RECORD = 16 * 1024 * 1024
_MAX_BATCH = 256 * 1024 * 1024
_MARK = 1024


@dataclass(frozen=True, slots=True)
class Tail:
    """A place in a file: how many bytes were read, and what tells that they are still the same."""

    offset: int
    head: int
    """How many bytes at the beginning go before the rows of each batch: the header."""
    mark: str
    """The SHA-256 of the last bytes before the place."""

    @classmethod
    def parse(cls, text: str) -> "Tail":
        """What `str` wrote."""
        return cls(**json.loads(text))

    def __str__(self) -> str:
        return json.dumps(asdict(self))


def copy_tail(
    file: BinaryIO, tail: Tail | None, options: NoOptions, max_rows: int, copy: Path
) -> Tail | None:
    """Write the header and the whole records behind `tail` to `copy`; the place behind them.

    At most `max_rows`, and 256 MiB. A record that is still being written is left for the next
    time: one ends with a line, in CSV with one that is outside of quotes. None where nothing was
    added.

    Raises:
        InvalidArgument: the file is not what was read before with something behind it, or a
            record has more than 16 MiB.
    """
    quote = None
    if isinstance(options, CsvOptions):
        if options.encoding.startswith(("utf-16", "utf-32")):
            raise InvalidArgument(
                f"A file in {options.encoding} cannot be read in parts.", "Write it as UTF-8."
            )
        quote = (options.quote or "").encode() or None
    head = _head_size(file, options, quote) if tail is None else tail.head
    offset = head if tail is None else tail.offset
    if tail is not None and _mark(file, offset) != tail.mark:
        raise InvalidArgument(
            f"The file's first {offset} bytes are not what they were.",
            "A file that grows must only be added to. Register it under another name.",
        )
    file.seek(0)
    header = file.read(head)
    file.seek(offset)
    rows, end = 0, offset
    with copy.open("wb") as written:
        written.write(header)
        for record in _records(file, quote):
            written.write(record)
            end += len(record)
            rows += bool(record.strip())
            if rows == max_rows or end - offset > _MAX_BATCH:
                break
    return Tail(end, head, _mark(file, end)) if rows else None


def _head_size(file: BinaryIO, options: NoOptions, quote: bytes | None) -> int:
    if not isinstance(options, CsvOptions):
        return 0
    file.seek(0)
    size = sum(len(file.readline(MAX_RECORD)) for _ in range(options.skip_lines))
    return size + (len(next(_records(file, quote), b"")) if options.has_header else 0)


def _records(file: BinaryIO, quote: bytes | None) -> Iterator[bytes]:
    record = b""
    quotes = 0
    while line := file.readline(MAX_RECORD):
        record += line
        quotes += line.count(quote) if quote else 0
        if line.endswith(b"\n") and quotes % 2 == 0:
            yield record
            record = b""
        elif len(record) >= MAX_RECORD:
            raise InvalidArgument(
                f"A record has more than {MAX_RECORD} bytes.",
                "Is a quotation mark left open, or the format another?",
            )


def _mark(file: BinaryIO, offset: int) -> str:
    begin = max(0, offset - _MARK)
    file.seek(begin)
    read = file.read(offset - begin)
    # One that is shorter now is another file.
    return sha256(read).hexdigest() if len(read) == offset - begin else ""
