"""Full text: `word "a phrase" -excluded`, found in names, bodies and attributes, whatever the case.

SQL narrows down by LIKE, which folds the case of ASCII alone on SQLite and by locale on
PostgreSQL; what it finds is then looked at here, so that both give the same.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Text, cast, or_

from mcp_hub.adapters.database.telemetry_schema import telemetry_records
from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.telemetry.intake.naming import to_text

MAX_WORDS = 20

_WORD = re.compile(r'(-?)(?:"([^"]*)"?|(\S+))')


@dataclass(frozen=True, slots=True)
class Words:
    """What must occur, and what must not; all in lower case."""

    wanted: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.wanted or self.excluded)

    def fits(self, texts: Iterable[str]) -> bool:
        """Whether each wanted word is in one of `texts`, and no excluded one in any."""
        lower = [text.lower() for text in texts]
        return all(any(word in text for text in lower) for word in self.wanted) and not any(
            word in text for word in self.excluded for text in lower
        )

    def conditions(self, name: ColumnElement[str]) -> list[ColumnElement[bool]]:
        """Conditions that hold for every record that fits, and for few others."""
        columns = (name, telemetry_records.c.body, cast(telemetry_records.c.attributes, Text))
        return [
            or_(*(column.ilike(_pattern(word), escape="\\") for column in columns))
            for word in self.wanted
        ]


def parse_words(text: str | None) -> Words:
    """The words of a search text.

    Raises:
        InvalidArgument: they are too many, or there is none.
    """
    if text is None:
        return Words()
    found: dict[bool, list[str]] = {False: [], True: []}
    for minus, phrase, word in _WORD.findall(text):
        if said := (phrase or word).strip().lower():
            found[bool(minus)].append(said)
    words = Words(tuple(found[False]), tuple(found[True]))
    if not words:
        raise InvalidArgument(
            "text has no words.", 'Write words, "a phrase" or -excluded, or leave text out.'
        )
    if len(words.wanted) + len(words.excluded) > MAX_WORDS:
        raise InvalidArgument(f"text has over {MAX_WORDS} words.", "Give those that are rare.")
    return words


def texts_of(value: Any) -> Iterable[str]:
    """The keys and values of attributes, at any depth, as texts."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from texts_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts_of(inner)
    else:
        yield value if isinstance(value, str) else to_text(value)


def _pattern(word: str) -> str:
    """A LIKE pattern that fits wherever `word` occurs, also as JSON has it."""
    body = "".join(
        f"\\{letter}" if letter in "%_" else letter if _is_itself(letter) else "%"
        for letter in word
    )
    return f"%{body}%"


def _is_itself(letter: str) -> bool:
    return " " <= letter <= "~" and letter not in '"\\'
