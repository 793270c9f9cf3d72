"""Which images may run: what a reference stands for, and whether the operator permits it."""

import re
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from anyio import fail_after, run_process

from mcp_hub.adapters.containers.port import ContainerEngine, Image
from mcp_hub.adapters.errors import Denied, InvalidArgument, NotFound, TimedOut, Unavailable
from mcp_hub.services.containers.specs import ContainerSpec

PULL_S = 600.0
_COSIGN_S = 60.0
_LINES_SHOWN = 3

_ID = re.compile(r"(sha256:)?[0-9a-f]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_PART = re.compile(r"[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:\d{1,5})?")

OnProgress = Callable[[str], Awaitable[None]]
"""Is told in a line what is going on."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An image by what a caller calls it: an id, or a name with a tag or a digest."""

    text: str
    id: str = ""
    host: str = ""
    path: str = ""
    tag: str = ""
    digest: str = ""

    @property
    def is_fixed(self) -> bool:
        """Whether it stands for the same content for ever."""
        return bool(self.id or self.digest)

    @property
    def names(self) -> tuple[str, ...]:
        """Its name in full, and as people write it: docker.io/library/ left out."""
        if self.id:
            return ()
        tagged = f"{self.path}:{self.tag}" if self.tag else self.path
        full = f"{self.host}/{tagged}"
        if self.host != "docker.io":
            return (full,)
        return (full, tagged, tagged.removeprefix("library/"))


def parse_image(text: str) -> Reference:
    """What an image's reference names; without a tag or digest that is `latest`.

    Raises:
        InvalidArgument: it is no reference.
    """
    if _ID.fullmatch(text):
        return Reference(text, id=f"sha256:{text.removeprefix('sha256:')}")
    name, at, digest = text.partition("@")
    path, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        path, colon, tag = name, "", ""
    host, slash, rest = path.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, rest = "docker.io", path if slash else f"library/{path}"
    wrong = (
        (at and not _DIGEST.fullmatch(digest))
        or (colon and not _TAG.fullmatch(tag))
        or not _HOST.fullmatch(host)
        or not all(_PART.fullmatch(part) for part in rest.split("/"))
    )
    if wrong:
        raise InvalidArgument(
            f"{text[:200]!r} is no image.",
            "Such as python:3.12-slim, ghcr.io/acme/server:1.2, name@sha256:… or an image's id.",
        )
    return Reference(text, "", host, rest, tag or ("" if digest else "latest"), digest)


@dataclass(frozen=True, slots=True)
class ImageRules:
    """What the operator says of images.

    With `allowed` patterns (`*` for any characters), an image needs a name that fits one, or a
    digest or id. Without any, a tag is taken if the engine has it, and none is pulled by its tag.
    """

    allowed: Sequence[str] = ()
    pull: bool = True
    """Whether anything may be pulled at all."""
    cosign_key: str | None = None
    """The public key, a file or what else cosign takes, by which every image must be signed."""

    def check(self, reference: Reference) -> None:
        """Raises Denied where no rule permits the image."""
        if reference.is_fixed or not self.allowed or self._fits(reference):
            return
        raise Denied(
            f"The image {reference.text!r} is not among those that this hub may run.",
            f"Allowed: {', '.join(self.allowed)}; or any by its digest, name@sha256:…. Whoever "
            "runs the hub sets containers.images.",
        )

    def check_pull(self, reference: Reference) -> None:
        """Raises Denied where the image may not be fetched from a registry."""
        if reference.id:
            raise NotFound(
                f"The engine has no image {reference.text}.",
                "An id names what is there already; to pull one, name it by name@sha256:….",
            )
        if not self.pull:
            raise Denied(
                f"The image {reference.text!r} would have to be pulled, which this hub does not.",
                "Whoever runs the hub can pull it, or set containers.pull to true.",
            )
        if not reference.is_fixed and not self._fits(reference):
            raise Denied(
                f"The image {reference.text!r} would be pulled by its tag, which no rule allows.",
                "Name it by its digest, name@sha256:…, or have whoever runs the hub pull it or "
                "add it to containers.images.",
            )

    def _fits(self, reference: Reference) -> bool:
        return any(
            fnmatchcase(name, pattern if ":" in pattern.rpartition("/")[2] else f"{pattern}:*")
            or fnmatchcase(name, pattern)
            for pattern in self.allowed
            for name in reference.names
        )


class Images:
    """Gets the image of a spec: permitted, there, and signed where that is asked for."""

    def __init__(self, engine: ContainerEngine, rules: ImageRules) -> None:
        self._engine = engine
        self._rules = rules

    async def resolve(self, spec: ContainerSpec, told: OnProgress) -> Image:
        """The image that `spec` names, pulled first where its policy says so.

        Raises:
            InvalidArgument: that names no image.
            Denied: no rule permits it, or its signature is missing or wrong.
            NotFound: neither the engine nor the registry has it.
            Unavailable: the engine or registry does not answer, or cosign is not installed.
        """
        reference = parse_image(spec.image)
        self._rules.check(reference)
        image = None if spec.pull == "always" and not reference.id else await self._there(reference)
        if image is None:
            if spec.pull == "never":
                raise NotFound(
                    f"The engine has no image {spec.image!r}, and pull is never.",
                    'Pull or build it first, or deploy with options={"pull": "missing"}.',
                )
            self._rules.check_pull(reference)
            image = await self._pulled(reference, told)
        if self._rules.cosign_key is not None:
            await told(f"Verifying the signature of {spec.image}")
            await verify(image, reference, self._rules.cosign_key)
        return image

    async def by_id(self, image_id: str) -> Image:
        """The image that a revision was made of. Raises NotFound if it is gone."""
        try:
            return await self._engine.image(image_id)
        except NotFound as error:
            raise NotFound(
                f"The image {image_id[:19]}… of that revision is no longer on the engine.",
                "Deploy again by the image's name.",
            ) from error

    async def _there(self, reference: Reference) -> Image | None:
        try:
            return await self._engine.image(reference.id or reference.text)
        except NotFound:
            return None

    async def _pulled(self, reference: Reference, told: OnProgress) -> Image:
        try:
            with fail_after(PULL_S):
                async for line in self._engine.pull(reference.text):
                    await told(line)
        except TimeoutError as error:
            raise TimedOut(
                f"Pulling {reference.text} took more than {PULL_S:g} s.", "Deploy it again."
            ) from error
        return await self._engine.image(reference.text)


async def verify(image: Image, reference: Reference, key: str) -> None:
    """Check an image's signature in its registry by `cosign` and a public key.

    Raises:
        Denied: it has none by that key, or was never in a registry.
        Unavailable: cosign is not installed or gives no answer.
    """
    program = shutil.which("cosign")
    if program is None:
        raise Unavailable(
            "containers.cosign_key is set, and the program cosign is not on the hub's PATH.",
            "Install cosign where the hub runs, or unset containers.cosign_key.",
        )
    signed = _in_registry(image, reference)
    command = [program, "verify", "--key", key, "--", signed]
    try:
        with fail_after(_COSIGN_S):
            done = await run_process(command, check=False, stderr=subprocess.PIPE)
    except TimeoutError as error:
        raise Unavailable(f"cosign did not verify {signed} within {_COSIGN_S:g} s.") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-_LINES_SHOWN:]
        raise Denied(
            f"The signature of {signed} could not be verified: {' '.join(said)}",
            "Only images signed by the key in containers.cosign_key may run here.",
        )


def _in_registry(image: Image, reference: Reference) -> str:
    """name@sha256:… of the image in the registry that the reference names."""
    for digest in image.digests:
        found = parse_image(digest)
        if reference.id or (found.host, found.path) == (reference.host, reference.path):
            return f"{found.host}/{found.path}@{found.digest}"
    raise Denied(
        f"The image {reference.text!r} was not pulled from a registry, so nothing signs it.",
        "With containers.cosign_key set, only signed images of a registry may run.",
    )
