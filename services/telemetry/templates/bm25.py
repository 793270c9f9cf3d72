"""Full text: which texts have a question's words, the rare ones counting most.

BM25 (Robertson, Zaragoza: The Probabilistic Relevance Framework: BM25 and Beyond, 2009) with the
logarithm that Lucene takes, which is never below 0.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

K1 = 1.2
B = 0.75

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\dA-Z_]+|\d+")
_VOWEL = re.compile("[aeiouy]")
_LITTLE_WORDS = """
    a an and are as at be by for from has have in is it its not of on or that the this to was were
    will with what which who did does do how
    """
_STOP_WORDS = frozenset(_LITTLE_WORDS.split())

_NOWHERE = np.zeros((2, 0), np.int64)


def split(text: str) -> list[str]:
    """The words of a text or of a name such as `http.serverRequest_count`, in lower case."""
    return [word.lower() for word in _WORD.findall(text)]


def words_of(text: str) -> list[str]:
    """What a text is found by: its words, without the little ones, as stems."""
    return [_stem(word) for word in split(text) if word not in _STOP_WORDS]


class Bm25:
    """An index of texts. Not to be changed."""

    def __init__(self, texts: Sequence[str]) -> None:
        lengths = np.zeros(len(texts))
        postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for place, text in enumerate(texts):
            words = words_of(text)
            lengths[place] = len(words)
            for word, count in Counter(words).items():
                postings[word].append((place, count))
        self._norm = K1 * (1 - B + B * lengths / max(lengths.mean(), 1) if len(texts) else lengths)
        self._postings = {
            word: np.array(found, np.int64).T.reshape(2, -1) for word, found in postings.items()
        }

    def scores(self, question: str) -> NDArray[np.float64]:
        """How well each text [n] fits the question: 0 where it has none of its words, below 1.

        They are shares of what a text could have at most, so that one common word of many is
        little, whatever the other texts have.
        """
        scores = np.zeros(len(self._norm))
        most = 0.0
        for word in set(words_of(question)):
            places, counts = self._postings.get(word, _NOWHERE)
            rarity = np.log1p((len(scores) - len(places) + 0.5) / (len(places) + 0.5))
            most += rarity * (K1 + 1)
            scores[places] += rarity * counts * (K1 + 1) / (counts + self._norm[places])
        return scores / most if most else scores


def _stem(word: str) -> str:
    """Without the commonest English endings: enough for `connections` to find `connection`."""
    for ending, instead in _ENDINGS:
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 2 and _VOWEL.search(stem):
            return _undoubled(stem + instead)
    return _undoubled(word)


_ENDINGS = (
    ("ies", "y"),
    ("sses", "ss"),
    ("ss", "ss"),
    ("ing", ""),
    ("ed", ""),
    ("es", ""),
    ("s", ""),
)


def _undoubled(stem: str) -> str:
    """`stopp` as `stop`, and `cache` as `cach`, which is what `caching` leaves."""
    if len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "lsz":
        return stem[:-1]
    return stem.removesuffix("e") if len(stem) > 3 else stem
