"""Commands of the loop: run, its phases one by one, promotion and rollback, and looking at runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from draftsmith.cli import options as o
from draftsmith.cli.frontier import of_workspace, show_measured
from draftsmith.cli.output import RunConsole, say, show
from draftsmith.kit.clock import duration

if TYPE_CHECKING:
    from draftsmith.api import RunView


class Jobs(NamedTuple):
    """What the command line says of where jobs run."""

    backend: str | None = None
    scheduler: str | None = None
    understood: bool = False


NO_JOBS = Jobs()
StartPhase = Annotated[
    str | None,
    typer.Option(
        "--start-phase",
        help="repeat the run from this phase on: profile, corpus, capture, train, compare, promote, publish",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask before the next phase")]
BackendName = Annotated[
    str | None, typer.Option("--backend", help="where jobs run: local, slurm or kubernetes; default: as configured")
]
Scheduler = Annotated[
    str | None,
    typer.Option("--scheduler", help="auto (detect), slurm, kubernetes (or default) or slurm-on-kubernetes"),
]
New = Annotated[bool, typer.Option("--new", help="start a new run even if an unfinished run has the same request")]


def run(
    target: o.Target = None,
    profile: o.Sources = None,
    served: o.Served = None,
    method: o.Method = None,
    mode: Annotated[
        str, typer.Option("--mode", help="oneshot: run the loop once; controller: the same as `draftsmith controller`")
    ] = "oneshot",
    start_phase: StartPhase = None,
    yes: Yes = False,
    new: New = False,
    backend: BackendName = None,
    scheduler: Scheduler = None,
    understood: o.Understood = False,
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    settings: o.Settings = None,
    json: o.Json = False,
) -> None:
    """Run the whole loop: profile, corpus, capture, train, compare, promote (on a WIN only), publish.

    If the profile recommends a method without training, or --method names one, capture and training are left out. Prerequisites
    are checked first. After each phase the command prints its gate and headline and asks before the next phase, unless --yes is
    given. You can stop it at any time: the same command continues where it stopped. The standing configuration changes only on a
    WIN at tier `verdict`.
    """
    if mode == "controller":
        from draftsmith.cli.controller import serve

        serve(
            o.configuration(
                config,
                target=target,
                sources=profile,
                workspace=workspace,
                settings=settings,
                method=method,
                served=served,
            ),
            understood,
        )
        return
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
        method=method,
        served=served,
    )


def _phase(name: str, help_text: str) -> Any:
    def command(
        target: o.Target = None,
        profile: o.Sources = None,
        method: o.Method = None,
        start_phase: StartPhase = None,
        new: New = False,
        backend: BackendName = None,
        scheduler: Scheduler = None,
        understood: o.Understood = False,
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
            method=method,
        )

    command.__doc__ = (
        f"{help_text}\n\nEarlier phases that are not done yet are run first. `draftsmith run` continues from here."
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
    method: str | None = None,
    served: str | None = None,
) -> None:
    from draftsmith import api

    view = api.run(
        o.configuration(
            file, target=target, sources=profile, workspace=workspace, settings=settings, method=method, served=served
        ),
        profile,
        console=RunConsole(ask=not yes),
        mode=mode,
        ask=not yes,
        start_phase=start_phase,
        stop_after=stop_after,
        new=new,
        backend=jobs.backend,
        scheduler=jobs.scheduler,
        allow_cluster=jobs.understood,
    )
    if isinstance(view, api.RunView):
        finish(view)
        return
    show(view.value(), view.text())
    if view.problem:
        say(f"error: {view.problem.message}\nnext:  {view.problem.next_step}")
        raise typer.Exit(view.problem.exit_code)


def finish(run: RunView) -> None:
    """Show how a run ended. A run that a gate stopped ends with a code of its own: nothing was decided."""
    from draftsmith.api.explanations import closing
    from draftsmith.contract.errors import StoppedAtGateError

    value = run.model_dump(mode="json", by_alias=True)
    show_measured(value, closing(run), of_workspace(Path(run.folder).parent.parent))
    if run.stopped is not None:
        raise typer.Exit(StoppedAtGateError.exit_code)


def rollback(
    understood: o.Understood = False,
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    settings: o.Settings = None,
    json: o.Json = False,
) -> None:
    """Restore the standing configuration and champion from before the last promotion. The server uses it from its next start."""
    from draftsmith import api

    settled = o.configuration(config, workspace=workspace, settings=settings)
    state = api.rollback(settled, allow_cluster=understood)
    show(state, f"rolled back; standing configuration: {state.standing_config or 'no speculation'}")


def status(
    run_id: o.RunId = None,
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Show the standing configuration and the progress of a run: the result and duration of each phase."""
    from draftsmith import api

    view = api.status(o.configuration(config, workspace=workspace), run_id)
    run, state = view.run, view.state
    lines = [f"run      {run.run_id}"]
    for phase in run.phases:
        wall = f"  [{duration(phase.wall_s)}]" if phase.wall_s else ""
        lines.append(f"{phase.phase:8} {phase.state:7} {phase.headline}{wall}")
        if phase.last_seen:
            lines.append(f"         last seen: {phase.last_seen}")
    lines += [f"skipped  {name}: its run.json is torn, or of another version" for name in view.unreadable]
    if state:
        lines.append(f"serving  {state.standing_config or 'no speculation'}; champion {state.champion_draft or 'none'}")
    service = state.model_dump(mode="json", by_alias=True) if state else None
    show(run.model_dump(mode="json", by_alias=True) | {"service_state": service}, "\n".join(lines))


