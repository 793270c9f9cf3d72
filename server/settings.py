"""What a person may set: defaults < a file < its profile < `MCP_HUB_…` variables < flags.

Importing this reads nothing; `load_settings` does. `Settings(…)` itself looks at no file and no
variable, so that a test or a program gets exactly what it asks for.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

from platformdirs import user_cache_dir, user_data_dir
from pydantic import (
    BaseModel,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.adapters.urls import without_secret, without_user
from mcp_hub.server import settings_sources as sources
from mcp_hub.server.settings_containers import ContainersSettings
from mcp_hub.server.settings_sections import (
    MONGODB,
    POSTGRESQL,
    REDIS,
    S3,
    AuthSettings,
    DataSettings,
    InferenceSettings,
    RegistrySettings,
    SourceSettings,
    TelemetrySettings,
    TokenSettings,
    TrainingSettings,
    split_by,
)

ToolsetName = Literal["training", "data", "registry", "inference", "telemetry", "containers", "hub"]
LogLevel = Literal["debug", "info", "warning", "error"]

WRITING: frozenset[str] = frozenset({"write", "admin"})
"""The scopes of which a token needs one to change anything."""

TOOLSETS: tuple[ToolsetName, ...] = (
    "training", "data", "registry", "inference", "telemetry", "containers", "hub",
)  # fmt: skip
URLS = ("database_url", "redis_url", "blobs_url", "vectors_url")
"""The settings that may hold a password. Each may be given in a file instead, whose path is in
the setting's variable with `_FILE` added."""

_BLOBS = ("file:///", *S3, *MONGODB)
SECRETS = ("telemetry.webhook_url", "telemetry.webhook_secret")
"""The settings that are a secret as a whole, and never shown."""
SECRET_FILES = (*URLS, "data.sources.*.url", *SECRETS)
_MAY_HOLD_SECRETS = (
    *URLS, "telemetry.endpoints.metrics", "telemetry.endpoints.logs", "telemetry.alertmanager_url",
)  # fmt: skip
_QDRANT = ("http://", "https://")

WITHOUT_EFFECT = ("registry.auto_version",)
"""Settings that are read and checked, and that nothing in this release acts on."""


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


