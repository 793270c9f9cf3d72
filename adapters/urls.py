"""URLs of servers: what may be shown of them, and what they say."""

from urllib.parse import urlsplit, urlunsplit


def without_secret(url: str) -> str:
    """The URL with its password left out, for errors, logs and health."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user = f"{parts.username}:***@" if parts.username else "***@"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}{host}"))
