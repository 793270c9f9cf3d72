"""URLs of servers: what may be shown of them."""

import re

_PASSWORD = re.compile(r"^(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<user>[^/?#@:]*):[^/?#@]*@", re.I)
# A password with an unescaped "/" or "@" does not end where a URL's should.
_UNREADABLE = re.compile(r"^(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<user>[^/?#@:]*):.*@", re.I | re.S)
_USER = re.compile(r"^([a-z][a-z0-9+.-]*://).*@", re.I | re.S)
_OPTION = re.compile(r"(?<=[?&])((?:\w*password|\w*secret\w*|\w*token|api_?key)=)[^&#]*", re.I)


def without_secret(url: str) -> str:
    """The URL with its password left out, for errors, logs and health.

    Rather too much is left out than too little: of a URL whose password is not escaped as it
    must be, everything up to the last `@`.
    """
    readable = _PASSWORD.match(url)
    if readable is None or "@" in url[readable.end() :]:
        readable = _UNREADABLE.match(url)
    if readable is not None:
        user = readable["user"]
        hidden = f"{user}:***@" if user else "***@"
        url = f"{readable['scheme']}{hidden}{url[readable.end() :]}"
    return _OPTION.sub(r"\1***", url)


def without_user(url: str) -> str:
    """The URL of a server whose key stands where a user would, without it."""
    return _USER.sub(r"\1***@", without_secret(url))
