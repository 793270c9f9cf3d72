"""What every engine promises. An implementation's test class gives `engine` and images."""

import asyncio
import io
import tarfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_hub.adapters.containers.port import (
    Attachment,
    ContainerConfig,
    ContainerEngine,
    LogLine,
    Mount,
    Stream,
)
from mcp_hub.adapters.errors import Conflict, InvalidArgument, NotFound, Unavailable
from mcp_hub.adapters.ids import new_id
from tests.spawning import killed_process
from tests.waiting import eventually

OpenEngine = Callable[[], ContainerEngine]
Run = Callable[..., Any]

_LABEL = "hub-tests"
_MB = 1 << 20


async def attach_until_killed(open_engine: OpenEngine, container: str, sign: Path) -> None:
    """What another process does that is attached to a container when it dies."""
    engine = open_engine()
    async with engine.attach(container) as attachment:
        await attachment.send(b"first\n")
        await attachment.receive()
        await asyncio.to_thread(sign.touch)
        await anyio.sleep_forever()


async def read_all(attachment: Attachment) -> dict[Stream, bytes]:
    """All that comes until the container has ended."""
    said: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}
    while (piece := await attachment.receive()) is not None:
        said[piece[0]] += piece[1]
    return said


async def read_line(attachment: Attachment) -> bytes:
    """What comes on standard output up to the end of a line."""
    line = b""
    while not line.endswith(b"\n"):
        piece = await attachment.receive()
        assert piece is not None, line
        line += piece[1] if piece[0] == "stdout" else b""
    return line


