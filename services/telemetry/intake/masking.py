"""Bodies with what varies masked, so that those of one template are the same text.

The first step of Drain (He et al., ICWS 2017), which clusters the masked texts later: variables
that look like variables are found by their form, with one pass of one expression.
"""

import re
from functools import lru_cache

MASK = "<*>"
MAX_MASK = 512
"""Characters of a body of which its mask is made: what follows is rarely the template's."""

_VARIABLE = re.compile(
    r"""
    "(?:[^"\\]|\\.){0,200}" | '(?:[^'\\]|\\.){1,200}'(?!\w)       # quoted
    | \b[a-z][a-z0-9+.-]*://[^\s"'<>]+                              # URL
    | [\w.+-]+@[\w-]+\.[\w.-]+                                      # e-mail address
    | (?<![\w.])(?:/[\w.@%+~:-]+){2,}/?                             # path
    | \b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b              # UUID
    | \b(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{1,4}\b                      # IPv6, MAC
    | \b\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?
    | \b(?=[a-z]*\d)[0-9a-f]{8,}\b                                  # hexadecimal
    | \b0x[0-9a-f]+\b
    | (?<![\w])[-+]?\d[\d.,:_]*(?:[eE][-+]?\d+)?(?:[a-zµ%]{1,5}\b|%)?   # number, with its unit
    | (?<=[\w.-])\d+(?=\b|[._-])                                    # worker-12, node3
    """,
    re.VERBOSE | re.IGNORECASE,
)

# Addresses and amounts, which are rarely the same again: masked whole by the expression above too.
_is_number = re.compile(r"[0-9]{1,7}(?:[.,][0-9]{1,7})*[.,]?").fullmatch


def mask(body: str) -> str:
    """The body's first `MAX_MASK` characters with each variable as `MASK`, blanks as one."""
    words = body[:MAX_MASK].split()
    if '"' in body or "'" in body:
        return _VARIABLE.sub(MASK, " ".join(words))
    # Without quotes no variable has a blank in it, and words are the same again and again.
    return " ".join(
        [
            word
            if word.isalpha()
            else MASK
            if word.isdecimal() or _is_number(word)
            else _masked(word)
            for word in words
        ]
    )


@lru_cache(maxsize=8_192)
def _masked(word: str) -> str:
    return _VARIABLE.sub(MASK, word)
