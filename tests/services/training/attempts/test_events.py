"""Parsing what a job's process reports."""

import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.services.training.attempts.events import (
    MAX_KEYS,
    MAX_LINE_BYTES,
    FileTail,
    LineTail,
    Report,
)

storable = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
keys = st.text(storable, min_size=1, max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)
events = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("metric"), "key": keys, "value": finite, "step": st.integers(0, 100)}
    ),
    st.fixed_dictionaries({"type": st.just("progress"), "done": finite, "total": st.none()}),
    st.fixed_dictionaries({"type": st.just("tag"), "key": keys, "value": st.text(storable)}),
    st.fixed_dictionaries({"type": st.just("log"), "text": st.text()}),
)


@given(st.lists(events, max_size=20), st.data())
def test_however_the_file_is_cut_each_event_is_read_once(
    sent: list[dict[str, object]], data: st.DataObject
) -> None:
    content = "".join(json.dumps(event) + "\n" for event in sent).encode()
    report, tail = Report(), LineTail()
    metrics, logs = [], []
    position = 0
    while position < len(content):
        size = data.draw(st.integers(1, 200))
        batch = report.take(tail.feed(content[position : position + size]))
        metrics += [(metric.key, metric.value, metric.step) for metric in batch.metrics]
        logs += batch.log
        position += size
    assert metrics == [(e["key"], e["value"], e["step"]) for e in sent if e["type"] == "metric"]
    assert logs == [e["text"] for e in sent if e["type"] == "log"]
    assert report.tags == {e["key"]: e["value"] for e in sent if e["type"] == "tag"}


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_rubbish_never_raises_and_is_named_in_the_log(lines: list[bytes]) -> None:
    tail = LineTail()
    whole = tail.feed(b"\n".join(lines), final=True)
    batch = Report().take(whole)
    assert len(batch.log) + len(batch.metrics) + (batch.progress is not None) <= len(whole)


def test_a_metric_that_is_no_number_is_left_out_and_said() -> None:
    report = Report()
    batch = report.take([json.dumps({"type": "metric", "key": "loss", "value": math.nan}).encode()])
    assert batch.metrics == []
    assert "loss" in batch.log[0]
    assert report.metrics == {}


def test_steps_are_counted_where_the_job_gives_none() -> None:
    line = b'{"type": "metric", "key": "loss", "value": 1.0}'
    batch = Report().take([line, line, line])
    assert [metric.step for metric in batch.metrics] == [0, 1, 2]


def test_an_endless_line_is_cut() -> None:
    tail = LineTail()
    assert tail.feed(b"x" * (MAX_LINE_BYTES * 2 + 5)) == [b"x" * MAX_LINE_BYTES] * 2
    assert tail.feed(b"\n") == [b"x" * 5]


def test_what_no_database_takes_is_left_out() -> None:
    report = Report()
    batch = report.take(
        [
            b'{"type": "param", "key": "rate", "value": [1, NaN]}',
            b'{"type": "param", "key": "name", "value": {"a": "\\u0000"}}',
            b'{"type": "tag", "key": "\\u0000", "value": "x"}',
            b'{"type": "progress", "done": NaN}',
            b'{"type": "progress", "done": 1, "total": Infinity}',
        ]
    )
    assert (report.params, report.tags, batch.progress) == ({}, {}, None)
    assert len(batch.log) == report.broken == 5


def test_rubbish_without_end_is_told_of_once() -> None:
    report = Report()
    assert len(report.take([b"rubbish"] * 5_000).log) == 101
    assert report.take([b"rubbish"]).log == []
    assert report.broken == 5_001


def test_an_attempt_reports_so_many_names_and_no_more() -> None:
    report = Report()
    lines = [f'{{"type": "metric", "key": "m{n}", "value": 1}}' for n in range(MAX_KEYS + 5)]
    report.take(line.encode() for line in lines)
    assert len(report.metrics) == MAX_KEYS
    assert report.broken == 5


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_what_is_no_file_any_more_is_not_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "events.jsonl"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        (tmp_path / "secret").write_text("secret")
        path.symlink_to("secret")
    assert FileTail(path).read() == b""
