import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import palmerpenguins
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris, load_wine
from sqlalchemy import select

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.database.schema import datasets
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import (
    Denied,
    HubError,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    Unavailable,
)
from mcp_hub.services.data.service import MAX_CONTENT_BYTES, DataService

PENGUINS = Path(palmerpenguins.__file__).parent / "data" / "penguins.csv"
CSV = "a,b\n1,x\n2,y\n"


async def stored_rows(database: SqliteDatabase) -> int:
    return len(await database.read(lambda c: c.execute(select(datasets)).all()))


async def test_a_file_becomes_version_one(data: DataService, root: Path) -> None:
    (root / "penguins.csv").write_bytes(PENGUINS.read_bytes())
    view = await data.register("penguins", source="penguins.csv")
    assert view.dataset == "penguins:1"
    assert view.id.startswith("ds_")
    assert (view.rows, view.bytes, view.format) == (344, PENGUINS.stat().st_size, "csv")
    assert view.sha256 == hashlib.sha256(PENGUINS.read_bytes()).hexdigest()
    assert view.source == str((root / "penguins.csv").resolve())
    assert view.options == {"separator": ","}
    assert {c.name: (c.dtype, c.kind) for c in view.columns}["sex"] == ("String", "category")
    for reference in ("penguins", "penguins:1", view.id):
        assert await data.get(reference) == view


async def test_inline_content_of_every_text_format(data: DataService) -> None:
    for content, format, options in (
        (CSV, "csv", {"separator": ","}),
        ("a;b\n1;x\n2;y\n", "csv", {"separator": ";"}),
        ("a\tb\n1\tx\n2\ty\n", "tsv", {"separator": "\t"}),
        ('[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]', "json", {}),
        ('{"a": [1, 2], "b": ["x", "y"]}', "json", {}),
        ('{"a": 1, "b": "x"}\n{"a": 2, "b": "y"}', "jsonl", {}),
    ):
        view = await data.register("inline", content=content)
        assert (view.format, view.options, view.source) == (format, options, "inline")
        preview = await data.preview("inline")
        assert (preview.columns, preview.rows) == (["a", "b"], [[1, "x"], [2, "y"]])


async def test_the_same_content_again_is_the_same_version(data: DataService) -> None:
    first = await data.register("d", content=CSV)
    assert await data.register("d", content=CSV) == first
    assert await data.register("d", content=CSV, format="csv", options={"separator": ","}) == first
    read_otherwise = await data.register("d", content=CSV, options={"string_columns": ["a"]})
    assert read_otherwise.version == 2
    assert (await data.register("d", content=CSV)).version == 3  # the newest is another
    assert (await data.register("other", content=CSV)).version == 1


async def test_what_may_be_misread_is_told_at_once(data: DataService) -> None:
    rows = "".join(f"{i / 7},{'ab'[i % 2]}\n" for i in range(96)) + "?,a\n" * 4
    view = await data.register("d", content=f"x,y\n{rows}")
    [warning] = view.warnings
    assert warning.startswith("mostly_numbers (x): 96 % of 'x' are numbers, the rest is '?' (4).")
    assert 'options.null_values=["?", "NA", ' in warning
    # As often as it is registered, and in the profile, but it is not kept with the version.
    assert (await data.register("d", content=f"x,y\n{rows}")).warnings == [warning]
    profiled = (await data.profile("d")).warnings
    assert [str(one) for one in profiled if one.code == "mostly_numbers"] == [warning]
    assert (await data.get("d")).warnings == []


async def test_versions_are_kept(data: DataService) -> None:
    for number in range(1, 4):
        view = await data.register("d", content=f"a,b\n{number},2\n")
        assert view.version == number
    assert (await data.get("d")).version == 3
    assert (await data.preview("d:2")).rows == [[2, 2]]
    assert (await data.preview(view.id)).rows == [[3, 2]]


async def test_many_at_once_get_a_version_each(data: DataService, database: SqliteDatabase) -> None:
    views = []

    async def register(number: int) -> None:
        views.append(await data.register("d", content=f"a,b\n{number % 8},2\n"))

    async with anyio.create_task_group() as tasks:
        for number in range(16):
            tasks.start_soon(register, number)
    versions = {view.version for view in views}
    assert versions == set(range(1, len(versions) + 1))
    assert await stored_rows(database) == len(versions)


