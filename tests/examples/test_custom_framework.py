"""A framework of somebody's own, installed and trained with; and packages that provide none."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sklearn.datasets import load_iris

from mcp_hub.adapters.errors import HubError, Unavailable
from tests.processes import call, hub_environment, stdio_client

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_framework"

FRAMEWORK = """
from mcp_hub.services.training.frameworks.base import FrameworkConfig
from pydantic import field_validator

class Config(FrameworkConfig):
    depth: int = 1

class F:
    name = "{name}"
    description = "Of the tests."
    types = ("classification",)
    Config = Config
    preload = ()
    def missing(self):
        return None
    def train(self, task, run):
        raise RuntimeError("it cannot train")
"""

BROKEN: dict[str, tuple[str, str]] = {
    "raises": ("raise RuntimeError('half installed')", "RuntimeError: half installed"),
    "exits": ("import sys; sys.exit('bye')", "SystemExit: bye"),
    "absent_class": ("", "has no attribute 'F'"),
    "no_framework": ("class F: pass", "it has no attribute 'name'"),
    "no_types": (FRAMEWORK.replace("types =", "kinds ="), "it has no attribute 'types'"),
    "text_for_types": (FRAMEWORK.replace('("classification",)', '"classification"'), "no tuple"),
    "other_name": (FRAMEWORK.replace("{name}", "sklearn"), "its name is 'sklearn'"),
    "no_config": (FRAMEWORK.replace("Config = Config", "Config = dict"), "no subclass of"),
    "raises_when_made": (FRAMEWORK + "    def __init__(self): 1 / 0", "ZeroDivisionError"),
    "raises_when_asked": (FRAMEWORK.replace("return None", "return 1 / 0"), "ZeroDivisionError"),
}
"""By name: the module, and what is told of it."""

BAD_CONFIG = FRAMEWORK.replace(
    "    depth: int = 1",
    "    depth: int = 1\n    @field_validator('depth')\n    @classmethod\n"
    "    def _check(cls, depth): return {}[depth]",
)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example and the other packages installed."""
    target = tmp_path_factory.mktemp("packages")
    subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
            "--target", target, EXAMPLE,
        ],
        check=True,
    )  # fmt: skip
    for name, (source, _) in BROKEN.items():
        _provide(target, name, name, source)
    _provide(target, "bad_config", "bad_config", BAD_CONFIG)
    _provide(target, "impostor", "sklearn", "raise RuntimeError('never to be imported')")
    return target


def _provide(target: Path, module: str, name: str, source: str) -> None:
    """Install a package whose module provides a framework of that name."""
    (target / f"{module}.py").write_text(source.replace("{name}", name))
    info = target / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[mcp_hub.frameworks]\n{name} = {module}:F\n")


def test_the_example_is_short() -> None:
    source = (EXAMPLE / "nearest_centroid.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) < 60


async def test_it_is_trained_with_beside_packages_that_are_broken(
    packages: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "import os\nfrom mcp_hub import run\nrun.metric('rows', len(open(os.environ"
        "['MCP_HUB_JOB_DATASET_FILE']).readlines()) - 1)\n"
    )
    (tmp_path / "iris.csv").write_text(load_iris(as_frame=True).frame.to_csv(index=False))
    environment = hub_environment(tmp_path, PYTHONPATH=str(packages), PYTHONWARNINGS="default")
    async with stdio_client(environment) as client:
        await call(client, "dataset_register", name="iris", source="iris.csv")
        listed = await call(client, "training_frameworks")
        frameworks = {item["name"]: item for item in listed["items"]}
        for name, (_, told) in BROKEN.items():
            assert told in frameworks[name]["missing"], name
            assert not frameworks[name]["available"]
        assert "estimator" in frameworks["sklearn"]["config_schema"]["properties"]
        assert [note for note in listed["notes"] if "impostor provides another 'sklearn'" in note]

        for name in BROKEN.keys() - {"raises_when_asked"}:
            with pytest.raises(Unavailable, match="cannot be loaded"):
                await _submit(client, name)
        with pytest.raises(Unavailable, match="cannot check its config: KeyError: 2"):
            await _submit(client, "bad_config", {"depth": 2})

        example = frameworks["nearest_centroid"]
        assert example["available"]
        assert "test_share" in example["config_schema"]["properties"]
        with pytest.raises(HubError, match="no config key 'test_size'"):
            await _submit(client, "nearest_centroid", {"test_size": 0.3})
        job = await _train(client, "nearest_centroid", {"test_share": 0.3})
        assert (job["status"], job["error"]) == ("succeeded", None)
        assert job["metrics"]["accuracy"] > 0.8
        row = dict(zip(load_iris().feature_names, [5.1, 3.5, 1.4, 0.2], strict=True))
        answer = await call(client, "predict", model=job["model"], inputs=[row])
        assert answer["predictions"] == [0]

        assert frameworks["script"]["available"]
        job = await _train(client, "script", {"program": "mine.py"})
        assert (job["status"], job["metrics"]) == ("succeeded", {"rows": 150.0})


async def _submit(client: Any, framework: str, config: dict[str, Any] | None = None) -> str:
    submitted = await call(
        client, "training_submit",
        name=framework, type="classification", framework=framework, dataset="iris",
        target="target", config=config,
    )  # fmt: skip
    job_id: str = submitted["job_id"]
    return job_id


async def _train(client: Any, framework: str, config: dict[str, Any]) -> dict[str, Any]:
    """The job that has ended."""
    job_id = await _submit(client, framework, config)
    job = await call(client, "training_status", job_id=job_id, wait_s=50)
    while job["status"] in ("queued", "running"):
        job = await call(client, "training_status", job_id=job_id, wait_s=50)
    return job
