"""Images without a registry: tar archives of what this machine has, for the engine to import.

TINY is Debian's static busybox. BASE adds this machine's own Python with pip, venv and `mcp`, and
the libraries that they are linked with; PYTHON adds the servers of `tests/containers/servers`.
"""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.servers import need

TINY, BASE, PYTHON = "hub-tests/tiny:1", "hub-tests/base:1", "hub-tests/python:1"
FOREIGN = "hub-tests/foreign:1"
SERVERS = Path(__file__).parent / "servers"
PATH = "/usr/local/bin:/usr/bin:/bin"
_FOLDERS = {"tmp": 0o1777, "proc": 0o755, "sys": 0o755, "dev": 0o755, "run": 0o755, "root": 0o700}
_UNNEEDED = (
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "turtledemo",
    "lib2to3",
)
_PACKAGES = ("mcp", "pip", "setuptools", "wheel")
_LINKED = re.compile(r"(?:=> )?(/\S+) \(0x")


def tiny_image() -> bytes:
    """A tar archive with a shell, and users to run as."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        _add_base(archive)
    return buffer.getvalue()


def foreign_image() -> bytes:
    """An archive to load: a shell for the IBM mainframe, in so far as its headers say so."""
    program = bytearray(Path(need("busybox", "apt-get install busybox-static")).read_bytes())
    program[18:20] = b"\x16\x00"
    layer, archive = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as files:
        _add(files, "bin/sh", program, 0o755)
    root = {
        "type": "layers",
        "diff_ids": [f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"],
    }
    image = {"architecture": "s390x", "os": "linux", "config": {}, "rootfs": root}
    config = json.dumps(image).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [FOREIGN], "Layers": ["layer.tar"]}]
    with tarfile.open(fileobj=archive, mode="w") as files:
        _add(files, "layer.tar", layer.getvalue())
        _add(files, name, config)
        _add(files, "manifest.json", json.dumps(manifest).encode())
    return archive.getvalue()


def python_image() -> Path:
    """The archive in the machine's folder for temporary files, made unless it is there already."""
    files = dict(_python_files())
    state = hashlib.sha256()
    for target, source in sorted(files.items()):
        told = source.stat()
        state.update(f"{target} {source} {told.st_size} {told.st_mtime_ns}\n".encode())
    state.update(Path(__file__).read_bytes())
    folder = Path(tempfile.gettempdir()) / f"mcp-hub-test-images-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"python-{state.hexdigest()[:16]}.tar"
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}")
        with tarfile.open(partial, "w") as archive:
            _add_base(archive)
            for target, source in files.items():
                archive.add(source.resolve(), target, recursive=False)
            version = f"python{sys.version_info.major}.{sys.version_info.minor}"
            for name in ("python3", "python"):
                _add_link(archive, f"usr/local/bin/{name}", version)
        partial.rename(path)
    return path


def servers_layer() -> bytes:
    """What `docker build` makes the image with the servers of, upon the archive's."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        text = f"FROM {BASE}\nCOPY servers /servers\n"
        _add(archive, "Dockerfile", text.encode())
        for path in sorted(SERVERS.glob("*.py")):
            _add(archive, f"servers/{path.name}", path.read_bytes())
    return buffer.getvalue()


def _add_base(archive: tarfile.TarFile) -> None:
    busybox = Path(need("busybox", "apt-get install busybox-static")).resolve()
    archive.add(busybox, "bin/busybox")
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    for applet in listed.stdout.split():
        if applet != "busybox":
            _add_link(archive, f"bin/{applet}", "busybox")
    _add_link(archive, "usr/bin/env", "/bin/busybox")
    for name, mode in _FOLDERS.items():
        folder = tarfile.TarInfo(name)
        folder.type, folder.mode = tarfile.DIRTYPE, mode
        archive.addfile(folder)
    _add(
        archive,
        "etc/passwd",
        b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/tmp:/bin/sh\n"
        b"nobody:x:65534:65534::/nonexistent:/bin/false\n",
    )
    _add(archive, "etc/group", b"root:x:0:\napp:x:1000:\nnogroup:x:65534:\n")


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _add_link(archive: tarfile.TarFile, name: str, to: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, to, 0o777
    archive.addfile(entry)


def _python_files() -> Iterator[tuple[str, Path]]:
    """Where each file of Python and its packages goes in the image, and where it is here."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = f"usr/local/lib/{version}"
    # Debian's Python looks for packages elsewhere than others.
    patched = "dist-packages" in Path(sysconfig.get_path("stdlib"), "site.py").read_text()
    packages = f"{library}/{'dist' if patched else 'site'}-packages"
    executable = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    found = {f"usr/local/bin/{version}": executable}
    stdlib = Path(sysconfig.get_path("stdlib"))
    for path in _tree(stdlib):
        found[f"{library}/{path.relative_to(stdlib)}"] = path
    for package in _closure(_PACKAGES):
        for file in package.files or ():
            if ".." not in file.parts and (path := Path(str(file.locate()))).is_file():
                found[f"{packages}/{file}"] = path
    # Debian keeps what ensurepip installs apart.
    for wheel in Path("/usr/share/python-wheels").glob("*.whl"):
        found[str(wheel)[1:]] = wheel
    yield from found.items()
    yield from _libraries([executable, *(p for p in found.values() if p.suffix == ".so")])


def _tree(stdlib: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(stdlib):
        folders[:] = [
            name for name in folders if name not in _UNNEEDED and not name.startswith("config-")
        ]
        for name in names:
            if not name.endswith((".opt-1.pyc", ".opt-2.pyc", ".a")) and "_tkinter" not in name:
                yield Path(folder) / name


def _closure(names: Iterable[str]) -> Iterator[Distribution]:
    """The installed packages of these names, and what they need."""
    waiting = [Requirement(name) for name in names]
    seen: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        if str(wanted) in seen:
            continue
        seen.add(str(wanted))
        try:
            package = distribution(wanted.name)
        except ModuleNotFoundError:
            continue
        yield package
        for needed in map(Requirement, package.requires or ()):
            marker = needed.marker
            if marker is None or any(marker.evaluate({"extra": e}) for e in ("", *wanted.extras)):
                waiting.append(needed)


def _libraries(binaries: list[Path]) -> Iterator[tuple[str, Path]]:
    """The shared libraries that these are linked with, where the loader looks by itself."""
    listed = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False)
    paths = {Path(path) for path in _LINKED.findall(listed.stdout)}
    (libc,) = (path for path in paths if path.name.startswith("libc.so"))
    for path in paths:
        # The kernel starts the loader by its full path.
        folder = path.parent if path.name.startswith("ld-") else libc.parent
        yield f"{str(folder)[1:]}/{path.name}", path
