"""What can be said of deploy/ without a cluster: it parses, and names what there is."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.applications import Starlette

from mcp_hub.server.app import create_server
from mcp_hub.server.cli import _COMMANDS
from mcp_hub.server.http import DRAIN_S, create_app
from mcp_hub.server.lazy_hub import lazy_hub
from mcp_hub.server.settings import URLS, Settings, known_keys, load_settings
from mcp_hub.server.settings_sources import variable

DEPLOY = Path(__file__).parent.parent / "deploy"
FILES = sorted(DEPLOY.rglob("*.yaml"))
PORT = Settings.model_fields["port"].default


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def pods() -> Iterator[dict[str, Any]]:
    """The pod of every workload of the Kubernetes example."""
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        for document in documents(path):
            if "template" in document["spec"]:
                yield document["spec"]["template"]["spec"]


def containers() -> list[dict[str, Any]]:
    return [container for pod in pods() for container in pod["containers"]]


def compose() -> dict[str, Any]:
    return documents(DEPLOY / "compose.yaml")[0]


def hub_services() -> dict[str, dict[str, Any]]:
    return {name: s for name, s in compose()["services"].items() if s["image"] == "mcp-hub"}


def test_there_are_replicas_workers_and_what_makes_their_servers_ready() -> None:
    services = compose()["services"]
    assert set(services) == {"postgres", "redis", "minio", "up", "serve", "worker"}
    assert services["serve"]["deploy"]["replicas"] == 2
    assert services["worker"]["deploy"]["replicas"] == 2
    for name in ("serve", "worker"):
        assert services[name]["depends_on"] == {
            "up": {"condition": "service_completed_successfully"}
        }
    kinds = {doc["kind"] for path in FILES for doc in documents(path) if "kind" in doc}
    assert kinds == {"Deployment", "Service", "HorizontalPodAutoscaler", "Job"}


@pytest.mark.parametrize("path", [*FILES, DEPLOY / "Dockerfile"], ids=lambda path: path.name)
def test_every_variable_is_a_setting(path: Path) -> None:
    known = {variable(key) for key in known_keys()} | {"MCP_HUB_CONFIG"}
    known |= {f"{variable(key)}_FILE" for key in URLS}
    text = "\n".join(line.partition("#")[0] for line in path.read_text().splitlines())
    assert set(re.findall(r"MCP_HUB_\w+", text)) <= known


def test_every_command_exists() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["mcp-hub"]' in dockerfile
    commands = [service["command"] for service in hub_services().values()]
    commands += [container["args"] for container in containers()]
    commands.append(yaml.safe_load(re.findall(r"^CMD (.*)$", dockerfile, re.MULTILINE)[0]))
    assert {command[0] for command in commands} == {"up", "serve", "worker"} <= set(_COMMANDS)


def test_ports_are_the_default_one() -> None:
    (serve,) = (c for c in containers() if c["name"] == "serve")
    assert serve["ports"] == [{"name": "http", "containerPort": PORT}]
    assert f"EXPOSE {PORT}\n" in (DEPLOY / "Dockerfile").read_text()
    (published,) = hub_services()["serve"]["ports"]
    assert published.endswith(f":{PORT}")


async def test_probes_ask_what_the_server_answers(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, roots=[tmp_path])
    async with lazy_hub(settings) as hub:
        app: Starlette = create_app(settings, hub, create_server(settings, hub))
    paths = {route.path for route in app.routes}  # type: ignore[attr-defined]
    (serve,) = (c for c in containers() if c["name"] == "serve")
    probes = {name: serve[f"{name}Probe"]["httpGet"] for name in ("readiness", "liveness")}
    assert probes["readiness"] == {"path": "/ready", "port": "http"}
    assert probes["liveness"] == {"path": "/health", "port": "http"}
    assert {probe["path"] for probe in probes.values()} <= paths
    asked = hub_services()["serve"]["healthcheck"]["test"][-1]
    assert f'"http://127.0.0.1:{PORT}/ready"' in asked


def test_replicas_get_time_to_finish_their_calls() -> None:
    serve, _ = documents(DEPLOY / "kubernetes" / "serve.yaml")
    pod = serve["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    before = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert before + DRAIN_S < pod["terminationGracePeriodSeconds"]
    assert hub_services()["serve"]["stop_grace_period"] == "30s"
    assert DRAIN_S < 30


def test_pods_are_unprivileged_and_get_no_variables_of_services() -> None:
    for pod in pods():
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
    assert "\nUSER 10001\n" in (DEPLOY / "Dockerfile").read_text()


def test_what_is_mounted_is_declared() -> None:
    for pod in pods():
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert set(mounts) == volumes
            for entry in container["env"]:
                if entry["name"].endswith(("_FILE", "_CONFIG")):
                    assert entry["value"].startswith(f"{mounts['secrets']}/")
    file = compose()
    for service in file["services"].values():
        assert set(service.get("secrets", [])) <= set(file["secrets"])
        named = {v.partition(":")[0] for v in service.get("volumes", [])}
        assert named <= set(file["volumes"])


def test_the_autoscaler_scales_the_workers_and_they_get_time_to_give_jobs_back() -> None:
    worker, scaler = documents(DEPLOY / "kubernetes" / "worker.yaml")
    assert scaler["spec"]["scaleTargetRef"]["name"] == worker["metadata"]["name"]
    assert "replicas" not in worker["spec"]
    assert worker["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= 60
    assert hub_services()["worker"]["stop_grace_period"] == "60s"


def test_the_secrets_that_are_made_are_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "secrets"

    def make() -> dict[str, str]:
        subprocess.run([DEPLOY / "make-secrets.sh", folder], check=True)
        return {path.name: path.read_text() for path in folder.iterdir()}

    made = make()
    assert {f"secrets/{name}" for name in made} == {
        secret["file"] for secret in compose()["secrets"].values()
    }
    assert make() == made
    for name in [name for name in os.environ if name.startswith("MCP_HUB_")]:
        monkeypatch.delenv(name)
    for service in hub_services().values():
        for name, value in service["environment"].items():
            monkeypatch.setenv(name, value.replace("/run/secrets", str(folder)))
    settings = load_settings()
    assert settings.database_url == made["database_url"].strip()
    assert settings.redis_url == made["redis_url"].strip()
    assert settings.blobs_url == made["blobs_url"].strip()
    assert made["postgres_password"].strip() in settings.database_url
    assert list(settings.auth.tokens) == ["team"]
