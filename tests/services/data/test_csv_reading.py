import csv
import io
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.data.csv_reading import read_csv
from mcp_hub.services.data.options import CsvOptions


def read(content: bytes | str, **options: Any) -> dict[str, list[Any]]:
    data = content.encode() if isinstance(content, str) else content
    return read_csv(data, CsvOptions(**options))[0].to_dict(as_series=False)


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,x\n2,y\n",
        "a,b\n1,x\n2,y",
        "a,b\r\n1,x\r\n2,y\r\n",
        "a,b\r1,x\r2,y\r",
        "\ufeffa,b\n1,x\n2,y\n",
        "\n\na,b\n\n1,x\n\n2,y\n\n\n",
        '"a","b"\n"1","x"\n"2","y"\n',
        "a;b\n1;x\n2;y\n",
        "a|b\n1|x\n2|y\n",
        "a\tb\n1\tx\n2\ty\n",
        "a, b\n1, x\n2, y\n",
        " a , b \n1,x\n2,y\n",
        "a,b\n1,x,\n2,y,\n",
        '"a"; "b"\n1; "x"\n2; "y"\n',
    ],
)
def test_the_same_table_in_many_dialects(content: str) -> None:
    assert read(content) == {"a": [1, 2], "b": ["x", "y"]}


def test_the_found_separator_is_told() -> None:
    assert read_csv(b"a;b\n1;2\n", CsvOptions())[1].separator == ";"
    assert read_csv(b"a\n1\n", CsvOptions())[1].separator == ","
    assert read_csv(b'"x;y",b\n1,2\n', CsvOptions())[1].separator == ","


def test_quoted_newlines_quotes_and_separators() -> None:
    content = 'a,b\n"two\nlines","say ""hi"", you"\n"x\r\ny",\n'
    assert read(content) == {"a": ["two\nlines", "x\r\ny"], "b": ['say "hi", you', None]}


def test_a_quote_inside_an_unquoted_cell() -> None:
    assert read('size,n\n5" pipe,3\n6,4\n') == {"size": ['5" pipe', "6"], "n": [3, 4]}


def test_unicode_names_and_values() -> None:
    content = "größe,名前,😀\n1,日本語,é\n"
    assert read(content) == {"größe": [1], "名前": ["日本語"], "😀": ["é"]}


def test_encodings() -> None:
    content = "naïve,b\né,1\n"
    expected = {"naïve": ["é"], "b": [1]}
    assert read(content.encode("latin-1"), encoding="latin-1") == expected
    assert read(content.encode("utf-16"), encoding="utf-16") == expected
    assert read(content.encode("utf-8-sig"), encoding="utf-8") == expected


def test_text_in_another_encoding_says_how_to_pass_it() -> None:
    with pytest.raises(InvalidArgument, match=r"not utf-8: line 3 holds the byte 0xe9") as error:
        read("a,b\nx,1\né,2\n".encode("latin-1"))
    assert '{"encoding": "latin-1"}' in str(error.value.hint)
    with pytest.raises(InvalidArgument, match="UTF-16") as error:
        read("a,b\nx,1\n".encode("utf-16"))
    assert '{"encoding": "utf-16"}' in str(error.value.hint)
    with pytest.raises(InvalidArgument, match="not ascii"):
        read("é\n1\n", encoding="ascii")


def test_binary_content() -> None:
    with pytest.raises(InvalidArgument, match="binary"):
        read(b"a,b\n\0\1,2\n")
    with pytest.raises(InvalidArgument, match="not utf-8"):
        read(b"\x89PNG\r\n\x1a\n\0\0\0")
    with pytest.raises(InvalidArgument, match="binary"):
        read(b"\x89PNG\r\n\x1a\n\0\0\0", encoding="latin-1")


def test_missing_values() -> None:
    content = 'n,s\n1,x\nNA,\n,""\nnan,null\n2,N/A\n'
    assert read(content) == {"n": [1, None, None, None, 2], "s": ["x", None, None, None, None]}
    assert read("s,n\nNA,1\n-,2\n", null_values=["-"]) == {"s": ["NA", None], "n": [1, 2]}
    assert read("n\n1\n\n3\n") == {"n": [1, None, 3]}


