"""The sections of the settings, each a frozen group of keys under one name."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import NoDecode

Scope = Literal["read", "write", "admin"]

MONGODB = ("mongodb://", "mongodb+srv://")
POSTGRESQL = ("postgresql://", "postgres://")
REDIS = ("redis://", "rediss://")
S3 = ("s3://",)
_SOURCE_NAME = re.compile(r"(?!file$)[a-z][a-z0-9_-]{1,63}")


def split_by(separator: str) -> BeforeValidator:
    """A list written in one variable: as JSON, or with `separator` between its items."""

    def split(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            return json.loads(value)
        return [item.strip() for item in value.split(separator) if item.strip()]

    return BeforeValidator(split)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainingSettings(Section):
    """Jobs and the workers that run them; all times in seconds."""

    enabled: bool = Field(True, description="Whether jobs can be submitted here")
    concurrency: int = Field(10, ge=1, le=256, description="Attempts that one worker runs at once")
    framework_concurrency: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {}, description="The most of them of one framework, such as {pytorch = 1}"
    )
    max_queued: int = Field(
        100_000, ge=1, description="Jobs that may be queued; a further one is refused"
    )
    max_queued_per_submitter: int | None = Field(
        None, ge=1, description="The same for one submitter; no limit if unset"
    )
    priority_ageing_s: float = Field(
        60, gt=0, description="Waiting for so long counts as one point of priority"
    )
    default_timeout_s: float = Field(
        3600, gt=0, description="Time an attempt may take, unless its job says otherwise"
    )
    autostart_worker: bool = Field(
        True, description="Start a detached worker when a job is queued and none is alive"
    )
    idle_exit_s: float = Field(
        60, ge=0, description="How long a detached worker waits for a further job"
    )
    lease_s: float = Field(30, gt=0, description="A worker silent for so long has lost its jobs")
    heartbeat_s: float = Field(5, gt=0, description="How often a worker renews its leases")
    poll_s: float = Field(0.5, gt=0, description="How often an idle worker looks for jobs")
    max_log_bytes: int = Field(10_000_000, ge=1_000, description="Output kept of each attempt")
    attempt_memory_mb: int | None = Field(
        None, ge=64, description="Memory of an attempt whose job asks for none; no limit if unset"
    )
    max_memory_mb: int | None = Field(
        None, ge=64, description="The most a job may ask for; attempt_memory_mb if unset"
    )
    attempt_cpus: int | None = Field(
        None, ge=1, description="Cores of an attempt whose job asks for none; any if unset"
    )
    max_cpus: int | None = Field(
        None, ge=1, description="The most a job may ask for; attempt_cpus if unset"
    )
    gpus: int | None = Field(
        None, ge=0, description="GPUs that a worker gives to jobs; those that nvidia-smi lists"
    )
    disk_mb: int | None = Field(
        20_000, ge=10, description="Room that an attempt's folder, and any one file, may take"
    )
    scripts: bool | None = Field(
        None,
        description="Whether `script` runs programs from the roots; unset, it does over stdio and "
        "from the command line, not over HTTP",
    )
    node: Path | None = Field(
        None, description="The program of Node 20 or newer; looked for if unset"
    )

    @property
    def worker_silence_s(self) -> float:
        """A worker silent for longer is not alive: one that is only busy may miss two beats."""
        return self.heartbeat_s * 3

    @model_validator(mode="after")
    def _beats_within_lease(self) -> Self:
        if self.heartbeat_s * 2 > self.lease_s:
            raise ValueError(
                f"heartbeat_s ({self.heartbeat_s:g}) must be at most half of lease_s "
                f"({self.lease_s:g})"
            )
        return self


class InferenceSettings(Section):
    cache_mb: int = Field(512, ge=1, description="Memory for models that are kept loaded")
    threads: int = Field(1, ge=1, le=256, description="Threads of one prediction")


class ConnectorSettings(Section):
    enabled: bool | None = Field(
        None, description="false switches the sources of this kind off; unset, they are on"
    )


class ConnectorsSettings(Section):
    postgres: ConnectorSettings = ConnectorSettings()
    mongodb: ConnectorSettings = ConnectorSettings()
    redis: ConnectorSettings = ConnectorSettings()


class SourceSettings(Section):
    """A server that data sets are read from, under a name that callers use instead of its URL."""

    url: str = Field(
        repr=False,
        description="mongodb://, postgresql://, redis:// or s3://, with what it takes to read; `*` "
        "is the NAME in a source NAME:ITEM",
    )

    @field_validator("url")
    @classmethod
    def _known(cls, url: str) -> str:
        if not url.startswith((*MONGODB, *POSTGRESQL, *REDIS, *S3)):
            raise ValueError(
                "must be mongodb://user:password@host/database, "
                "postgresql://user:password@host/database, redis://host:port/number or "
                "s3://key:secret@host/bucket"
            )
        return url


class DataSettings(Section):
    max_mb: int = Field(1024, ge=1, description="The largest file that becomes a data set")
    max_rows: int = Field(
        10_000_000, ge=1, description="The most rows that a query or a stream gives a data set"
    )
    query_timeout_s: float = Field(
        60, gt=0, le=3600, description="How long a source may take for each batch of rows"
    )
    connectors: ConnectorsSettings = ConnectorsSettings()
    sources: dict[str, SourceSettings] = Field({}, description="By the name that callers use")

    @field_validator("sources")
    @classmethod
    def _named(cls, sources: dict[str, SourceSettings]) -> dict[str, SourceSettings]:
        for name in sources:
            if not _SOURCE_NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} cannot name a source: a name has 2 to 64 lower-case letters, "
                    "digits, hyphens and underscores, and begins with a letter"
                )
        return sources


class RegistrySettings(Section):
    auto_version: bool = Field(True, description="Versions are always numbered automatically")


def _http_url(url: str | None) -> str | None:
    if url is not None and not url.startswith(("http://", "https://")):
        raise ValueError("must be http://… or https://…")
    return url


class TelemetryEndpoints(Section):
    metrics: str | None = Field(
        None, repr=False, description="Prometheus's remote-write, or a Pushgateway"
    )
    logs: str | None = Field(None, repr=False, description="Loki, which gets log and events")

    @field_validator("metrics", "logs")
    @classmethod
    def _http(cls, url: str | None) -> str | None:
        return _http_url(url)


class RetentionSettings(Section):
    """Days for which telemetry is kept."""

    event: float = Field(90, gt=0, description="Days that events are kept")
    metric: float = Field(30, gt=0, description="Days that metrics are kept")
    span: float = Field(14, gt=0, description="Days that spans are kept")
    log: float = Field(30, gt=0, description="Days that logs are kept")
    rollups: float = Field(90, gt=0, description="Days that counts and percentiles are kept")

    @model_validator(mode="after")
    def _rollups_longest(self) -> Self:
        longest = max(self.event, self.metric, self.span, self.log)
        if self.rollups < longest:
            raise ValueError(
                f"rollups ({self.rollups:g}) must be at least the longest of the kinds "
                f"({longest:g})"
            )
        return self


class TelemetrySettings(Section):
    enabled: bool = Field(True, description="Whether the hub records what it does itself")
    collect_usage_metrics: bool = Field(True, description="Record what went well")
    collect_error_metrics: bool = Field(True, description="Record what failed")
    reporting_interval_s: float = Field(
        60, gt=0, description="Seconds between reports to the endpoints"
    )
    endpoints: TelemetryEndpoints = TelemetryEndpoints()
    retention_days: RetentionSettings = RetentionSettings()
    ingest: Literal["direct", "stream"] = Field(
        "direct", description="Accepted telemetry is in the database, or on a stream to be written"
    )
    alert_interval_s: float = Field(15, gt=0, description="Seconds between evaluations of alerts")
    alertmanager_url: str | None = Field(
        None, repr=False, description="The Alertmanager that is told of alerts"
    )
    webhook_url: str | None = Field(
        None, repr=False, description="Gets alerts as JSON; a secret, never shown"
    )
    webhook_secret: str | None = Field(
        None, repr=False, description="Signs what the webhook gets (Standard Webhooks)"
    )

    @field_validator("alertmanager_url", "webhook_url")
    @classmethod
    def _http(cls, url: str | None) -> str | None:
        return _http_url(url)


class TokenSettings(Section):
    """A bearer token of `mcp-hub serve`, and what it permits."""

    token: SecretStr = Field(min_length=16)
    scopes: Annotated[list[Scope], NoDecode, split_by(",")] = Field(["read"], min_length=1)


class AuthSettings(Section):
    tokens: dict[str, TokenSettings] = Field({}, description="By the name kept in records")
