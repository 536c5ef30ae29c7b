"""What the workspace remembers of the run at hand: service-state.json from its first phase on."""

from __future__ import annotations

from draftsmith.contract.base import canonical
from draftsmith.contract.speculation import SpecConfig
from draftsmith.contract.state import ServiceState
from draftsmith.loop.advance import completed, finished
from draftsmith.phases.base import PhaseContext
from draftsmith.store.runs import Run
from draftsmith.store.state import change

SWITCHES = ("promoted", "rolled_back")


def remember_run(run: Run, context: PhaseContext) -> None:
    """Make the state that of this run. A run that has decided, or has ended, is history and changes nothing."""
    events = run.events()
    if finished(events) or "promote" in completed(events):
        return
    started = [event.at_unix_s for event in events if event.kind == "started"]
    seen_unix_s = started[-1] if started else 0.0
    change(context.workspace, lambda state: of_run(state, context, seen_unix_s))


def of_run(state: ServiceState | None, context: PhaseContext, seen_unix_s: float) -> ServiceState:
    """`state` with the run's id, target, deployment and standing configuration, which the run read at `seen_unix_s`.

    A switch after that moment is newer than what the run read, and stays.
    """
    own = {
        "experiment_id": context.run_id,
        "target": context.target.path,
        "served_deploy": context.config.serving.deploy,
    }
    if state is None:
        return ServiceState(**own, standing_config=context.standing)
    switched = [entry.at_unix_s for entry in state.history if entry.event in SWITCHES]
    if switched and switched[-1] > seen_unix_s:
        return state.model_copy(update=own)
    return state.model_copy(update=own | _standing(state, context.standing))


def _standing(state: ServiceState, standing: SpecConfig) -> dict[str, object]:
    """The configuration that serves. If someone switched it by other means, the champion is the draft that it names."""
    if canonical(standing) == canonical(state.standing_config):
        return {}
    return {"standing_config": standing, "champion_draft": (standing or {}).get("model")}