def test_a_column_that_turns_into_text_late() -> None:
    rows = ["1,2,3,,true"] * 30_000
    late = read("\n".join(["i,f,s,n,b", *rows, "2,2.5,x,7,maybe"]))
    assert [late[name][-1] for name in "ifsnb"] == [2, 2.5, "x", 7, "maybe"]
    assert [late[name][0] for name in "ifsnb"] == [1, 2.0, "3", None, "true"]


def test_large_integers_keep_their_digits() -> None:
    digits = 123456789012345678901234
    assert read(f"a,b\n{digits},9223372036854775807\n1,-1\n") == {
        "a": [digits, 1],
        "b": [2**63 - 1, -1],
    }


def test_string_columns_keep_leading_zeros() -> None:
    assert read("zip,n\n00501,1\n", string_columns=["zip"]) == {"zip": ["00501"], "n": [1]}
    with pytest.raises(InvalidArgument, match="no column 'zap'") as error:
        read("zip,n\n00501,1\n", string_columns=["zap"])
    assert "Did you mean 'zip'?" in str(error.value.hint)


@pytest.mark.parametrize(
    ("cells", "kept"),
    [
        (["01001", "94110", ""], ["01001", "94110", None]),
        (["94110", '"01001"', "7"], ["94110", "01001", "7"]),
        (["94110", "12.5", "007"], ["94110", "12.5", "007"]),
        (["00", "1", "NA"], ["00", "1", None]),
        (["0", "10", "-5"], [0, 10, -5]),
        (["0", "0.5", "-0.5"], [0.0, 0.5, -0.5]),
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_digits_behind_a_zero_stay_text(separator: str, cells: list[str], kept: list[Any]) -> None:
    rows = [separator.join(("1.5", cell, "05:30 ü")) for cell in cells]
    header = separator.join(("x", "zip", "at"))
    found = read("\n".join([header, *rows]), separator=separator)
    assert found == {"x": [1.5] * 3, "zip": kept, "at": ["05:30 ü"] * 3}
    alone = read("\n".join(["zip", *(cell or '""' for cell in cells)]), separator=separator)
    assert alone == {"zip": kept}


def test_a_code_is_found_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_hub.services.data.csv_reading._SEARCHED", 100)
    for row in range(0, 300, 7):
        cells = ["12345"] * 300
        cells[row] = "01001"
        assert read("zip,n\n" + "".join(f"{cell},1\n" for cell in cells))["zip"] == cells


def test_names_from_the_options() -> None:
    assert read("1,2\n3,4\n", has_header=False) == {"column_1": [1, 3], "column_2": [2, 4]}
    assert read("1,2\n", has_header=False, columns=["a", "b"]) == {"a": [1], "b": [2]}
    assert read("a,a,\n1,2,3\n", columns=["x", "y", "z"]) == {"x": [1], "y": [2], "z": [3]}
    with pytest.raises(InvalidArgument, match="1 names; the first line has 2"):
        read("a,b\n1,2\n", columns=["x"])
    with pytest.raises(InvalidArgument, match="'x'"):
        read("a,b\n1,2\n", columns=["x", "x"])


def test_other_options() -> None:
    assert read("# made by hand\na,b\n1,2\n", skip_lines=1) == {"a": [1], "b": [2]}
    assert read("x\n1,2\n3,4\n", skip_lines=1, has_header=False) == {
        "column_1": [1, 3],
        "column_2": [2, 4],
    }
    with pytest.raises(InvalidArgument, match="Line 4 has 1 fields"):
        read("x\na,b\n1,2\n3\n", skip_lines=1)
    with pytest.raises(InvalidArgument, match="empty"):
        read("a,b\n1,2\n", skip_lines=9)
    assert read("a;b\n1,5;2\n", decimal_comma=True) == {"a": [1.5], "b": [2]}
    assert read("a,b\n'1,5',2\n", quote="'", string_columns=["a"]) == {"a": ["1,5"], "b": [2]}
    assert read('a,b\n"x,2\n', quote=None) == {"a": ['"x'], "b": [2]}
    assert read("a, b\n1, x\n", trim=False) == {"a": [1], "b": [" x"]}
    assert read("a,b\n x ,1\n", trim=True) == {"a": ["x"], "b": [1]}
    with pytest.raises(InvalidArgument, match="cannot both be a comma"):
        read("a,b\n1,2\n", decimal_comma=True, separator=",")


def test_row_names_as_pandas_and_r_write_them() -> None:
    assert read(",a\n0,5\n1,6\n") == {"index": [0, 1], "a": [5, 6]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("a,a\n1,2\n", "Two columns have the name 'a'"),
        ("a,\n1,2\n", "Column 2 has no name"),
        (",\n1,2\n", "Column 2 has no name"),
        ("a,b\n1,2\n3\n", "Line 3 has 1 fields; the first line has 2"),
        ("a,b\n1,2\n3,4,5\n", "Line 3 has 3 fields; the first line has 2"),
        ('a,b\n"x\ny",2\n\n3\n', "Line 5 has 1 fields"),
        ('a,b\n"x, y"\n', "Line 2 has 1 fields"),
        ("a,b\n1,2,\n3\n", "Line 3 has 1 fields"),
        ("a\n1\n2,3\n", "Line 3 has 2 fields; the first line has 1"),
        ('a,b\n1,2\n"3,4\n5,6\n', "begins at line 3"),
        ('a,b\n1,"2"x\n', "begins at line 2"),
    ],
)
def test_what_is_wrong_and_in_which_line(content: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as error:
        read(content)
    assert error.value.hint


def test_a_short_row_far_down() -> None:
    rows = [f"{i},x{i}" for i in range(50_000)]
    rows[40_000] = "40000"
    with pytest.raises(InvalidArgument, match="Line 40002 has 1 fields"):
        read("\n".join(["a,b", *rows]))


def test_a_document_longer_than_the_limit_of_pythons_csv() -> None:
    long = 'say ""hi""\n' * 20_000
    assert len(read(f'a,b\n"{long}",\n')["a"][0]) == 180_000


cells = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=6
)


@settings(deadline=None)
@given(st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=6))
@example([("a", "", '"')])
@example([("\n", ",", " ")])
def test_reads_what_pythons_csv_writes(rows: list[tuple[str, str, str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("x", "y", "z"), *rows])
    frame, _ = read_csv(
        text.getvalue().encode(),
        CsvOptions(separator=",", null_values=[], string_columns=["x", "y", "z"]),
    )
    assert frame.rows() == [tuple(cell or None for cell in row) for row in rows]


@settings(deadline=None, max_examples=400)
@given(st.text(st.sampled_from('a1,"\n '), max_size=14))
@example('"\n",\n')
@example('1,"a"\n"",\n')
def test_agrees_with_pythons_csv_or_refuses(body: str) -> None:
    content = f"p,q\n{body}"
    try:
        frame, _ = read_csv(
            content.encode(), CsvOptions(separator=",", trim=False, string_columns=["p", "q"])
        )
        records = list(csv.reader(io.StringIO(content, newline=""), strict=True))
    except InvalidArgument:
        return
    except csv.Error:  # polars reads "x"y" as xy
        assert not body.count('"') % 2
        return
    rows = [row for row in records[1:] if len(row) > 1 or (row and row[0].strip())]
    expected = [row[:2] if row[2:] == [""] else row for row in rows]
    assert frame.rows() == [tuple(cell or None for cell in row) for row in expected]


def test_types_are_those_of_polars() -> None:
    frame, _ = read_csv(b"i,f,b,s\n1,1.5,true,x\n-2,1e3,false,y\n", CsvOptions())
    assert list(frame.dtypes) == [pl.Int64, pl.Float64, pl.Boolean, pl.String]
