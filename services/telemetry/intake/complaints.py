"""Why a record was refused, in words that say what would be right."""

import re
from collections.abc import Mapping
from functools import lru_cache

from mcp_hub.adapters.errors import names_hint

MAX_COMPLAINT = 400
"""Characters: a complaint may quote what was sent, which may be long."""

_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>.*)`", re.DOTALL)
_NO_VALUE = re.compile(r"Invalid enum value '?(?P<value>.*?)'? - at `\$\.(?P<key>\w+)`", re.DOTALL)
_TYPE = re.compile(r"Expected `(?P<types>[^`]*)`, got `(?P<got>[^`]*)` - at `\$\.(?P<key>\w+)`")
_NO_OBJECT = re.compile(r"Expected `object`, got `(?P<got>[^`]*)`$")
_MISSING = re.compile(r"Object missing required field `(?P<key>\w+)`")


def complaint(
    error: Exception, fields: tuple[str, ...], values: Mapping[str, tuple[str, ...]]
) -> str:
    """What `error` says, which may be msgspec's; `fields` and their `values` are what exists."""
    text = str(error)
    if found := _UNKNOWN.match(text):
        text = _no_field(found["key"][:80], fields)
    elif found := _MISSING.match(text):
        text = f"{found['key']} is missing"
    elif (found := _NO_VALUE.match(text)) and found["key"] in values:
        known = ", ".join(values[found["key"]])
        text = f"{found['key']} is {found['value'][:80]!r}; it is one of {known}"
    elif found := _NO_OBJECT.match(text):
        text = f"it is of the type {found['got']}; a record is a JSON object"
    elif found := _TYPE.match(text):
        types = found["types"].replace(" | null", "").replace(" | ", " or ")
        text = f"{found['key']} is of the type {found['got']}; it takes {types}"
    return text if len(text) <= MAX_COMPLAINT else f"{text[:MAX_COMPLAINT]}…"


@lru_cache(maxsize=256)
def _no_field(key: str, fields: tuple[str, ...]) -> str:
    """A sender's mistake is that of all its records."""
    hint = names_hint(key, fields, "fields")
    return f"a record has no field {key!r}. {hint} What else there is goes into attributes."
