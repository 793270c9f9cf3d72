"""Free text as words, cut the same way by Python here and by onnxruntime where it is served.

scikit-learn's own pattern and lower-casing cannot be served: onnxruntime's tokenizer (RE2) knows
another `\\w` than Python, and its StringNormalizer lower-cases by a locale, of which only "C" is
on every machine, and that one touches no letter but A to Z. So three things are fixed here:

- `TOKEN_PATTERN` lists its characters one by one, and is the very text that goes in the graph.
  A word is two or more letters, marks, digits or underscores of any script. A CJK character or
  an emoji is a word of its own, since those are written without spaces.
- Both sides lower-case A to Z only, before they cut (`lower_ascii`; locale "C").
- Other letters are folded after the cut, by a table: `spellings` of a vocabulary's word are the
  words that count as it (über: also Über; привет: also Привет and ПРИВЕТ). The graph holds these
  spellings, so that no Unicode table of the serving machine matters.
"""

import re
import unicodedata

_LOWER_ASCII = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_ALONE = (
    "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
    "\u2600-\u27bf\U0001f000-\U0001faff"
)
_WORD_CATEGORIES = {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Cn"}
_END = 0x20000
"""Behind it lie CJK characters, tags and private use, and none that makes words."""


def _word_characters() -> str:
    """The characters of words but those of `_ALONE`, as the inside of a character class."""
    alone = re.compile(f"[{_ALONE}]")
    ranges: list[str] = []
    first = None
    for code in range(_END + 1):
        char = chr(code)
        within = (
            code < _END
            and (char == "_" or unicodedata.category(char) in _WORD_CATEGORIES)
            and not alone.match(char)
        )
        if within and first is None:
            first = char
        elif not within and first is not None:
            ranges.append(f"{first}-{chr(code - 1)}")
            first = None
    return "".join(ranges)


TOKEN_PATTERN = f"[{_ALONE}]|[{_word_characters()}]{{2,}}"
_TOKENS = re.compile(TOKEN_PATTERN)


def words(text: str) -> list[str]:
    """The words of a text, folded to lower case."""
    return [fold(token) for token in _TOKENS.findall(lower_ascii(text))]


def lower_ascii(text: str) -> str:
    """A to Z in lower case, all else as it is."""
    return text.translate(_LOWER_ASCII)


def fold(token: str) -> str:
    """The word that a token counts as: lower case where the token is a usual spelling of that."""
    if token.isascii():
        return token
    lower = token.lower()
    return lower if token in _usual_spellings(lower) else token


def spellings(word: str) -> list[str]:
    """Every token that `fold` makes this word of; the word itself first."""
    if word.isascii():
        return [word]
    return [word, *sorted(s for s in _usual_spellings(word) - {word} if fold(s) == word)]


def _usual_spellings(lower: str) -> set[str]:
    return {lower, lower_ascii(lower[:1].upper() + lower[1:]), lower_ascii(lower.upper())}
