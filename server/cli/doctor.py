"""`mcp-hub doctor`: the configuration in force, and the health of what the hub stands on."""

import logging
from typing import Any

import anyio
import typer

from mcp_hub.server.cli.options import Config, DataDir, Json, Profile, Root, new_app, settings_for
from mcp_hub.server.cli.output import console
from mcp_hub.server.doctor import Report, examine
from mcp_hub.server.settings import WITHOUT_EFFECT

app = new_app()

_MARKS = {"ok": ("ok", "green"), "warning": ("!!", "yellow"), "broken": ("XX", "red")}


@app.command()
def run(
    ctx: typer.Context,
    config: Config = None,
    profile: Profile = None,
    data_dir: DataDir = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Show the configuration and where each value came from; check everything the hub stands on.

    Ends with status 1 if something is broken.
    """
    settings = settings_for(ctx, config=config, profile=profile, data_dir=data_dir, roots=root)
    logging.getLogger("mcp_hub").setLevel(logging.CRITICAL)  # what is amiss is in the report
    report = anyio.run(examine, settings)
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        _print(report)
    if report.status == "broken":
        raise typer.Exit(1)


def _print(report: Report) -> None:
    out = console()
    out.print(f"mcp-hub {report.version}", style="bold")
    out.print("\nConfiguration", style="bold")
    shown = {
        key: setting
        for key, setting in report.settings.items()
        if setting.origin != "default" or not key.startswith(WITHOUT_EFFECT)
    }
    width = max(map(len, shown))
    for key, setting in shown.items():
        out.print(f"  {key:<{width}}  {_text(setting.value)}", end="", soft_wrap=True)
        out.print("" if setting.origin == "default" else f"  ({setting.origin})", style="cyan")
    out.print("\nChecks", style="bold")
    for check in report.checks:
        mark, colour = _MARKS[check.status]
        out.print(f"  {mark} ", style=colour, end="")
        out.print(f"{check.name}: {check.detail}", soft_wrap=True)
        if check.hint:
            out.print(f"       {check.hint}", soft_wrap=True)
    broken = sum(check.status == "broken" for check in report.checks)
    out.print(f"\n{broken} broken." if broken else "\nEverything works.", style="bold")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if value is None or isinstance(value, bool):
        return {None: "—", True: "yes", False: "no"}[value]
    return str(value)
