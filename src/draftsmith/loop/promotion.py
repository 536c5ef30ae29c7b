"""Promotion and rollback: the only place where the standing configuration changes.

Intent first, then the switch, then the state, then the effect on record. Each step is safe to repeat, so a process
killed between any two of them ends the same way when it runs again.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from draftsmith.contract.base import canonical, digest
from draftsmith.contract.errors import RefusedError
from draftsmith.contract.job import JobResult
from draftsmith.contract.state import ServiceState
from draftsmith.contract.verdict import Decision
from draftsmith.kit.files import private_dir, read_json, sha256_file
from draftsmith.loop.served import check_served, check_unchanged
from draftsmith.phases.base import Gate, PhaseContext
from draftsmith.serving.base import Serving
from draftsmith.store.runs import Run
from draftsmith.store.state import read_state, remember, write_state
from draftsmith.trainers.lint_files import weights_sha256


def promote(run: Run, context: PhaseContext, serving: Serving) -> tuple[JobResult, Gate]:
    """Switch to the winner of a WIN at tier `verdict`; otherwise keep what stands, and say why."""
    compare = context.results["compare"]
    decision = Decision.model_validate(read_json(Path(compare.outputs["verdict"])))
    state = _state(context)
    profile = context.results["profile"].outputs.get("profile_sha256")
    state = state.model_copy(update={"last_profile_sha256": profile, "last_ab_verdict": decision.outcome})
    reason = refusal(decision)
    if reason is not None:
        _write(context, state, "kept", run, decision, context.standing, None)
        return _result(False, context.standing, f"standing configuration kept: {reason}")
    check_served(context.config.serving.endpoint, context.standing)
    check_unchanged(serving, compare.outputs.get("served"))
    winner = dict(compare.outputs["winner_config"] or {})
    _require_weights(winner, compare.outputs.get("winner_sha256"))
    draft = _settle_draft(context, winner)
    if draft:
        winner["model"] = draft
    run.append("intent", "promote", expected=context.standing, new=winner or None)
    serving.switch(context.standing, winner or None)
    _write(
        context,
        state.model_copy(update={"standing_config": winner or None, "champion_draft": draft}),
        "promoted",
        run,
        decision,
        winner or None,
        draft,
    )
    run.append("effect", "promote", new=winner or None)
    return _result(True, winner or None, f"promoted {decision.winner}: {decision.reason}")


def refusal(decision: Decision) -> str | None:
    """Why this decision promotes nothing; None if it does."""
    if decision.outcome != "WIN":
        return decision.reason
    if decision.tier != "verdict":
        return f"a WIN at tier draft does not promote ({'; '.join(decision.tier_reasons)})"
    return None


def rollback(workspace: Path, serving: Serving) -> ServiceState:
    """Restore the standing configuration from before the last promotion. Raises RefusedError if there is none."""
    state = read_state(workspace)
    promoted = [entry for entry in (state.history if state else ()) if entry.event in ("promoted", "rolled_back")]
    if state is None or not promoted or promoted[-1].event != "promoted":
        raise RefusedError("there is no promotion to roll back", "see `draftsmith status`")
    last = promoted[-1]
    extra: dict[str, Any] = last.model_extra or {}
    previous, draft = extra.get("previous_config"), extra.get("previous_draft")
    serving.switch(last.config or None, previous)
    restored = state.model_copy(update={"standing_config": previous, "champion_draft": draft})
    restored = remember(restored, "rolled_back", run_id=last.run_id, config=previous, draft=draft)
    write_state(workspace, restored)
    return restored


def _state(context: PhaseContext) -> ServiceState:
    found = read_state(context.workspace)
    if found is not None:
        return found
    return ServiceState(
        experiment_id=context.run_id,
        target=context.target.path,
        served_deploy=context.config.serving.deploy,
        standing_config=context.standing,
    )


def _require_weights(winner: dict[str, Any], compared: str | None) -> None:
    """Raise RefusedError if the winner's draft is not the one that was compared: its folder may be the operator's own."""
    if compared is not None and weights_sha256(Path(winner["model"])) != compared:
        raise RefusedError(
            "the weights of the winner's draft were changed since the comparison",
            "compare again: --start-phase compare",
        )


def _settle_draft(context: PhaseContext, winner: dict[str, Any]) -> str | None:
    """Copy a promoted draft out of the run's folder, to where it stays while runs come and go."""
    source = winner.get("model")
    if not source:
        return None
    version = digest(sorted((p.name, sha256_file(p)) for p in Path(source).iterdir() if p.is_file()))[:8]
    place = private_dir(context.workspace / "drafts") / f"{context.run_id}-{version}"
    if not place.exists():
        part = place.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(source, part)
        part.rename(place)
    return str(place)


def _write(
    context: PhaseContext,
    state: ServiceState,
    event: str,
    run: Run,
    decision: Decision,
    config: dict[str, Any] | None,
    draft: str | None,
) -> None:
    """Write the state with one history entry for this act; a repetition after a crash writes none."""
    run_id = run.record.run_id
    last = state.history[-1] if state.history else None
    if last is None or (last.run_id, last.event, last.config) != (run_id, event, config):
        before = read_state(context.workspace)
        state = remember(
            state,
            event,
            run_id=run_id,
            outcome=decision.outcome,
            draft=draft,
            config=config,
            previous_config=context.standing,
            previous_draft=before.champion_draft if before else None,
        )
    found = read_state(context.workspace)
    if found is None or canonical(found.model_dump(mode="json")) != canonical(state.model_dump(mode="json")):
        write_state(context.workspace, state)


def _result(promoted: bool, config: dict[str, Any] | None, headline: str) -> tuple[JobResult, Gate]:
    result = JobResult(ok=True, outputs={"promoted": promoted, "standing_config": config})
    return result, Gate(True, headline)
