"""The settings' section about containers: which engine runs them, and what they may be."""

import os
import re
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode

from mcp_hub.server.settings_sections import Section, split_by

DEFAULT_ENGINE = "unix:///var/run/docker.sock"

_ENGINES = ("unix://", "tcp://", "http://", "https://", "npipe://")
_SECRET_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_SECRET = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+")


class ContainersSettings(Section):
    """Other MCP servers that the hub runs in containers."""

    enabled: bool = Field(True, description="Whether this hub runs containers")
    engine_url: str | None = Field(
        None,
        description="The Docker engine, unix:///path or tcp://host:port; DOCKER_HOST, or the "
        "usual socket, if unset",
    )
    images: Annotated[list[str], NoDecode, split_by(",")] = Field(
        [],
        description="Names of images that may run and be pulled, * for any characters; digests "
        "always may. Without any: tags that the engine has",
    )
    pull: bool = Field(True, description="Whether images are pulled from registries")
    cosign_key: str | None = Field(
        None, description="The public key by which every image must be signed; needs cosign"
    )
    secrets: dict[str, str] = Field(
        {}, description="A secret by the name that deployments use: env:VARIABLE or file:/path"
    )
    egress_image: str | None = Field(
        None, description="An image with Python, which runs the proxy of allow-listed hosts"
    )
    listen: str | None = Field(
        None,
        description="host:port at which hub processes of other machines reach this one's "
        "containers; a Unix socket if unset",
    )
    max_cpus: float = Field(4, gt=0, description="The most CPUs of one container")
    max_memory_mb: int = Field(4096, ge=16, description="The most memory of one container")
    max_containers: int = Field(
        64, ge=1, description="The most containers of one deployment at a time"
    )
    stats_s: float = Field(
        15, ge=0.1, description="Seconds between two measurements of what a container uses"
    )

    @field_validator("engine_url")
    @classmethod
    def _is_engine(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(_ENGINES):
            raise ValueError("must be unix:///path/to/docker.sock or tcp://host:port")
        return url

    @field_validator("secrets")
    @classmethod
    def _are_secrets(cls, secrets: dict[str, str]) -> dict[str, str]:
        for name, place in secrets.items():
            if not _SECRET_NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} cannot name a secret: a name has up to 64 lower-case letters, "
                    "digits, hyphens and underscores, and begins with a letter"
                )
            if not _SECRET.fullmatch(place):
                raise ValueError(f"{name} must be env:VARIABLE or file:/path")
        return secrets

    @model_validator(mode="after")
    def _has_port(self) -> Self:
        if self.listen is not None:
            try:
                port = urlsplit(f"//{self.listen}").port
            except ValueError:
                port = None
            if port is None:
                raise ValueError("listen must be host:port")
        return self

    @property
    def engine(self) -> str:
        """The engine's URL that counts now."""
        return self.engine_url or os.environ.get("DOCKER_HOST") or DEFAULT_ENGINE
