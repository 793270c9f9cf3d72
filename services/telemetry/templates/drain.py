"""Templates of masked log bodies: what their statements in the program's text look like.

Drain (He, Zhu, Zheng, Lyu: Drain: An Online Log Parsing Approach with Fixed Depth Tree, ICWS 2017)
over all masks at once. A tree leads from the number of tokens and the first token to groups; a
mask joins the group most like it and makes wildcards of the tokens in which they differ. Here the
masks are taken in the order of their tokens, so that the result depends on nothing but which they
are, and two things are added: groups that differ in one token, for which there are many others,
become one; and a word that says how something ended is never taken for a variable.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mcp_hub.services.telemetry.intake.masking import MASK

SIMILARITY = 0.6
"""The share of its words in which a mask must equal those of a group to join it."""

_MANY, _VERY_MANY = 5, 10
"""So many different tokens in one place are a variable: with several words around it, with one."""
_COMPARED = 100
"""The latest groups of a leaf that a mask is held against: in their order, like ones are near."""
_ROWS = 16

_OUTCOME_WORDS = """
    accepted rejected allowed denied granted refused approved declined passed failed failure fail
    succeeded success ok error completed cancelled canceled aborted timeout started stopped starting
    stopping opened closed open close opening closing connected disconnected up down enabled
    disabled acquired released created deleted added removed valid invalid true false yes no on off
    healthy unhealthy online offline hit miss begin end enter exit read write not without
    """
"""Words that say how something ended or stands: two of them are two templates, not a variable."""
_OUTCOMES = frozenset(_OUTCOME_WORDS.split())

_PUNCTUATION = ".,:;!?()[]{}\"'=<>"

Tokens = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """A template and the masks it stands for, by their places in what was clustered."""

    template: str
    members: tuple[int, ...]


def cluster(masks: Sequence[str]) -> list[Group]:
    """The templates of `masks`, each mask in exactly one, which matches it; by template.

    The order of `masks` does not matter, nor whether one is there twice.
    """
    places: dict[Tokens, list[int]] = defaultdict(list)
    for place, mask in enumerate(masks):
        places[tuple(mask.split())].append(place)
    templates: dict[Tokens, list[int]] = defaultdict(list)
    by_length: dict[int, list[Tokens]] = defaultdict(list)
    for tokens in places:
        by_length[len(tokens)].append(tokens)
    for length, texts in by_length.items():
        for template, members in _merged(_grouped(sorted(texts), length), length).items():
            for tokens in members:
                templates[template] += places[tokens]
    return [
        Group(" ".join(template), tuple(sorted(members)))
        for template, members in sorted(templates.items())
    ]


class _Leaf:
    """Groups of masks of one length and first token, each a row of its template's numbers."""

    def __init__(self, length: int) -> None:
        self.members: list[list[Tokens]] = []
        self.rows: NDArray[np.int32] = np.empty((_ROWS, length), np.int32)

    def add(self, tokens: Tokens, numbers: NDArray[np.int32]) -> None:
        """Put a mask into the group most like it, or into one of its own.

        `numbers` [length] stand for its tokens: 0 for a wildcard, below 0 for an outcome.
        """
        first = max(0, len(self.members) - _COMPARED)
        rows = self.rows[first : len(self.members)]
        if len(rows):
            differ = rows != numbers
            either = rows | numbers
            words = np.count_nonzero(either, axis=1)
            alike = 1 - differ.sum(axis=1) / np.maximum(words, 1)
            # The sign of a disjunction is that of either: an outcome differs.
            alike[(differ & (either < 0)).any(axis=1)] = -1
            best = int(alike.argmax())
            if alike[best] >= SIMILARITY:
                rows[best][differ[best]] = 0
                self.members[first + best].append(tokens)
                return
        if len(self.members) == len(self.rows):
            self.rows = np.concatenate([self.rows, np.empty_like(self.rows)])
        self.rows[len(self.members)] = numbers
        self.members.append([tokens])


def _grouped(texts: Iterable[Tokens], length: int) -> dict[Tokens, list[Tokens]]:
    """The masks of one length by their templates; `texts` are sorted."""
    numbers: dict[str, int] = {MASK: 0}
    leaves: dict[str, _Leaf] = {}
    for tokens in texts:
        for token in tokens:
            if token not in numbers:
                numbers[token] = -len(numbers) if _is_outcome(token) else len(numbers)
        branch = MASK if _looks_variable(tokens[:1]) else "".join(tokens[:1])
        leaf = leaves.get(branch)
        if leaf is None:
            leaf = leaves[branch] = _Leaf(length)
        leaf.add(tokens, np.array([numbers[token] for token in tokens], np.int32))
    found: dict[Tokens, list[Tokens]] = defaultdict(list)
    for leaf in leaves.values():
        for members, row in zip(leaf.members, leaf.rows.tolist(), strict=False):
            template = tuple(
                token if number else MASK for token, number in zip(members[0], row, strict=True)
            )
            found[template] += members
    return found


def _merged(found: dict[Tokens, list[Tokens]], length: int) -> dict[Tokens, list[Tokens]]:
    """With those templates as one that differ in one place only, in which there is a variable."""
    for place in range(length):
        alike: dict[Tokens, list[Tokens]] = defaultdict(list)
        for template in found:
            if not _is_outcome(template[place]):
                alike[*template[:place], MASK, *template[place + 1 :]].append(template)
        for wider, templates in alike.items():
            if len(templates) == 1:
                continue
            words = sum(token != MASK for token in wider)
            many = _MANY if words > 1 else _VERY_MANY
            if words and (len(templates) >= many or (words > 1 and wider in templates)):
                found[wider] = [mask for template in templates for mask in found.pop(template)]
    return found


def _looks_variable(tokens: Tokens) -> bool:
    return any(MASK in token or any(map(str.isdigit, token)) for token in tokens)


@lru_cache(maxsize=65_536)
def _is_outcome(token: str) -> bool:
    return token.strip(_PUNCTUATION).lower() in _OUTCOMES
