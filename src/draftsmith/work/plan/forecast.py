"""Job: the break-even pre-flight. Measure what is missing, fit, forecast, and write plan.json and plan.html.

The request names everything that the measured points depend on by one hash; points of another hash are not used.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from draftsmith import __version__, wiring
from draftsmith.contract.config import Config
from draftsmith.contract.context import Context
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.jobs import ForecastPlan, ForecastResult
from draftsmith.contract.measure import EngineFacts
from draftsmith.contract.plan import Budget, Fit, Plan, StepSample
from draftsmith.contract.profile import BenchShape, WorkloadProfile
from draftsmith.kit import hardware
from draftsmith.kit.files import read_json, write_atomic, write_json
from draftsmith.report.plan_page import render_plan
from draftsmith.trainers.convert import convert_draft
from draftsmith.trainers.untrained import write_untrained
from draftsmith.verdict.advice import Situation, point_plan
from draftsmith.verdict.break_even import CostModel
from draftsmith.verdict.learning_curve import expect
from draftsmith.work.job import Job
from draftsmith.work.plan.bench import PLAIN, Bench, Effort, MeasuredArm
from draftsmith.work.plan.prompts import sent_lengths

WORKER = ("--worker-extension-cls", "draftsmith.work.inside.synthetic_worker.Extension")
SHARES = (0.6, 0.3)  # of the drafted tokens accepted, in turn, so that AL and K do not rise together
NGRAM = {"method": "ngram", "prompt_lookup_max": 5, "prompt_lookup_min": 2}  # as the profile simulates it
NGRAM_K = 3
BYTES_PER_VALUE = 2


def body(job: Job[ForecastPlan]) -> ForecastResult:
    """Carry out the request."""
    request = job.plan
    config, target = request.config, request.target
    profile = WorkloadProfile.model_validate(read_json(Path(request.profile)))
    draft = Path(request.draft) if request.draft else job.workdir / "untrained-draft"
    bench = make_bench(job, config, target, profile, draft)
    if not request.draft and any(bench.missing(arm) for arm in bench.arms):
        job.progress("writing an untrained draft of the right shape")
        _untrained(request, config, target, draft)
    samples = bench.run(request.start_s, request.plain_tpot_s)
    plan = assemble(request, config, target, profile, samples, bench)
    write_json(job.workdir / "plan.json", plan)
    write_atomic(job.workdir / "plan.html", render_plan(plan))
    if not request.draft:
        shutil.rmtree(draft, ignore_errors=True)
    return ForecastResult(
        plan=str(job.workdir / "plan.json"),
        page=str(job.workdir / "plan.html"),
        advice=plan.advice,
        reason=plan.reason,
    )


def _untrained(request: ForecastPlan, config: Config, target: TargetFacts, out: Path) -> None:
    """In the notation of the engine that is measured: it is written as the trainer writes one."""
    normed, own = wiring.normed_residual(config), wiring.capturing(config).engine.kind
    if config.engine.kind == own:
        write_untrained(target, out, request.layer_ids, request.draft_vocab, normed=normed)
    elif not out.exists():
        written = out.with_name(f"{out.name}-{own}")
        write_untrained(target, written, request.layer_ids, request.draft_vocab, normed=normed)
        convert_draft(written, out, config.engine.kind)
        shutil.rmtree(written)


def make_bench(
    job: Job[ForecastPlan], config: Config, target: TargetFacts, profile: WorkloadProfile, draft: Path
) -> Bench:
    """The measurement of a request; nothing is started yet."""
    request = job.plan
    return Bench(
        job,
        config,
        target.path,
        target.weight_bytes,
        design(request.ks, str(draft), request.synthetic, ngram=request.ngram),
        request.concurrencies,
        profile_shapes(profile),
        sha256=request.measured_sha256,
        repeats=request.repeats,
        tokens=request.tokens,
        vocab=target.vocab_size,
    )


def design(ks: Sequence[int], draft: str, synthetic: str, *, ngram: bool) -> tuple[MeasuredArm, ...]:
    """The servers to start beside the plain one. `synthetic`: who accepts, the `engine` or the rule put in by a `worker`."""
    arms = []
    for number, k in enumerate(ks):
        length = round(1 + k * SHARES[number % 2], 2)
        spec = {
            "method": "eagle3",
            "model": draft,
            "num_speculative_tokens": k,
            "rejection_sample_method": "synthetic",
            "synthetic_acceptance_length": length,
        }
        flags = WORKER if synthetic == "worker" else ()
        arms.append(
            MeasuredArm(name=f"draft-k{k}", method="draft", k=k, spec_config=spec, asked_al=length, flags=flags)
        )
    if ngram:
        spec = {**NGRAM, "num_speculative_tokens": NGRAM_K}
        arms.append(MeasuredArm(name=f"ngram-k{NGRAM_K}", method="ngram", k=NGRAM_K, spec_config=spec))
    return tuple(arms)


def profile_shapes(profile: WorkloadProfile) -> tuple[BenchShape, ...]:
    """Lengths to measure at: the profile's representative shapes, or its medians where it has none."""
    if profile.bench_shapes:
        return profile.bench_shapes
    isl, osl = profile.input_tokens.p50 or 512, profile.output_tokens.p50 or 128
    return (BenchShape(name="median", isl=max(2, round(isl)), osl=max(8, round(osl)), weight=1.0),)