def explain(
    run_id: o.RunId = None,
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Explain why a run promoted, kept the standing configuration or stopped: every gate, guard and number."""
    from draftsmith import api

    settled = o.configuration(config, workspace=workspace)
    explanation = api.explain(settled, run_id)
    left_out = set() if explanation.decision else {"schedule", "divergence"}
    value = explanation.model_dump(mode="json", by_alias=True, exclude=left_out)
    show_measured(value, explanation.text, of_workspace(settled.workspace))


def report(
    run_id: Annotated[
        list[str] | None,
        typer.Argument(help="run id (default: the newest run); or `render`, and a campaign's id or folder"),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="exit with an error unless every phase is included and the verdict has tier `verdict`"
        ),
    ] = False,
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Write the evidence bundle and report.html of a run from what it has so far, and say which phases are missing.

    `report render` writes the page of a campaign, from the cells that are measured.
    """
    from draftsmith import api

    settled, words = o.configuration(config, workspace=workspace), list(run_id or [])
    if words[:1] == ["render"]:
        page = api.report_render(settled, words[1] if len(words) > 1 else None)
        show({"report": str(page)}, f"report: {page}")
        return
    report_view = api.report(settled, words[0] if words else None)
    missing = ", ".join(report_view.missing)
    note = f"\nnot included, because not done: {missing}" if missing else ""
    show_measured(
        report_view.model_dump(mode="json"), f"report: {report_view.report}{note}", of_workspace(settled.workspace)
    )
    if strict and (lacking := report_view.lacking):
        from draftsmith.contract.errors import StoppedAtGateError

        say(f"not strict: {'; '.join(lacking)}")
        raise typer.Exit(StoppedAtGateError.exit_code)


def teardown(
    run_id: o.RunId = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="also delete the prompts, rows and hidden states of the run")
    ] = False,
    understood: o.Understood = False,
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Stop all processes and jobs of a run that are still alive. Evidence and drafts are kept."""
    from draftsmith import api

    settled = o.configuration(config, workspace=workspace)
    ended = api.teardown(settled, run_id, purge=purge, allow_cluster=understood)
    text = f"stopped {len(ended.stopped)} processes or jobs" + (
        f", removed {len(ended.removed)} files" if purge else ""
    )
    show(ended, text)
