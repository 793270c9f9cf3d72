"""Where alerts are told: Alertmanager by its API v2, and a webhook."""

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from mcp_hub.adapters.errors import Unavailable
from mcp_hub.services.telemetry.alerts.rules import Rule

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx2

RESEND_S = 60.0
_OUTLIVES = 4
"""Alertmanager takes an alert for resolved that was not sent again for so many times `RESEND_S`."""
_TIMEOUT_S = 5.0


Status = Literal["firing", "resolved"]


def labels_of(name: str, rule: Rule) -> dict[str, str]:
    """The labels under which others know an alert."""
    return {"severity": "warning"} | rule.labels | {"alertname": name, "source": "mcp-hub"}


@dataclass(frozen=True, slots=True)
class Notice:
    """What is told of an alert."""

    name: str
    rule: Rule
    status: Status
    since: int
    """When it began to fire, or was resolved; nanoseconds."""
    value: float | None

    @property
    def labels(self) -> dict[str, str]:
        return labels_of(self.name, self.rule)

    @property
    def annotations(self) -> dict[str, str]:
        value = "nothing" if self.value is None else f"{self.value:g}"
        return {"summary": f"{self.rule.condition}; it is {value}."} | self.rule.annotations


class Alertmanager:
    """Prometheus's Alertmanager at a URL: what is to be told, and what is silenced there."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    async def tell(self, notice: Notice) -> None:
        """Raises Unavailable when it does not take the notice."""
        now = time.time()
        firing = notice.status == "firing"
        alert = {
            "labels": notice.labels,
            "annotations": notice.annotations,
            "endsAt": _rfc3339(now + _OUTLIVES * RESEND_S if firing else now),
        }
        if firing:
            alert["startsAt"] = _rfc3339(notice.since / 1e9)
        async with _client("Alertmanager") as http:
            answer = await http.post(f"{self._url}/api/v2/alerts", json=[alert])
            _check("Alertmanager", answer)

    async def silences(self) -> "list[Silence]":
        """The silences that hold there now.

        Raises:
            Unavailable: it does not answer, or something else.
        """
        async with _client("Alertmanager") as http:
            answer = await http.get(f"{self._url}/api/v2/silences")
            _check("Alertmanager", answer)
        try:
            found = msgspec.json.decode(answer.content, type=list[Silence])
        except ValueError as error:
            raise Unavailable(f"Alertmanager's silences are not understood: {error}.") from error
        return [silence for silence in found if silence.status.state == "active"]


class Matcher(msgspec.Struct, frozen=True, rename="camel"):
    """What one label must be, or must not be."""

    name: str
    value: str
    is_regex: bool
    is_equal: bool = True

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Whether labels are so."""
        value = labels.get(self.name, "")
        if self.is_regex:
            try:
                found = re.fullmatch(self.value, value) is not None
            except re.error:  # of what only Go's expressions have
                return False
        else:
            found = self.value == value
        return found == self.is_equal


class SilenceStatus(msgspec.Struct, frozen=True):
    state: str


class Silence(msgspec.Struct, frozen=True):
    """A silence of Alertmanager's, as it lists it: of what has all these labels."""

    matchers: tuple[Matcher, ...]
    status: SilenceStatus

    def covers(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert of these labels is silenced by it."""
        return all(matcher.fits(labels) for matcher in self.matchers)


class Webhook:
    """A URL that gets each notice as JSON, signed as Standard Webhooks 1.0 has it."""

    def __init__(self, url: str, secret: str | None) -> None:
        self._url = url
        self._secret = secret

    async def tell(self, notice: Notice) -> None:
        """Raises Unavailable when it does not take the notice."""
        data = {
            "alert": notice.name,
            "status": notice.status,
            "condition": notice.rule.condition,
            "value": notice.value,
            "labels": notice.labels,
            "annotations": notice.annotations,
        }
        sent = {
            "type": f"alert.{notice.status}",
            "timestamp": _rfc3339(notice.since / 1e9),
            "data": data,
        }
        body = json.dumps(sent).encode()
        # The same for each try, so that the receiver knows what it has already.
        id = hashlib.sha256(f"{notice.name}\0{notice.status}\0{notice.since}".encode()).hexdigest()
        headers = signed(f"alert_{id[:32]}", int(time.time()), body, self._secret)
        async with _client("The webhook") as http:
            _check("The webhook", await http.post(self._url, content=body, headers=headers))


def signed(id: str, timestamp: int, body: bytes, secret: str | None) -> Mapping[str, str]:
    """The headers of Standard Webhooks; a secret may be `whsec_` and base64, or any text."""
    headers = {
        "content-type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
    }
    if secret is not None:
        key = secret.encode()
        if secret.startswith("whsec_"):
            key = base64.b64decode(secret.removeprefix("whsec_"))
        told = hmac.new(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(told).decode()}"
    return headers


@asynccontextmanager
async def _client(whom: str) -> "AsyncIterator[httpx2.AsyncClient]":
    """A client whose failures say no part of a URL, which may be a secret."""
    import httpx2

    try:
        async with httpx2.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as http:
            yield http
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise Unavailable(f"{whom} does not answer: {type(error).__name__}.") from error


def _check(whom: str, answer: Any) -> None:
    if answer.status_code >= 300:
        raise Unavailable(f"{whom} answered {answer.status_code}.")


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
