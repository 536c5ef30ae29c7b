"""Carrying out `draftsmith plan`: settle the request, say what it will take, run the job, read the plan."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from draftsmith import wiring
from draftsmith.cli.output import duration, say, show
from draftsmith.contract.base import digest
from draftsmith.contract.config import Config
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.errors import DraftsmithError, InputError, PrerequisiteError
from draftsmith.contract.job import JobResult, JobSpec
from draftsmith.contract.plan import Plan, PlanCheck
from draftsmith.contract.profile import WorkloadProfile
from draftsmith.kit import processes
from draftsmith.kit.files import private_dir, read_json, write_json
from draftsmith.loop.base import Console
from draftsmith.loop.jobs import read_progress

DEFAULT_KS = (1, 3, 5)
MOST_K = 16
MOST_POINTS = 3
TOKENS = 64  # answers are cut here: a step costs the same at the sixtieth token as at the thousandth, nearly
START_S = {"cpu": 100.0, "cuda": 75.0}  # assumed until one has been timed
BYTES_PER_S = {"cpu": 8e9, "cuda": 1.5e12}  # only to say beforehand how long it will take
WORTH_NGRAM = 1.1


def make_plan(
    config: Config,
    sources: list[str],
    *,
    concurrencies: list[int],
    ks: list[int],
    draft: Path | None,
    repeats: int,
    out: Path,
    console: Console,
    dry_run: bool = False,
) -> Plan | None:
    """Run the plan job in `out` and return its plan; None for a dry run.

    Raises InputError for wrong flags, PrerequisiteError where this engine cannot accept at a chosen rate.
    """
    from draftsmith.cli.oneshot import require_target
    from draftsmith.work.plan import preview

    target = require_target(config)
    folder = private_dir(out.resolve())
    profile = read_profile(sources, target, folder)
    require_synthetic(config, profile)
    request = settle(config, target, profile, folder, concurrencies=concurrencies, ks=ks, draft=draft, repeats=repeats)
    _require_same(folder, request)
    effort = preview(request, folder)
    told = (
        f"{effort.starts} server starts and {effort.trials} trials, about {duration(effort.seconds)} "
        f"(starts of {request['start_s']:.0f} s {'as timed before' if request['start_timed'] else 'assumed'}); "
        f"K {', '.join(map(str, request['ks']))} at concurrency {', '.join(map(str, request['concurrencies']))}"
    )
    say(f"plan     {told}" if effort.trials else "plan     every point is measured: nothing is started")
    if dry_run:
        show({"starts": effort.starts, "trials": effort.trials, "seconds": effort.seconds})
        return None
    write_json(folder / "request.json", request)
    _run(folder, request, console)
    return Plan.model_validate(read_json(folder / "plan.json"))


def read_profile(sources: list[str], target: TargetFacts, folder: Path) -> WorkloadProfile:
    """A profile as it is, or made from access logs. It is kept beside the plan as workload-profile.json."""
    from draftsmith.traffic.profile import build_profile

    if not sources:
        raise InputError("no traffic is given", "give --profile with workload-profile.json or an access log")
    found = _as_profile(Path(sources[0])) if len(sources) == 1 else None
    if found is None:
        model = Path(target.path)
        found = build_profile(
            sources, tokenizer=model / "tokenizer.json", target_config=read_json(model / "config.json")
        )
    write_json(folder / "workload-profile.json", found)
    return found


def _as_profile(path: Path) -> WorkloadProfile | None:
    """The profile in a file; None if it holds something else (a log, for instance)."""
    if path.suffix != ".json" or not path.is_file():
        return None
    try:
        value = read_json(path)
    except ValueError:
        return None
    if not isinstance(value, dict) or value.get("schema") != "draftsmith_profile_v1":
        return None
    try:
        return WorkloadProfile.model_validate(value)
    except ValueError as error:
        raise InputError(f"{path.name} does not follow its schema: {error}", "make the profile again") from None


def require_synthetic(config: Config, profile: WorkloadProfile) -> None:
    """Raise PrerequisiteError, with what can be said all the same, if no draft can be accepted at a chosen rate here."""
    from draftsmith.engines.vllm_features import features, installation

    found = installation(config.engine.python)
    known = features(found.version, found.device)
    if known.synthetic and "eagle3" in known.methods:
        return
    replayed = [
        f"{row.method} K {row.num_speculative_tokens} {row.tokens_per_step:.2f} tokens a step"
        for row in profile.expected_acceptance
        if row.tokens_per_step
    ]
    said = f"by replay of the log: {', '.join(replayed)}; " if replayed else ""
    raise PrerequisiteError(
        f"vLLM {found.version} on {found.device} cannot accept drafts at a chosen rate, so no break-even can be measured "
        f"before a draft is trained. What can be said: {said}a draft with K tokens never gives more than K + 1 a step",
        "use vLLM 0.24 or newer on a GPU (0.32 on CPU), or measure n-gram itself: draftsmith compare --arm ngram=...",
    )


def settle(
    config: Config,
    target: TargetFacts,
    profile: WorkloadProfile,
    folder: Path,
    *,
    concurrencies: list[int],
    ks: list[int],
    draft: Path | None,
    repeats: int,
) -> dict[str, Any]:
    """The request of the job: what is measured, and what is known beside it."""
    from draftsmith.cli.oneshot import versions
    from draftsmith.engines.vllm_features import features, installation
    from draftsmith.trainers.layers import default_layers
    from draftsmith.trainers.untrained import default_draft_vocab
    from draftsmith.work.plan_records import earlier

    engine = installation(config.engine.python)
    workspace = Path(config.workspace).resolve()
    known = earlier(workspace, target.sha256, profile)
    loads, primary = operating_points(config, profile, concurrencies)
    vocab = config.trainer.draft_vocab or known.draft_vocab or default_draft_vocab(target)
    layers = list(config.trainer.layers or default_layers(target.num_layers))
    best = max((r.tokens_per_step or 0.0 for r in profile.expected_acceptance), default=0.0)
    measured = {
        "target": target.sha256,
        "versions": {key: value for key, value in versions(config).items() if key in ("vllm", "device")},
        "engine": config.engine.model_dump(mode="json", exclude={"python", "start_timeout_s"}),
        "ks": checked_ks(ks),
        "concurrencies": loads,
        "repeats": repeats,
        "tokens": TOKENS,
        "shapes": [shape.model_dump(mode="json") for shape in profile.bench_shapes],
        "lengths": [profile.input_tokens.p50, profile.output_tokens.p50],
        "draft": _draft_id(draft, target) or {"vocab": vocab, "layers": layers},
        "synthetic": features(engine.version, engine.device).synthetic,
        "ngram": config.compare.ngram and best >= WORTH_NGRAM,
    }
    timed = _timed_start(folder)
    standing = wiring.serving(config, workspace).current() if workspace.is_dir() else config.serving.standing_config
    return measured | {
        "config": config.model_dump(mode="json"),
        "target": target.model_dump(mode="json"),
        "profile": str(folder / "workload-profile.json"),
        "registry": str(private_dir(folder / "processes")),
        "measured_sha256": digest(measured),
        "draft": str(draft.resolve()) if draft else None,
        "draft_vocab": vocab,
        "layer_ids": layers,
        "shape_note": _shape_note(draft, config, known.draft_vocab, vocab),
        "primary": primary,
        "records": [record.model_dump(mode="json") for record in known.records],
        "capture_tokens_per_s": known.capture_tokens_per_s,
        "train_tokens_per_s": known.train_tokens_per_s,
        "speeds_from": known.speeds_from,
        "standing": standing,
        "standing_positions": _standing_positions(standing, known.records),
        "suffix_installed": engine.suffix,
        "start_s": timed or START_S[engine.device],
        "start_timed": timed is not None,
        "plain_tpot_s": 0.002 + target.weight_bytes / BYTES_PER_S[engine.device],
    }


def operating_points(config: Config, profile: WorkloadProfile, given: list[int]) -> tuple[list[int], int]:
    """(concurrencies, the one that decides): as given, or the configured ones and the profile's mean and p90."""
    wanted = given or [
        *config.compare.concurrency,
        *(max(1, round(c)) for c in (profile.concurrency_mean, profile.concurrency_p90) if c),
    ]
    if min(wanted) < 1:
        raise InputError("a concurrency is at least 1", "give --concurrency 1 or more")
    fitting = [min(c, config.engine.max_num_seqs) for c in wanted]
    return sorted(dict.fromkeys(fitting[: max(MOST_POINTS, len(given))])), fitting[0]


