"""CSV and TSV: polars reads what is regular, Python's csv finds what is not and says where."""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PanicException, PolarsError

from mcp_hub.adapters.errors import InvalidArgument, names_hint
from mcp_hub.services.data.dates import as_datetimes
from mcp_hub.services.data.kinds import CODE
from mcp_hub.services.data.options import CsvOptions

_SEPARATORS = ",;\t|"
_ROW_NAMES = "index"
_INFERENCE_ROWS = 10_000
_SEARCHED = 16 * 1024 * 1024
_OVERLAP = 64

# The process-wide limit of 128 KiB is too short for a column of documents.
csv.field_size_limit(2**31 - 1)


def read_csv(data: bytes, options: CsvOptions) -> tuple[pl.DataFrame, CsvOptions]:
    """The frame in `data`, and the options completed by what its first line shows.

    Raises:
        InvalidArgument: the bytes are no text, a row is ragged, a name is missing or double.
    """
    data = _without_lines(_as_utf8(data, options.encoding), options.skip_lines)
    options = _completed(options, data)
    first, start = _first_record(data, options)
    names = _column_names(first, options)
    for name in options.string_columns:
        if name not in names:
            hint = names_hint(name, names, "columns")
            raise InvalidArgument(f"string_columns names no column {name!r}.", hint)
    if not options.has_header:
        start = 0
    line = options.skip_lines + data.count(b"\n", 0, start) + 1
    dtypes = dict.fromkeys(names, None) | dict.fromkeys(options.string_columns, pl.String())
    return _read_body(data[start:], dtypes, options, line), options


def read_csv_parts(
    path: Path, options: CsvOptions, dtypes: Mapping[str, pl.DataType], part_bytes: int
) -> Iterator[pl.DataFrame]:
    """The rows of a file that `read_csv` has taken, from about `part_bytes` of it at a time.

    `dtypes` are those of its columns, in their order; they show only in all of its rows. The
    header must be shorter than a part.
    """
    rest = b""
    line = 0
    times = [name for name, dtype in dtypes.items() if dtype.is_temporal()]
    dtypes = {**dtypes, **dict.fromkeys(times, pl.String())}
    for text, is_last in _utf8_parts(path, options.encoding, part_bytes):
        rest += text
        if not line:
            if rest.count(b"\n") <= options.skip_lines and not is_last:
                continue
            rest = _without_lines(rest, options.skip_lines)
            options = _completed(options, rest)
            start = _first_record(rest, options)[1] if options.has_header else 0
            line = options.skip_lines + rest.count(b"\n", 0, start) + 1
            rest = rest[start:]
        end = len(rest) if is_last else _end_of_records(rest, options)
        frame = _read_body(rest[:end], dtypes, options, line)
        if frame.height:
            yield frame.with_columns(as_datetimes(frame[name], options.day_first) for name in times)
        line += rest.count(b"\n", 0, end)
        rest = rest[end:]


def _utf8_parts(path: Path, encoding: str, size: int) -> Iterator[tuple[bytes, bool]]:
    """A file as `_as_utf8` has it, in parts; each with whether it is the last."""
    decoder = codecs.getincrementaldecoder(encoding)()
    ends_by_lf: bool | None = None
    is_last = False
    with path.open("rb") as file:
        while not is_last:
            data = file.read(size)
            is_last = len(data) < size
            if encoding != "utf-8":
                data = decoder.decode(data, is_last).encode()
            if ends_by_lf is None:
                data = data.removeprefix(b"\xef\xbb\xbf")
                ends_by_lf = b"\n" in data
            yield data if ends_by_lf else data.replace(b"\r", b"\n"), is_last


