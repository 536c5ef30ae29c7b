"""Commands for programs and pipelines: the MCP server, and what moved since a baseline."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from draftsmith.cli import options as o
from draftsmith.cli.output import show
from draftsmith.kit.addresses import LOOPBACK_NAMES

NEXT = (
    "next     keep this as the baseline, and measure again when engine, draft or traffic changes\n"
    "  expected unlock: none; it guards the gain that is there\n  gate: draftsmith baseline diff ends with 0"
)


def mcp(
    transport: Annotated[str, typer.Option("--transport", help="stdio, or http (streamable HTTP)")] = "stdio",
    host: Annotated[str, typer.Option("--host", help="http: loopback address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="http: port to listen on; 0 = a free port")] = 8765,
    allow_acts: Annotated[
        bool, typer.Option("--allow-acts", help="also offer the tools that run, publish, roll back and tear down")
    ] = False,
    target: o.Target = None,
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    settings: o.Settings = None,
) -> None:
    """Serve the tools of an agent over the Model Context Protocol. Read-only unless --allow-acts.

    Whatever would touch a cluster needs an acknowledgement in the call as well. Loopback only: HTTP has no keys.
    """
    from draftsmith.contract.errors import ConfigError, PrerequisiteError

    if transport not in ("stdio", "http"):
        raise ConfigError(f"no transport {transport!r}", "stdio or http")
    if host not in LOOPBACK_NAMES:
        raise ConfigError(f"{host} is no loopback address", "reach it through an SSH tunnel: these tools have no keys")
    try:
        from draftsmith.mcp.server import build
    except ImportError:
        raise PrerequisiteError("the MCP SDK is not installed", "pip install 'draftsmith[mcp]'") from None
    server = build(
        o.configuration(config, target=target, workspace=workspace, settings=settings), allow_acts=allow_acts
    )
    if transport == "stdio":
        server.run("stdio")
    else:
        from draftsmith.mcp.http import serve

        serve(server, host, port, lambda address: print(f"mcp      {address}", file=sys.stderr, flush=True))


def baseline(
    action: Annotated[str, typer.Argument(help="diff")],
    before: Annotated[Path, typer.Argument(help="bundle of the baseline, or the folder of a run that holds one")],
    after: Annotated[Path, typer.Argument(help="bundle to compare with the baseline")],
    json: o.Json = False,
) -> None:
    """Compare two campaigns: what changed by more than noise, by the gate's intervals. Exit code 9 if something got worse."""
    from draftsmith import api
    from draftsmith.contract.errors import InputError, RegressedError

    if action != "diff":
        raise InputError(f"no action {action!r}", "draftsmith baseline diff BEFORE AFTER")
    baseline_diff = api.baseline_diff(before, after)
    if baseline_diff.worse:
        error = RegressedError(
            f"worse than the baseline: {'; '.join(baseline_diff.worse)}", "find what changed, or measure a new baseline"
        )
        error.details = baseline_diff.model_dump(mode="json")
        raise error
    show(baseline_diff, f"{baseline_diff.text()}\n{NEXT}")
