"""What is loaded when: nothing heavy by the server, everything ahead of a forked attempt."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from mcp_hub.services.training.frameworks.base import Framework
from mcp_hub.services.training.frameworks.sklearn import SklearnFramework

_HEAVY = ["sklearn", "skl2onnx", "onnx", "onnxruntime", "polars", "scipy", "pandas", "numpy"]


def python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_a_framework() -> None:
    framework: Framework = SklearnFramework()
    assert framework.missing() is None
    assert framework.types == ("classification", "regression", "clustering", "anomaly")


def test_the_server_loads_nothing_heavy() -> None:
    loaded = python(
        "import sys, mcp_hub.services.training.frameworks.sklearn as s\n"
        "s.SklearnFramework.Config.model_json_schema(), s.SklearnFramework().missing()\n"
        f"print([name for name in {_HEAVY} if name in sys.modules])"
    )
    assert loaded.strip() == "[]"


_FORK = """
import importlib, json, os, signal, sys
from pathlib import Path
from mcp_hub.services.training.frameworks.base import TrainingTask
from mcp_hub.services.training.frameworks.sklearn import SklearnFramework
from mcp_hub.services.training.run import run
for module in SklearnFramework.preload:
    importlib.import_module(module)
loaded = set(sys.modules)
file, folder = map(Path, sys.argv[1:])
children = []
for number in range(2):
    child = os.fork()
    if not child:
        signal.alarm(100)
        inside = folder / str(number)
        inside.mkdir()
        os.environ["MCP_HUB_EVENTS"] = str(inside / "events.jsonl")
        config = {"estimator": "random_forest", "params": {"n_jobs": 2}}
        SklearnFramework().train(
            TrainingTask("j", 1, "n", "classification", "y", config, "d:1", file, "parquet", {},
                         inside), run)
        late = sorted(set(sys.modules) - loaded)
        (inside / "late.json").write_text(json.dumps(late))
        os._exit(0)
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="attempts are forked on Linux only")
def test_a_fork_after_the_preload_trains(tmp_path: Path) -> None:
    file = tmp_path / "data.parquet"
    columns = {"a": range(60), "t": ["some words here"] * 59 + ["other words there"]}
    pl.DataFrame({**columns, "y": [i > 30 for i in range(60)]}).write_parquet(file)
    assert python(_FORK, str(file), str(tmp_path)).strip() == "[0, 0]"
    for number in "01":
        events = (tmp_path / number / "events.jsonl").read_text(encoding="utf-8").splitlines()
        assert json.loads(events[-2])["type"] == "model"
        late = json.loads((tmp_path / number / "late.json").read_text(encoding="utf-8"))
        heavy = [name for name in late if name.split(".")[0] in _HEAVY]
        assert len(heavy) < 20, heavy
