"""Tries to get out of the container that it runs in: a line of JSON for each attempt.

It runs by itself in a container with Python, told in JSON what there is to reach. Each attempt
runs in a process of its own and returns what it got; an error is what it was denied by.
"""

import ctypes
import json
import os
import platform
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SETUID_PROGRAM, OPEN_FOLDER = "/usr/local/bin/setuid-python", "/open"
"""What the image has for it: Python that is setuid root, and where everyone may write."""
_CALLS = {
    "x86_64": {"add_key": 248, "bpf": 321},
    "aarch64": {"add_key": 217, "bpf": 280},
}
_PTRACE_ATTACH, _PTRACE_DETACH = 16, 17
_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_WAIT_S = 1.0
_ATTEMPT_S = 15.0
_MB = 1 << 20

told: dict[str, Any] = {}
libc = ctypes.CDLL(None, use_errno=True)
attempts: dict[str, Callable[[], object]] = {}


class Denied(Exception):
    """Nothing was got, though no call failed."""


def attempt(name: str) -> Callable[[Callable[[], object]], Callable[[], object]]:
    def add(function: Callable[[], object]) -> Callable[[], object]:
        attempts[name] = function
        return function

    return add


def call(name: str, *arguments: Any) -> int:
    """A system call, by its number where the C library has none of the name."""
    number = _CALLS[platform.machine()].get(name)
    ctypes.set_errno(0)
    result: int = libc.syscall(number, *arguments) if number else getattr(libc, name)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def first_of(function: Callable[[str], object], paths: list[str]) -> object:
    """What the first path gave that gave anything; the last's error if none did."""
    last: Exception = Denied("there is none")
    for path in paths:
        try:
            return function(path)
        except OSError as error:
            last = error
    raise last


# Files


@attempt("write outside /tmp")
def write_outside() -> object:
    def write(folder: str) -> str:
        path = Path(folder, f"written-{os.getpid()}")
        path.write_text("x")
        path.unlink()
        return folder

    folders = [
        "/",
        "/etc",
        "/usr/local/bin",
        "/root",
        "/var",
        "/run",
        "/home",
        "/opt",
        "/dev",
        OPEN_FOLDER,
    ]
    return first_of(write, [folder for folder in folders if Path(folder).is_dir()])


@attempt("execute a file from /tmp")
def execute_from_tmp() -> object:
    shutil.copy("/bin/busybox", "/tmp/busybox")
    return subprocess.check_output(["/tmp/busybox", "echo", "it ran"], text=True).strip()


@attempt("fill the disk by /tmp (200 MB)")
def fill_disk() -> object:
    path = Path("/tmp/fill")
    try:
        with path.open("wb", buffering=0) as file:
            for _ in range(200):
                file.write(bytes(_MB))
        return "200 MB"
    except OSError as error:
        size = path.stat().st_size // _MB
        raise OSError(error.errno, f"{error.strerror} after {size} MB") from None
    finally:
        path.unlink(missing_ok=True)


@attempt("change a file's owner")
def change_owner() -> object:
    Path("/tmp/owned").write_text("x")
    os.chown("/tmp/owned", 12345, 12345)
    return "uid 12345"


@attempt("make a device node")
def make_device() -> object:
    os.mknod(f"/tmp/node-{os.getpid()}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    return "c 1 3"


@attempt("open a disk of the machine")
def open_disk() -> object:
    node = Path(f"/tmp/disk-{os.getpid()}")
    os.mknod(node, stat.S_IFBLK | 0o666, os.makedev(*told["disk"]))
    with node.open("rb", buffering=0) as disk:
        return f"{len(disk.read(512))} bytes of {told['disk']}"


@attempt("open the machine's devices")
def open_devices() -> object:
    return first_of(
        lambda path: os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK)) or path,
        ["/dev/kmsg", "/dev/mem", "/dev/kvm", "/dev/fuse", "/dev/loop-control"],
    )


# The kernel


@attempt("mount")
def mount() -> object:
    call("mount", b"none", b"/tmp", b"tmpfs", 0, None)
    call("umount2", b"/tmp", 2)
    return "tmpfs"


@attempt("unshare a user namespace")
def unshare_user() -> object:
    call("unshare", _CLONE_NEWUSER)
    return "new user namespace"


@attempt("unshare a mount namespace")
def unshare_mounts() -> object:
    call("unshare", _CLONE_NEWNS)
    return "new mount namespace"


