"""Commands of the loop: run, its phases one by one, promotion and rollback, and looking at runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from draftsmith.api.cluster import AFTER_COMPARE, FLAG, check_serving, dry_run, place_text, stop_cluster_jobs
from draftsmith.cli import options as o
from draftsmith.cli.output import RunConsole, say, show
from draftsmith.kit.clock import duration


class Jobs(NamedTuple):
    """What the command line says of where jobs run."""

    backend: str | None = None
    scheduler: str | None = None
    understood: bool = False


NO_JOBS = Jobs()
StartPhase = Annotated[
    str | None,
    typer.Option(
        "--start-phase", help="run again from this phase on: profile, corpus, capture, train, compare, promote, publish"
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="go on from phase to phase without asking")]
BackendName = Annotated[
    str | None, typer.Option("--backend", help="where jobs run: local, slurm or kubernetes; default: as configured")
]
Scheduler = Annotated[
    str | None,
    typer.Option("--scheduler", help="auto (looks what is here), slurm, kubernetes or slurm-on-kubernetes"),
]
Understood = Annotated[
    bool,
    typer.Option(
        "--i-understand-this-uses-the-cluster",
        help="act on the cluster: submit, cancel, patch; without it nothing is done there",
    ),
]
New = Annotated[bool, typer.Option("--new", help="start a new run even if the same request has an unfinished one")]


def run(
    target: o.Target = None,
    profile: o.Sources = None,
    mode: Annotated[str, typer.Option("--mode", help="oneshot: once through the loop")] = "oneshot",
    start_phase: StartPhase = None,
    yes: Yes = False,
    new: New = False,
    backend: BackendName = None,
    scheduler: Scheduler = None,
    understood: Understood = False,
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    settings: o.Settings = None,
    json: o.Json = False,
) -> None:
    """Run the whole loop: profile, corpus, capture, train, compare, promote (on a WIN only), publish.

    Prerequisites are checked first. After each phase its gate and headline are printed, and you are asked before the next
    one unless --yes. Stop it at any time: the same command goes on where it stopped. The standing configuration changes
    only on a WIN at tier `verdict`.
    """
    _drive(
        config,
        target,
        profile,
        workspace,
        settings,
        mode=mode,
        start_phase=start_phase,
        yes=yes,
        new=new,
        jobs=Jobs(backend, scheduler, understood),
    )


def _phase(name: str, help_text: str) -> Any:
    def command(
        target: o.Target = None,
        profile: o.Sources = None,
        start_phase: StartPhase = None,
        new: New = False,
        backend: BackendName = None,
        scheduler: Scheduler = None,
        understood: Understood = False,
        config: o.ConfigFile = None,
        workspace: o.Workspace = None,
        settings: o.Settings = None,
        json: o.Json = False,
    ) -> None:
        _drive(
            config,
            target,
            profile,
            workspace,
            settings,
            start_phase=start_phase,
            yes=True,
            new=new,
            stop_after=name,
            jobs=Jobs(backend, scheduler, understood),
        )

    command.__doc__ = (
        f"{help_text}\n\nPhases before it that are not done yet are run first. `draftsmith run` goes on from here."
    )
    return command


corpus = _phase("corpus", "Build the matched corpus: engine token ids, splits, deduplication, draft vocabulary.")
capture = _phase("capture", "Capture the target's hidden states for the corpus, and probe that they are right.")
train = _phase("train", "Train the draft, choose its checkpoint by acceptance, package and lint it.")
promote = _phase("promote", "Promote the winner of a run's comparison, or keep the standing configuration and say why.")


def _drive(
    file: Path | None,
    target: str | None,
    profile: list[str] | None,
    workspace: str | None,
    settings: list[str] | None,
    *,
    mode: str = "oneshot",
    start_phase: str | None = None,
    yes: bool = False,
    new: bool = False,
    stop_after: str | None = None,
    jobs: Jobs = NO_JOBS,
) -> None:
    from draftsmith.api.checks import LEFT_TO_JOBS, require_ready
    from draftsmith.api.runs import backend_words, open_loop, place_jobs, place_of
    from draftsmith.loop.driver import drive
    from draftsmith.phases.steps import on_canaries

    config = o.configuration(file, target=target, sources=profile, workspace=workspace, settings=settings)
    said = config.backend
    config, choice = place_jobs(config, jobs.backend, jobs.scheduler)
    if choice.kind != "local" or jobs.backend or jobs.scheduler:
        say(place_text(choice))
    for check in require_ready(config):
        if check.name == LEFT_TO_JOBS:
            say(f"checks   {check.sentence}")
    console = RunConsole(ask=not yes)
    loop = open_loop(
        config,
        o.sources_of(config, profile),
        console,
        mode=mode,
        ask=not yes,
        start_phase=start_phase,
        stop_after=stop_after,
        new=new,
        allow_cluster=jobs.understood,
        backend_words=backend_words(said, choice),
    )
    say(f"run      {loop.run.record.run_id} in {loop.run.folder}")
    begun = place_of(loop.run, choice)
    if begun is not choice:
        say(place_text(begun))
        choice = begun
    if choice.kind != "local" and not jobs.understood:
        found = dry_run(loop, choice)
        show(found.value(), found.text())
        if found.problem:
            say(f"error: {found.problem.message}\nnext:  {found.problem.next_step}")
            raise typer.Exit(found.problem.exit_code)
        return
    check_serving(loop)
    if on_canaries(config) and not jobs.understood and stop_after in AFTER_COMPARE:
        say(f"compare and promote use the cluster: without {FLAG} the run stops before them")
    drive(loop)
    finish(loop.run.folder)


def finish(folder: Path) -> None:
    """Show how a run ended. A run that a gate stopped ends with a code of its own: nothing was decided."""
    from draftsmith.api.explain import closing
    from draftsmith.contract.errors import StoppedAtGateError

    found = overview(folder)
    show(found, closing(found))
    if any(row["state"] == "stopped" for row in found["phases"]):
        raise typer.Exit(StoppedAtGateError.exit_code)


def overview(folder: Path) -> dict[str, Any]:
    """What is known of a run: its phases, verdict and report."""
    from draftsmith.loop.driver import results, summary
    from draftsmith.store.runs import Run

    found = Run(folder)
    compare = results(found).get("compare")
    return {
        "run_id": found.record.run_id,
        "folder": str(folder),
        "phases": summary(found),
        "verdict": compare.figures if compare else None,
        "report": next((str(path) for path in sorted(found.bundle.glob("*/*/report.html"))), None),
    }


def rollback(
    understood: Understood = False,
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    settings: o.Settings = None,
    json: o.Json = False,
) -> None:
    """Restore the standing configuration and champion from before the last promotion. The server reads it when it starts."""
    from draftsmith import wiring
    from draftsmith.loop import promotion

    settled = o.configuration(config, workspace=workspace, settings=settings)
    place = Path(settled.workspace).resolve()
    state = promotion.rollback(place, wiring.serving(settled, place, allow_cluster=understood))
    show(state, f"rolled back; standing configuration: {state.standing_config or 'no speculation'}")


def status(
    run_id: o.RunId = None,
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Show what serves, and how far a run came: what each phase found and how long it took."""
    from draftsmith.api.runs import get_run
    from draftsmith.loop.jobs import read_progress
    from draftsmith.store.state import read_state

    settled = o.configuration(config, workspace=workspace)
    found = get_run(settled, run_id)
    state = read_state(Path(settled.workspace).resolve())
    value = overview(found.folder) | {"service_state": state.model_dump(mode="json", by_alias=True) if state else None}
    lines = [f"run      {value['run_id']}"]
    for row in value["phases"]:
        wall = f"  [{duration(row['wall_s'])}]" if row["wall_s"] else ""
        lines.append(f"{row['phase']:8} {row['state']:7} {row['headline']}{wall}")
        progress = read_progress(found.folder / "phases" / row["phase"]) if row["state"] == "open" else None
        if progress:
            lines.append(f"         last seen: {progress.stage}")
    if state:
        lines.append(f"serving  {state.standing_config or 'no speculation'}; champion {state.champion_draft or 'none'}")
    show(value, "\n".join(lines))


