"""S3 servers: what a URL of one says, a client with deadlines, and what its errors mean."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.etree.ElementTree import ParseError

import certifi
import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error
from urllib3.exceptions import (
    HTTPError,
    MaxRetryError,
    NewConnectionError,
    SSLError,
)
from urllib3.exceptions import TimeoutError as HTTPTimeoutError

from mcp_hub.adapters.errors import InvalidArgument, Unavailable, names_hint
from mcp_hub.adapters.urls import without_secret

CONNECTIONS = 8
_RETRIES = 3
_FORM = "Write s3://KEY:SECRET@HOST:PORT/BUCKET?secure=false&region=NAME&prefix=FOLDER."
_OPTIONS = ("secure", "region", "prefix")
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_BUCKET = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

_CREDENTIALS = (
    "Check the key and the secret, in blobs_url or in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
)
_NOT_YOURS = (
    "The bucket belongs to another account, or the key may not use it: name another bucket, or "
    "allow the key to list, read, write and delete there."
)
_FULL = "The server or the bucket's quota is full: free some space, or raise the quota."
_BUSY = "The server has a problem of its own; try again, or see its log."
_CLOCK = "Set this machine's clock: S3 refuses requests of another time."
_REGION = "Name the bucket's region in blobs_url: ?region=NAME."
_HINTS: Mapping[str, str] = {
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "InvalidToken": _CREDENTIALS,
    "ExpiredToken": _CREDENTIALS,
    "AccessDenied": _NOT_YOURS,
    "AllAccessDisabled": _NOT_YOURS,
    "BucketAlreadyExists": _NOT_YOURS,
    "RequestTimeTooSkewed": _CLOCK,
    "AuthorizationHeaderMalformed": _REGION,
    "PermanentRedirect": _REGION,
    "XMinioStorageFull": _FULL,
    "XMinioAdminBucketQuotaExceeded": _FULL,
    "QuotaExceeded": _FULL,
}


@dataclass(frozen=True, slots=True)
class Target:
    """A bucket, or the objects below `prefix` in one, on a server."""

    endpoint: str
    bucket: str
    prefix: str
    secure: bool
    region: str | None
    shown: str
    key: str = field(repr=False)
    secret: str = field(repr=False)
    token: str | None = field(repr=False)
    setting: str = "blobs_url"
    """What to name where the URL is wrong."""


def parse_url(url: str, environment: Mapping[str, str], setting: str = "blobs_url") -> Target:
    """What `url`, which `setting` gives, names; credentials that it lacks come from `AWS_…`
    variables.

    Raises:
        InvalidArgument: it is no URL of a bucket, or there are no credentials.
    """
    shown = without_secret(url)
    parts = urlsplit(url)
    endpoint = parts.netloc.rpartition("@")[2]
    bucket = parts.path.strip("/")
    if parts.scheme != "s3" or not endpoint or parts.netloc.count("@") > 1 or parts.fragment:
        raise InvalidArgument(
            f"{shown} is no URL of a bucket.",
            f"{_FORM} In a key or secret, write @ as %40, / as %2F, : as %3A and # as %23.",
        )
    if not _BUCKET.fullmatch(bucket):
        raise InvalidArgument(
            f"{shown} names no bucket: {bucket!r} cannot be the name of one.",
            f"A name has 3 to 63 lower-case letters, digits, hyphens and dots. {_FORM}",
        )
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in options:
        if name not in _OPTIONS:
            hint = names_hint(name, _OPTIONS, "options")
            raise InvalidArgument(f"{shown} has an unknown option {name!r}.", hint)
    secure = options.get("secure", "true").lower()
    if secure not in _TRUTH:
        raise InvalidArgument(f"{shown} says secure={secure}.", "It is true or false.")
    prefix = options.get("prefix", "").strip("/")
    key, secret = unquote(parts.username or ""), unquote(parts.password or "")
    token = None
    if not key:
        key = environment.get("AWS_ACCESS_KEY_ID", "")
        secret = environment.get("AWS_SECRET_ACCESS_KEY", "")
        token = environment.get("AWS_SESSION_TOKEN") or None
    if not key or not secret:
        raise InvalidArgument(
            f"There is no key or no secret for {shown}.",
            f"{_FORM} {_CREDENTIALS}".replace("blobs_url", setting),
        )
    return Target(
        endpoint=endpoint,
        bucket=bucket,
        prefix=f"{prefix}/" if prefix else "",
        secure=_TRUTH[secure],
        region=options.get("region") or None,
        shown=shown,
        key=key,
        secret=secret,
        token=token,
        setting=setting,
    )


def connect(target: Target, http: urllib3.PoolManager) -> Minio:
    """A client of the server; makes no connection yet. Raises InvalidArgument."""
    try:
        return Minio(
            target.endpoint,
            target.key,
            target.secret,
            session_token=target.token,
            secure=target.secure,
            region=target.region,
            http_client=http,
        )
    except ValueError as error:
        raise InvalidArgument(f"{target.shown} cannot be used: {error}.", _FORM) from error


def open_pool(timeout_s: float) -> urllib3.PoolManager:
    """Connections on which connecting, sending a part and each wait for bytes take `timeout_s`."""
    return urllib3.PoolManager(
        # What is sent on a fresh connection is under the timeout for connecting.
        timeout=urllib3.Timeout(connect=timeout_s, read=timeout_s),
        maxsize=CONNECTIONS,
        cert_reqs="CERT_REQUIRED",
        ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
        retries=_Retries(
            total=_RETRIES,
            backoff_factor=0.2,
            status_forcelist=[500, 502, 503, 504],
            raise_on_status=False,
            respect_retry_after_header=False,
        ),
    )


class _Retries(urllib3.Retry):
    """Retries what was refused or cut off; what was not answered in time has had its deadline."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: urllib3.BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: Any = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        if error is not None and _is_timeout(error):
            raise error
        return super().increment(method, url, response, error, _pool, _stacktrace)