class Settings(BaseSettings):
    """Everything a hub process is told, checked and frozen."""

    model_config = SettingsConfigDict(
        env_prefix="MCP_HUB_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        env_parse_none_str="null",
        extra="forbid",
        frozen=True,
    )

    profile: str | None = Field(None, description="The file's table [profiles.NAME] that counts")
    data_dir: Path = Field(
        default_factory=lambda: Path(user_data_dir("mcp-hub", appauthor=False)),
        description="Where the embedded database, the blobs and the jobs' folders live",
    )
    roots: Annotated[list[Path], NoDecode, split_by(os.pathsep)] = Field(
        default_factory=lambda: [default_root()],
        min_length=1,
        description="The folders that data sets and models may be read from",
    )
    cache_dir: Path = Field(
        default_factory=lambda: Path(user_cache_dir("mcp-hub", appauthor=False)),
        description="Where packages of Node that frameworks need are installed, once",
    )
    database_url: str | None = Field(
        None,
        repr=False,
        description="sqlite:///path/to/hub.db or postgresql://…; hub.db in data_dir if unset",
    )
    redis_url: str | None = Field(
        None, repr=False, description="redis://… or rediss://…; queue and notices then use it"
    )
    blobs_url: str | None = Field(
        None,
        repr=False,
        description="A folder, s3://key:secret@host/bucket or mongodb://user:password@host/db; "
        "blobs in data_dir if unset",
    )
    vectors_url: str | None = Field(
        None,
        repr=False,
        description="A Qdrant server, https://KEY@host:6333, or a folder of its client's local "
        "mode; the database if unset",
    )
    embedder: str = Field(
        "wordllama",
        description="What embeds texts: wordllama, onnx:FOLDER or sentence-transformers:NAME",
    )
    toolsets: Annotated[list[ToolsetName], NoDecode, split_by(",")] = Field(
        list(TOOLSETS), min_length=1, description="The groups of tools to expose"
    )
    read_only: bool = Field(False, description="Expose only the tools that change nothing")
    log_level: LogLevel = Field(
        "info", description="debug, info, warning or error: what the hub logs on standard error"
    )
    host: str = Field("127.0.0.1", description="The address that `serve` listens on")
    port: int = Field(
        3456, ge=0, le=65535, description="The port that `serve` listens on; 0 takes a free one"
    )
    training: TrainingSettings = TrainingSettings()
    inference: InferenceSettings = InferenceSettings()
    data: DataSettings = DataSettings()
    registry: RegistrySettings = RegistrySettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    containers: ContainersSettings = ContainersSettings()
    auth: AuthSettings = AuthSettings()

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    @field_validator("data_dir", "cache_dir")
    @classmethod
    def _absolute_folder(cls, folder: Path) -> Path:
        return _absolute(folder)

    @field_validator("roots")
    @classmethod
    def _absolute_folders(cls, folders: list[Path]) -> list[Path]:
        return list(dict.fromkeys(_absolute(folder) for folder in folders))

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: str | None) -> str | None:
        sqlite = url is not None and url.startswith("sqlite:///") and len(url) > 10
        if url is not None and not sqlite and not url.startswith(POSTGRESQL):
            raise ValueError("must be sqlite:///path/to/hub.db or postgresql://user@host/database")
        return url

    @field_validator("redis_url")
    @classmethod
    def _known_redis(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(REDIS):
            raise ValueError("must be redis://host:port/number, or rediss:// for TLS")
        return url

    @field_validator("blobs_url")
    @classmethod
    def _known_blobs(cls, url: str | None) -> str | None:
        if url is not None and "://" in url and not url.startswith(_BLOBS):
            raise ValueError(
                "must be a folder, file:///folder, s3://key:secret@host/bucket or "
                "mongodb://user:password@host/database"
            )
        return url

    @field_validator("vectors_url")
    @classmethod
    def _known_vectors(cls, url: str | None) -> str | None:
        if url is not None and "://" in url and not url.startswith(_QDRANT):
            raise ValueError("must be http://host:6333, https://KEY@host:6333 or a folder")
        return url

    @field_validator("embedder")
    @classmethod
    def _known_embedder(cls, name: str) -> str:
        kind, _, model = name.partition(":")
        if name != "wordllama" and not (kind in ("onnx", "sentence-transformers") and model):
            raise ValueError("must be wordllama, onnx:FOLDER or sentence-transformers:NAME")
        return name

    @property
    def database_path(self) -> Path:
        """The file of the embedded database."""
        if self.database_url is None:
            return self.data_dir / "hub.db"
        return _absolute(Path(self.database_url.removeprefix("sqlite:///")))

    @property
    def blobs_dir(self) -> Path:
        """The folder of the embedded blob store."""
        if self.blobs_url is None:
            return self.data_dir / "blobs"
        if self.blobs_url.startswith("file:///"):
            return Path(url2pathname(urlsplit(self.blobs_url).path))
        return _absolute(Path(self.blobs_url))

    def ensure_folders(self) -> None:
        """Make what the hub makes by itself: the data folder and `~/mcp-hub`, if that is a root.

        Raises:
            InvalidArgument: a root is no folder, or a folder cannot be made.
        """
        made = [self.data_dir]
        if _home_root() in self.roots:
            made.append(_home_root())
        for folder in made:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InvalidArgument(
                    f"The folder {folder} cannot be made: {error.strerror}.",
                    "Set MCP_HUB_DATA_DIR or --data-dir to a folder that may be written.",
                ) from error
        for root in self.roots:
            if not root.is_dir():
                raise InvalidArgument(
                    f"The root {root} is not a folder ({self.origin('roots')}).",
                    "Make it, or name another with MCP_HUB_ROOTS or --root.",
                )

    def is_on(self, toolset: ToolsetName) -> bool:
        """Whether what a toolset is about is not switched off."""
        section = getattr(self, toolset, None)
        return not isinstance(section, TrainingSettings | ContainersSettings) or section.enabled

    def origin(self, key: str) -> str:
        """Where the value of a dotted `key` came from: a file, a variable, flags or default."""
        return self._origins.get(key, "default")

    def shown(self) -> dict[str, Any]:
        """Every value by its dotted key, JSON-ready, without any secret."""
        values = sources.flatten(self.model_dump(mode="json"))
        sources_urls = [f"data.sources.{name}.url" for name in self.data.sources]
        for key in (*_MAY_HOLD_SECRETS, *sources_urls):
            if values[key] is not None:
                hidden = without_user if key == "vectors_url" else without_secret
                values[key] = hidden(values[key])
        for key in SECRETS:
            if values[key] is not None:
                values[key] = "**********"
        return values

    def environment(self) -> dict[str, str]:
        """The `MCP_HUB_…` variables that give a process of this hub these settings, less auth and
        the sources: workers read none."""
        values = sources.flatten(
            self.model_dump(
                mode="json", exclude={"auth": True, "profile": True, "data": {"sources"}}
            )
        )
        return {"MCP_HUB_CONFIG": "", "MCP_HUB_PROFILE": ""} | {
            sources.variable(key): value if isinstance(value, str) else json.dumps(value)
            for key, value in values.items()
        }


def load_settings(
    config_file: str | Path | None = None, *, alone: bool = False, **flags: Any
) -> Settings:
    """The settings in force: the first configuration file found, then variables, then `flags`.

    `config_file` is the `--config` flag; else `MCP_HUB_CONFIG`, `mcp-hub.toml` or `mcp-hub.json`
    in the current folder, and the same in the user's configuration folder are looked for.
    `flags` are fields of `Settings`, sections as mappings; None means not given. With `alone` the
    file is all that counts.

    Raises:
        InvalidArgument: the file cannot be read, or a key or a value is wrong; names both.
    """
    known, path = known_keys(), sources.find_file(config_file)
    layers = []
    if not alone:
        layers.append(sources.environment_layer(Settings, known, secret_files=SECRET_FILES))
        layers.append(sources.flags_layer(flags))
    profile = next((layer["profile"] for layer in reversed(layers) if "profile" in layer), None)
    layers.insert(0, sources.file_layer(path, known, profile))
    merged: dict[str, sources.Setting] = {}
    for layer in layers:
        merged.update(layer)
    origins = {key: setting.origin for key, setting in merged.items()}
    try:
        settings = Settings(**sources.nest({key: s.value for key, s in merged.items()}))
    except ValidationError as error:
        raise InvalidArgument(
            _explain(error, origins), "Run `mcp-hub info` for the settings and their defaults."
        ) from None
    settings._origins.update(origins)
    return settings


def known_keys(model: type[BaseModel] = Settings, prefix: str = "") -> list[str]:
    """The dotted key of every setting; `*` stands for a name that a person chooses."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            keys += known_keys(section, f"{prefix}{name}.")
        elif name in _BY_NAME:
            keys += known_keys(_BY_NAME[name], f"{prefix}{name}.*.")
        elif name in _VALUES_BY_NAME:
            keys.append(f"{prefix}{name}.*")
        else:
            keys.append(prefix + name)
    return keys


_BY_NAME: Mapping[str, type[BaseModel]] = {"tokens": TokenSettings, "sources": SourceSettings}
"""The settings that are sections under names which a person chooses."""
_VALUES_BY_NAME = ("secrets", "framework_concurrency")
"""Those that are values under such names."""


def describe(key: str) -> str:
    """What the setting of a dotted key means; empty for a name that a person chooses."""
    *path, name = key.removesuffix(".*").split(".")
    model: Any = Settings
    for section in path:
        model = getattr(model.model_fields.get(section), "annotation", None)
        if not hasattr(model, "model_fields"):
            return ""
    field = model.model_fields.get(name)
    return (field.description or "") if field else ""


def default_root() -> Path:
    """The current folder, or `~/mcp-hub` where that says nothing: desktop clients start in `/`."""
    folder = Path.cwd()
    return _home_root() if folder in (Path(folder.anchor), Path.home()) else folder


def _home_root() -> Path:
    return Path.home() / "mcp-hub"


def _explain(error: ValidationError, origins: Mapping[str, str]) -> str:
    """Each fault as `where: key: what is wrong`, without the value: it may be a secret."""
    faults = []
    for fault in error.errors(include_input=False, include_url=False):
        location = [str(part) for part in fault["loc"]]
        key = ".".join(part for part in location if not part.isdigit())
        origin = next((o for k, o in origins.items() if k == key or k.startswith(f"{key}.")), None)
        message = fault["msg"].removeprefix("Value error, ")
        faults.append(f"{f'{origin}: ' if origin else ''}{key}: {message}.")
    return " ".join(faults)