async def test_the_list_has_the_newest_versions_in_pages(data: DataService) -> None:
    for name in ("b", "a", "c"):
        await data.register(name, content=CSV)
    await data.register("b", content=CSV + "3,z\n")
    page = await data.list(limit=2)
    assert [(item.name, item.version, item.rows) for item in page.items] == [
        ("a", 1, 2),
        ("b", 2, 3),
    ]
    assert page.items[0].columns == 2
    rest = await data.list(limit=2, cursor=page.next_cursor)
    assert [item.name for item in rest.items] == ["c"]
    assert rest.next_cursor is None
    assert (await data.list(limit=3)).next_cursor is None
    with pytest.raises(InvalidArgument, match="not a cursor"):
        await data.list(cursor="next")
    with pytest.raises(InvalidArgument):
        await data.list(limit=0)


async def test_names_for_completion(data: DataService) -> None:
    for name in ("iris", "iris_big", "wine", "a-b"):
        await data.register(name, content=CSV)
    await data.register("iris", content=CSV + "3,z\n")
    assert await data.names() == ["a-b", "iris", "iris_big", "wine"]
    assert await data.names("iris") == ["iris", "iris_big"]
    assert await data.names("iris_") == ["iris_big"]
    assert await data.names("%") == []


async def test_changes_are_published(data: DataService, bus: DatabaseBus) -> None:
    async with bus.subscribe() as topics:
        await data.register("d", content=CSV)
        await data.register("d", content=CSV)
        await data.register("d", content=CSV + "3,z\n")
        await data.register("end", content=CSV)
        received = []
        with anyio.fail_after(5):
            while "datasets://end" not in received:
                received.append(await topics.receive())
    assert received == [
        "datasets://d",
        "resources/list_changed",
        "datasets://d",
        "datasets://end",
    ]


@pytest.mark.parametrize(
    ("reference", "error", "hint"),
    [
        ("irsi", NotFound, "Did you mean 'iris'?"),
        ("iris:9", NotFound, "newest is iris:1"),
        ("iris:0", NotFound, "newest is iris:1"),
        ("iris:x", InvalidArgument, "name:3"),
        ("iris:", InvalidArgument, "name:3"),
        ("iris:-1", InvalidArgument, "name:3"),
        ("iris:99999999999999999999", InvalidArgument, "name:3"),
        ("ds_nothing", NotFound, "iris"),
        ("", NotFound, "iris"),
    ],
)
async def test_references_to_nothing(
    data: DataService, reference: str, error: type[HubError], hint: str
) -> None:
    await data.register("iris", content=CSV)
    with pytest.raises(error) as raised:
        await data.get(reference)
    assert hint in str(raised.value.hint)