def _end_of_records(data: bytes, options: CsvOptions) -> int:
    """Behind the last record of `data` that is surely whole; 0 where none is."""
    if options.quote is None or options.quote.encode() not in data:
        return data.rfind(b"\n") + 1
    stream = io.BytesIO(data)
    # Quotes and separators are ASCII, and the last line may end within a character.
    reader = csv.reader((line.decode("latin-1") for line in stream), **_dialect(options))
    end = behind = 0
    with suppress(csv.Error):
        for _ in reader:
            end, behind = behind, stream.tell()
    return end


def _read_body(
    body: bytes, dtypes: Mapping[str, pl.DataType | None], options: CsvOptions, line: int
) -> pl.DataFrame:
    """The frame in records without header, of which the first is in the given `line`.

    `dtypes` names the columns, with their types as far as those are known.
    """
    width = len(dtypes)
    frame = None if options.trim else _parse(body, dtypes, options)
    if frame is None or (
        _is_doubtful(frame, body, options)
        # Fewer than polars read, where it took blank lines for rows.
        and sum(1 for _ in _checked_records(body, width, options, line)) != frame.height
    ):
        frame = _parse(_regular(body, width, options, line), dtypes, options)
    if frame is None:
        raise InvalidArgument("The CSV cannot be read.", "Check its quotes and its separator.")
    frame.columns = list(dtypes)
    return frame


def _as_utf8(data: bytes, encoding: str) -> bytes:
    """`data` recoded to UTF-8 without a byte order mark, its lines ended by LF or CR LF."""
    if encoding == "utf-8" and data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InvalidArgument(
            "The text is UTF-16, not UTF-8.", 'Pass options {"encoding": "utf-16"}.'
        )
    try:
        if encoding != "utf-8":
            data = data.decode(encoding).encode()
        elif not data.isascii():
            data.decode()
    except UnicodeError as error:
        raise _undecodable(data, encoding, error) from error
    if b"\0" in data:
        raise InvalidArgument(
            "The content is binary, not text: it holds zero bytes.",
            "Pass the format that the file really has, or for UTF-16 text the option encoding.",
        )
    data = data.removeprefix(b"\xef\xbb\xbf")
    return data if b"\n" in data else data.replace(b"\r", b"\n")


def _without_lines(data: bytes, count: int) -> bytes:
    stream = io.BytesIO(data)
    for _ in range(count):
        stream.readline()
    return data[stream.tell() :] if count else data


def _undecodable(data: bytes, encoding: str, error: UnicodeError) -> InvalidArgument:
    where = ""
    if isinstance(error, UnicodeDecodeError):
        line = data.count(b"\n", 0, error.start) + 1
        where = f": line {line} holds the byte 0x{data[error.start]:02x}"
    return InvalidArgument(
        f"The text is not {encoding}{where}.",
        'Pass its encoding, such as options {"encoding": "latin-1"} (or cp1252, utf-16), '
        "or save it as UTF-8. Is it a text file at all?",
    )


def _completed(options: CsvOptions, data: bytes) -> CsvOptions:
    """The options with the separator and `trim` as the first line shows them."""
    if options.separator is None:
        candidates = _SEPARATORS.replace(",", "") if options.decimal_comma else _SEPARATORS
        separator = max(candidates, key=lambda candidate: _fields(data, options, candidate))
        options = options.model_copy(update={"separator": separator})
    if options.decimal_comma and options.separator == ",":
        raise InvalidArgument(
            "The separator and the decimal sign cannot both be a comma.",
            'Pass another separator, such as options {"separator": ";", "decimal_comma": true}.',
        )
    if options.trim is None and options.separator != "\t":
        first, _ = _first_record(data, options)
        if len(first) > 1 and all(cell.startswith(" ") for cell in first[1:]):
            options = options.model_copy(update={"trim": True})
    return options


def _fields(data: bytes, options: CsvOptions, separator: str) -> int:
    """Into how many fields a separator splits the first record; 0 where it does not fit."""
    try:
        return len(_first_record(data, options.model_copy(update={"separator": separator}))[0])
    except InvalidArgument:
        return 0


