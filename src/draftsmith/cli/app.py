"""The command tree."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from draftsmith.cli import (
    agents,
    campaigns,
    canary,
    controller,
    frontier,
    gate,
    lake,
    loop,
    plan,
    records,
    scaffold,
    tools,
    traffic,
    watching,
)

app = typer.Typer(
    name="draftsmith",
    help=(
        "Give a served LLM a speculative-decoding draft trained on its own traffic, and promote it only on a measured win.\n\n"
        "Start with `draftsmith doctor`, then `draftsmith run --target MODEL --profile access.jsonl`."
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def settings(
    log_format: Annotated[
        Literal["text", "json"],
        typer.Option(
            "--log-format",
            envvar="DRAFTSMITH_LOG_FORMAT",
            help="json: progress is written to standard error, one JSON object per line, each with its run id",
        ),
    ] = "text",
) -> None:
    """See the help of the application."""
    import os

    from draftsmith.cli.output import Mode
    from draftsmith.kit import logs

    Mode.json_log = log_format == "json"
    if Mode.json_log:
        os.environ[logs.FORMAT] = "json"  # the jobs of this command write the same format


for command, function in {
    "doctor": tools.doctor,
    "demo": tools.demo,
    "demo-target": tools.demo_target,
    "plan": plan.plan,
    "run": loop.run,
    "controller": controller.controller,
    "top": watching.top,
    "web": watching.web,
    "metrics": watching.metrics,
    "traces": watching.traces,
    "profile": traffic.profile,
    "records": records.records,
    "drift": traffic.drift,
    "mix": traffic.mix,
    "replay": traffic.replay,
    "corpus": loop.corpus,
    "capture": loop.capture,
    "train": loop.train,
    "lint": tools.lint,
    "convert": tools.convert,
    "compare": gate.compare,
    "decide": gate.decide,
    "canary": canary.canary,
    "promote": loop.promote,
    "rollback": loop.rollback,
    "status": loop.status,
    "explain": loop.explain,
    "verify": gate.verify,
    "sign": gate.sign,
    "report": loop.report,
    "campaign": campaigns.campaign,
    "cell": campaigns.cell,
    "atlas": campaigns.atlas,
    "dcgm": campaigns.dcgm,
    "frontier": frontier.frontier,
    "baseline": agents.baseline,
    "publish": lake.publish,
    "lake": lake.lake,
    "mcp": agents.mcp,
    "teardown": loop.teardown,
    "scaffold": scaffold.scaffold,
}.items():
    app.command(command)(function)