def explain(
    run_id: o.RunId = None,
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Say in words why a run promoted, kept or stopped: every gate, guard and number behind it."""
    from draftsmith.api.explain import explanation
    from draftsmith.api.runs import get_run

    found = get_run(o.configuration(config, workspace=workspace), run_id)
    value, text = explanation(found)
    show(value, text)


def report(
    run_id: o.RunId = None,
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Write the evidence bundle and report.html of a run from what it has so far, and say which phases are missing."""
    from draftsmith.api.explain import republish
    from draftsmith.api.runs import get_run

    found = get_run(o.configuration(config, workspace=workspace), run_id)
    path, missing = republish(found)
    note = f"\nnot in it, because they are not done: {', '.join(missing)}" if missing else ""
    show({"report": str(path), "missing": missing}, f"report: {path}{note}")


def teardown(
    run_id: o.RunId = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="also delete prompts, rows and hidden states of the run")
    ] = False,
    understood: Understood = False,
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Stop everything that a run started and that still lives. Evidence and drafts stay."""
    from draftsmith.api.runs import get_run
    from draftsmith.kit import processes
    from draftsmith.store.retention import purge as purge_run

    found = get_run(o.configuration(config, workspace=workspace), run_id)
    ended = stop_cluster_jobs(found, understood)
    ended += [record.label for record in processes.sweep(found.processes)]
    ended += [record.label for record in processes.sweep(found.folder / "backend" / "processes")]
    removed = purge_run(found.folder).removed if purge else ()
    text = f"stopped {len(ended)} processes or jobs" + (f", removed {len(removed)} files" if purge else "")
    show({"stopped": ended, "removed": list(removed)}, text)