async def test_nothing_is_registered_yet(data: DataService) -> None:
    with pytest.raises(NotFound) as error:
        await data.profile("iris")
    assert "There are no data sets yet." in str(error.value.hint)
    assert (await data.list()).items == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, InvalidArgument, "exactly one of source and content"),
        ({"source": "a.csv", "content": CSV}, InvalidArgument, "exactly one"),
        ({"content": ""}, InvalidArgument, "empty"),
        ({"content": "a,b\n"}, InvalidArgument, "no rows"),
        ({"content": "a,b\n1\n"}, InvalidArgument, "Line 2 has 1 fields"),
        ({"content": CSV, "format": "xls"}, InvalidArgument, "Unknown format"),
        ({"content": CSV, "format": "json"}, InvalidArgument, "broken at line 1"),
        ({"content": CSV, "format": "parquet"}, InvalidArgument, "cannot be passed as content"),
        ({"content": CSV, "options": {"sep": ";"}}, InvalidArgument, "Unknown csv option 'sep'"),
        ({"content": CSV, "options": {"encoding": "latin-1"}}, InvalidArgument, "is text already"),
        ({"content": "a\n\ud800\n"}, InvalidArgument, "not Unicode text: character 2"),
        ({"content": "x" * (MAX_CONTENT_BYTES + 1)}, LimitExceeded, "at most 1048576"),
        ({"content": "é" * (MAX_CONTENT_BYTES // 2 + 1)}, LimitExceeded, "at most 1048576"),
        ({"source": "gone.csv"}, NotFound, "There is no file"),
        ({"source": "../outside.csv"}, Denied, "outside"),
        ({"source": "/etc/passwd"}, Denied, "outside"),
        ({"source": "link.csv"}, Denied, "outside"),
        ({"source": "sub"}, InvalidArgument, "is a folder"),
        ({"source": "table.xlsx"}, InvalidArgument, "does not show"),
        ({"source": "empty.csv"}, InvalidArgument, "empty"),
        ({"source": "cut.parquet"}, InvalidArgument, "cut short"),
        ({"source": "noise.csv"}, InvalidArgument, "not utf-8"),
        ({"source": "noise.json"}, InvalidArgument, "not UTF-8"),
        ({"source": "huge.csv"}, LimitExceeded, "at most 5000000"),
        ({"source": "wide.csv"}, LimitExceeded, "columns; at most"),
    ],
)
async def test_bad_input_says_so_and_stores_nothing(
    data: DataService,
    database: SqliteDatabase,
    root: Path,
    tmp_path: Path,
    arguments: dict[str, Any],
    error: type[HubError],
    message: str,
) -> None:
    (tmp_path / "outside.csv").write_text(CSV)
    (root / "link.csv").symlink_to(tmp_path / "outside.csv")
    (root / "sub").mkdir()
    (root / "table.xlsx").write_bytes(b"PK\3\4")
    (root / "empty.csv").touch()
    pl.DataFrame({"a": range(100)}).write_parquet(root / "whole.parquet")
    (root / "cut.parquet").write_bytes((root / "whole.parquet").read_bytes()[:-10])
    for name in ("noise.csv", "noise.json"):
        (root / name).write_bytes(bytes(range(250, 0, -1)))
    with (root / "huge.csv").open("wb") as file:
        os.truncate(file.fileno(), 10**12)  # sparse: reading it would never end
    (root / "wide.csv").write_text(",".join(map(str, range(6000))) + "\n" + "1," * 5999 + "1\n")
    with anyio.fail_after(30), pytest.raises(error, match=message) as raised:
        await data.register("bad", **arguments)
    assert raised.value.hint
    assert await stored_rows(database) == 0
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    assert (await data.register("good", content=CSV)).version == 1


@pytest.mark.parametrize("name", ["", "a b", "ä", "-a", "a/b", "x" * 129, "a:1", "a@b", "a\n"])
async def test_names_that_cannot_be(data: DataService, name: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot name a data set"):
        await data.register(name, content=CSV)


async def test_without_a_temporary_folder_it_is_unavailable(
    data: DataService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    with pytest.raises(Unavailable, match="temporary folder"):
        await data.register("d", content=CSV)


async def test_temporary_files_are_removed(
    data: DataService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    await data.register("d", content=CSV)
    await data.profile("d")
    await data.validate("d", [{"drift_from": "d:1"}])
    with pytest.raises(InvalidArgument):
        await data.register("d", content="a,b\n1\n")
    assert list(folder.iterdir()) == []


async def test_lost_content_is_an_error(data: DataService, blobs: FileBlobStore) -> None:
    view = await data.register("d", content=CSV)
    await blobs.delete(view.sha256)
    with pytest.raises(HubError):
        await data.preview("d")
    assert (await data.get("d")).rows == 2


async def test_scikit_learns_sets_as_csv(data: DataService, root: Path) -> None:
    for load, rows in ((load_iris, 150), (load_wine, 178)):
        bunch = load()
        frame = pl.DataFrame(
            {
                **{str(n): bunch.data[:, i] for i, n in enumerate(bunch.feature_names)},
                "species": [str(bunch.target_names[t]) for t in bunch.target],
            }
        )
        frame.write_csv(root / "set.csv")
        view = await data.register("set", source="set.csv")
        assert view.rows == rows
        assert {c.kind for c in view.columns[:-1]} == {"number"}
        profile = await data.profile("set", "species")
        assert profile.target is not None
        assert profile.target.suggested_type == "classification"
        assert profile.columns[0].name == "species"
        assert {w.code for w in profile.warnings} <= {"duplicate_rows"}


async def test_a_text_set(data: DataService) -> None:
    good = ["what a lovely film, truly", "the best story in years", "great actors and music"]
    bad = ["a dull and slow affair", "bad from start to end", "I want my money back, now"]
    rows = [{"review": f"{text} ({i})", "label": "pos" if text in good else "neg"}
            for i in range(10) for text in good + bad]  # fmt: skip
    await data.register("reviews", content="\n".join(map(json.dumps, rows)))
    profile = await data.profile("reviews", "label")
    assert {c.name: c.kind for c in profile.columns} == {"label": "category", "review": "text"}
    assert profile.target is not None
    assert profile.target.distribution == {"neg": 30, "pos": 30}
    assert profile.warnings == []


@pytest.mark.parametrize("format", ["csv", "tsv", "parquet", "json", "jsonl"])
async def test_every_format_round_trips(data: DataService, root: Path, format: str) -> None:
    frame = pl.DataFrame(
        {
            "größe": [1, -2, None],
            "f": [0.5, None, -1e300],
            "b": [True, None, False],
            "文": ["ü, 😀", 'quote " and\nnewline', None],
        }
    )
    file = root / f"table.{format}"
    {
        "csv": frame.write_csv,
        "tsv": lambda path: frame.write_csv(path, separator="\t"),
        "parquet": frame.write_parquet,
        "json": frame.write_json,
        "jsonl": frame.write_ndjson,
    }[format](file)
    view = await data.register("table", source=f"table.{format}")
    assert view.format == format
    preview = await data.preview("table")
    assert preview.columns == frame.columns
    assert preview.rows == [list(row) for row in frame.rows()]


async def test_drift_between_versions(data: DataService) -> None:
    await data.register("d", content="\n".join(["x,y", *(f"{i + 5},a" for i in range(200))]))
    await data.register("d", content="\n".join(["x,y", *(f"{i + 500},a" for i in range(200))]))
    found = await data.validate("d", [{"drift_from": "d:1"}, {"column": "y", "drift_from": "d:1"}])
    assert not found.passed
    assert [(r.column, r.passed) for r in found.results] == [(None, False), ("y", True)]
    with pytest.raises(NotFound, match="has no version 7"):
        await data.validate("d", [{"drift_from": "d:7"}])


async def test_the_preview_has_limits(data: DataService) -> None:
    await data.register("d", content="\n".join(["x,y", *("1,2" for i in range(300))]))
    assert len((await data.preview("d", 100)).rows) == 100
    for limit in (0, 101):
        with pytest.raises(InvalidArgument, match="from 1 to 100"):
            await data.preview("d", limit)


integers = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"]), max_size=8)
names = texts.map(str.strip).filter(
    lambda name: name not in ("", "index") and not (name[0] == "^" and name[-1] == "$")
)


@st.composite
def tables(draw: st.DrawFn) -> pl.DataFrame:
    """A small table of scalars, in which every column has a value."""
    height = draw(st.integers(1, 5))
    columns = {}
    for name in draw(st.lists(names, min_size=1, max_size=4, unique=True)):
        values = draw(st.sampled_from([integers, floats, st.booleans(), texts]))
        cells = draw(st.lists(st.none() | values, min_size=height, max_size=height))
        columns[name] = [draw(values), *cells[1:]]
    return pl.DataFrame(columns)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tables())
async def test_any_table_previews_as_it_was_written(
    data: DataService, root: Path, frame: pl.DataFrame
) -> None:
    frame.write_ndjson(root / "t.jsonl")
    await data.register("t", source="t.jsonl")
    preview = await data.preview("t")
    assert (preview.columns, preview.rows) == (frame.columns, [list(r) for r in frame.rows()])

    frame.write_csv(root / "t.csv", quote_style="non_numeric")
    text = [name for name in frame.columns if frame.schema[name] == pl.String]
    options = {"null_values": [], "separator": ",", "string_columns": text}
    await data.register("t", source="t.csv", options=options)
    preview = await data.preview("t")
    # In CSV an empty text is a missing one.
    rows = [[None if value == "" else value for value in row] for row in frame.rows()]
    assert (preview.columns, preview.rows) == (frame.columns, rows)


PROGRAM = """
import sys, threading
importers = set()
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("polars", "sklearn", "onnxruntime"):
            importers.add((name, threading.current_thread() is threading.main_thread()))
sys.meta_path.insert(0, Watch())
import anyio
from pathlib import Path
from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.services.data.service import DataService
async def main(folder):
    database = SqliteDatabase(folder / "hub.db")
    await database.upgrade()
    bus = DatabaseBus(database)
    data = DataService(database, FileBlobStore(folder), bus, roots=[], max_bytes=10)
    assert not importers, importers
    await data.register("d", content="a,b\\n1,2\\n")
    assert importers and not any(main for _, main in importers), importers
    await bus.close()
    await database.close()
anyio.run(main, Path(sys.argv[1]))
"""


def test_polars_is_imported_late_and_in_a_thread(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], check=True, timeout=60)
