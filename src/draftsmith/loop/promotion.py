"""Promotion and rollback: the only place where the standing configuration changes.

Intent first, then the switch, then the state, then the effect on record. Each step is safe to repeat, so a process
killed between any two of them ends the same way when it runs again. One lock is held from the look at what serves to
the state, so of two promotions at once the second sees what the first one did.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from draftsmith.contract.base import digest
from draftsmith.contract.errors import DraftsmithError, RefusedError
from draftsmith.contract.job import JobResult
from draftsmith.contract.jobs import CompareResult
from draftsmith.contract.measure import ComparisonPlan, EngineFacts, Trial
from draftsmith.contract.state import HistoryEntry, ServiceState
from draftsmith.contract.verdict import Decision
from draftsmith.engines.catalog import engine
from draftsmith.kit.files import private_dir, read_json, read_lines, sha256_file
from draftsmith.loop.lock import switching
from draftsmith.loop.served import check_served, check_unchanged, regime_warning
from draftsmith.loop.service import SWITCHES, of_run
from draftsmith.loop.standing import ALREADY_SERVES, known
from draftsmith.phases.base import Gate, PhaseContext
from draftsmith.serving.base import Serving
from draftsmith.store.attestation import SUFFIX
from draftsmith.store.campaigns import CAMPAIGNS, outcomes
from draftsmith.store.campaigns import read as read_campaigns
from draftsmith.store.chain import broken
from draftsmith.store.promotion_policy import read_policy, unsigned
from draftsmith.store.runs import Run
from draftsmith.store.state import change, read_state, remember
from draftsmith.trainers.lint_files import weights_sha256
from draftsmith.verdict.decide import decide
from draftsmith.verdict.samples import bundle_digest
from draftsmith.verdict.stricter import looser


def promote(run: Run, context: PhaseContext, serving: Serving) -> tuple[JobResult, Gate]:
    """Switch to the winner of a WIN at tier `verdict`; otherwise keep the standing configuration, with the reason."""
    with switching(context.workspace):
        return _promote(run, context, serving)


def _promote(run: Run, context: PhaseContext, serving: Serving) -> tuple[JobResult, Gate]:
    compare = context.results["compare"]
    if (sentence := known(compare)) is not None:
        _remember(context, "kept", ALREADY_SERVES, context.standing, None)
        return _result(False, context.standing, f"standing configuration kept: {sentence}")
    compared = context.result(CompareResult)
    decision = Decision.model_validate(read_json(Path(compared.verdict)))
    reason = refusal(decision) or _bent(context, compared, decision) or _unsigned(context, compared, decision)
    if reason is not None:
        _remember(context, "kept", decision.outcome, context.standing, None)
        return _result(False, context.standing, f"standing configuration kept: {reason}")
    check_served(engine(context.config.engine.kind), context.config.serving.endpoint, context.standing)
    warning = _other_regime(context)
    check_unchanged(serving, compared.served)
    winner = dict(compared.winner_config or {})
    _require_weights(winner, compared.winner_sha256)
    draft = _settle_draft(context, winner)
    if draft:
        winner["model"] = draft
    run.append("intent", "promote", expected=context.standing, new=winner or None)
    serving.switch(context.standing, winner or None)
    _remember(context, "promoted", decision.outcome, winner or None, draft)
    run.append("effect", "promote", new=winner or None)
    headline = f"promoted {decision.winner}: {decision.reason}"
    return _result(True, winner or None, f"{headline}. Warning: {warning}" if warning else headline)


def _other_regime(context: PhaseContext) -> str | None:
    """See served.regime_warning. It is a warning only: what cannot be asked or read is left out."""
    try:
        rows = read_json(Path(context.result(CompareResult).facts))
        facts = [EngineFacts.model_validate(fact) for _, fact in rows]
        return regime_warning(engine(context.config.engine.kind), context.config.serving.endpoint, facts)
    except (DraftsmithError, KeyError, OSError, ValueError):
        return None


def refusal(decision: Decision) -> str | None:
    """Why this decision promotes nothing; None if it does."""
    if decision.outcome != "WIN":
        return decision.reason
    if decision.tier != "verdict":
        return f"a WIN at tier draft does not promote ({'; '.join(decision.tier_reasons)})"
    return None


def _bent(context: PhaseContext, compared: CompareResult, decision: Decision) -> str | None:
    """Why the record of the comparison does not carry its verdict; None if it does: it is decided again from the samples.

    Thresholds that let through more than the defaults promote only if the operator has said so.
    """
    plan, trials, facts = recorded(compared)
    again = decide(plan, trials, facts, samples_sha256=bundle_digest(trials))
    if digest(again) != digest(decision):
        return "its verdict does not follow from its samples: one of them was changed since (`draftsmith verify`)"
    if fault := broken(digest(plan), trials):
        return fault[0]
    loose = list(looser(plan.thresholds))
    if loose and not context.config.serving.allow_looser_thresholds:
        return (
            f"its thresholds are looser than the defaults ({', '.join(loose)}): to promote all the same, set "
            "serving.allow_looser_thresholds"
        )
    return None


def _unsigned(context: PhaseContext, compared: CompareResult, decision: Decision) -> str | None:
    """Why the promotion policy does not let this verdict through; None if it does, or if there is none.

    The bundle of the run is signed beside its folder; a policy that cannot be read lets nothing through.
    """
    if context.config.serving.promotion_policy is None:
        return None
    policy = read_policy(Path(context.config.serving.promotion_policy))
    file = Path(compared.plan)
    plan = ComparisonPlan.model_validate(read_json(file))
    places = sorted((context.folder / "bundle").glob(f"*/{context.run_id}{SUFFIX}"))
    reason = unsigned(policy, places[0] if places else None, decision, compared.winner_sha256)
    if reason is not None:
        return f"{reason}: `draftsmith sign` the bundle of this run, then run again with --start-phase promote"
    if policy.campaigns is not None:
        begun = sum(outcomes(plan, read_campaigns(file.with_name(CAMPAIGNS))).values())
        if not 0 < begun <= policy.campaigns:
            return f"{begun} campaigns were begun with these arms, and the promotion policy allows {policy.campaigns}"
    return None


def recorded(compared: CompareResult) -> tuple[ComparisonPlan, list[Trial], list[tuple[str, EngineFacts]]]:
    """Plan, trials and engines' facts that a comparison left."""
    plan = ComparisonPlan.model_validate(read_json(Path(compared.plan)))
    trials = [Trial.model_validate_json(line) for line in read_lines(Path(compared.samples))]
    facts = [(arm, EngineFacts.model_validate(fact)) for arm, fact in read_json(Path(compared.facts))]
    return plan, trials, facts