def assemble(
    request: ForecastPlan,
    config: Config,
    target: TargetFacts,
    profile: WorkloadProfile,
    samples: Sequence[StepSample],
    bench: Bench,
) -> Plan:
    """From samples to the plan: fit, forecasts, budget, advice."""
    model = CostModel(samples)
    records = list(request.records)
    starts = bench.start_seconds
    budget = make_budget(request, config, target, profile, model.summary(), max(starts, default=request.start_s))
    most = max(model.ks)
    acceptance = expect(records, budget.answer_tokens, min(most, max((r.k for r in records), default=most)))
    at = Situation(
        recommended=profile.recommended_spec_decode,
        expected=profile.expected_acceptance,
        acceptance=acceptance,
        min_gain=config.compare.thresholds.min_gain,
        standing=request.standing,
        standing_positions=request.standing_positions,
        has_mtp=target.has_mtp,
        suffix_installed=request.suffix_installed,
    )
    points = tuple(point_plan(model, samples, c, at) for c in model.concurrencies)
    chosen = next((p for p in points if p.concurrency == request.primary), points[0])
    trial_s = sum(trial.wall_s for trial in bench.trials)
    return Plan(
        target=Path(target.path).name,
        target_sha256=target.sha256,
        profile_sha256=profile.sha256,
        measured_sha256=request.measured_sha256,
        context=_context(request, config, target, profile, samples, bench.facts),
        min_gain=at.min_gain,
        samples=tuple(samples),
        fit=model.summary(),
        points=points,
        primary=chosen.concurrency,
        acceptance=acceptance,
        budget=budget,
        advice=chosen.advice,
        reason=chosen.sentence,
        notes=(
            *cut_shapes(profile_shapes(profile), request.tokens, config.engine.max_model_len),
            *_notes(request, target, samples, bench.facts),
        ),
        starts=len(starts),
        wall_s=trial_s + sum(starts),
        created_unix_s=time.time(),
        draftsmith_version=__version__,
    )


def make_budget(
    request: ForecastPlan, config: Config, target: TargetFacts, profile: WorkloadProfile, fit: Fit, start_s: float
) -> Budget:
    """What the loop takes on this traffic. Capture and training at the speed an earlier run had, or not known."""
    share = 1 - config.corpus.heldout_share
    requests = min(profile.n_requests, config.corpus.max_rows or profile.n_requests)
    rows = round(requests * share)
    training = round(requests * (share - config.corpus.validation_share))
    lengths = (profile.input_tokens.mean or 0.0), (profile.output_tokens.mean or 0.0)
    row_tokens = min(sum(lengths), config.corpus.max_length)
    tokens, train = round(rows * row_tokens), round(training * row_tokens) * config.trainer.epochs
    capture_speed, train_speed = request.capture_tokens_per_s, request.train_tokens_per_s
    known = [f"speeds of capture and training as in {request.speeds_from}"] if train_speed else []
    missing = [name for name, speed in (("capture", capture_speed), ("training", train_speed)) if not speed]
    known += [f"no earlier run of this target measured the speed of {' or of '.join(missing)}"] if missing else []
    return Budget(
        training_rows=training,
        capture_tokens=tokens,
        capture_bytes=tokens * (len(request.layer_ids) + 1) * target.hidden_size * BYTES_PER_VALUE,
        answer_tokens=round(training * lengths[1]),
        train_tokens=train,
        capture_s=start_s + tokens / capture_speed if capture_speed else None,
        train_s=train / train_speed if train_speed else None,
        compare_s=_compare_s(config, fit, lengths[1], start_s),
        gpus=len(hardware.gpu_names()),
        basis=(*known, f"comparison: {config.compare.blocks} blocks at the step times measured here"),
    )


