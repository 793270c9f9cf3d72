"""`traceparent` as the W3C's Trace Context describes it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.services.telemetry.own import tracing
from mcp_hub.services.telemetry.own.tracing import TraceContext, parse_traceparent

_ids = st.tuples(
    st.binary(min_size=16, max_size=16).filter(any), st.binary(min_size=8, max_size=8).filter(any)
)


@given(_ids)
def test_what_is_written_is_read(ids: tuple[bytes, bytes]) -> None:
    context = TraceContext(*ids)
    assert parse_traceparent(context.traceparent) == context


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
    ],
)
def test_what_is_malformed_is_no_context(text: object) -> None:
    assert parse_traceparent(text) is None


def test_a_later_version_may_say_more() -> None:
    assert parse_traceparent("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more")


@given(st.text(max_size=70))
def test_any_text_is_read_without_an_error(text: str) -> None:
    parse_traceparent(text)


def test_a_process_is_told_of_the_current_trace_only() -> None:
    assert tracing.environment() == {}
    context = tracing.child_of(None)
    with tracing.within(context):
        assert tracing.environment() == {"TRACEPARENT": context.traceparent}
    assert tracing.environment() == {}
