import pytest

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.data.options import (
    CsvOptions,
    check_format,
    format_of_file,
    format_of_text,
    parse_options,
)


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.csv", "csv"),
        ("A.CSV", "csv"),
        ("a.tsv", "tsv"),
        ("a.tab", "tsv"),
        ("a.parquet", "parquet"),
        ("a.pq", "parquet"),
        ("a.b.json", "json"),
        ("a.jsonl", "jsonl"),
        ("a.ndjson", "jsonl"),
    ],
)
def test_the_extension_says_the_format(name: str, format: str) -> None:
    assert format_of_file(name) == format


@pytest.mark.parametrize("name", ["a.xlsx", "a", "a.csv.gz", ".csv"])
def test_an_extension_that_says_nothing(name: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        format_of_file(name)
    assert "csv, tsv, parquet, json, jsonl" in str(error.value.hint)


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ("a,b\n1,2\n", "csv"),
        ("a\tb\n1\t2\n", "tsv"),
        ("a;b\n1;2\n", "csv"),
        ("word\nhello\n", "csv"),
        ('[{"a": 1}]', "json"),
        ('\ufeff  [{"a": 1}]', "json"),
        ('{"a": [1, 2]}', "json"),
        ('{\n  "a": [1, 2]\n}', "json"),
        ('{"a": 1}\n{"a": 2}\n', "jsonl"),
        ('{"a": 1}', "jsonl"),
        ('{"a": [1]}\n{"a": [2]}', "jsonl"),
        ("[draft],b\n1,2\n", "csv"),
        ("", "csv"),
    ],
)
def test_a_text_shows_its_format(text: str, format: str) -> None:
    assert format_of_text(text) == format


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidArgument) as error:
        check_format("jsnl")
    assert "Did you mean 'jsonl'?" in str(error.value.hint)


def test_options_have_defaults() -> None:
    options = parse_options("csv", None)
    assert isinstance(options, CsvOptions)
    assert options.has_header
    assert options.encoding == "utf-8"


def test_an_encoding_has_one_name() -> None:
    options = parse_options("tsv", {"encoding": "Latin1"})
    assert isinstance(options, CsvOptions)
    assert options.encoding == "iso8859-1"


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(InvalidArgument, match="'seperator'") as error:
        parse_options("csv", {"seperator": ";"})
    assert "Did you mean 'separator'?" in str(error.value.hint)
    with pytest.raises(InvalidArgument) as error:
        parse_options("parquet", {"separator": ";"})
    assert error.value.hint == "This format takes no options."


@pytest.mark.parametrize(
    "options",
    [
        {"separator": "ab"},
        {"separator": ""},
        {"separator": "\n"},
        {"separator": "→"},
        {"quote": "''"},
        {"has_header": "perhaps"},
        {"encoding": "klingon"},
        {"encoding": "base64"},
        {"null_values": 3},
        {"skip_lines": -1},
        {"columns": "a"},
    ],
)
def test_a_wrong_value_says_which_option_it_is(options: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(options))):
        parse_options("csv", options)
