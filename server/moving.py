"""`mcp-hub copy`: what its two ends are, and the copy between them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import ValidationError

from mcp_hub.adapters.errors import InvalidArgument, NotFound
from mcp_hub.adapters.urls import without_secret
from mcp_hub.server.adapters import choose_blobs, choose_database
from mcp_hub.server.provisioning import provision_storage
from mcp_hub.server.settings import Settings, load_settings
from mcp_hub.services.moving.service import End, MovingService, OnStep
from mcp_hub.services.moving.views import Moved

_FORMS = (
    "Give a data directory, a configuration file (.toml or .json), or a database URL with "
    "{flag}-blobs."
)


def settings_of_end(
    given: str | None, blobs: str | None, flag: str, here: Callable[[], Settings]
) -> Settings:
    """The settings of the hub that `given` (of --from or --to) means; `here()` if it is None.

    A configuration file is read alone, without the variables of this process, which may well be
    about the other end.

    Raises:
        InvalidArgument: it is none of the forms, or its blobs are named twice or not at all.
    """
    if given is None:
        if blobs is not None:
            raise InvalidArgument(f"{flag}-blobs needs {flag}.", _FORMS.format(flag=flag))
        return here()
    if "://" in given:
        if blobs is None:
            raise InvalidArgument(
                f"{flag} {without_secret(given)} names a database; where are its blobs?",
                f"Add {flag}-blobs: a folder, s3://… or mongodb://….",
            )
        return _checked(flag, database_url=given, blobs_url=blobs)
    if blobs is not None:
        raise InvalidArgument(
            f"{flag} {given} says itself where the blobs are.", f"Leave out {flag}-blobs."
        )
    path = Path(given).expanduser().absolute()
    if path.suffix in (".toml", ".json"):
        if not path.is_file():
            raise InvalidArgument(f"There is no file {path}.", _FORMS.format(flag=flag))
        return load_settings(path, alone=True)
    if path.exists() and not path.is_dir():
        raise InvalidArgument(f"{flag} {given} is a file.", _FORMS.format(flag=flag))
    return Settings(data_dir=path)


async def copy_hub(source: Settings, target: Settings, told: OnStep) -> Moved:
    """Make what the target lacks, copy everything into it, and compare. Raises as `copy` does.

    Raises:
        NotFound: there is no hub at the source.
        InvalidArgument: the two ends are the same hub.
        Denied, Unavailable: the target's database or bucket cannot be made.
    """
    if _name(source) == _name(target):
        raise InvalidArgument(
            f"--from and --to are the same hub, {_name(source)}.", "Name two different ones."
        )
    if _is_file(source) and not source.database_path.is_file():
        raise NotFound(f"There is no hub at {source.database_path}.", _FORMS.format(flag="--from"))
    if _is_file(target):
        target.ensure_folders()
    async for _ in provision_storage(target):
        pass
    async with _open(source) as one, _open(target) as other:
        return await MovingService(one, other, told).copy()


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[End]:
    database = choose_database(settings)
    try:
        blobs = choose_blobs(settings)
        try:
            yield End(_name(settings), database, blobs)
        finally:
            await blobs.close()
    finally:
        await database.close()


def _is_file(settings: Settings) -> bool:
    return (settings.database_url or "sqlite:").startswith("sqlite:")


def _name(settings: Settings) -> str:
    """Which hub this is, for people and for telling hubs apart; without a secret."""
    if _is_file(settings):
        return str(settings.database_path)
    return without_secret(settings.database_url or "")


def _checked(flag: str, **values: str) -> Settings:
    try:
        return Settings(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        faults = "; ".join(
            fault["msg"].removeprefix("Value error, ")
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise InvalidArgument(f"{flag}: {faults}.", _FORMS.format(flag=flag)) from None
