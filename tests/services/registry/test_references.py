import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.registry.references import (
    ALIAS_PATTERN,
    Reference,
    check_alias,
    check_name,
    parse_reference,
)
from mcp_hub.services.views import NAME_PATTERN

names = st.from_regex(NAME_PATTERN.strip("^$"), fullmatch=True)
aliases = st.from_regex(ALIAS_PATTERN.strip("^$"), fullmatch=True)
versions = st.integers(1, 10**9 - 1)


@given(
    names.map(Reference)
    | st.builds(lambda name, version: Reference(name, version=version), names, versions)
    | st.builds(lambda name, alias: Reference(name, alias=alias), names, aliases)
)
def test_a_reference_parses_back_from_its_text(reference: Reference) -> None:
    assert parse_reference(str(reference)) == reference


@given(st.text() | st.text("aA1.:@-_ 0\n"))
def test_a_text_is_a_reference_to_itself_or_is_refused(text: str) -> None:
    with suppress(InvalidArgument):
        reference = parse_reference(text)
        assert str(reference) == text
        assert re.fullmatch(NAME_PATTERN.strip("^$"), reference.name)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "'' is not a model name"),
        ("iris\n", r"'iris\n' is not a model name"),
        ("iris:", "'' is not a version number"),
        ("iris:v1", "'v1' is not a version number"),
        ("iris:0", "'0' is not a version number"),
        ("iris:01", "'01' is not a version number"),
        ("iris:-1", "'-1' is not a version number"),
        ("iris:99999999999", "'99999999999' is not a version number"),
        ("iris@", "'' is not an alias"),
        ("iris@1st", "'1st' is not an alias"),
        ("iris@champion:2", "'champion:2' is not an alias"),
        ("iris:2@champion", "'iris:2' is not a model name"),
        ("@champion", "'' is not a model name"),
        ("a b", "'a b' is not a model name"),
        ("../iris", "'../iris' is not a model name"),
    ],
)
def test_what_is_malformed_is_named(text: str, problem: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_reference(text)
    assert problem in refused.value.message
    for form in ("'name'", "'name@alias'", "'name:version'"):
        assert form in (refused.value.hint or "")


def test_a_long_text_is_cut_in_the_message() -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_reference("é" * 100_000)
    assert len(refused.value.message) < 500


@given(names)
def test_a_name_is_itself(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a b", "a" * 129, "a\n", "é", "a/b", "a:1", "a@b"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="is not a name for a model"):
        check_name(name)


@pytest.mark.parametrize("alias", ["", "1", "a b", "a.b", "a" * 65, "a\n", "champion "])
def test_other_aliases_are_refused(alias: str) -> None:
    with pytest.raises(InvalidArgument, match="is not an alias"):
        check_alias(alias)
