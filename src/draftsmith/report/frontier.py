"""What new evidence does to the frontier: levers join it, are refuted by what was measured, or are no longer spoken for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from draftsmith.contract.config import Config
from draftsmith.contract.frontier import LEVER_STATE, Evidence, Frontier, FrontierLever, Lever
from draftsmith.report.next_lever import next_levers
from draftsmith.report.numbers import duration, percent, ratio, sol_shares
from draftsmith.report.parts import ReportParts

# What each lever changes; a later run in which one of these stands otherwise has tried it.
SETTINGS: dict[str, tuple[str, ...]] = {
    "epochs": ("trainer.epochs",),
    "late_positions": ("trainer.epochs", "trainer.ttt_steps"),
    "vocabulary": ("trainer.draft_vocab", "corpus.min_vocab_coverage"),
    "price": ("compare.k_values", "trainer.draft_layers", "trainer.draft_vocab", "trainer.method"),
    "load": ("compare.k_by_batch",),
    "class": ("corpus.hard_share", "corpus.hard_log"),
    "corpus": ("corpus.max_rows",),
}
# The phases that each lever runs again.
PHASES: dict[str, tuple[str, ...]] = {
    "wiring": ("capture", "train", "compare"),
    "epochs": ("train", "compare"),
    "late_positions": ("train", "compare"),
    "vocabulary": ("corpus", "capture", "train", "compare"),
    "class": ("corpus", "capture", "train", "compare"),
    "forgetting": ("corpus", "capture", "train", "compare"),
    "corpus": ("corpus", "capture", "train"),
}


def updated(before: Frontier, parts: ReportParts, evidence: Evidence, config: Config | None = None) -> Frontier:
    """The frontier after this evidence.

    A refuted lever stays refuted, whatever speaks for it again, until somebody opens it. Evidence without a comparison adds, and
    settles nothing.
    """
    known = {lever.key: lever for lever in before.levers}
    proposed = {lever.key: lever for lever in next_levers(parts)}
    after: dict[str, FrontierLever] = {}
    for key, lever in known.items():
        after[key] = _judged(lever, key in proposed, parts, evidence, config)
    for key, spoken_for in proposed.items():
        if key not in after or after[key].state != "refuted":
            after.pop(key, None)
            after[key] = _made(spoken_for, parts, evidence, config)
    for lost in _lost(parts, evidence):
        after.pop(lost.key, None)
        after[lost.key] = lost
    if (
        len(after) > 1
        and "watch" in after
        and any(item.state == "open" and item.key != "watch" for item in after.values())
    ):
        del after["watch"]  # there is more to do than to watch
    return Frontier(levers=tuple(after.values()), wall=_wall(parts) or before.wall)


def handoff(frontier: Frontier) -> str:
    """HANDOFF.md: for whoever goes on, a person or an agent."""
    lines = [
        "# Frontier",
        "",
        "Written by Draftsmith after every measurement; `draftsmith frontier` shows it and closes levers.",
        "",
    ]
    lines += ["## Open, by value and cost", ""]
    for number, lever in enumerate(frontier.open, 1):
        lines += [
            f"{number}. **{lever.title}** (`{lever.key}`)",
            f"   - Why: {lever.why}",
            f"   - Expected unlock: {lever.expected}",
        ]
        lines += [f"   - Cost: {cost(lever)}", f"   - Gate: {lever.gate}", f"   - Evidence: {_named(lever.evidence)}"]
    if not frontier.open:
        lines += [
            f"None. {frontier.wall or 'How near the ceiling it is, is not known: measure the bandwidth before calling it done.'}"
        ]
    for state in ("refuted", "settled"):
        levers = frontier.in_state("refuted" if state == "refuted" else "settled")
        if levers:
            lines += ["", f"## {state.capitalize()}: {LEVER_STATE[levers[0].state]}", ""]
        for lever in levers:
            lines += [f"- **{lever.title}** (`{lever.key}`): {lever.because}"]
            lines += [f"  Evidence: {_named(lever.refuted_by or lever.evidence)}"]
    if frontier.wall and frontier.open:
        lines += ["", "## Ceiling", "", frontier.wall]
    return "\n".join([*lines, ""])


def lines_of(frontier: Frontier) -> list[str]:
    """The last words of a measuring command: the next lever, its expected unlock, its cost and its gate."""
    if not frontier.open:
        return [f"next     no lever is open; {frontier.wall or 'the ceiling is not known'}"]
    first, *rest = frontier.open
    lines = [
        f"next     {first.title}",
        f"  expected unlock: {first.expected}",
        f"  cost: {cost(first)}",
        f"  gate: {first.gate}",
    ]
    if rest:
        lines.append(
            f"  after it: {', '.join(lever.key for lever in rest)} ({len(frontier.in_state('refuted'))} refuted)"
        )
    return lines


def cost(lever: FrontierLever) -> str:
    """In words."""
    return "nothing like it was timed yet" if lever.cost_s is None else f"about {duration(lever.cost_s)}, as timed here"


def _made(lever: Lever, parts: ReportParts, evidence: Evidence, config: Config | None) -> FrontierLever:
    return FrontierLever(
        **dict(lever),
        cost_s=_cost_s(lever.key, parts),
        evidence=evidence,
        tried=_settings(lever.key, config),
    )


def _judged(
    lever: FrontierLever, still: bool, parts: ReportParts, evidence: Evidence, config: Config | None
) -> FrontierLever:
    """An earlier lever after new evidence: refuted if it was tried and did not pay, settled if nothing speaks for it any more."""
    decision = parts.decision
    if lever.state != "open" or decision is None or evidence.run_id == lever.evidence.run_id:
        return lever
    now = _settings(lever.key, config)
    changed = [
        f"{name} {lever.tried[name]} to {now[name]}"
        for name in lever.tried
        if now.get(name, lever.tried[name]) != lever.tried[name]
    ]
    if changed and decision.outcome == "LOSS":
        because = f"tried with {', '.join(changed)}: {decision.outcome} (tier {decision.tier}), {decision.reason}"
        return lever.model_copy(update={"state": "refuted", "because": because, "refuted_by": evidence})
    if still or lever.key.startswith("serve:"):
        return lever
    because = (
        f"tried with {', '.join(changed)}: {decision.outcome}" if changed else "newer evidence no longer speaks for it"
    )
    return lever.model_copy(update={"state": "settled", "because": because, "refuted_by": evidence})


def _lost(parts: ReportParts, evidence: Evidence) -> list[FrontierLever]:
    """Arms that were measured and lost: nobody has to try them again on this traffic."""
    lost = []
    for arm in parts.arms:
        pair = parts.pair(arm.name, parts.primary)
        if pair is None or pair.outcome != "LOSS":
            continue
        how = ratio(pair.speedup.value) if pair.speedup else "not faster"
        lost.append(
            FrontierLever(
                key=f"serve:{arm.name}",
                title=f"Serve {arm.name}",
                why="it was an arm of the comparison",
                expected=f"none: {how} against {pair.baseline} at {pair.point}",
                gate=f"the interval's lower end clears {ratio(pair.min_speedup)}",
                state="refuted",
                evidence=evidence,
                because=pair.reason,
                refuted_by=evidence,
            )
        )
    return lost


def _cost_s(key: str, parts: ReportParts) -> float | None:
    took = {timing.phase: timing.wall_s for timing in parts.timings}
    phases = PHASES.get(key, ("compare",))
    known = [took[phase] for phase in phases if phase in took]
    if len(known) == len(phases):
        return sum(known)
    own = [trial.started_unix_s for trial in parts.trials]
    if phases == ("compare",) and own:  # a comparison alone keeps no times of phases
        return max(trial.started_unix_s + trial.wall_s for trial in parts.trials) - min(own)
    return None


def _settings(key: str, config: Config | None) -> dict[str, str]:
    values: Mapping[str, Any] = config.model_dump(mode="json") if config else {}
    return {
        name: str(values[section][field])
        for name in SETTINGS.get(key, ())
        for section, _, field in (name.partition("."),)
        if section in values
    }


def _wall(parts: ReportParts) -> str | None:
    shares = sol_shares(parts)
    at_primary = [share for share in shares if share.point == parts.primary]
    if not at_primary:
        return None
    best = max(at_primary, key=lambda share: share.share)
    return f"{best.arm} at {best.point} reaches {percent(best.share, 2)} of what memory traffic allows ({best.ceiling.key})"


def _named(evidence: Evidence) -> str:
    tail = f", bundle {evidence.manifest_sha256[:12]}" if evidence.manifest_sha256 else ""
    return f"{evidence.run_id}{tail}"
