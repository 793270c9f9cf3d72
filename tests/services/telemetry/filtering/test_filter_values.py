"""Conditions on values in memory hold where the filters' meaning in plain Python says so."""

from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.telemetry.envelope import Record
from mcp_hub.services.telemetry.filtering.filter_values import fits
from mcp_hub.services.telemetry.filtering.filters import OPS, parse_filter
from mcp_hub.services.telemetry.storage.columns import coded, pack_coded, unpack_coded

from .test_filters import SCALARS, VALUES
from .test_filters import fits as means

SOUGHT = st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.none())


@given(st.lists(VALUES, min_size=1, max_size=12), st.sampled_from(OPS), SOUGHT)
def test_what_fits_is_what_the_condition_means(values: list[Any], op: str, sought: Any) -> None:
    with suppress(InvalidArgument):
        values = [v.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(v, str) else v
                  for v in values]  # fmt: skip
        (condition,) = parse_filter({"attributes.x": {op: sought}}).conditions
        column = unpack_coded(pack_coded(coded(values)))
        found = column.holds(lambda value: fits(value, condition)).tolist()
        records = [
            Record(id=b"", kind="event", name="n", time=0, attributes={"x": value})
            for value in values
        ]
        assert found == [means(record, condition) for record in records]
