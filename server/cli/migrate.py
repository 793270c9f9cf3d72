"""`mcp-hub migrate`: bring the database's schema to this version, or to another revision."""

import sys
from functools import partial
from typing import Annotated

import anyio
import typer

from mcp_hub.server.cli.options import Config, DataDir, Json, Profile, new_app, settings_for
from mcp_hub.server.cli.output import console
from mcp_hub.server.migrating import Migration, migrate, plan_migration
from mcp_hub.server.settings import Settings

app = new_app()


@app.command()
def run(
    ctx: typer.Context,
    to: Annotated[
        str, typer.Option("--to", metavar="REV", help="A revision, or head, which is the newest.")
    ] = "head",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would run, with its SQL.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Go down even where that drops data.")] = False,
    config: Config = None,
    profile: Profile = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Bring the database's schema to this version, or to another revision.

    Every hub process brings it to its own version when it starts; run this ahead where that
    should be a step of its own. Going down is for going back to an older mcp-hub: stop every
    process of this hub first. What the older schema has no place for is dropped, which has to be
    confirmed where it is not empty.
    """
    settings = settings_for(ctx, config=config, profile=profile, data_dir=data_dir)
    if dry_run:
        migration = anyio.run(plan_migration, settings, to)
    else:
        confirmed = yes or (not as_json and sys.stdin.isatty() and _confirm(settings, to))
        migration = anyio.run(partial(migrate, settings, to, may_lose_data=confirmed))
    if as_json:
        typer.echo(migration.model_dump_json(indent=2))
    else:
        _print(migration)


def _confirm(settings: Settings, to: str) -> bool:
    """Ask a person whether data may be dropped; ends the command if not."""
    planned = anyio.run(plan_migration, settings, to)
    if not planned.lost_rows:
        return False
    _print(planned.model_copy(update={"sql": ""}))
    return typer.confirm("Drop that data?", abort=True)


def _print(migration: Migration) -> None:
    out = console()
    show = partial(out.print, soft_wrap=True)
    if migration.direction == "none":
        show("The schema is up to date." if migration.done else "Nothing would run.")
        return
    up = migration.direction == "up"
    if migration.done:
        named = ", ".join(step.revision for step in migration.revisions)
        show(f"Applied {named}." if up else f"Took back {named}.")
    else:
        show(f"{migration.database} is {_where(migration.before)}.")
        show(f"Would {'apply' if up else 'take back'}, in this order:")
        for step in migration.revisions:
            show(f"  {step.revision}  {step.title}")
    if migration.drops:
        show("Dropped:" if migration.done else "Would drop:")
        for dropped in migration.drops:
            style = "red" if dropped.rows else None
            show(f"  {dropped.name}, {dropped.rows} rows", style=style)
    if migration.sql:
        show(f"\n{migration.sql}")
    if migration.done and not up:
        show("Now start the older mcp-hub: this one would bring the schema up again.")


def _where(revision: str | None) -> str:
    return f"at revision {revision}" if revision else "empty"