def _first_record(data: bytes, options: CsvOptions) -> tuple[list[str], int]:
    """The first record that is not blank, and the offset of the byte behind it."""
    stream = io.BytesIO(data)
    for _, record in _records(stream, options, options.skip_lines + 1):
        if not _is_blank(record):
            return record, stream.tell()
    raise InvalidArgument("The data is empty.", "Give a header line and at least one row.")


def _records(stream: io.BytesIO, options: CsvOptions, line: int) -> Iterator[tuple[int, list[str]]]:
    """The records, each with the number of its first line in the file, where the first has `line`.

    Python's csv reads a line at a time, so the stream's position is behind the last record.
    """
    before = line - 1
    reader = csv.reader((one.decode() for one in stream), strict=True, **_dialect(options))
    try:
        for record in reader:
            yield line, record
            line = before + reader.line_num + 1
    except csv.Error as error:
        raise InvalidArgument(
            f"The CSV is broken in the row that begins at line {line}: {error}.",
            'A quote inside a quoted cell is written twice (""). For a file that does not quote '
            'cells pass options {"quote": null}.',
        ) from error


def _dialect(options: CsvOptions) -> dict[str, Any]:
    """The options as Python's csv takes them."""
    return {
        "delimiter": options.separator or ",",
        "quotechar": options.quote,
        "quoting": csv.QUOTE_MINIMAL if options.quote else csv.QUOTE_NONE,
        "skipinitialspace": bool(options.trim),
    }


def _is_blank(record: list[str]) -> bool:
    return len(record) < 2 and not "".join(record).strip()


def _column_names(first: list[str], options: CsvOptions) -> list[str]:
    if options.columns is not None:
        if len(options.columns) != len(first):
            raise InvalidArgument(
                f"columns has {len(options.columns)} names; the first line has {len(first)} "
                "fields.",
                "Name every column, or check the separator.",
            )
        names = options.columns
    elif options.has_header:
        names = [name.strip() for name in first]
        # pandas and R write row names under an empty first name.
        if not names[0] and len(names) > 1 and _ROW_NAMES not in names:
            names[0] = _ROW_NAMES
    else:
        names = [f"column_{number}" for number in range(1, len(first) + 1)]
    _check_names(names)
    return names


def _check_names(names: list[str]) -> None:
    hint = (
        'Name every column once in the file, or pass options {"columns": [one name a column]}. '
        'If the first line is data, pass {"has_header": false}.'
    )
    for number, name in enumerate(names):
        if not name.strip():
            raise InvalidArgument(f"Column {number + 1} has no name in the header.", hint)
        if name in names[:number]:
            raise InvalidArgument(f"Two columns have the name {name!r}.", hint)


def _before_blank_lines(body: bytes) -> int:
    """Where the blank lines at its end begin."""
    end = len(body)
    while body.endswith((b"\n\n", b"\n\r\n"), 0, end):
        end -= 1 if body.endswith(b"\n\n", 0, end) else 2
    return end


def _parse(
    body: bytes, dtypes: Mapping[str, pl.DataType | None], options: CsvOptions
) -> pl.DataFrame | None:
    """The frame in the records without header `body`, or None where polars cannot read it."""
    separator = options.separator or ","
    keys = [f"c{number}" for number in range(len(dtypes))]
    known = {key: dtype for key, dtype in zip(keys, dtypes.values(), strict=True) if dtype}
    arguments: dict[str, Any] = {
        "separator": separator,
        "quote_char": options.quote,
        "null_values": ["", *options.null_values],
        "decimal_comma": options.decimal_comma,
        "schema_overrides": known,
    }
    body = separator.join(keys).encode() + b"\n" + body
    if len(keys) > 1:
        body = body[: _before_blank_lines(body)]
    # Inferring over all rows takes several times as long as reading them, and is seldom needed.
    lengths = (_INFERENCE_ROWS, None) if len(known) < len(keys) else (0,)
    for length in lengths:
        with suppress(PolarsError, PanicException):
            frame = pl.read_csv(body, infer_schema_length=length, **arguments)
            if not length or not _begins_with_nulls(frame, length):
                doubtful = [c for c in keys if c not in known and frame[c].dtype.is_numeric()]
                if doubtful and _has_codes(body, options):
                    return _with_codes(frame, body, doubtful, arguments)
                return frame
    return None


