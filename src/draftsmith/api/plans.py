"""Carrying out `draftsmith plan`: say what it will take, run the job, read the plan; and check it afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from draftsmith import wiring
from draftsmith.api.fitting import fit_of, room, sized
from draftsmith.api.local_jobs import run_here
from draftsmith.api.plan_request import read_profile, require_synthetic, settle
from draftsmith.api.settings import require_target, sources_of
from draftsmith.contract.config import ENGINE_KINDS, Config
from draftsmith.contract.errors import InputError
from draftsmith.contract.jobs import ForecastPlan
from draftsmith.contract.plan import ACTION_MEANING, Across, Plan, PlanCheck
from draftsmith.kit.clock import duration
from draftsmith.kit.files import private_dir, read_json, write_json
from draftsmith.loop.base import QUIET, Console
from draftsmith.verdict.across import across
from draftsmith.work.plan.bench import Effort


def plan(
    config: Config,
    sources: Sequence[str] | str | None = None,
    *,
    concurrencies: Sequence[int] = (),
    ks: Sequence[int] = (),
    draft: Path | None = None,
    repeats: int = 2,
    out: Path | str = "plan",
    console: Console = QUIET,
    dry_run: bool = False,
) -> Plan | Effort:
    """What acceptance length a draft needs to win, measured before one is trained; for a dry run, what that would take.

    `sources`: one workload-profile.json, or access logs. What is measured is kept in `out`: the same call goes on there.
    Raises InputError for wrong flags, PrerequisiteError where this engine cannot accept at a chosen rate.
    """
    from draftsmith.work.plan.forecast import preview

    target = require_target(config)
    config = sized(config, Path(target.path), target.weight_bytes)
    folder = private_dir(Path(out).resolve())
    profile = read_profile(sources_of(config, sources), target, folder)
    require_synthetic(config, profile)
    request = settle(
        config, target, profile, folder, concurrencies=list(concurrencies), ks=list(ks), draft=draft, repeats=repeats
    )
    if (machine := room(config)) is not None:
        words = f"fit: {fit_of(config, Path(target.path), target.weight_bytes, machine).sentence}{machine}"
        request = request.model_copy(update={"fit_note": words})
        console.note(f"plan     {words}")
    _require_same(folder, request)
    effort = preview(request, folder)
    sentence = (
        f"{effort.starts} server starts and {effort.trials} trials, about {duration(effort.seconds)} "
        f"(starts of {request.start_s:.0f} s {'as timed before' if request.start_timed else 'assumed'}); "
        f"K {', '.join(map(str, request.ks))} at concurrency {', '.join(map(str, request.concurrencies))}"
    )
    console.note(f"plan     {sentence}" if effort.trials else "plan     every point is measured: nothing is started")
    if dry_run:
        return effort
    run_here("plan", write_json(folder / "request.json", request), console)
    return Plan.model_validate(read_json(folder / "plan.json"))


def plan_across(
    config: Config,
    engines: Sequence[str],
    sources: Sequence[str] | str | None = None,
    *,
    concurrencies: Sequence[int] = (),
    ks: Sequence[int] = (),
    draft: Path | None = None,
    repeats: int = 2,
    out: Path | str = "plan",
    console: Console = QUIET,
    dry_run: bool = False,
) -> Across | dict[str, Effort]:
    """One plan for each engine, in `out`/ENGINE, and what to serve with; for a dry run, what each would take. See `plan`.

    Settings of an engine that is not `engine.kind` are those of `[engines.NAME]`.
    """
    unknown = [kind for kind in engines if kind not in ENGINE_KINDS]
    if unknown or len(set(engines)) < 2:
        label = f"no engine is called {', '.join(unknown)}" if unknown else "one engine is nothing to choose from"
        raise InputError(label, f"name at least two of {', '.join(ENGINE_KINDS)}")
    plans: dict[str, Plan] = {}
    efforts: dict[str, Effort] = {}
    for kind in dict.fromkeys(engines):
        console.note(f"engine   {kind}")
        folder = Path(out) / kind
        forecast_plan = plan(wiring.of_engine(config, kind), sources, concurrencies=concurrencies, ks=ks, draft=draft,
                     repeats=repeats, out=folder, console=console, dry_run=dry_run)  # fmt: skip
        if isinstance(forecast_plan, Plan):
            plans[kind] = forecast_plan
        else:
            efforts[kind] = forecast_plan
        sources = [str(folder / "workload-profile.json")]  # made once, and the same for all
    if dry_run:
        return efforts
    result = across(plans)
    write_json(Path(out) / "across.json", result)
    return result


def across_text(plans: Across) -> str:
    """Engines side by side, for the terminal."""
    lines = [plans.sentence, *(f"  {name}: {release}" for name, release in plans.engines.items())]
    for point in plans.points:
        lines.append(
            f"  concurrency {point.concurrency}: {'' if point.concurrency == plans.primary else point.sentence}".rstrip(
                ": "
            )
        )
        for option in point.options:
            k = f" K {option.k}" if option.k else ""
            span = f"[{option.low_s * 1000:.2f}, {option.high_s * 1000:.2f}]"
            lines.append(
                f"    {option.engine} {option.method}{k}: {option.tpot_s * 1000:.2f} ms/token {span} ({option.basis})"
            )
        for bar in point.bars:
            chance = f"{bar.per_token:.0%} of next tokens" if bar.per_token is not None else "out of reach"
            lines.append(f"    {bar.engine} draft K {bar.k}: ahead from AL {bar.acceptance_length:.2f} ({chance})")
    lines.append("next     one comparison of both decides: draftsmith compare --arm NAME=ENGINE:...")
    return "\n".join(lines)


def _require_same(folder: Path, request: ForecastPlan) -> None:
    """Points of another measurement would be thrown away: refuse."""
    path = folder / "request.json"
    if not path.is_file() or not (folder / "trials.jsonl").is_file():
        return
    if read_json(path).get("measured_sha256") != request.measured_sha256:
        raise InputError(
            f"{folder.name} holds points of another measurement (target, engine, K, concurrency, lengths or draft differ)",
            "give another --out, or delete that folder",
        )


def check_plan(config: Config, out: Path | str = "plan", run_id: str | None = None) -> PlanCheck:
    """The plan in `out` beside a run of the workspace. Raises InputError if one of them is not there."""
    from draftsmith.api.runs import get_run
    from draftsmith.verdict.plan_check import check
    from draftsmith.work.plan.records import comparison_of

    out = Path(out)
    path = out / "plan.json"
    if not path.is_file():
        raise InputError(f"{out} holds no plan", "make one with `draftsmith plan`, or name its folder with --out")
    run = get_run(config, run_id)
    try:
        compared, decision = comparison_of(run)
    except (OSError, ValueError):
        raise InputError(
            f"{run.record.run_id} has no finished comparison", "let it finish: `draftsmith run` goes on"
        ) from None
    result = check(Plan.model_validate(read_json(path)), run.record.run_id, compared, decision)
    write_json(out / "check.json", result)
    return result


def _next_lever(plan: Plan) -> list[str]:
    """The advice as a lever: what it should bring at the primary point, and what proves it."""
    point = next((item for item in plan.points if item.concurrency == plan.primary), None)
    needs = [need for need in point.needs if need.per_token is not None] if point else []
    best = min(needs, key=lambda need: need.to_win.value, default=None)
    bar = f"AL {best.to_win.value:.2f} at K {best.k} is where it wins" if best else "no K is within reach here"
    expected = plan.acceptance.sentence if plan.advice == "train" else bar
    return [
        f"next     {ACTION_MEANING[plan.advice]}",
        f"  expected unlock: {expected}",
        f"  gate: {bar}; `draftsmith run` measures it, `draftsmith plan --check` sets this beside it",
    ]


def plan_text(plan: Plan) -> str:
    """A plan for the terminal."""
    from draftsmith.report.plan_page import budget_lines

    fit = plan.fit
    lines = [f"{plan.advice}: {plan.reason}", f"  {plan.context}"]
    for point in plan.points:
        lines.append(f"  concurrency {point.concurrency}: {point.plain_tpot_s * 1000:.1f} ms/token without speculation")
        for need in point.needs:
            span = f"[{need.break_even.low:.2f}, {need.break_even.high:.2f}]"
            chance = f"{need.per_token:.0%} of next tokens" if need.per_token is not None else "out of reach"
            lines.append(
                f"    K {need.k}: break-even AL {need.break_even.value:.2f} {span}, to win {need.to_win.value:.2f} ({chance})"
            )
        if point.concurrency != plan.primary:
            lines.append(f"    {point.advice}: {point.sentence}")
    lines.append(
        f"  fit: {fit.model}, {fit.samples} points, residuals {fit.residual_rms:.1%} rms, {fit.residual_worst:.1%} at worst"
    )
    lines.append(f"  acceptance: {plan.acceptance.sentence}")
    lines += [f"  {label}: {much}" for label, much in budget_lines(plan)]
    lines += [f"  note: {note}" for note in (*plan.budget.basis, *plan.notes)]
    lines += _next_lever(plan)
    return "\n".join(lines)