def _is_timeout(error: Exception) -> bool:
    if isinstance(error, NewConnectionError):
        return False
    sending = error.args[-1] if error.args else None
    return isinstance(error, HTTPTimeoutError) or isinstance(sending, TimeoutError)


@contextmanager
def translated(target: Target) -> Iterator[None]:
    """Raise what the server refuses, or does not answer, as Unavailable."""
    try:
        yield
    except S3Error as error:
        # A HEAD request is refused without a reason.
        credentials = f" {_CREDENTIALS}" if error.code == "AccessDenied" and is_bare(error) else ""
        raise Unavailable(
            f"S3 at {target.shown} answers {error.code}: {(error.message or '').rstrip('.')}.",
            (_HINTS.get(error.code or "", _BUSY) + credentials).replace(
                "blobs_url", target.setting
            ),
        ) from error
    except (InvalidResponseError, ParseError, UnicodeDecodeError) as error:
        raise Unavailable(
            f"What answers at {target.shown} does not answer as S3 does.",
            f"Check the host and the port in {target.setting}, and whether secure must be true or "
            "false.",
        ) from error
    except MinioException as error:
        raise Unavailable(f"S3 at {target.shown}: {error}.", _BUSY) from error
    except HTTPError as error:
        raise _unreachable(target, error) from error


def is_bare(error: S3Error) -> bool:
    """Whether the server gave no reason, as it does for a HEAD request."""
    return not error.response.data


def _unreachable(target: Target, error: Exception) -> Unavailable:
    reason = error.reason if isinstance(error, MaxRetryError) and error.reason else error
    if isinstance(reason, SSLError):
        return Unavailable(
            f"No secure connection to {target.shown} can be made: {reason}.",
            "Renew the server's certificate, name its authority's file in SSL_CERT_FILE, or, for "
            f"a server without TLS, add ?secure=false to {target.setting}.",
        )
    if _is_timeout(reason):
        return Unavailable(
            f"S3 at {target.shown} did not answer in time.",
            "See what keeps the server busy, and whether a firewall is in the way; then try again.",
        )
    return Unavailable(
        f"S3 at {target.shown} cannot be reached, or broke off: {reason}.",
        f"Check that it runs, and the host and port in {target.setting}.",
    )