@attempt("change a kernel setting in /proc/sys")
def write_proc() -> object:
    path = Path("/proc/sys/vm/swappiness")
    path.write_text(path.read_text())
    return str(path)


@attempt("write to /sys")
def write_sys() -> object:
    def write(path: str) -> str:
        text = Path(path).read_text().strip()
        Path(path).write_text(next((w[1:-1] for w in text.split() if w[:1] == "["), text))
        return path

    paths = ["/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/profiling"]
    return first_of(write, [path for path in paths if Path(path).exists()])


@attempt("trace a process of the machine")
def trace_process() -> object:
    call("ptrace", _PTRACE_ATTACH, told["pid"], None, None)
    os.waitpid(told["pid"], 0x40000000)
    call("ptrace", _PTRACE_DETACH, told["pid"], None, None)
    return f"pid {told['pid']}"


@attempt("keep a key in the kernel (keyctl)")
def add_key() -> object:
    session_keyring = ctypes.c_int(-3)
    return call("add_key", b"user", b"escape", b"x", ctypes.c_size_t(1), session_keyring)


@attempt("load a BPF program")
def load_bpf() -> object:
    program = struct.pack("BBhi", 0xB7, 0, 0, 0) + struct.pack("BBhi", 0x95, 0, 0, 0)
    code, license = ctypes.create_string_buffer(program), ctypes.create_string_buffer(b"GPL")
    socket_filter = 1
    attributes = struct.pack(
        "IIQQIIQI", socket_filter, 2, ctypes.addressof(code), ctypes.addressof(license), 0, 0, 0, 0
    ) + bytes(76)
    loaded = ctypes.create_string_buffer(attributes)
    return os.close(call("bpf", 5, loaded, len(attributes))) or "loaded"


# Whom it runs as


@attempt("become another user")
def become_another() -> object:
    os.setgroups([])
    os.setuid(12345)
    return "uid 12345"


@attempt("gain root by a setuid program")
def gain_by_setuid() -> object:
    if os.getuid() == 0:
        os.setuid(65532)
    script = "import os; print(os.geteuid())"
    uid = subprocess.check_output([SETUID_PROGRAM, "-I", "-c", script], text=True).strip()
    if uid != "0":
        raise Denied(f"it runs as uid {uid}")
    return "uid 0"


@attempt("hold a capability")
def hold_capability() -> object:
    status = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines())
    sets = {name: status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    if not any(int(held, 16) for held in sets.values()):
        raise Denied("all five sets are 0")
    return f"CapEff {sets['CapEff'].lstrip('0')}"


@attempt("gain privileges (NoNewPrivs 0)")
def gain_privileges() -> object:
    return needs("NoNewPrivs", "1")


@attempt("any system call (Seccomp 0)")
def any_system_call() -> object:
    return needs("Seccomp", "2")


def needs(name: str, value: str) -> str:
    status = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines())
    if status[name] == value:
        raise Denied(f"{name} {value}")
    return f"{name} {status[name]}"


# Others


@attempt("use the engine's socket")
def use_socket() -> object:
    def ping(path: str) -> str:
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(path)
            engine.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return engine.recv(12).decode()

    return first_of(ping, ["/var/run/docker.sock", "/run/docker.sock", told["engine_socket"]])


@attempt("read another container's secret")
def read_secret() -> object:
    roots = [f"{path}/root" for path in Path("/proc").iterdir() if path.name.isdigit()]
    text = first_of(lambda root: Path(root + told["secret"]).read_text(), ["", *roots])
    if text != told["secret_text"]:
        raise Denied("it is another file")
    return text


@attempt("raw socket")
def raw_socket() -> object:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    return "ICMP"


@attempt("TCP to an address on the internet")
def reach_internet() -> object:
    return connect(told["internet"])


@attempt("DNS question to the internet")
def ask_dns() -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(_WAIT_S)
        client.connect((told["internet"], told["dns_port"]))
        client.send(
            b"\x12\x34\x01\x00\x00\x01" + bytes(6) + b"\x06secret\x07example\x00\x00\x01\x00\x01"
        )
        return f"{len(client.recv(512))} bytes"


@attempt("TCP to the machine's gateway address")
def reach_gateway() -> object:
    return first_of(connect, [*told["gateways"], *own_gateways()])


