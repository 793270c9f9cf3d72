"""NUL characters, which PostgreSQL keeps in no text and in no JSON."""

import re

# An odd number of backslashes: of an even number, each two are one that is escaped.
_ESCAPED = re.compile(r"\\(?<!\\\\)((?:\\\\)*)u0000")


def without_nul(json_text: str) -> str:
    """JSON with U+FFFD in place of each NUL character in its texts and keys, and as it was else."""
    if r"\u0000" not in json_text:
        return json_text
    return _ESCAPED.sub("\\1\N{REPLACEMENT CHARACTER}", json_text)
