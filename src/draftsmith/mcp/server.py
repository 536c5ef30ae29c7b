"""The server: tools that look, tools that act (only where that is allowed), and bundles and reports as resources.

Nothing that acts is even listed unless the server was started with `allow_acts`. What would touch a cluster needs, beside that, the
same acknowledgement as the command line, in the call itself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError

import draftsmith
from draftsmith import api
from draftsmith.contract.config import Config
from draftsmith.contract.errors import DraftsmithError, InputError
from draftsmith.mcp.acts import add_acts
from draftsmith.mcp.answers import LOOKS, ProgressConsole, Told, carried_out, plain, told_on_the_way

NAME = "profile_and_optimize"
INSTRUCTIONS = (
    "Draftsmith gives a served model a speculative draft trained on its own traffic, and promotes it only on a measured win. Look "
    "first: doctor, profile, plan_dry_run, status, explain, verify. A verdict of tier draft is no verdict. Every number has its context; "
    "keep it. Acts need a server that allows them, and on a cluster i_understand_this_uses_the_cluster as well."
)


def build(config: Config, *, allow_acts: bool = False) -> MCPServer[Any]:
    """A server over the workspace of `config`."""
    server: MCPServer[Any] = MCPServer(NAME, instructions=INSTRUCTIONS, version=draftsmith.__version__)
    _looks(server, config)
    _resources(server, config)
    if allow_acts:
        add_acts(server, config)
    return server


def _looks(server: MCPServer[Any], config: Config) -> None:
    """Tools that read and measure nothing on an accelerator."""

    def look(function: Callable[..., Any]) -> None:
        server.tool(annotations=LOOKS)(function)

    async def doctor(context: Told) -> dict[str, Any]:
        """What this machine has and lacks for the configuration. Nothing is started."""
        return await told_on_the_way(context, "looking at this machine", lambda _: api.check(config))

    async def profile(sources: list[str], context: Told) -> dict[str, Any]:
        """Measure traffic (access logs: files, folders, globs) into a workload profile: aggregates only, no text."""
        return await told_on_the_way(
            context,
            "reading the traffic",
            lambda console: api.profile(config, sources, on_progress=lambda seen: console.progress("profile", seen)),
        )

    async def drift(before: str, after: str) -> dict[str, Any]:
        """Whether traffic moved between two workload profiles (paths), and in what."""
        return await carried_out(lambda: api.drift(before, after))

    async def plan_dry_run(sources: list[str], context: Told) -> dict[str, Any]:
        """What a plan (the acceptance length a draft needs to win) would take: server starts, trials, seconds."""
        out = Path(config.workspace) / "plan"
        return await told_on_the_way(
            context, "planning", lambda console: api.plan(config, sources, out=out, dry_run=True, console=console)
        )

    async def status(run_id: str | None = None) -> dict[str, Any]:
        """What serves now, and how far a run came: the newest without an id."""
        return await carried_out(lambda: api.status(config, run_id))

    async def list_runs() -> dict[str, Any]:
        """Every run of the workspace, oldest first."""
        return await carried_out(lambda: api.list_runs(config))

    async def explain(run_id: str | None = None) -> dict[str, Any]:
        """Why a run promoted, kept the standing configuration or stopped."""
        return await carried_out(lambda: api.explain(config, run_id))

    async def verify(bundle: str, context: Told) -> dict[str, Any]:
        """Recompute the verdict of an evidence bundle from its raw samples, and name what was altered."""

        def check(_: ProgressConsole) -> dict[str, Any]:
            report = api.verify(Path(bundle))
            return {
                "ok": report.ok,
                "wrong": report.sentences(),
                "outcome": report.stored.outcome if report.stored else None,
                "tier": report.tier,
                "manifest_sha256": report.manifest_sha256,
            }

        return await told_on_the_way(context, "verifying the bundle", check)

    async def decide(samples: str, context: Told) -> dict[str, Any]:
        """Decide again from recorded samples: nothing is measured."""
        return await told_on_the_way(context, "deciding again", lambda _: api.decide(samples).value())

    async def perf_baseline_diff(before: str, after: str, context: Told) -> dict[str, Any]:
        """What moved beyond noise between two evidence bundles (folders), by the intervals of the gate."""
        return await told_on_the_way(context, "comparing two bundles", lambda _: api.baseline_diff(before, after))

    async def frontier() -> dict[str, Any]:
        """What to try next on this workspace, by value and cost, with the gate of each, and what was refuted with its evidence."""
        return await carried_out(lambda: api.frontier(config))

    async def search_runbooks(query: str) -> dict[str, Any]:
        """Runbooks that answer a question or an alert's name, best first, each with its text."""
        return await carried_out(lambda: api.search_runbooks(query))

    async def lake_query(at: str, question: str, context: Told) -> dict[str, Any]:
        """A ready question to a lake by name (latest, decay, cost, ...), or SQL over campaigns, arms and pairs."""
        return await told_on_the_way(context, "asking the lake", lambda _: api.ask_lake(at, question))

    for function in (
        doctor, profile, drift, plan_dry_run, status, list_runs, explain, verify, decide, perf_baseline_diff, lake_query,
        frontier, search_runbooks,
    ):  # fmt: skip
        look(function)


def _resources(server: MCPServer[Any], config: Config) -> None:
    @server.resource("draftsmith://runs", mime_type="application/json", name="runs")
    async def runs() -> list[Any]:
        """Every run of the workspace."""
        return [plain(view) for view in api.list_runs(config)]

    @server.resource("draftsmith://frontier", mime_type="text/markdown", name="frontier")
    async def handoff() -> str:
        """What to try next on this workspace, and what was refuted, with the evidence: HANDOFF.md."""
        from draftsmith.report.frontier import handoff as page

        return page(api.frontier(config))

    @server.resource("draftsmith://runs/{run_id}/report", mime_type="text/html", name="report")
    async def report(run_id: str) -> str:
        """The report of a run: one page, no scripts."""
        return _text(config, run_id, "report.html")

    @server.resource("draftsmith://runs/{run_id}/bundle/{name}", name="bundle file")
    async def bundle_file(run_id: str, name: str) -> str:
        """A file of a run's evidence bundle, as its manifest names it: summary.md, verdict.json, report.html, ..."""
        return _text(config, run_id, name)


def _text(config: Config, run_id: str, name: str) -> str:
    from draftsmith.store.bundle_check import bundle_of, read_manifest

    try:
        folder = Path(api.find_run(config, run_id).folder)
        bundle = bundle_of(folder)
        if bundle is None:
            raise InputError(f"{run_id} has no bundle yet")
        path = bundle / name
        if (name != "MANIFEST.json" and name not in read_manifest(bundle)) or path.is_symlink():
            raise InputError(f"the bundle of {run_id} has no file of this name")
        return path.read_text(encoding="utf-8")
    except (DraftsmithError, OSError, ValueError) as problem:
        raise ResourceNotFoundError(str(problem).splitlines()[0]) from None
