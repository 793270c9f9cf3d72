import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.services.telemetry.intake.masking import MASK, MAX_MASK, mask


@pytest.mark.parametrize(
    ("body", "masked"),
    [
        ("user 17 logged in", "user <*> logged in"),
        ("took 3.5ms, 20% of 1e9", "took <*>, <*> of <*>"),
        ("GET https://a.example/x?y=1 failed", "GET <*> failed"),
        ("mail to a.b@c.example bounced", "mail to <*> bounced"),
        ("open /var/log/syslog now", "open <*> now"),
        ("id 6f9619ff-8b86-d011-b42d-00cf4fc964ff", "id <*>"),
        ("from 10.0.0.1:8080 at 2026-01-31T12:00:00Z", "from <*> at <*>"),
        ("2026-01-31 12:00:00,123 started", "<*> <*> started"),
        ("worker-12 and node3 of deadbeef01", "worker-<*> and node<*> of <*>"),
        ('said "anything 12 at all" twice', "said <*> twice"),
        ("key 'a b' of  many\tblanks", "key <*> of many blanks"),
        ("nothing varies here", "nothing varies here"),
        ("", ""),
    ],
)
def test_what_varies_is_masked(body: str, masked: str) -> None:
    assert mask(body) == masked


@given(st.text(max_size=2 * MAX_MASK))
def test_any_text_has_a_mask(body: str) -> None:
    assert len(mask(body)) <= 3 * MAX_MASK


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=2))
def test_numbers_alone_make_no_difference(numbers: list[int]) -> None:
    one, other = (f"request {n} from host-{n} took {n} ms" for n in numbers)
    assert mask(one) == mask(other)


@given(st.from_regex(r"[0-9]{1,9}([.,][0-9]{1,9}){0,4}[.,]?", fullmatch=True))
def test_a_number_is_masked_alike_in_bodies_with_and_without_quotes(number: str) -> None:
    assert mask(f'{number} ""') == f"{mask(number)} {MASK}"
