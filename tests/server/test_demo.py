"""What the demo does when the hub does not do as promised; that it does is in test_readme."""

import io
import shutil
import sys
from pathlib import Path

import pytest
from rich.console import Console

from mcp_hub.adapters.errors import Internal, Unavailable
from mcp_hub.server import demo


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demo makes its folder."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_server_that_ends_is_told_and_leaves_nothing(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(Unavailable, match="stopped answering"):
        demo.run_demo(Console(file=io.StringIO()))
    assert list(temporary.iterdir()) == []


def test_a_broken_promise_ends_it_and_its_worker(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "MODEL", "no model name")
    shown = io.StringIO()
    with pytest.raises(Internal, match="training_submit succeeds"):
        demo.run_demo(Console(file=shown))
    assert "invalid_argument" in shown.getvalue()
    assert list(temporary.iterdir()) == []
