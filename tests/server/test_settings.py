import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.server.settings import (
    TOOLSETS,
    WITHOUT_EFFECT,
    Settings,
    default_root,
    known_keys,
    load_settings,
)
from mcp_hub.server.settings_sources import FILE_NAMES, flatten, nest, variable


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home and a current folder of the test's own, and none of the caller's variables."""
    for name in os.environ:
        if name.startswith("MCP_HUB_"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    work = tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.chdir(work)
    return work


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def fault(*, contains: str, hint: str | None = None, **flags: object) -> None:
    with pytest.raises(InvalidArgument) as caught:
        load_settings(**flags)
    assert contains in caught.value.message
    if hint is not None:
        assert hint in (caught.value.hint or "")


def test_defaults_need_nothing(clean: Path) -> None:
    settings = load_settings()
    assert settings.roots == [clean]
    assert settings.database_path == settings.data_dir / "hub.db"
    assert settings.blobs_dir == settings.data_dir / "blobs"
    assert settings.toolsets == list(TOOLSETS)
    assert (settings.host, settings.port) == ("127.0.0.1", 3456)
    assert settings.origin("port") == "default"
    assert not settings.data_dir.exists()


def test_each_layer_outranks_the_one_before(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(clean / "mcp-hub.toml", "port = 1\nhost = 'file'\n[training]\nconcurrency = 7\n")
    monkeypatch.setenv("MCP_HUB_PORT", "2")
    monkeypatch.setenv("MCP_HUB_READ_ONLY", "true")
    settings = load_settings(port=3, host=None)
    assert (settings.port, settings.host, settings.read_only) == (3, "file", True)
    assert settings.training.concurrency == 7
    assert settings.origin("port") == "command line"
    assert settings.origin("host") == str(file)
    assert settings.origin("read_only") == "MCP_HUB_READ_ONLY"
    assert settings.origin("training.concurrency") == str(file)
    assert settings.origin("training.poll_s") == "default"


def test_sections_merge_key_by_key(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(clean / "mcp-hub.toml", "[training]\nconcurrency = 7\npoll_s = 2\n")
    monkeypatch.setenv("MCP_HUB_TRAINING", '{"idle_exit_s": 9}')
    monkeypatch.setenv("MCP_HUB_TRAINING__POLL_S", "3")
    training = load_settings(training={"lease_s": 99}).training
    assert (training.concurrency, training.poll_s) == (7, 3)
    assert (training.idle_exit_s, training.lease_s) == (9, 99)


def test_a_worker_may_miss_two_beats(clean: Path) -> None:
    training = load_settings(training={"lease_s": 300, "heartbeat_s": 120}).training
    assert training.worker_silence_s == 360


def test_files_are_looked_for_in_order(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    if sys.platform == "linux":
        write(tmp_path / "config" / "mcp-hub" / "mcp-hub.json", '{"port": 1}')
        assert load_settings().port == 1
    write(clean / "mcp-hub.json", '{"port": 2}')
    assert load_settings().port == 2
    write(clean / "mcp-hub.toml", "port = 3")
    assert load_settings().port == 3
    named = write(tmp_path / "named.toml", "port = 4")
    monkeypatch.setenv("MCP_HUB_CONFIG", str(named))
    assert load_settings().port == 4
    flagged = write(tmp_path / "flagged.json", '{"port": 5}')
    assert load_settings(flagged).port == 5


def test_paths_in_a_file_start_at_its_folder(tmp_path: Path) -> None:
    file = write(
        tmp_path / "etc" / "hub.toml", "data_dir = 'state'\nroots = ['in', '~/data', '/x']\n"
    )
    settings = load_settings(file)
    assert settings.data_dir == file.parent / "state"
    assert settings.roots == [file.parent / "in", Path.home() / "data", Path("/x")]


def test_paths_in_variables_and_flags_start_here(
    clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_HUB_ROOTS", os.pathsep.join(["a", "~/b", "a"]))
    settings = load_settings(data_dir="state")
    assert settings.data_dir == clean / "state"
    assert settings.roots == [clean / "a", Path.home() / "b"]


def test_lists_in_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_HUB_TOOLSETS", "data, hub")
    assert load_settings().toolsets == ["data", "hub"]
    monkeypatch.setenv("MCP_HUB_TOOLSETS", '["registry"]')
    assert load_settings().toolsets == ["registry"]
    monkeypatch.setenv("MCP_HUB_TOOLSETS", "")
    assert load_settings().toolsets == list(TOOLSETS)


@pytest.mark.parametrize("folder", ["/", "~"])
def test_a_folder_that_says_nothing_gives_way_to_one_of_its_own(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(folder).expanduser())
    settings = load_settings()
    assert settings.roots == [Path.home() / "mcp-hub"]
    assert not settings.roots[0].exists()
    settings.ensure_folders()
    assert settings.roots[0].is_dir()
    assert settings.data_dir.is_dir()


def test_roots_are_not_made_up(clean: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"missing is not a folder \(command line\)"):
        load_settings(roots=[clean / "missing"]).ensure_folders()


def test_a_data_folder_that_cannot_be_made(clean: Path) -> None:
    write(clean / "file", "")
    with pytest.raises(InvalidArgument, match="file/state cannot be made"):
        load_settings(data_dir=clean / "file" / "state").ensure_folders()


def test_the_keys_of_earlier_releases(tmp_path: Path) -> None:
    earlier = {
        "mlPipeline": {
            "enabled": False,
            "trainingQueue": {"concurrency": 3, "defaultTimeout": 90_000},
            "modelRegistry": {"path": "./models", "autoVersion": True},
            "dataConnectors": {
                "postgres": {"enabled": True},
                "mongodb": {"enabled": False},
                "redis": {"enabled": True},
            },
        },
        "telemetry": {
            "enabled": True,
            "collectUsageMetrics": False,
            "collectErrorMetrics": False,
            "reportingInterval": 30_000,
            "endpoints": {"metrics": "http://m", "logs": "http://l"},
        },
    }
    file = write(tmp_path / "hub.json", json.dumps(earlier))
    settings = load_settings(file)
    assert settings.training.enabled is False
    assert settings.training.concurrency == 3
    assert settings.training.default_timeout_s == 90
    assert settings.blobs_dir == tmp_path / "models"
    assert settings.registry.auto_version is True
    assert settings.data.connectors.postgres.enabled is True
    assert settings.data.connectors.mongodb.enabled is False
    assert settings.data.connectors.redis.enabled is True
    assert settings.telemetry.collect_usage_metrics is False
    assert settings.telemetry.collect_error_metrics is False
    assert settings.telemetry.reporting_interval_s == 30
    assert settings.telemetry.endpoints.metrics == "http://m"
    assert settings.telemetry.endpoints.logs == "http://l"
    assert settings.origin("training.default_timeout_s") == str(file)


def test_an_earlier_key_beside_todays_is_refused(tmp_path: Path) -> None:
    text = '{"mlPipeline": {"enabled": true}, "training": {"enabled": false}}'
    file = write(tmp_path / "hub.json", text)
    fault(
        config_file=file,
        contains="mlPipeline.enabled and training.enabled are the same setting",
    )


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("prot = 1", "prot", "Did you mean port?"),
        ("[training]\nconcurency = 1", "training.concurency", "training.concurrency?"),
        ("[trainings]\nconcurrency = 1", "trainings.concurrency", "training.concurrency?"),
        ("concurrency = 1", "concurrency", "training.concurrency?"),
        ("[mlPipeline.trainingQueue]\nconcurency = 1", "mlPipeline", "trainingQueue.concurrency?"),
        ("[mlpipeline]\nenabled = true", "mlpipeline.enabled", "mlPipeline.enabled?"),
        ("[auth.tokens.ci]\ntokne = 'x'", "auth.tokens.ci.tokne", "auth.tokens.*.token"),
        (
            "[data.connectors.mongo]\nenabled = true",
            "data.connectors.mongo.enabled",
            "connectors.mongodb.enabled?",
        ),
        ("zzz = 1", "zzz", "Known keys: profile, data_dir, roots"),
        ("[training]\nzzz = 1", "training.zzz", "Known keys: training.enabled"),
    ],
)
def test_an_unknown_key_names_the_nearest(
    tmp_path: Path, text: str, key: str, nearest: str
) -> None:
    file = write(tmp_path / "hub.toml", text)
    fault(config_file=file, contains=f"{file}: unknown key {key}", hint=nearest)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("MCP_HUB_PROT", "MCP_HUB_PORT"),
        ("MCP_HUB_TRAINING__CONCURENCY", "MCP_HUB_TRAINING__CONCURRENCY"),
        ("MCP_HUB_TRAINING_CONCURRENCY", "MCP_HUB_TRAINING__CONCURRENCY"),
    ],
)
def test_an_unknown_variable_names_the_nearest(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    monkeypatch.setenv(name, "1")
    fault(contains=f"{name} names no setting", hint=f"Did you mean {nearest}?")


def test_an_unknown_key_in_a_variable_s_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_HUB_TRAINING", '{"concurency": 1}')
    fault(contains="MCP_HUB_TRAINING: unknown key training.concurency", hint="concurrency?")


@pytest.mark.parametrize(
    ("name", "text", "contains"),
    [
        ("hub.toml", "port = ", "cannot be parsed"),
        ("hub.json", "{", "cannot be parsed"),
        ("hub.json", "[]", "must hold an object of settings"),
        ("hub.toml", "port = 'x'", "hub.toml: port: Input should be a valid integer"),
        ("hub.toml", "port = 70000", "port: Input should be less than or equal to 65535"),
        ("hub.toml", "toolsets = ['x']", "toolsets: Input should be 'training', 'data'"),
        ("hub.toml", "training = 3", "training must be a section, not 3"),
        ("hub.toml", "[training]\nheartbeat_s = 40", "at most half of lease_s (30)"),
        ("hub.toml", "[port]\nx = 1", "unknown key port.x"),
        ("hub.toml", "database_url = 'mysql://h/d'", "database_url: must be sqlite:///"),
        ("hub.toml", "blobs_url = 'ftp://host/x'", "blobs_url: must be a folder"),
        ("hub.toml", "vectors_url = 'grpc://h'", "vectors_url: must be http://host:6333"),
        ("hub.toml", "embedder = 'onnx'", "embedder: must be wordllama, onnx:FOLDER"),
        ("hub.yaml", "port: 1", "neither .toml nor .json"),
        (
            "hub.json",
            '{"mlPipeline": {"trainingQueue": {"defaultTimeout": "x"}}}',
            "a valid number",
        ),
    ],
)
def test_a_wrong_file_says_where_and_why(
    tmp_path: Path, name: str, text: str, contains: str
) -> None:
    fault(config_file=write(tmp_path / name, text), contains=contains)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    file = tmp_path / "hub.toml"
    file.write_bytes(b"\xff\xfe\x00")
    fault(config_file=file, contains="cannot be parsed")


TEAM = """
profile = "team"
port = 1
host = "file"