def _has_codes(body: bytes, options: CsvOptions) -> bool:
    """Whether a cell seems to begin with a zero and a digit; quick, and often a date or a time."""
    before = re.escape(f"\n{options.separator or ','}{options.quote or ''}")
    for start in range(0, len(body), _SEARCHED):
        # Whatever its characters, only ASCII is looked for; Python's own search holds the GIL.
        part = body[max(0, start - _OVERLAP) : start + _SEARCHED].decode("latin-1")
        if pl.Series([part]).str.contains(rf"[{before}][ \t]*0[0-9]").item():
            return True
    return False


def _with_codes(
    frame: pl.DataFrame, body: bytes, columns: list[str], arguments: Mapping[str, Any]
) -> pl.DataFrame:
    """The frame with those `columns` as text in which a cell is digits with a zero before them: it
    is a code, 01001 and not 1001."""
    settings = {**arguments, "schema_overrides": dict.fromkeys(columns, pl.String())}
    texts = pl.read_csv(body, columns=columns, **settings)
    codes = [name for name in columns if texts[name].str.contains(CODE).any()]
    return frame.with_columns(texts[name] for name in codes)


def _begins_with_nulls(frame: pl.DataFrame, rows: int) -> bool:
    """Whether a column shows its first value, and so its type, only after so many rows."""
    return any(
        column.head(rows).null_count() == rows and column.null_count() < column.len()
        for column in frame.get_columns()
    )


def _is_doubtful(frame: pl.DataFrame, body: bytes, options: CsvOptions) -> bool:
    """Whether polars may have overlooked a quote without its pair, or a row that lacks fields,
    which it reads as one with nulls up to the last column."""
    quoted = options.quote is not None and options.quote.encode() in body
    if options.quote is not None and body.count(options.quote.encode()) % 2:
        return True
    if frame.width == 1 or not frame[:, -1].null_count():
        return False
    if quoted:
        return True
    try:
        lines = pl.read_csv(
            body, has_header=False, separator="\1", quote_char=None, infer_schema=False
        ).to_series()
    except (PolarsError, PanicException):
        return True
    separators = lines.str.count_matches(options.separator or ",", literal=True)
    return bool((separators.fill_null(0) < frame.width - 1).any())


def _checked_records(
    body: bytes, width: int, options: CsvOptions, line: int
) -> Iterator[list[str]]:
    """The records in `body`; raises InvalidArgument at one that has another width.

    A blank line is a missing value where there is one column, and nothing otherwise.
    """
    for number, record in _records(io.BytesIO(body), options, line):
        if width == 1 and not record:
            record.append("")
        elif width > 1 and _is_blank(record):
            continue
        if len(record) == width + 1 and not record[-1]:
            record.pop()  # a separator at the end of a line; polars overlooks it, too
        if len(record) != width:
            raise InvalidArgument(
                f"Line {number} has {len(record)} fields; the first line has {width}.",
                f"Rows are split at {options.separator!r}. A cell that holds it must be quoted; "
                "a missing cell is left empty, not left out.",
            )
        yield record


def _regular(body: bytes, width: int, options: CsvOptions, line: int) -> bytes:
    """The records in `body`, written so that polars reads them."""
    text = io.StringIO()
    writer = csv.writer(
        text,
        delimiter=options.separator or ",",
        quotechar=options.quote or '"',
        lineterminator="\n",
    )
    for record in _checked_records(body, width, options, line):
        writer.writerow([cell.strip() for cell in record] if options.trim else record)
    return text.getvalue().encode()