def checked_ks(ks: list[int]) -> list[int]:
    """Drafted tokens to measure, rising. Raises InputError."""
    found = sorted(set(ks or DEFAULT_KS))
    if found[0] < 1 or found[-1] > MOST_K:
        raise InputError(f"K is a number from 1 to {MOST_K}", "for example --k 1 --k 3 --k 5")
    return found


def _draft_id(draft: Path | None, target: TargetFacts) -> dict[str, Any] | None:
    if draft is None:
        return None
    from draftsmith.trainers.draft_folder import read_draft
    from draftsmith.trainers.lint_files import weights_sha256

    found = read_draft(draft)
    if found.method != "eagle3":
        raise InputError(f"{draft.name} is a draft of method {found.method}", "give the folder of an EAGLE3 draft")
    if found.target_hidden_size != target.hidden_size:
        raise InputError(f"{draft.name} was made for another target", "give a draft of this target, or none")
    return {"weights": weights_sha256(draft)}


def _shape_note(draft: Path | None, config: Config, known: int | None, vocab: int) -> str:
    if draft is not None:
        return f"costs are those of the draft {draft.name}"
    if config.trainer.draft_vocab:
        why = "as configured"
    else:
        why = "as in the newest run" if known else "a quarter of the target's, since no corpus says better"
    return f"costs are those of an untrained EAGLE3 draft of one layer with a vocabulary of {vocab:,} ({why})"


