"""Commands of the lake: publish a verified bundle, query the lake."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from draftsmith.cli import options as o
from draftsmith.cli.output import show

if TYPE_CHECKING:
    from draftsmith.api import Shipment


def publish(
    bundle: Annotated[
        str | None, typer.Argument(help="bundle, folder of a run or a campaign, or run id; default: the newest run")
    ] = None,
    to: Annotated[str, typer.Option("--to", help="file:///path or s3://bucket/prefix")] = "",
    strict: Annotated[bool, typer.Option("--strict", help="refuse a verdict of tier draft")] = False,
    pending: Annotated[
        bool, typer.Option("--pending", help="publish every bundle of the workspace that is not in lake.url yet")
    ] = False,
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Publish a campaign to a lake: the bundle is verified, then appended as Parquet. Publishing it again changes nothing.

    What does not verify is refused. A broken upload resumes when the same command is run again. Keys and endpoint of S3
    come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL.
    """
    from draftsmith import api
    from draftsmith.contract.errors import InputError

    settled = o.configuration(config, workspace=workspace)
    if pending:
        if not settled.lake.url:
            raise InputError(
                "no lake is configured", "set lake.url, or give --to file:///path or --to s3://bucket/prefix"
            )
        tried = api.ship_waiting(settled)
        show([row.model_dump(mode="json") for row in tried], "\n".join(_line(row) for row in tried) or "nothing waits")
        return
    to = to or settled.lake.url or ""
    strict = strict or settled.lake.strict
    if not to:
        raise InputError(
            "nothing says where to publish", "give --to file:///path or --to s3://bucket/prefix, or set lake.url"
        )
    if bundle and (Path(bundle) / "campaign.json").is_file():
        cells = api.ship_campaign(settled, to, bundle, strict=strict)
        show(
            [row.model_dump(mode="json") for row in cells], "\n".join(f"{row.campaign}  {row.address}" for row in cells)
        )
        return
    if bundle and Path(bundle).is_dir():
        shipments = api.ship(bundle, to, strict=strict)
    else:
        shipments = api.ship_run(settled, to, bundle, strict=strict)
    state = f"{len(shipments.written)} objects written" if shipments.written else "nothing to do, it is there"
    show(shipments, f"campaign {shipments.campaign} (tier {shipments.tier}): {state}\naddress  {shipments.address}")


def _line(shipment: Shipment) -> str:
    return f"{shipment.state:9} {shipment.address or shipment.why}"


def lake(
    action: Annotated[str, typer.Argument(help="query | questions | compact")],
    question: Annotated[str | None, typer.Argument(help="name of a built-in question, or SQL")] = None,
    at: Annotated[str, typer.Option("--at", help="file:///path or s3://bucket/prefix")] = "",
    json: o.Json = False,
) -> None:
    """Query the lake: built-in questions (`draftsmith lake questions` lists them), or SQL over campaigns, arms and pairs.

    `compact` writes a snapshot of every campaign beside them: with thousands, questions take seconds instead of minutes.
    """
    from draftsmith import api
    from draftsmith.contract.errors import InputError
    from draftsmith.lake.questions import QUESTIONS

    if action == "questions":
        listed = {name: value.words for name, value in QUESTIONS.items()}
        show(listed, "\n".join(f"{name:16} {words}" for name, words in listed.items()))
        return
    if action == "compact":
        if not at:
            raise InputError("an address is needed", "draftsmith lake compact --at file:///data/lake")
        made = api.compact_lake(at)
        state = f"{made.added} were in none before\naddress  {made.address}" if made.address else "nothing to do"
        show(made, f"a snapshot holds {made.campaigns} campaigns: {state}")
        return
    if action != "query":
        raise InputError(f"no action {action!r}", "query, questions or compact")
    if not question or not at:
        raise InputError("a question and an address are needed", "draftsmith lake query decay --at file:///data/lake")
    answer = api.ask_lake(at, question)
    lines = ["\t".join(answer.columns), *("\t".join(_cell(value) for value in row) for row in answer.rows)]
    lines += [f"note: {note}" for note in answer.notes] + (["note: there are more rows"] if answer.cut else [])
    show(answer, "\n".join(lines))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return "".join(c if c.isprintable() else " " for c in text)
