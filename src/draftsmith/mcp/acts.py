"""Tools that act. They are there only where the server was started to allow it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from mcp.server.mcpserver import MCPServer

from draftsmith import api
from draftsmith.contract.config import Config
from draftsmith.mcp.answers import ACTS, Told, carried_out, told_on_the_way


def add_acts(server: MCPServer[Any], config: Config) -> None:
    """Add them to a server over the workspace of `config`."""

    def act(function: Callable[..., Any]) -> None:
        server.tool(annotations=ACTS)(function)

    async def evidence_init(context: Told, sources: list[str]) -> dict[str, Any]:
        """Find or make the run (which is the campaign and the experiment) of this request; nothing is started."""
        return await told_on_the_way(
            context, "opening the run", lambda _: api.open_run(api.RunRequest(config=config, sources=tuple(sources)))
        )

    async def run(
        sources: list[str],
        context: Told,
        stop_after: str | None = None,
        i_understand_this_uses_the_cluster: bool = False,
    ) -> dict[str, Any]:
        """The loop, or the rest of it: profile, corpus, capture, train, compare, promote on a WIN only, publish."""
        return await told_on_the_way(
            context,
            "the loop",
            lambda console: api.run(
                config,
                sources,
                console=console,
                stop_after=stop_after,
                allow_cluster=i_understand_this_uses_the_cluster,
            ),
        )

    async def perf_tune_report_report_render(
        context: Told, run_id: str | None = None, campaign: str | None = None
    ) -> dict[str, Any]:
        """Write the evidence bundle and report.html of a run from what it has so far, or the page of a campaign."""
        if campaign is not None:
            return await told_on_the_way(
                context, "writing the report", lambda _: {"report": api.report_render(config, campaign)}
            )
        return await told_on_the_way(context, "writing the report", lambda _: api.report(config, run_id))

    async def perf_tune_report_publish_to_lake(
        context: Told, to: str, run_id: str | None = None, campaign: str | None = None, strict: bool = True
    ) -> dict[str, Any]:
        """Publish a run, or every cell of a campaign, to a lake (file:///path or s3://bucket/prefix); strict refuses tier draft."""
        if campaign is not None:
            return await told_on_the_way(
                context, "publishing", lambda _: api.ship_campaign(config, to, campaign, strict=strict)
            )
        return await told_on_the_way(context, "publishing", lambda _: api.ship_run(config, to, run_id, strict=strict))

    async def perf_tune_report_campaign_init(
        context: Told,
        experiment_id: str,
        focus: Literal["latency", "throughput"] = "latency",
        profile: str | None = None,
        prompts: str | None = None,
        arms: list[str] | None = None,
    ) -> dict[str, Any]:
        """Settle a campaign at the bench shapes of a profile; a run's id brings arms, profile and prompts. Nothing is measured."""
        request = api.CampaignRequest(
            experiment_id=experiment_id,
            focus=focus,
            profile=Path(profile) if profile else None,
            prompts=Path(prompts) if prompts else None,
            arms=tuple(arms or ()),
        )
        return await told_on_the_way(
            context, "settling the campaign", lambda _: api.campaign_init(config, request).record
        )

    async def perf_tune_report_cell_run(
        context: Told, campaign: str | None = None, cell: str | None = None
    ) -> dict[str, Any]:
        """Measure one cell of a campaign (the next open one): every arm at that shape, with an evidence bundle of its own."""
        return await told_on_the_way(
            context, "measuring a cell", lambda console: api.cell_run(config, campaign, cell, console=console).value()
        )

    async def perf_tune_report_atlas_aggregate(context: Told, campaign: str | None = None) -> dict[str, Any]:
        """Gather the measured cells of a campaign; every bundle is verified first."""
        return await told_on_the_way(
            context, "verifying and gathering the cells", lambda _: api.atlas_aggregate(config, campaign)
        )

    async def perf_tune_report_dcgm_correlate(
        context: Told,
        place: str | None = None,
        cell: str | None = None,
        text: str | None = None,
        prometheus: str | None = None,
        host: str | None = None,
    ) -> dict[str, Any]:
        """Set DCGM's counters (an exporter's text, or a Prometheus) beside a cell or run; raises the rigor to L3 where they suffice."""
        source = Path(text) if text else None
        return await told_on_the_way(
            context,
            "reading the counters",
            lambda _: api.dcgm_correlate(config, place, cell=cell, text=source, prometheus=prometheus, host=host),
        )

    async def rollback(context: Told, i_understand_this_uses_the_cluster: bool = False) -> dict[str, Any]:
        """Restore the standing configuration from before the last promotion."""
        return await told_on_the_way(
            context, "rolling back", lambda _: api.rollback(config, allow_cluster=i_understand_this_uses_the_cluster)
        )

    async def teardown(
        context: Told, run_id: str | None = None, i_understand_this_uses_the_cluster: bool = False
    ) -> dict[str, Any]:
        """Stop everything that a run started and that still lives. Evidence and drafts stay."""
        return await told_on_the_way(
            context,
            "tearing down",
            lambda _: api.teardown(config, run_id, allow_cluster=i_understand_this_uses_the_cluster),
        )

    async def slurm_drain(node: str, reason: str, i_understand_this_uses_the_cluster: bool = False) -> dict[str, Any]:
        """Keep new jobs off a Slurm node: a quiet window for a measurement, never for training."""
        return await carried_out(lambda: api.drain_node(node, reason, allow_cluster=i_understand_this_uses_the_cluster))

    async def slurm_resume(node: str, i_understand_this_uses_the_cluster: bool = False) -> dict[str, Any]:
        """Give a node back that slurm_drain took. One that somebody else drained is left as it is."""
        return await carried_out(lambda: api.resume_node(node, allow_cluster=i_understand_this_uses_the_cluster))

    for function in (
        evidence_init, run, perf_tune_report_campaign_init, perf_tune_report_cell_run, perf_tune_report_atlas_aggregate,
        perf_tune_report_dcgm_correlate, perf_tune_report_report_render, perf_tune_report_publish_to_lake, rollback, teardown,
        slurm_drain, slurm_resume,
    ):  # fmt: skip
        act(function)
