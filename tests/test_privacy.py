"""That the hub tells nobody what is done with it."""

import os
import subprocess
import sys
from pathlib import Path


def test_onnxruntime_reports_nothing(tmp_path: Path) -> None:
    """It keeps what it will send in the home folder, and is silent by itself only in tests."""
    silenced = ("CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS")
    environment = {name: value for name, value in os.environ.items() if name not in silenced}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    program = "import mcp_hub.services.inference.runtime, sys; assert 'onnxruntime' in sys.modules"
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert list(tmp_path.rglob("*")) == []