def context_of(dockerfile: str, **files: bytes) -> bytes:
    """A tar archive to build an image of."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in {"Dockerfile": dockerfile.encode(), **files}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


class EngineContract:
    @pytest.fixture
    def open_engine(self) -> OpenEngine:
        """A picklable function that opens the same engine, in any process."""
        raise NotImplementedError

    @pytest.fixture
    def image(self) -> str:
        """An image of the engine's architecture with a shell, such as busybox."""
        raise NotImplementedError

    @pytest.fixture
    def foreign_image(self) -> str:
        """An image of another architecture with a program `/bin/sh`."""
        raise NotImplementedError

    @pytest.fixture
    async def engine(
        self, open_engine: OpenEngine, labels: Mapping[str, str]
    ) -> AsyncIterator[ContainerEngine]:
        engine = open_engine()
        yield engine
        for container in await engine.containers(labels):
            await engine.remove(container.id)
        for network in await engine.networks(labels):
            await engine.remove_network(network)
        await engine.close()

    @pytest.fixture
    def labels(self) -> dict[str, str]:
        """Of all that a test makes, and nothing else has."""
        return {_LABEL: new_id("test")}

    @pytest.fixture
    def config(self, image: str, labels: dict[str, str]) -> Callable[..., ContainerConfig]:
        """The configuration of a container that runs a script."""

        def make(script: str, **options: Any) -> ContainerConfig:
            own = {"image": image, "name": new_id("hub-test"), "labels": labels}
            return ContainerConfig(command=("/bin/sh", "-c", script), **(own | options))

        return make

    @pytest.fixture
    def run(self, engine: ContainerEngine, config: Callable[..., ContainerConfig]) -> Run:
        """Run a script to its end: its standard output, in lines."""

        async def run(script: str, **options: Any) -> list[str]:
            container = await engine.create(config(script, **options))
            async with engine.attach(container) as attachment:
                await engine.start(container)
                said = await read_all(attachment)
            return (said["stdout"] + said["stderr"]).decode().splitlines()

        return run

    @pytest.fixture
    def begin(self, engine: ContainerEngine, config: Callable[..., ContainerConfig]) -> Run:
        """Start a script; the container's id."""

        async def begin(script: str, **options: Any) -> str:
            container = await engine.create(config(script, **options))
            await engine.start(container)
            return container

        return begin

    # What it is, and its images

    async def test_says_what_it_is(self, engine: ContainerEngine) -> None:
        assert await engine.check()

    async def test_describes_an_image(self, engine: ContainerEngine, image: str) -> None:
        found = await engine.image(image)
        assert image in found.tags
        assert found.size > 0
        assert await engine.image(found.id) == found

    @pytest.mark.parametrize("name", ["nobody/has-this:1", "sha256:" + "0" * 64, "../info", "A b"])
    async def test_says_which_images_there_are(
        self, engine: ContainerEngine, image: str, name: str
    ) -> None:
        with pytest.raises(NotFound) as caught:
            await engine.image(name)
        assert name in caught.value.message
        assert image in (caught.value.hint or "")

    async def test_makes_no_container_of_an_image_that_is_missing(
        self, engine: ContainerEngine, config: Callable[..., ContainerConfig]
    ) -> None:
        with pytest.raises(NotFound, match="no image 'nobody/has-this:1'"):
            await engine.create(config("true", image="nobody/has-this:1"))

    async def test_builds_and_removes_an_image(
        self, engine: ContainerEngine, image: str, labels: dict[str, str], run: Run
    ) -> None:
        tag = f"{new_id('hub-test')}:1"
        context = context_of(
            f"FROM {image}\nCOPY word /word\nRUN echo building; ls /sys/class/net\n", word=b"hello"
        )
        output = [line async for line in engine.build(context, tag, labels)]
        assert "building" in output
        # The only network that a step of it has is its own.
        assert "lo" in output
        assert not any(line.startswith("eth") for line in output)
        assert labels.items() <= (await engine.image(tag)).labels.items()
        assert await run("cat /word", image=tag) == ["hello"]
        with pytest.raises(Conflict):
            await engine.remove_image(tag)
        for container in await engine.containers(labels):
            await engine.remove(container.id)
        assert await engine.remove_image(tag)
        assert not await engine.remove_image(tag)

    async def test_says_why_an_image_cannot_be_built(
        self, engine: ContainerEngine, image: str
    ) -> None:
        context = context_of(f"FROM {image}\nRUN echo so far so good; exit 7\n")
        with pytest.raises(InvalidArgument) as caught:
            async for _ in engine.build(context, "hub-tests/failing:1", {}):
                pass
        assert "so far so good" in caught.value.message
        assert "7" in caught.value.message

    # Life

    async def test_runs_a_program_to_its_end(
        self, engine: ContainerEngine, config: Callable[..., ContainerConfig], image: str
    ) -> None:
        made = config("echo out; echo err >&2; printf half; exit 3", env={"A": "b"})
        container = await engine.create(made)
        before = await engine.inspect(container)
        assert (before.status, before.exit_code, before.started_at) == ("created", None, None)
        async with engine.attach(container) as attachment:
            begun = time.time() * 1000
            await engine.start(container)
            assert await read_all(attachment) == {"stdout": b"out\nhalf", "stderr": b"err\n"}
            assert await attachment.receive() is None
            with pytest.raises(Unavailable):
                await attachment.send(b"x")
        after = await engine.inspect(made.name)
        assert (after.id, after.name) == (container, made.name)
        assert after.image == (await engine.image(image)).id
        assert (after.status, after.exit_code, after.out_of_memory) == ("exited", 3, False)
        assert after.started_at is not None
        assert after.finished_at is not None
        for instant in (after.started_at, after.finished_at):
            assert begun - 1000 < instant < time.time() * 1000 + 1000

    async def test_attaching_to_what_has_ended_tells_so(
        self, engine: ContainerEngine, run: Run, labels: dict[str, str]
    ) -> None:
        assert await run("echo x") == ["x"]
        (container,) = await engine.containers(labels)
        with anyio.fail_after(5):
            async with engine.attach(container.id) as attachment:
                assert await attachment.receive() is None

    async def test_talks_through_standard_input(self, engine: ContainerEngine, begin: Run) -> None:
        container = await begin('while read line; do echo "<$line>"; done', stdin=True)
        async with engine.attach(container) as attachment:
            await attachment.send(b"one\ntw")
            assert await read_line(attachment) == b"<one>\n"
            await attachment.send(b"o\n")
            assert await read_line(attachment) == b"<two>\n"
        # Nobody is attached, and what was said is not repeated to the next.
        async with engine.attach(container) as attachment, engine.attach(container) as other:
            await attachment.send(b"three\n")
            assert await read_line(attachment) == b"<three>\n"
            assert await read_line(other) == b"<three>\n"
        assert (await engine.inspect(container)).status == "running"

    async def test_goes_on_when_the_process_that_was_attached_is_killed(
        self, engine: ContainerEngine, open_engine: OpenEngine, begin: Run, tmp_path: Path
    ) -> None:
        container = await begin("n=0; while read line; do n=$((n+1)); echo $n; done", stdin=True)
        sign = tmp_path / "attached"
        with killed_process(attach_until_killed, open_engine, container, sign):
            await eventually(sign.exists)
        async with engine.attach(container) as attachment:
            await attachment.send(b"second\n")
            assert await read_line(attachment) == b"2\n"

    async def test_a_flood_waits_for_its_reader(self, engine: ContainerEngine, begin: Run) -> None:
        size = 24 * _MB
        script = f"read go; head -c {size} /dev/zero; echo done >&2; read end"
        container = await begin(script, stdin=True)
        async with engine.attach(container) as attachment:
            await attachment.send(b"go\n")
            used = [-1.0]

            async def waits() -> bool:
                await asyncio.sleep(0.2)
                used.append((await engine.stats(container)).cpu_s)
                return used[-1] == used[-2]

            # Once it has filled what lies between, it writes no more.
            await eventually(waits)
            read = 0
            while (piece := await attachment.receive()) != ("stderr", b"done\n"):
                assert piece is not None
                assert len(piece[1]) <= 1 << 16
                read += len(piece[1])
            # What was written last on one output may come after what was on the other.
            await attachment.send(b"end\n")
            read += len((await read_all(attachment))["stdout"])
        assert read == size

    async def test_sending_waits_for_a_program_that_does_not_read(
        self, engine: ContainerEngine, begin: Run
    ) -> None:
        container = await begin("sleep 1; wc -c", stdin=True)
        async with engine.attach(container) as attachment:
            sent = 0
            with anyio.move_on_after(0.5):
                while True:
                    await attachment.send(bytes(1 << 16))
                    sent += 1 << 16
            assert sent < 16 * _MB
            # Leaving does not wait until it reads.
            with anyio.fail_after(5):
                async with engine.attach(container) as other:
                    with anyio.move_on_after(0.2):
                        await other.send(bytes(16 * _MB))

    async def test_starting_twice_is_no_error(self, engine: ContainerEngine, begin: Run) -> None:
        await engine.start(await begin("sleep 60"))

    async def test_stops_what_ignores_sigterm(self, engine: ContainerEngine, begin: Run) -> None:
        container = await begin("trap '' TERM; echo up; while :; do sleep 1; done")
        await eventually(partial(_has_said, engine, container, "up"))
        begun = time.monotonic()
        await engine.stop(container, grace_s=1)
        assert 0.9 < time.monotonic() - begun < 8
        assert (await engine.inspect(container)).exit_code == 137
        await engine.stop(container, grace_s=1)

    async def test_lets_a_program_end_itself(self, engine: ContainerEngine, begin: Run) -> None:
        container = await begin("trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done")
        await eventually(partial(_has_said, engine, container, "up"))
        await engine.stop(container, grace_s=20)
        assert (await engine.inspect(container)).exit_code == 5

    async def test_removes_what_runs(
        self, engine: ContainerEngine, begin: Run, labels: dict[str, str]
    ) -> None:
        container = await begin("sleep 60")
        async with engine.attach(container) as attachment:
            assert await engine.remove(container)
            assert await attachment.receive() is None
        assert not await engine.remove(container)
        assert await engine.containers(labels) == []
        for act in (engine.inspect, engine.start, engine.stats, partial(engine.stop, grace_s=0)):
            with pytest.raises(NotFound):
                await act(container)
        with pytest.raises(NotFound):
            async with engine.attach(container):
                pass
        with pytest.raises(NotFound):
            async for _ in engine.logs(container):
                pass

    async def test_two_may_remove_it_at_once(self, engine: ContainerEngine, begin: Run) -> None:
        container = await begin("sleep 60")
        assert True in await asyncio.gather(*(engine.remove(container) for _ in range(4)))
        with pytest.raises(NotFound):
            await engine.inspect(container)

    async def test_a_name_is_given_once(
        self, engine: ContainerEngine, config: Callable[..., ContainerConfig]
    ) -> None:
        made = config("true")
        results = await asyncio.gather(
            *(engine.create(made) for _ in range(4)), return_exceptions=True
        )
        assert sorted(type(result).__name__ for result in results) == ["Conflict"] * 3 + ["str"]

    async def test_finds_containers_by_all_of_the_labels(
        self, engine: ContainerEngine, begin: Run, labels: dict[str, str]
    ) -> None:
        running = await begin("sleep 60", labels=labels | {"role": "one"})
        ended = await begin("true", labels=labels | {"role": "other"})

        async def has_ended() -> bool:
            return (await engine.inspect(ended)).status == "exited"

        await eventually(has_ended)
        found = {container.id: container for container in await engine.containers(labels)}
        assert {id: one.status for id, one in found.items()} == {
            running: "running",
            ended: "exited",
        }
        (only,) = await engine.containers(labels | {"role": "one"})
        assert only.id == running
        assert only.labels == labels | {"role": "one"}
        assert await engine.containers(labels | {"role": "none"}) == []

    # What cannot run

    @pytest.mark.parametrize("command", ["nosuch", "/bin/nosuch", "/etc/passwd"])
    async def test_says_which_program_is_missing(
        self, engine: ContainerEngine, config: Callable[..., ContainerConfig], command: str
    ) -> None:
        container = await engine.create(config("", entrypoint=(command,)))
        with pytest.raises(InvalidArgument, match=command):
            await engine.start(container)
        assert (await engine.inspect(container)).error

    async def test_says_that_a_user_is_missing(
        self, engine: ContainerEngine, config: Callable[..., ContainerConfig]
    ) -> None:
        container = await engine.create(config("true", user="stranger"))
        with pytest.raises(InvalidArgument, match="stranger"):
            await engine.start(container)

    async def test_says_that_an_image_is_of_another_architecture(
        self,
        engine: ContainerEngine,
        config: Callable[..., ContainerConfig],
        foreign_image: str,
    ) -> None:
        container = await engine.create(config("true", image=foreign_image))
        with pytest.raises(InvalidArgument, match="exec format error") as caught:
            await engine.start(container)
        assert "architecture" in (caught.value.hint or "")

    # Isolation

    async def test_is_tight_by_default(self, run: Run) -> None:
        said = await run(
            "id -u; id -g; "
            "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr -s '\\t' ' '; "
            "ls /sys/class/net; ulimit -c; "
            "touch /x; echo 1 > /proc/sys/kernel/panic; mount -t tmpfs x /mnt"
        )
        assert said[:2] == ["65532", "65532"]
        assert sorted(said[2:6]) == [
            "CapBnd: 0000000000000000", "CapEff: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2",
        ]  # fmt: skip
        assert said[6:8] == ["lo", "0"]
        assert len(said) == 11
        assert "Read-only file system" in said[8]
        assert "Read-only file system" in said[9]
        assert "ermission denied" in said[10]

    async def test_writes_only_to_its_folders_in_memory(self, run: Run) -> None:
        said = await run(
            "echo '#!/bin/sh' > /tmp/x; chmod 4755 /tmp/x; /tmp/x; grep ' /tmp ' /proc/mounts; "
            "head -c 9000000 /dev/zero > /tmp/y; ls -s /tmp/y",
            tmpfs={"/tmp": 8},
        )
        assert {"rw", "noexec", "nosuid", "nodev"} <= set(said[0].split()[3].split(","))
        assert int(said[1].split()[0]) <= 8192
        assert "Permission denied" in said[2]

    async def test_each_of_it_can_be_weakened(self, run: Run, image: str) -> None:
        said = await run(
            "id -u; touch /x && echo written; grep -E '^(CapEff|NoNewPrivs):' /proc/self/status",
            user="0:0",
            capabilities=("NET_RAW",),
            read_only=False,
            new_privileges=True,
        )
        assert said[:2] == ["0", "written"]
        assert {line.split()[1] for line in said[2:]} == {"0000000000002000", "0"}

    async def test_a_volume_that_the_image_declares_takes_no_disk(
        self, engine: ContainerEngine, image: str, run: Run, labels: dict[str, str]
    ) -> None:
        tag = f"{new_id('hub-test')}:1"
        context = context_of(f"FROM {image}\nVOLUME /data\n")
        assert [line async for line in engine.build(context, tag, labels)]
        assert (await run("grep ' /data ' /proc/mounts", image=tag))[0].startswith("tmpfs")

    async def test_limits_memory_and_tells_of_it(self, engine: ContainerEngine, begin: Run) -> None:
        container = await begin("head -c 100m /dev/zero | tail -c 90m; exit 9", memory_mb=32)

        async def has_ended() -> bool:
            return (await engine.inspect(container)).status == "exited"

        await eventually(has_ended)
        assert (await engine.inspect(container)).out_of_memory

    async def test_limits_processes(self, run: Run) -> None:
        script = "i=0; while [ $i -lt 64 ]; do sleep 5 & i=$((i+1)); done; echo started"
        said = await run(script, pids=16)
        assert "started" not in said
        assert any("fork" in line for line in said)

    async def test_limits_the_processor(self, engine: ContainerEngine, begin: Run) -> None:
        container = await begin("while :; do :; done", cpus=0.1)
        first, begun = (await engine.stats(container)).cpu_s, time.monotonic()
        await asyncio.sleep(1)
        used = (await engine.stats(container)).cpu_s - first
        assert used / (time.monotonic() - begun) < 0.3

    async def test_may_not_use_the_networks_of_others(
        self, engine: ContainerEngine, config: Callable[..., ContainerConfig]
    ) -> None:
        for network in ("host", "container:other"):
            with pytest.raises(InvalidArgument):
                await engine.create(config("true", network=network))

    # Files and mounts

    async def test_gives_files_that_nobody_else_sees(
        self, engine: ContainerEngine, run: Run, labels: dict[str, str]
    ) -> None:
        files = {"/run/secrets/TOKEN": b"hush\n", "/run/secrets/empty": b""}
        said = await run(
            "cat /run/secrets/TOKEN; ls /run/secrets; echo x > /run/secrets/TOKEN; "
            "echo x > /run/secrets/new",
            files=files,
        )
        assert said[:3] == ["hush", "TOKEN", "empty"]
        assert ["ermission denied" in line for line in said[3:]] == [True, True]

    async def test_files_are_in_one_folder(
        self, engine: ContainerEngine, config: Callable[..., ContainerConfig]
    ) -> None:
        for paths in (("/run/a/x", "/run/b/x"), ("/x",), ("x/y",)):
            with pytest.raises(InvalidArgument, match="one folder"):
                await engine.create(config("true", files=dict.fromkeys(paths, b"x")))

    async def test_mounts_folders(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "given").write_text("here")
        (tmp_path / "taken").mkdir()
        for path in (tmp_path, tmp_path / "taken"):
            path.chmod(0o777)
        said = await run(
            "cat /in/given; echo; echo x > /in/x; echo x > /out/x",
            mounts=(Mount(str(tmp_path), "/in"), Mount(str(tmp_path / "taken"), "/out", False)),
        )
        assert said[0] == "here"
        assert "Read-only file system" in said[1]
        assert (tmp_path / "taken" / "x").read_text() == "x\n"
        assert not (tmp_path / "x").exists()

    async def test_says_that_there_is_nothing_to_mount(
        self, engine: ContainerEngine, config: Callable[..., ContainerConfig], tmp_path: Path
    ) -> None:
        absent = str(tmp_path / "absent")
        with pytest.raises(NotFound, match=absent):
            await engine.create(config("true", mounts=(Mount(absent, "/in"),)))

    # Watching

    async def test_keeps_what_was_written(self, engine: ContainerEngine, begin: Run) -> None:
        container = await begin(
            # Each output comes by a way of its own, and neither waits for the other.
            "echo one; sleep 0.2; echo two >&2; sleep 0.2; "
            "head -c 20000 /dev/zero | tr '\\0' x; echo; echo ü🚀; read x",
            stdin=True,
        )
        await eventually(partial(_has_said, engine, container, "ü🚀"))
        lines = [line async for line in engine.logs(container)]
        assert [(line.stream, line.text) for line in lines[:2]] == [
            ("stdout", "one"),
            ("stderr", "two"),
        ]
        assert "".join(line.text for line in lines[2:-1]) == "x" * 20000
        assert [line.time_ns for line in lines] == sorted(line.time_ns for line in lines)
        assert abs(lines[0].time_ns / 1e9 - time.time()) < 60
        assert [line async for line in engine.logs(container, tail=1)] == lines[-1:]
        since = lines[1].time_ns
        assert [line async for line in engine.logs(container, since_ns=since)] == lines[2:]

    async def test_follows_what_is_written(self, engine: ContainerEngine, begin: Run) -> None:
        container = await begin("echo up; while read line; do echo $line; done", stdin=True)
        heard: list[str] = []

        async def follow() -> None:
            async for line in engine.logs(container, follow=True):
                heard.append(line.text)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follow())
            async with engine.attach(container) as attachment:
                await eventually(lambda: heard == ["up"])
                await attachment.send(b"more\n")
                await eventually(lambda: heard == ["up", "more"])
            await engine.stop(container, grace_s=0)

    async def test_tells_what_a_container_uses(self, engine: ContainerEngine, begin: Run) -> None:
        container = await begin("sleep 60 & sleep 60", memory_mb=64, pids=32)
        await eventually(partial(_has_processes, engine, container, 2))
        stats = await engine.stats(container)
        assert stats.memory_limit == 64 * _MB
        assert 0 < stats.memory < 64 * _MB
        assert stats.cpu_s > 0
        await engine.stop(container, grace_s=0)
        with pytest.raises(Conflict):
            await engine.stats(container)

    async def test_tells_what_happens(
        self, engine: ContainerEngine, begin: Run, labels: dict[str, str]
    ) -> None:
        mine = labels | {"role": "mine"}
        events = engine.events(mine)
        await begin("true")
        container = await begin("exit 4", labels=mine)
        actions = []
        with anyio.fail_after(20):
            async for event in events:
                assert event.container_id == container
                assert mine.items() <= event.labels.items()
                assert abs(event.time_ns / 1e9 - time.time()) < 60
                actions.append(event.action)
                if event.action == "die":
                    break
        assert actions[0] == "create"
        assert "start" in actions

    # Networks

    async def test_containers_on_a_network_find_each_other(
        self, engine: ContainerEngine, begin: Run, run: Run, labels: dict[str, str]
    ) -> None:
        network, further = new_id("hub-test"), new_id("hub-test")
        assert await engine.create_network(network, labels, internal=True)
        assert not await engine.create_network(network, labels, internal=True)
        assert await engine.create_network(further, labels, internal=True)
        assert sorted(await engine.networks(labels)) == sorted([network, further])
        server = await begin("while :; do echo hello | nc -l -p 8000; done", network=further)
        await engine.connect(network, server, aliases=["web"])
        addresses = (await engine.inspect(server)).addresses
        assert addresses.keys() == {network, further}
        assert await run("nc -w 5 web 8000", network=network) == ["hello"]
        # The machine reaches it as well.
        reader, writer = await asyncio.open_connection(addresses[network], 8000)
        assert await reader.readline() == b"hello\n"
        writer.close()
        with pytest.raises(Conflict):
            await engine.remove_network(network)

    async def test_nothing_beyond_a_closed_network_is_reached(
        self, engine: ContainerEngine, begin: Run, run: Run, labels: dict[str, str]
    ) -> None:
        inner, outer = new_id("hub-test"), new_id("hub-test")
        assert await engine.create_network(inner, labels, internal=True, machine=False)
        assert await engine.create_network(outer, labels, internal=False)
        server = await begin("while :; do echo hello | nc -l -p 8000; done", network=outer)
        other = (await engine.inspect(server)).addresses[outer]
        gateway = other.rpartition(".")[0] + ".1"
        listener = await asyncio.start_server(lambda _, writer: writer.close(), "0.0.0.0", 0)
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            said = await run(
                f"for at in '{other} 8000' '{gateway} {port}' '192.0.2.1 80'; do "
                "nc -w 1 $at </dev/null && echo reached; done; ip route; echo end",
                network=inner,
            )
        assert "reached" not in said
        assert "end" in said
        for container in await engine.containers(labels):
            await engine.remove(container.id)
        assert await engine.remove_network(inner)
        assert not await engine.remove_network(inner)

    async def test_says_which_networks_there_are(
        self,
        engine: ContainerEngine,
        config: Callable[..., ContainerConfig],
        begin: Run,
        labels: dict[str, str],
    ) -> None:
        network = new_id("hub-test")
        await engine.create_network(network, labels, internal=True)
        container = await begin("sleep 60", network=network)
        for act in (
            engine.create(config("true", network="nosuch")),
            engine.connect("nosuch", container),
        ):
            with pytest.raises(NotFound, match="no network 'nosuch'") as caught:
                await act
            assert network in (caught.value.hint or "")

    async def test_a_network_is_made_once(
        self, engine: ContainerEngine, labels: dict[str, str]
    ) -> None:
        network = new_id("hub-test")
        made = await asyncio.gather(
            *(engine.create_network(network, labels, internal=True) for _ in range(4))
        )
        assert made.count(True) == 1
        assert await engine.networks(labels) == [network]
        assert await engine.remove_network(network)
        assert await engine.networks(labels) == []


async def _has_said(engine: ContainerEngine, container: str, text: str) -> bool:
    lines: list[LogLine] = [line async for line in engine.logs(container)]
    return any(line.text == text for line in lines)


async def _has_processes(engine: ContainerEngine, container: str, count: int) -> bool:
    return (await engine.stats(container)).pids >= count