[training]
concurrency = 2
lease_s = 40

[profiles.team]
port = 2
blobs_url = "blobs"
database_url = "postgresql://hub:hidden@db/hub"
[profiles.team.training]
concurrency = 3

[profiles.laptop]
port = 4
"""


def test_one_line_chooses_a_profile(clean: Path) -> None:
    file = write(clean / "etc" / "mcp-hub.toml", TEAM)
    settings = load_settings(file)
    assert (settings.profile, settings.port, settings.host) == ("team", 2, "file")
    assert (settings.training.concurrency, settings.training.lease_s) == (3, 40)
    assert settings.blobs_url == str(clean / "etc" / "blobs")
    assert settings.origin("port") == f"{file}, profile team"
    assert settings.origin("host") == settings.origin("profile") == str(file)
    assert settings.shown()["database_url"] == "postgresql://hub:***@db/hub"
    assert load_settings(file, alone=True).port == 2


def test_flags_and_variables_outrank_the_line_and_the_profile(
    clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(clean / "mcp-hub.toml", TEAM)
    monkeypatch.setenv("MCP_HUB_PROFILE", "laptop")
    settings = load_settings()
    assert (settings.profile, settings.port, settings.database_url) == ("laptop", 4, None)
    assert settings.origin("profile") == "MCP_HUB_PROFILE"
    assert load_settings(profile="team").port == 2
    assert load_settings(profile="team", port=9).port == 9
    monkeypatch.setenv("MCP_HUB_PORT", "8")
    assert load_settings().port == 8


def test_a_profile_of_earlier_keys_in_json(clean: Path) -> None:
    table = {"mlPipeline": {"trainingQueue": {"concurrency": 6}}}
    text = json.dumps({"profile": "a", "training": {"concurrency": 1}, "profiles": {"a": table}})
    write(clean / "mcp-hub.json", text)
    assert load_settings().training.concurrency == 6


def test_a_file_without_the_line_is_as_before(clean: Path) -> None:
    write(clean / "mcp-hub.toml", TEAM.replace('profile = "team"', ""))
    settings = load_settings()
    assert (settings.profile, settings.port) == (None, 1)


@pytest.mark.parametrize(
    ("text", "contains", "hint"),
    [
        ("profile = 'tem'\n[profiles.team]", "no profile 'tem' in", "Did you mean 'team'?"),
        ("profile = 'x'\n[profiles.a]\n[profiles.b]", "'x' in", "Existing profiles: a, b."),
        ("profile = 'x'", "no profile 'x' in", "There are no profiles yet."),
        ("profile = 3\n[profiles.3]", "no profile 3 in", "Existing profiles: 3."),
        ("[profiles.a]\nprot = 1", "profile a: unknown key prot", "Did you mean port?"),
        ("[profiles.a]\nprofile = 'a'", "profile a: unknown key profile", None),
        ("profile = 'a'\n[profiles.a]\nport = 'x'", "profile a: port: Input should be", None),
        ("profiles = 3", "profiles must hold tables", None),
        ("[profiles]\nport = 3", "profiles must hold tables", None),
    ],
)
def test_a_wrong_profile_names_the_right_ones(
    tmp_path: Path, text: str, contains: str, hint: str | None
) -> None:
    fault(config_file=write(tmp_path / "hub.toml", text), contains=contains, hint=hint)


def test_a_profile_needs_a_file(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(profile="team", contains="command line: there is no configuration file", hint="team]")
    monkeypatch.setenv("MCP_HUB_PROFILE", "x")
    fault(contains="MCP_HUB_PROFILE: there is no configuration file", hint="mcp-hub.toml")


def test_a_detached_process_takes_the_settings_and_no_profile(
    clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(clean / "mcp-hub.toml", TEAM)
    settings = load_settings()
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    (clean / "mcp-hub.toml").unlink()
    assert load_settings().model_dump(exclude={"profile"}) == settings.model_dump(
        exclude={"profile"}
    )


def test_a_named_file_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(config_file=tmp_path / "no.toml", contains="no.toml (--config) does not exist")
    monkeypatch.setenv("MCP_HUB_CONFIG", str(tmp_path / "no.json"))
    fault(contains="no.json (MCP_HUB_CONFIG) does not exist")


@pytest.mark.parametrize(
    ("name", "value", "contains"),
    [
        ("MCP_HUB_PORT", "x", "MCP_HUB_PORT: port: Input should be a valid integer"),
        ("MCP_HUB_ROOTS", "[1", "MCP_HUB_ROOTS: roots: "),
        ("MCP_HUB_TRAINING", "3", "training must be a section"),
        ("MCP_HUB_TRAINING", "{", "cannot be parsed"),
    ],
)
def test_a_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, contains: str
) -> None:
    monkeypatch.setenv(name, value)
    fault(contains=contains)


def test_tokens_are_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "do-not-show-this-one"
    monkeypatch.setenv("MCP_HUB_AUTH__TOKENS__CI__TOKEN", secret)
    monkeypatch.setenv("MCP_HUB_AUTH__TOKENS__CI__SCOPES", "read,write")
    settings = load_settings()
    assert settings.auth.tokens["ci"].token.get_secret_value() == secret
    assert settings.auth.tokens["ci"].scopes == ["read", "write"]
    for text in (repr(settings), str(settings), str(settings.shown()), settings.model_dump_json()):
        assert secret not in text
    assert not any("AUTH" in name for name in settings.environment())
    monkeypatch.setenv("MCP_HUB_AUTH__TOKENS__CI__TOKEN", "short-secret")
    with pytest.raises(InvalidArgument, match="at least 16") as caught:
        load_settings()
    assert "short-secret" not in caught.value.message
    assert caught.value.__cause__ is None


def test_sources_are_named_and_their_secrets_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(
        tmp_path / "hub.toml",
        '[data.sources.crm]\nurl = "mongodb://reader:first-secret@one/crm"\n'
        '[data.sources.web-shop]\nurl = "mongodb+srv://two/shop"\n',
    )
    secret = write(tmp_path / "url", "mongodb://reader:second-secret@three/old\n")
    monkeypatch.setenv("MCP_HUB_DATA__SOURCES__OLD_CRM__URL_FILE", str(secret))
    settings = load_settings(file)
    assert {name: source.url for name, source in settings.data.sources.items()} == {
        "crm": "mongodb://reader:first-secret@one/crm",
        "web-shop": "mongodb+srv://two/shop",
        "old_crm": "mongodb://reader:second-secret@three/old",
    }
    assert settings.shown()["data.sources.crm.url"] == "mongodb://reader:***@one/crm"
    for text in (repr(settings), str(settings), str(settings.shown())):
        assert "-secret" not in text
    assert not any("SOURCES" in name for name in settings.environment())
    assert settings.origin("data.sources.old_crm.url") == "MCP_HUB_DATA__SOURCES__OLD_CRM__URL_FILE"


@pytest.mark.parametrize(
    ("text", "contains"),
    [
        ('[data.sources.crm]\nurl = "mysql://u:do-not-show@host/x"', "must be mongodb://"),
        ('[data.sources.CRM]\nurl = "mongodb://u:do-not-show@host/x"', "'CRM' cannot name"),
        ('[data.sources.file]\nurl = "mongodb://u:do-not-show@host/x"', "'file' cannot name"),
        ('[data.sources.crm]\nuri = "mongodb://u:do-not-show@host/x"', "data.sources.crm.uri"),
    ],
)
def test_a_wrong_source_is_said_without_its_secret(
    tmp_path: Path, text: str, contains: str
) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(contains)) as caught:
        load_settings(write(tmp_path / "hub.toml", text))
    assert "do-not-show" not in f"{caught.value.message} {caught.value.hint}"


def test_the_environment_gives_another_process_the_same_settings(
    clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(clean / "mcp-hub.toml", "[training]\nattempt_memory_mb = 512\n")
    settings = load_settings(
        port=5, roots=[clean], data_dir="state", training={"attempt_memory_mb": 700}
    )
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert load_settings().model_dump() == settings.model_dump()


def test_settings_made_directly_read_nothing(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(clean / "mcp-hub.toml", "port = 1\n")
    monkeypatch.setenv("MCP_HUB_PORT", "2")
    assert Settings().port == 3456


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


def test_every_setting_is_shown_and_has_a_variable() -> None:
    shown = Settings().shown()
    assert [key for key in known_keys() if "*" not in key] == list(shown)
    assert variable("training.poll_s") == "MCP_HUB_TRAINING__POLL_S"
    assert all(any(key.startswith(name) for key in shown) for name in WITHOUT_EFFECT)


def test_importing_reads_no_file_and_loads_nothing_heavy(clean: Path) -> None:
    write(clean / FILE_NAMES[0], "not = toml = at all")
    program = (
        "import sys, mcp_hub.server.settings\n"
        "heavy = {'sklearn', 'polars', 'onnxruntime', 'sqlalchemy', 'mcp', 'rich', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_default_root_is_where_the_hub_was_started(clean: Path) -> None:
    assert default_root() == clean


_names = st.text(st.characters(exclude_characters=".", codec="utf-8"), min_size=1, max_size=5)
_leaves = st.none() | st.integers() | st.lists(st.integers(), max_size=2)


@given(
    st.recursive(
        st.dictionaries(_names, _leaves, min_size=1, max_size=3),
        lambda inner: st.dictionaries(_names, inner | _leaves, min_size=1, max_size=3),
        max_leaves=8,
    )
)
def test_nest_undoes_flatten(values: dict[str, object]) -> None:
    assert nest(flatten(values)) == values


def test_secrets_of_containers_are_named_by_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "hub.toml"
    file.write_text('[containers.secrets]\ngithub = "env:GITHUB_TOKEN"\n')
    monkeypatch.setenv("MCP_HUB_CONTAINERS__SECRETS__WEATHER", "file:/etc/key")
    monkeypatch.setenv("MCP_HUB_CONTAINERS__IMAGES", "python,ghcr.io/acme/*")
    told = load_settings(file).containers
    assert told.secrets == {"github": "env:GITHUB_TOKEN", "weather": "file:/etc/key"}
    assert told.images == ["python", "ghcr.io/acme/*"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"secrets": {"github": "ghp_0123"}}, {"secrets": {"Git Hub": "env:X"}},
        {"engine_url": "docker.sock"}, {"listen": "localhost"}, {"listen": "a:b"},
        {"max_cpus": 0}, {"imags": []},
    ],
)  # fmt: skip
def test_what_containers_cannot_be_told_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings(containers=wrong)
