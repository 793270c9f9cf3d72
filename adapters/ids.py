"""Short, prefixed ids that are safe to read aloud, log and put in a URI."""

import secrets

# No vowels, so that no word appears by chance; no 0/o, 1/l, so that none is misread.
_ALPHABET = "23456789bcdfghjkmnpqrstvwxz"
_LENGTH = 10


def new_id(prefix: str, length: int = _LENGTH) -> str:
    """A new id such as `job_7kq2m9xw4c`: 4.75 random bits a character behind `prefix`."""
    return f"{prefix}_" + "".join(secrets.choice(_ALPHABET) for _ in range(length))
