import json
import math
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mcp_hub.adapters.errors import LimitExceeded
from mcp_hub.services.telemetry import envelope
from mcp_hub.services.telemetry.intake.accepting import (
    from_json,
    from_lines,
    from_objects,
    make_record,
    parse_time,
)

TIME = 1_790_000_000_000_000_000


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (1_790_000_000, TIME), (1_790_000_000_000, TIME), (1_790_000_000_000_000, TIME),
        (TIME, TIME), (TIME + 1, TIME + 1), ("1790000000", TIME),
        ("1790000000.5", TIME + 5 * 10**8),
        ("2026-09-21T14:13:20Z", TIME), ("2026-09-21 14:13:20", TIME),
        ("2026-09-21T16:13:20.000001+02:00", TIME + 1_000),
    ],
)  # fmt: skip
def test_times_of_any_unit(told: Any, expected: int) -> None:
    assert parse_time(told) == expected


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001 - made UTC below
def test_iso_times_are_exact(moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC)
    whole = int(aware.replace(microsecond=0).timestamp()) * 10**9
    assert parse_time(aware.isoformat()) == whole + moment.microsecond * 1_000


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, "name"), ({"name": ""}, "empty"), ({"name": "x" * 257}, "257 characters"),
        ({"name": "a", "service": "x" * 129}, "129"), ({"name": "a", "time": "soon"}, "ISO 8601"),
        ({"name": "a", "time": 10}, "before 2000"), ({"name": "a", "time": 4e9}, "ahead"),
        ({"name": "a", "kind": "metric"}, "needs a value"), ({"name": "a", "kind": "x"}, "kind"),
        ({"name": "a", "kind": "span"}, "needs duration"),
        ({"name": "a", "kind": "span", "duration_ns": -1}, "from 0"),
        ({"name": "a", "value": float("inf")}, "finite"),
        ({"name": "a", "severity": 25}, "1 to 24"),
        ({"name": "a", "trace_id": "xyz"}, "32 hexadecimal"), ({"name": "a", "nam": 1}, "nam"),
        ({"name": "a", "attributes": {str(n): n for n in range(1_001)}}, "1,001 attributes"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(record: dict[str, Any], message: str) -> None:
    batch = from_objects([{"name": "fine"}, record], "event")
    assert batch.places == [0]
    assert [one.index for one in batch.rejected] == [1]
    assert message in batch.rejected[0].message


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"name": "a", "duration": 5}, "Did you mean 'duration_ms'? Existing fields: attributes,"),
        ({"name": "a", "kind": "evnt"}, "kind is 'evnt'; it is one of event, metric, span, log"),
        ({"name": "a", "value": "5"}, "value is of the type str; it takes float"),
        ({"name": "a", "severity": [1]}, "severity is of the type array; it takes int or str"),
        ({}, "name is missing"),
        (
            {"name": "a", "duration_ms": 12, "duration_ns": 12_000},
            "duration_ns is 12000 and duration_ms is 12, which is not the same: give one",
        ),
    ],
)
def test_what_would_be_right_is_said(record: dict[str, Any], message: str) -> None:
    for batch in (
        from_objects([record], "event"),
        from_json(json.dumps([{"name": "fine"}, record]).encode(), "event"),
        from_lines(json.dumps(record).encode(), "event"),
    ):
        assert message in batch.rejected[0].message


@pytest.mark.parametrize("ms", [12, 12.345678, 13])
def test_of_two_durations_that_agree_the_finer_is_kept(ms: float) -> None:
    said = {"name": "a", "duration_ms": ms, "duration_ns": 12_345_678}
    assert [one.duration_ns for one in from_objects([said], "event").records] == [12_345_678]


def test_a_complaint_is_short_whatever_it_quotes() -> None:
    batch = from_objects([{"name": "a", "time": "x" * 9_999}, {"y" * 9_999: 1}], "event")
    assert all(len(one.message) <= 500 for one in batch.rejected)