def _standing_positions(standing: dict[str, Any] | None, records: list[Any]) -> list[float]:
    """Acceptance of the standing draft, if the run that made it is known: its folder is named after it."""
    model = Path(str((standing or {}).get("model", ""))).name
    found = [list(record.by_position) for record in records if model.startswith(record.run_id)]
    return found[-1] if found else []


def _timed_start(folder: Path) -> float | None:
    path = folder / "starts.json"
    return max(read_json(path), default=None) if path.is_file() else None


def _require_same(folder: Path, request: dict[str, Any]) -> None:
    """Points of another measurement would be thrown away: refuse."""
    path = folder / "request.json"
    if not path.is_file() or not (folder / "trials.jsonl").is_file():
        return
    if read_json(path).get("measured_sha256") != request["measured_sha256"]:
        raise InputError(
            f"{folder.name} holds points of another measurement (target, engine, K, concurrency, lengths or draft differ)",
            "give another --out, or delete that folder",
        )


def _run(folder: Path, request: dict[str, Any], console: Console) -> None:
    """The job on this machine; Ctrl-C stops it and its servers, and what is measured stays."""
    processes.sweep(folder / "processes")
    for name in ("result.json", "progress.json"):
        (folder / name).unlink(missing_ok=True)
    backend = wiring.backend(Config(), private_dir(folder / "backend"))
    argv = (sys.executable, "-m", "draftsmith.work.plan", str(folder / "request.json"))
    handle = backend.submit(
        JobSpec(name=f"plan-{digest(request)[:12]}-{time.time_ns()}", argv=argv, workdir=str(folder))
    )
    try:
        while (status := backend.poll([handle])[handle]).state in ("PENDING", "RUNNING", "UNKNOWN"):
            if progress := read_progress(folder):
                console.progress("plan", progress)
            time.sleep(0.3)
    except BaseException:
        backend.cancel(handle)
        raise
    if status.state != "SUCCEEDED":
        path = folder / "result.json"
        result = JobResult.model_validate(read_json(path)) if path.exists() else None
        message = (result.error if result else None) or status.detail
        raise DraftsmithError(message, (result.next_step if result else None) or f"see {folder / 'stderr.log'}")


def check_plan(config: Config, out: Path, run_id: str | None) -> PlanCheck:
    """The plan in `out` beside a run of the workspace. Raises InputError if one of them is not there."""
    from draftsmith.cli.oneshot import get_run
    from draftsmith.verdict.plan_check import check
    from draftsmith.work.plan_records import comparison_of

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
    plan = Plan.model_validate(read_json(path))
    result = check(plan, run.record.run_id, compared, decision)
    write_json(out / "check.json", result)
    return result


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
    lines += [f"  {what}: {much}" for what, much in budget_lines(plan)]
    lines += [f"  note: {note}" for note in (*plan.budget.basis, *plan.notes)]
    return "\n".join(lines)