def own_gateways() -> list[str]:
    """The first address of each network that it is on, where an engine puts its machine."""
    routes = [line.split() for line in Path("/proc/net/route").read_text().splitlines()[1:]]
    found = [struct.pack("<I", int(route[1], 16)) for route in routes]
    return [socket.inet_ntoa(at[:3] + bytes([at[3] | 1])) for at in found if at[0]]


@attempt("TCP to another container")
def reach_neighbour() -> object:
    return first_of(lambda host: connect(host, told["neighbour_port"]), told["neighbours"])


@attempt("ping another container")
def ping_neighbour() -> object:
    return first_of(ping, told["neighbours"])


def connect(host: str, port: int | None = None) -> str:
    with socket.create_connection((host, port or told["port"]), _WAIT_S) as client:
        client.settimeout(_WAIT_S)
        return f"{host} said {client.recv(16).decode().strip()}"


def ping(host: str) -> str:
    # A kernel lets groups do this without a raw socket; engines let all.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as client:
        client.settimeout(_WAIT_S)
        client.sendto(struct.pack("!BBHHH", 8, 0, 0xF7FD, 1, 1), (host, 0))
        return f"{client.recvfrom(64)[1][0]} answered"


# Resources


@attempt("fork bomb")
def fork_bomb() -> object:
    """Where it is held it goes on forking for a while."""
    reader, writer = os.pipe()
    children: list[int] = []
    until = time.monotonic() + told["bomb_s"]
    refused: OSError | None = None
    while len(children) < 300 and (refused is None or time.monotonic() < until):
        try:
            if (pid := os.fork()) == 0:
                os.close(writer)
                os.read(reader, 1)
                os._exit(0)
            children.append(pid)
        except OSError as error:
            refused = error
    os.close(writer)
    for pid in children:
        os.waitpid(pid, 0)
    if refused:
        raise OSError(refused.errno, f"{refused.strerror} after {len(children)}")
    return f"{len(children)} processes"


@attempt("all of the CPU")
def hog_cpu() -> object:
    until = time.monotonic() + told["cpu_s"]
    children = []
    for _ in range(2):
        if (pid := os.fork()) == 0:
            while time.monotonic() < until:
                pass
            os._exit(0)
        children.append(pid)
    usages = [os.wait4(pid, 0)[2] for pid in children]
    share = sum(usage.ru_utime + usage.ru_stime for usage in usages) / told["cpu_s"]
    text = first_of(
        lambda path: Path(path).read_text(),
        ["/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpu/cpu.stat"],
    )
    counts = dict(line.split() for line in str(text).splitlines())
    # The share alone depends on who else is busy.
    if throttled := int(counts.get("nr_throttled", 0)):
        raise Denied(f"throttled {throttled} times, {share:.2f} cores")
    return f"never throttled, {share:.2f} cores"


@attempt("flood the log (30 MB)")
def flood_log() -> object:
    """Whether the engine's disk has it all is seen from outside."""
    line = b"x" * 1023 + b"\n"
    for _ in range(30):
        sys.stderr.buffer.write(line * 1024)
    sys.stderr.flush()
    return "30 MB"


@attempt("1 GB of memory")
def hog_memory() -> object:
    """The kernel ends it in the middle, if it is held."""
    kept = [os.urandom(16) * (4 * _MB) for _ in range(16)]
    return f"{sum(map(len, kept)) // _MB} MB"


def outcome(function: Callable[[], object]) -> tuple[bool, str]:
    try:
        return True, str(function())
    except subprocess.CalledProcessError as error:
        return False, f"status {error.returncode}"
    except OSError as error:
        return False, error.strerror or str(error) or type(error).__name__
    except Denied as error:
        return False, str(error)


def in_child(function: Callable[[], object]) -> tuple[bool, str]:
    """The outcome in a process of its own, whose end is one as well."""
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        signal.alarm(int(_ATTEMPT_S))
        with os.fdopen(writer, "w") as pipe:
            json.dump(outcome(function), pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if ended:
        return False, f"ended by {signal.Signals(-ended).name}" if ended < 0 else f"status {ended}"
    got, detail = json.loads(said)
    return got, detail


if __name__ == "__main__":
    told |= json.loads(sys.argv[1])
    for name in told["attempts"]:
        # The end of one that is made alone is that of the container.
        made = in_child if len(told["attempts"]) > 1 else outcome
        got, detail = made(attempts[name])
        print(json.dumps({"attempt": name, "got": got, "detail": detail}), flush=True)
