"""Commands of the gate: compare any servers, decide on recorded samples, verify a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from draftsmith.cli import options as o
from draftsmith.cli.frontier import of_comparison, of_evidence, show_measured
from draftsmith.cli.output import RunConsole, show

if TYPE_CHECKING:
    from draftsmith.api import Comparison
    from draftsmith.contract.frontier import Frontier


def compare(
    prompts_file: Annotated[Path | None, typer.Argument(help="prompts file, as for `draftsmith replay`")] = None,
    prompts: Annotated[Path | None, typer.Option("--prompts", help="prompts file, the same as the argument")] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            "--arm",
            help="NAME=none, ngram or suffix | NAME={speculative config as JSON} | NAME=draft folder | NAME=http://endpoint"
            ' | NAME="a whole server command"',
        ),
    ] = None,
    standing: Annotated[
        str | None, typer.Option("--standing", help="the baseline: the arm that serves now; default: the first arm")
    ] = None,
    candidate: Annotated[
        list[str] | None, typer.Option("--candidate", help="candidate arms; default: all arms that are not a reference")
    ] = None,
    target: o.Target = None,
    concurrency: Annotated[
        list[int] | None,
        typer.Option("--concurrency", help="requests in flight, one operating point each; the first decides"),
    ] = None,
    arrivals: Annotated[
        bool,
        typer.Option("--arrivals", help="add an open-loop operating point that sends each prompt at its arrival_s"),
    ] = False,
    blocks: Annotated[
        int | None, typer.Option("--blocks", help="blocks measured before the first decision; default: as configured")
    ] = None,
    tuning: Annotated[
        Path | None,
        typer.Option(
            "--tuning",
            help="prompts used to choose K; default: some of --prompts, which then are not used for the decision",
        ),
    ] = None,
    flags: Annotated[
        list[str] | None,
        typer.Option("--flags", help="NAME=additional engine flags of this arm, quoted as for a shell"),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="folder for samples, plan and verdict; an interrupted comparison is continued"
        ),
    ] = Path("comparison"),
    config: o.ConfigFile = None,
    settings: o.Settings = None,
    json: o.Json = False,
) -> None:
    """Compare server configurations, commands or running servers in interleaved blocks; the result is a verdict with its reason.

    It needs no run and works for any engine flag. An arm is started from a target, started from a whole command (`vllm
    serve ...`: host and port are added, the server is stopped at the end), or is a server that already runs. Give at least two
    arms. The report and the evidence bundle are written to the folder.
    """
    from draftsmith import api
    from draftsmith.contract.errors import InputError

    source = prompts or prompts_file
    if source is None:
        raise InputError("no prompts are given", "give --prompts FILE")
    request = api.ComparisonRequest(
        arms=arm or [],
        flags=flags or [],
        standing=standing,
        candidates=candidate,
        concurrency=concurrency,
        arrivals=arrivals,
        blocks=blocks,
        tuning=tuning,
    )
    settled = o.configuration(config, target=target, settings=settings)
    comparison = api.compare(settled, source, request, out, console=RunConsole(ask=False))
    _print(comparison, of_comparison(settled, out), report=str(out / "report.html"))


def decide(
    samples: Annotated[
        Path, typer.Argument(help="samples.jsonl of a comparison, or the folder that holds it with plan and facts")
    ],
    json: o.Json = False,
) -> None:
    """Decide again from recorded samples. Nothing is measured. The same samples always give the same verdict, bit for bit.

    If verdict.json beside them is different, the command says so: samples were changed, removed or added since.
    """
    from draftsmith import api
    from draftsmith.report.parts import ReportParts

    comparison = api.decide(samples)
    parts = ReportParts(
        plan=comparison.plan, trials=comparison.trials, facts=comparison.facts, decision=comparison.decision
    )
    _print(comparison, of_evidence(parts, samples.resolve().parent.name))


def verify(
    bundle: Annotated[Path, typer.Argument(help="folder of an evidence bundle: <family>/<run-id>")],
    key: Annotated[
        Path | None, typer.Option("--key", help="public key (PEM, Ed25519) that must have signed the bundle")
    ] = None,
    json: o.Json = False,
) -> None:
    """Recompute the verdict of a bundle from its raw samples, offline, and list every changed, missing or added file."""
    from draftsmith import api
    from draftsmith.contract.errors import EvidenceError, NoVerdictError

    report = api.verify(bundle, key)
    value: dict[str, Any] = {
        "ok": report.ok,
        "intact": report.intact,
        "verdict_matches": report.verdict_matches,
        "files": report.files,
        "manifest_sha256": report.manifest_sha256,
        "altered": report.altered,
        "missing": report.missing,
        "added": report.added,
        "differences": report.differences,
        "record": report.record,
        "tier": report.tier,
        "looser_thresholds": report.looser,
        "signed_by": report.signed_by,
        "campaigns": report.campaigns,
    }
    if not report.ok:
        wrong = EvidenceError(
            "the bundle does not verify: " + "; ".join(report.sentences()), "fetch the bundle again from its publisher"
        )
        wrong.details = value
        raise wrong
    intact = f"intact: {report.files} files"
    if report.stored is None:
        empty = NoVerdictError(
            f"{intact}, but there is no verdict in it: nothing was decided, so nothing is proved",
            "name the bundle of a run that got as far as its comparison",
        )
        empty.details = value
        raise empty
    text = f"{intact}; verdict {report.stored.outcome} at tier {report.tier} follows from the samples"
    if report.looser:
        text += f"\nthresholds looser than the defaults, so no more than tier draft: {', '.join(report.looser)}"
    if sum(report.campaigns.values()) > 1:
        each = ", ".join(f"{count} {outcome}" for outcome, count in report.campaigns.items())
        text += f"\n{sum(report.campaigns.values())} campaigns were begun with these arms: {each}"
    if report.signed_by:
        text += f"\nsigned by key {report.signed_by}"
    text += "\nnot checked: report.html, summary.md, SOURCE.md and commands/ only against the manifest"
    show(value, f"{text}\nmanifest sha256 {report.manifest_sha256}")


def sign(
    bundle: Annotated[Path, typer.Argument(help="folder of an evidence bundle: <family>/<run-id>")],
    key: Annotated[Path, typer.Option("--key", help="private key (PEM, Ed25519, no password)")],
    json: o.Json = False,
) -> None:
    """Sign the verdict and the draft of a bundle that verifies: a DSSE envelope with an in-toto statement, beside the bundle.

    A key pair: `openssl genpkey -algorithm ed25519 -out key.pem`, `openssl pkey -in key.pem -pubout -out key.pub`.
    """
    from draftsmith import api

    place = api.sign(bundle, key)
    show({"envelope": str(place)}, f"signed: {place}\nnext: draftsmith verify {bundle} --key PUBLIC-KEY")


def _print(comparison: Comparison, after: Frontier | None, report: str | None = None) -> None:
    text = comparison.text() + (f"\nreport   {report}" if report else "")
    if comparison.recorded_differs:
        differs = "; ".join(comparison.recorded_differs)
        text += f"\nwarning  the verdict recorded beside these samples is another one: {differs}"
    show_measured(comparison.value() | {"report": report}, text, after)