def test_defaults() -> None:
    before = time.time_ns()
    (record,) = from_objects([{"name": "a"}], "event").records
    assert before <= record.time <= time.time_ns()
    assert (record.kind, record.service) == ("event", "unknown_service")
    assert envelope.time_of(record.id) == record.time // 10**6 * 10**6
    assert record.is_new


def test_the_time_of_an_id_is_its_record_s() -> None:
    id = envelope.new_id(TIME)
    (record,) = from_objects([{"name": "a", "id": id.hex()}], "event").records
    assert (record.id, record.time, record.is_new) == (id, TIME, False)
    (named,) = from_objects([{"name": "a", "id": "order 7"}], "event").records
    assert named.may_be_repeated


@given(st.text(min_size=1, max_size=20))
def test_an_id_that_is_no_uuid_tells_of_no_time(text: str) -> None:
    assume(len(text.replace("-", "")) < 32)
    assert envelope.time_of(envelope.named_id(text)) is None
    (record,) = from_objects([{"name": "a", "id": text}], "event").records
    assert record.may_be_repeated


def test_a_time_that_no_column_holds_is_none() -> None:
    assert envelope.time_of(UUID("ffffffff-ffff-7fff-bfff-ffffffffffff").bytes) is None


def test_what_no_database_keeps_is_replaced() -> None:
    record = make_record("log", "a\0", TIME, body="b\0", service="c\0")
    assert (record.name, record.body, record.service) == ("a\ufffd", "b\ufffd", "c\ufffd")


def test_a_long_body_is_cut_and_says_so() -> None:
    record = make_record("log", "a", TIME, body="x" * 100_000)
    assert len(record.body or "") == envelope.MAX_BODY
    assert record.attributes == {"body.length": 100_000}


RECORDS = st.lists(
    st.fixed_dictionaries({"name": st.text(min_size=1, max_size=5), "time": st.just(TIME)})
    | st.fixed_dictionaries({"name": st.integers()})
    | st.integers(),
    max_size=6,
)


@given(RECORDS)
def test_lines_objects_and_arrays_are_read_alike(records: list[Any]) -> None:
    wrong = [n for n, r in enumerate(records) if not (isinstance(r, dict) and "time" in r)]
    lines = "\n\n".join(json.dumps(record) for record in records).encode()
    for batch in (
        from_json(json.dumps(records, indent=1).encode(), "event"),
        from_lines(lines, "event"),
        from_json(b" %b " % json.dumps(records).encode(), "event", most=max(6, len(records))),
    ):
        assert [one.index for one in batch.rejected] == wrong
        assert batch.places == [n for n in range(len(records)) if n not in wrong]


@pytest.mark.parametrize("text", [b"[1,1,1,1]", b'[{"name":"a"},' * 3, b'[{"name":"a"},{},3,4]'])
def test_too_many_are_refused_before_they_are_read(text: bytes) -> None:
    with pytest.raises((LimitExceeded, ValueError)):
        from_json(text, "event", most=2)
    with pytest.raises(LimitExceeded):
        from_lines(b"1\n" * 3, "event", most=2)


@pytest.mark.parametrize("text", [b"", b"[", b"3", b"[1 2]", b'[{"name":"a"}] 3', b"[1,]"])
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the messages are the parser's
        from_json(text, "event")


def test_ids_are_uuids_of_version_7() -> None:
    ids = [envelope.new_id(TIME) for _ in range(1_000)]
    assert len(set(ids)) == 1_000
    ids += [envelope.derived_id(TIME, b"a", b"b")]
    assert ids[-1] == envelope.derived_id(TIME, b"a", b"b") != envelope.derived_id(TIME, b"ab")
    for id in ids:
        assert (id[6] >> 4, id[8] >> 6) == (7, 2)
        assert envelope.time_of(id) == TIME


def test_an_infinite_duration_is_refused_alone() -> None:
    batch = from_objects([{"name": "a", "duration_ms": math.inf}, {"name": "b"}], "event")
    assert [record.name for record in batch.records] == ["b"]
    assert [rejected.index for rejected in batch.rejected] == [0]
