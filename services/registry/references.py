"""How a model version is named: `name`, `name@alias` or `name:version`, everywhere."""

import re
from typing import NamedTuple

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.views import NAME_PATTERN

ALIAS_PATTERN = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"
RESERVED_ALIAS = "latest"
"""Not an alias: it would promise to follow the newest version, which the plain name does."""

_NAME = re.compile(NAME_PATTERN.strip("^$"))
_ALIAS = re.compile(ALIAS_PATTERN.strip("^$"))
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_LONGEST_SHOWN = 100


class Reference(NamedTuple):
    """What a caller named. With neither version nor alias: the newest version that is there."""

    name: str
    version: int | None = None
    alias: str | None = None

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.name}:{self.version}"
        return f"{self.name}@{self.alias}" if self.alias is not None else self.name


def parse_reference(text: str) -> Reference:
    """The reference that `text` spells.

    Raises:
        InvalidArgument: it has none of the three forms.
    """
    name, at, alias = text.partition("@")
    if at:
        return Reference(_name(name, text), alias=check_alias(alias, text))
    name, colon, version = text.partition(":")
    if not colon:
        return Reference(_name(name, text))
    if not _VERSION.fullmatch(version):
        raise _malformed(text, f"{_shown(version)} is not a version number (1, 2, 3, …)")
    return Reference(_name(name, text), version=int(version))


def check_alias(alias: str, reference: str | None = None) -> str:
    """`alias` if it may be one; `reference` is the text that it stood in.

    Raises:
        InvalidArgument: it is not a letter and then up to 63 letters, digits, `_` or `-`.
    """
    if _ALIAS.fullmatch(alias):
        return alias
    if reference is not None:
        raise _malformed(reference, f"{_shown(alias)} is not an alias")
    raise InvalidArgument(
        f"{_shown(alias)} is not an alias.",
        "An alias is a letter and then up to 63 letters, digits, '_' or '-', as in 'champion'.",
    )


def check_name(name: str) -> str:
    """`name` if a model may be called so.

    Raises:
        InvalidArgument: it does not match NAME_PATTERN.
    """
    if _NAME.fullmatch(name):
        return name
    raise InvalidArgument(
        f"{_shown(name)} is not a name for a model.",
        "A name is a letter or digit and then up to 127 letters, digits, '.', '_' or '-'.",
    )


def _name(name: str, text: str) -> str:
    if not _NAME.fullmatch(name):
        raise _malformed(text, f"{_shown(name)} is not a model name")
    return name


def _malformed(text: str, problem: str) -> InvalidArgument:
    return InvalidArgument(
        f"{_shown(text)} is not a model reference: {problem}.",
        "A reference is 'name' (its newest version), 'name@alias' or 'name:version', "
        "as in 'iris', 'iris@champion' or 'iris:3'.",
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…")