def _compare_s(config: Config, fit: Fit, answer_tokens: float, start_s: float) -> float:
    """Every block starts its servers anew (two at a time) and takes every arm, and the baseline twice, at every point."""
    settings, arms = config.compare, 2 + int(config.compare.ngram)
    plain = {cost.concurrency: cost.plain_s for cost in fit.costs}
    nearest = {c: plain[min(plain, key=lambda known: abs(known - c))] for c in settings.concurrency}
    trial = sum(settings.prompts * answer_tokens * nearest[c] / c for c in settings.concurrency)
    starts = settings.blocks if settings.restart_every else 1
    return starts * start_s * ((arms + 1) // 2) + settings.blocks * (arms + 1) * trial


def cut_shapes(shapes: Sequence[BenchShape], tokens: int, context: int) -> list[str]:
    """Of shapes whose prompt does not fit the context, a sentence each: what was sent in its place."""
    sentences = []
    for shape in shapes:
        length, _ = sent_lengths(shape, tokens, context)
        if length < shape.isl:
            sentences.append(
                f"shape {shape.isl}:{shape.osl} does not fit engine.max_model_len {context}: it was measured with prompts of "
                f"{length} tokens"
            )
    return sentences


def _context(
    request: ForecastPlan,
    config: Config,
    target: TargetFacts,
    profile: WorkloadProfile,
    samples: Sequence[StepSample],
    facts: dict[str, EngineFacts],
) -> Context:
    plain_facts, kind, repeats = facts.get(PLAIN), config.engine.kind, request.repeats
    sent = [sent_lengths(shape, request.tokens, config.engine.max_model_len) for shape in profile_shapes(profile)]
    shapes = ", ".join(dict.fromkeys(f"{isl}:{osl}" for isl, osl in sent))
    loads = sorted({s.concurrency for s in samples})
    return Context(
        model=Path(target.path).name,
        hardware=hardware.describe(),
        engine=f"{plain_facts.engine} {plain_facts.version or ''}".rstrip() if plain_facts else kind,
        dtype=(plain_facts.dtype if plain_facts else None) or target.dtype,
        serving=f"max-num-seqs {plain_facts.max_num_seqs}, prefix caching off"
        if plain_facts and plain_facts.max_num_seqs
        else None,
        workload=f"random token ids, as sent (ISL:OSL {shapes}; answers are cut at {request.tokens}), greedy",
        regime=f"cold cache; concurrency {', '.join(map(str, loads))}",
        trials=repeats,
        baseline="no speculation",
    )


def _notes(
    request: ForecastPlan, target: TargetFacts, samples: Sequence[StepSample], facts: dict[str, EngineFacts]
) -> list[str]:
    notes = [request.shape_note, *([request.fit_note] if request.fit_note else [])]
    if request.synthetic == "worker":
        notes.append(
            "this build's sampler cannot accept at a chosen rate; Draftsmith's own rule did, only in these servers"
        )
    off = [s for s in samples if s.asked_al and abs(s.tokens_per_step / s.asked_al - 1) > 0.1]
    if off:
        notes.append(
            f"{len(off)} of {len(samples)} points gave an AL more than 10 % from the one asked for; the counted one is used"
        )
    runners = {fact.runner for fact in facts.values()}
    if len(runners) > 1:
        notes.append(f"the servers ran on different model runners ({', '.join(sorted(map(str, runners)))})")
    if target.quantization:
        notes.append(f"the target is quantised ({target.quantization}); the draft here is not")
    return notes


def preview(request: ForecastPlan, workdir: Path) -> Effort:
    """Starts, trials and seconds that a request still needs, before anything is started."""
    config, target = request.config, request.target
    profile = WorkloadProfile.model_validate(read_json(Path(request.profile)))
    bench = make_bench(Job(workdir, request), config, target, profile, Path("untrained"))
    return bench.effort(request.start_s, request.plain_tpot_s)