def rollback(workspace: Path, serving: Serving) -> ServiceState:
    """Restore the standing configuration from before the last promotion. Raises RefusedError if there is none."""
    if not workspace.is_dir():
        raise _nothing_promoted()
    with switching(workspace):
        last = last_promotion(read_state(workspace))
        extra: dict[str, Any] = last.model_extra or {}
        previous, draft = extra.get("previous_config"), extra.get("previous_draft")
        serving.switch(last.config or None, previous)

        def restored(state: ServiceState | None) -> ServiceState:
            if state is None:
                raise _nothing_promoted()
            state = state.model_copy(update={"standing_config": previous, "champion_draft": draft})
            return remember(state, "rolled_back", run_id=last.run_id, config=previous, draft=draft)

        return change(workspace, restored)


def last_promotion(state: ServiceState | None) -> HistoryEntry:
    """The promotion that stands. Raises RefusedError if nothing was promoted since the start or the last rollback."""
    switches = [entry for entry in (state.history if state else ()) if entry.event in SWITCHES]
    if not switches or switches[-1].event != "promoted":
        raise _nothing_promoted()
    return switches[-1]


def _nothing_promoted() -> RefusedError:
    return RefusedError("there is no promotion to roll back", "see `draftsmith status`")


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


def _remember(
    context: PhaseContext, event: str, outcome: str, config: dict[str, Any] | None, draft: str | None
) -> None:
    """Write the outcome and one history entry for this act; a repetition after a crash writes no second one."""
    changed: dict[str, Any] = {
        "last_profile_sha256": context.results["profile"].outputs.get("profile_sha256"),
    }
    if outcome != ALREADY_SERVES:
        changed |= {"last_ab_verdict": outcome}
    if event == "promoted":
        changed |= {"standing_config": config, "champion_draft": draft}

    def written(state: ServiceState | None) -> ServiceState:
        before = state or of_run(None, context, 0.0)
        after = before.model_copy(update=changed)
        if _told(before, event, context.run_id, config):
            return after
        return remember(
            after,
            event,
            run_id=context.run_id,
            outcome=outcome,
            draft=draft,
            config=config,
            previous_config=context.standing,
            previous_draft=before.champion_draft,
        )

    change(context.workspace, written)


def _told(state: ServiceState, event: str, run_id: str, config: dict[str, Any] | None) -> bool:
    """Whether the last entry of this kind says it already. Entries of other runs and other writers may follow it."""
    kinds = SWITCHES if event == "promoted" else ("kept", *SWITCHES)
    entries = [e for e in state.history if e.event in kinds and (event == "promoted" or e.run_id == run_id)]
    return bool(entries) and (entries[-1].run_id, entries[-1].event, entries[-1].config) == (run_id, event, config)


def _result(promoted: bool, config: dict[str, Any] | None, headline: str) -> tuple[JobResult, Gate]:
    result = JobResult(ok=True, outputs={"promoted": promoted, "standing_config": config})
    return result, Gate(True, headline)
