"""Commands of the gate: compare any servers, decide on recorded samples, verify a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from draftsmith.cli import options as o
from draftsmith.cli.output import RunConsole, say, show


def compare(
    prompts: Annotated[Path, typer.Argument(help="prompts file, as for `draftsmith replay`")],
    arm: Annotated[
        list[str],
        typer.Option(
            "--arm",
            help="NAME=none | NAME={speculative config as JSON} | NAME=http://endpoint; the first one is the baseline",
        ),
    ],
    target: o.Target = None,
    concurrency: Annotated[
        list[int] | None, typer.Option("--concurrency", help="operating points; the first decides")
    ] = None,
    blocks: Annotated[int, typer.Option("--blocks", help="interleaved blocks to start with")] = 3,
    flags: Annotated[
        list[str] | None, typer.Option("--flags", help="NAME=further engine flags of this arm, quoted as for a shell")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="folder for samples, plan and verdict; an interrupted one is continued")
    ] = Path("comparison"),
    config: o.ConfigFile = None,
    settings: o.Settings = None,
    json: o.Json = False,
) -> None:
    """Compare server configurations or running servers: interleaved blocks, one baseline, a verdict with its reason.

    It works alone, for any engine flag: start arms from a target with --arm NAME=CONFIG and --flags, or name servers that
    run already. Give at least two arms.
    """
    from draftsmith.cli.comparison import run_comparison

    settled = o.configuration(config, target=target, settings=settings)
    decision = run_comparison(
        settled,
        prompts,
        arms=arm,
        flags=flags or [],
        concurrency=concurrency,
        blocks=blocks,
        out=out,
        console=RunConsole(ask=False),
    )
    _print(decision)


def decide(
    folder: Annotated[Path, typer.Argument(help="folder of a comparison: plan, samples.jsonl, facts.json")],
    json: o.Json = False,
) -> None:
    """Decide again from recorded samples. Nothing is measured; the same samples give the same verdict, bit for bit."""
    from draftsmith.cli.comparison import decide_again

    _print(decide_again(folder))


def verify(
    bundle: Annotated[Path, typer.Argument(help="folder of an evidence bundle: <family>/<run-id>")],
    json: o.Json = False,
) -> None:
    """Recompute a bundle's verdict from its raw samples, offline, and find every altered, missing or added file."""
    from draftsmith.contract.errors import EvidenceError
    from draftsmith.store.evidence import verify_bundle

    report = verify_bundle(bundle)
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
    }
    if not report.ok:
        show(value)
        raise EvidenceError(
            "the bundle does not verify: " + "; ".join(report.sentences()), "fetch the bundle again from its publisher"
        )
    outcome = f"verdict {report.stored.outcome} follows from the samples" if report.stored else "no verdict in it"
    show(value, f"intact: {report.files} files; {outcome}\nmanifest sha256 {report.manifest_sha256}")


def _print(decision: Any) -> None:
    from draftsmith.cli.present import decision_text

    show(decision)
    from draftsmith.cli.output import Mode

    if not Mode.json:
        say(decision_text(decision))
