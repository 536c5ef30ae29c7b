"""A made-up run with everything in it. FIXTURE: every number here is drawn from a seeded generator, none was measured."""

from __future__ import annotations

import random
from typing import Any

from draftsmith.contract.base import digest
from draftsmith.contract.corpus import CorpusManifest, DraftVocabulary, SplitCounts
from draftsmith.contract.draft import DraftManifest, TargetFacts
from draftsmith.contract.measure import (
    Arm,
    ComparisonPlan,
    EngineFacts,
    OperatingPoint,
    RequestSample,
    SpecCounters,
    Thresholds,
    Trial,
)
from draftsmith.contract.profile import (
    ClassProfile,
    Distribution,
    ExpectedAcceptance,
    LengthBucket,
    LoadSlice,
    Recommendation,
    Skipped,
    Source,
    WorkloadProfile,
)
from draftsmith.contract.verdict import Decision
from draftsmith.report.parts import PhaseTiming, ReportParts
from draftsmith.report.sol import Bandwidth, SolInputs
from draftsmith.verdict.decide import decide
from draftsmith.verdict.samples import bundle_digest

PROMPTS = 24
SHARES = {
    "standing": (),
    "tailored": (0.76, 0.62, 0.53),
    "tailored-k2": (0.76, 0.62),
    "ngram": (0.31, 0.22, 0.17),
}
# Seconds per token at concurrency 1, 4 and 16.
TPOT = {
    "standing": (0.0450, 0.0486, 0.071),
    "tailored": (0.0265, 0.0336, 0.081),
    "tailored-k2": (0.0281, 0.0341, 0.074),
    "ngram": (0.0471, 0.0512, 0.088),
}
CLASSES = {"code": 0.52, "extract_json": 0.26, "chat": 0.15, "summarise": 0.07}
CLASS_AL = {"code": 1.05, "extract_json": 1.18, "chat": 0.55, "summarise": 0.9}


def plan(points: int = 3, **limits: Any) -> ComparisonPlan:
    arms = (
        Arm(name="standing", role="no_spec"),
        _arm("tailored", "candidate", "eagle3", 3),
        _arm("tailored-k2", "candidate", "eagle3", 2),
        _arm("ngram", "trainless", "ngram", 3),
    )
    loads = (1, 4, 16)[:points]
    return ComparisonPlan(
        arms=arms,
        baseline="standing",
        points=tuple(OperatingPoint(name=f"c{n}", concurrency=n, primary=n == 1) for n in loads),
        prompts_sha256="a" * 64,
        general_prompts_sha256="b" * 64,
        n_prompts=PROMPTS,
        thresholds=Thresholds(**limits),
        versions={"vllm": "0.32.0"},
    )


def _arm(name: str, role: Any, method: str, k: int) -> Arm:
    return Arm(name=name, role=role, spec_config={"method": method, "num_speculative_tokens": k})


def trials(
    frozen: ComparisonPlan, blocks: int = 4, speed: dict[str, float] | None = None, noise: float = 0.012
) -> list[Trial]:
    """`speed`: arm -> factor on its TPOT."""
    found = []
    for index, point in enumerate(frozen.points):
        for block in range(blocks):
            names = [arm.name for arm in frozen.arms]
            order = names if block % 2 == 0 else names[::-1]
            jobs = [(name, "own") for name in order]
            jobs += [(name, "general") for name in order if name in ("standing", "tailored", "tailored-k2")]
            jobs += [("standing#a", "aa"), ("standing#b", "aa")] if index == 0 else []
            for place, (name, traffic) in enumerate(jobs):
                found.append(_trial(frozen, point, index, block, place, name, traffic, speed or {}, noise))
    return found


def _trial(
    frozen: ComparisonPlan,
    point: OperatingPoint,
    index: int,
    block: int,
    order: int,
    name: str,
    traffic: Any,
    speed: dict[str, float],
    noise: float,
) -> Trial:
    plain = name.split("#")[0]
    chance = random.Random(f"{point.name}/{block}/{name}/{traffic}")
    level = TPOT[plain][index] * speed.get(plain, 1.0) * (1 + chance.gauss(0, noise))
    if traffic == "general" and plain != "standing":
        level = TPOT["standing"][index] * (1 + chance.gauss(0.01, noise))
    samples = tuple(_sample(i, level, SHARES[plain]) for i in range(PROMPTS))
    times = [s.latency_s or 0.0 for s in samples]
    drafts = sum(s.drafts or 0 for s in samples)
    shares = SHARES[plain]
    taken = sum(s.accepted_tokens or 0 for s in samples)
    return Trial(
        plan_sha256=digest(frozen),
        trial_id=f"{point.name}/{block}/{name}/{traffic}",
        block=block,
        order=order,
        arm=name,
        point=point.name,
        traffic=traffic,
        node="node-a",
        engine_start_id=f"{name}@{block}",
        started_unix_s=1.79e9 + 600 * block + order,
        wall_s=max(sum(times) / point.concurrency * 1.04, max(times)) + 0.3,
        peak_concurrency=point.concurrency,
        samples=samples,
        kv_tokens=98_304 if plain == "standing" else 92_160,
        counters=SpecCounters(
            present=bool(shares),
            drafts=drafts,
            draft_tokens=3 * drafts,
            accepted_tokens=taken,
            accepted_per_position=tuple(int(drafts * share) for share in shares),
            generation_tokens=sum(s.output_tokens or 0 for s in samples),
            requests=PROMPTS,
            decode_steps=_steps(samples, plain),
            server_tpot_sum_s=0.99 * sum(s.tpot_s or 0.0 for s in samples),
            server_tpot_count=PROMPTS,
        ),
    )


def _steps(samples: tuple[RequestSample, ...], arm: str) -> int:
    """Decode steps: n-gram lookup drafts in two of five steps only."""
    if arm == "standing":
        return sum((s.output_tokens or 1) - 1 for s in samples)
    return int(sum(s.drafts or 0 for s in samples) * (1.35 if arm == "ngram" else 1.0))


def _sample(i: int, level: float, shares: tuple[float, ...]) -> RequestSample:
    """The same prompt has the same class and lengths everywhere."""
    fixed = random.Random(f"prompt {i}")
    kind = fixed.choices(list(CLASSES), list(CLASSES.values()))[0]
    output = int(fixed.lognormvariate(4.4, 0.5)) + 12
    prompt = int(fixed.lognormvariate(5.0, 0.7)) + 20
    tpot = level * fixed.uniform(0.88, 1.14) * (1.0 if not shares else 1.06 / CLASS_AL[kind] ** 0.4)
    steps = int(output / (1 + sum(shares) * CLASS_AL[kind])) if shares else None
    ttft = 0.09 + 0.0006 * prompt
    return RequestSample(
        prompt_id=f"p{i:02d}",
        content_class=kind,
        prompt_tokens=prompt,
        output_tokens=output,
        ttft_s=ttft,
        latency_s=ttft + tpot * (output - 1),
        finish_reason="stop",
        drafts=steps,
        accepted_tokens=output - steps - 1 if steps is not None else None,
    )


def facts(measured: list[Trial]) -> list[tuple[str, EngineFacts]]:
    starts = {t.engine_start_id: t.arm for t in measured if t.traffic != "aa"}
    return [
        (
            arm,
            EngineFacts(
                start_id=start,
                version="0.32.0",
                device="cpu",
                dtype="bfloat16",
                enforce_eager=False,
                compile_mode="DYNAMO_TRACE_ONCE",
                graph_mode="NONE",
                runner="V1",
                kv_tokens=98_304 if arm == "standing" else 92_160,
                max_model_len=2048,
                max_num_seqs=32,
                prefix_caching=False,
                spec_method=None if arm == "standing" else arm.split("-")[0].replace("tailored", "eagle3"),
                num_speculative_tokens=len(SHARES[arm]) or None,
                sharing=("draft shares the target's embeddings",) if "tailored" in arm else (),
            ),
        )
        for start, arm in starts.items()
    ]


def judged(frozen: ComparisonPlan, measured: list[Trial]) -> Decision:
    return decide(frozen, measured, facts(measured), samples_sha256=bundle_digest(measured))


def training_records(epochs: int = 6, steps: int = 40) -> list[dict[str, Any]]:
    """Metric records as the trainer writes them."""
    chance = random.Random(3)
    records: list[dict[str, Any]] = [{"at_unix_s": 1.0, "speculator_type": "eagle3", "seed": 42}]
    for epoch in range(epochs):
        for step in range(steps):
            done = (epoch * steps + step) / (epochs * steps)
            loss = 2.2 + 16 * 0.02 ** (done * 2.2) + chance.gauss(0, 0.25)
            records.append(
                {
                    "at_unix_s": 2.0 + step,
                    "train": {"loss": loss, "full_acc_0": 0.82 * done**0.3},
                    "global_step": epoch * steps + step,
                    "lr": {"AdamW": 1e-3},
                    "epoch": epoch,
                }
            )
        rise = 1 - 0.5 ** (epoch + 1.4)
        val = {f"full_acc_{k}_epoch": share * rise for k, share in enumerate((0.84, 0.7, 0.61))}
        records.append({"val": {**val, "loss_epoch": 2.1 + 4 * 0.5 ** (epoch + 1)}, "epoch": epoch})
    return records


def profile() -> WorkloadProfile:
    def lengths(mean: float, p50: float, p90: float, p99: float, top: float) -> Distribution:
        return Distribution(count=5120, mean=mean, p50=p50, p90=p90, p99=p99, max=top)

    def expected(scale: float) -> tuple[ExpectedAcceptance, ...]:
        return tuple(
            ExpectedAcceptance(
                method=method,  # type: ignore[arg-type]
                num_speculative_tokens=3,
                acceptance_length=1 + 1.3 * gain * scale,
                tokens_per_step=1 + gain * scale,
                draft_rate=0.41 * scale,
                output_tokens=81_000,
            )
            for method, gain in (("ngram", 0.36), ("suffix", 0.52))
        )

    isl = (0.02, 0.09, 0.2, 0.28, 0.23, 0.13, 0.05)
    osl = (0.11, 0.26, 0.33, 0.2, 0.08, 0.02)
    edges = (0, 32, 64, 128, 256, 512, 1024, 2048)
    return WorkloadProfile(
        n_requests=5120,
        skipped=(Skipped(reason="failed request", count=37), Skipped(reason="no answer recorded", count=9)),
        tokenizer="smollm2 (sha256 1f3a…)",
        input_tokens=lengths(211, 148, 480, 1210, 1900),
        output_tokens=lengths(96, 78, 190, 410, 800),
        content_class_mix=CLASSES,
        classes=tuple(
            ClassProfile(
                name=name,
                share=share,
                n_requests=int(5120 * share),
                input_tokens=Distribution(),
                output_tokens=Distribution(),
                expected_acceptance=expected(CLASS_AL[name] * 1.1),
            )
            for name, share in CLASSES.items()
        ),
        isl_buckets=tuple(LengthBucket(low=a, high=b, share=s) for a, b, s in zip(edges, edges[1:], isl, strict=False)),
        osl_buckets=tuple(LengthBucket(low=a, high=b, share=s) for a, b, s in zip(edges, edges[1:], osl, strict=False)),
        arrival_rate_per_s=0.7,
        peak_rate_per_s=3.1,
        concurrency_mean=1.4,
        concurrency_p90=4,
        load_over_time=tuple(
            LoadSlice(
                start_unix_s=3600.0 * hour, seconds=3600.0, requests_per_s=0.2 + 0.1 * hour, concurrency=1.0 + hour
            )
            for hour in range(8)
        ),
        repetition_loop_share=0.02,
        languages={"en": 0.8, "de": 0.2},
        multi_turn_share=0.21,
        prefix_reuse_share=0.33,
        tool_share=0.0,
        structured_output_share=0.26,
        expected_acceptance=expected(1.0),
        recommended_spec_decode=Recommendation(
            method="eagle3", rationale="Answers repeat little of their prompts, so a trained draft is worth its price."
        ),
        provenance=(Source(name="access.jsonl", format="native", records=5166),),
        draftsmith_version="0.1.0",
        sha256="c" * 64,
    )


def corpus(**changes: Any) -> CorpusManifest:
    base = CorpusManifest(
        schema="draftsmith_corpus_v1",
        target_sha256="1" * 64,
        tokenizer_sha256="2" * 64,
        rows_sha256="3" * 64,
        splits={
            "train": SplitCounts(rows=3911, prompt_tokens=824_000, answer_tokens=375_000),
            "validation": SplitCounts(rows=402, prompt_tokens=85_200, answer_tokens=38_600),
            "heldout": SplitCounts(rows=744, prompt_tokens=158_000, answer_tokens=71_900),
        },
        vocabulary=DraftVocabulary(
            size=4096,
            distinct_answer_tokens=6120,
            coverage={"train": 0.9961, "validation": 0.9942, "heldout": 0.9913},
            sha256="4" * 64,
        ),
        dropped={"near-duplicate": 41, "longer than the limit": 12},
        cut={"answer shortened": 10},
        regenerated=88,
        max_length=2048,
        capture_bytes_estimate=4_300_000_000,
    )
    return base.model_copy(update=changes)


def draft(**changes: Any) -> DraftManifest:
    base = DraftManifest(
        method="eagle3",
        layer_ids=(2, 15, 27),
        hidden_size=576,
        target_vocab_size=49152,
        draft_vocab_size=4096,
        vocab_map_sha256="5" * 64,
        has_own_embeddings=False,
        has_own_lm_head=True,
        target_sha256="1" * 64,
        tokenizer_sha256="2" * 64,
        trainer="speculators 0.9.0",
        epoch=5,
        validation_acceptance=(0.835, 0.695, 0.604),
        weights_sha256="6" * 64,
        trained_tokens=2_250_000,
    )
    return base.model_copy(update=changes)


def target() -> TargetFacts:
    return TargetFacts(
        path="/models/SmolLM2-135M-Instruct",
        architecture="LlamaForCausalLM",
        model_type="llama",
        num_layers=30,
        hidden_size=576,
        vocab_size=49152,
        max_position_embeddings=8192,
        dtype="bfloat16",
        weight_bytes=269_000_000,
        sha256="1" * 64,
        tokenizer_sha256="2" * 64,
    )


def sol() -> SolInputs:
    return SolInputs(
        weight_bytes=269_000_000,
        bandwidth=Bandwidth("fixture CPU, copy test", 2.1e10, "this fixture", measured=True),
        kv_bytes_per_token=2 * 30 * 3 * 64 * 2,
        draft_bytes={"tailored": 9_800_000, "tailored-k2": 9_800_000},
    )


def parts(points: int = 3, blocks: int = 4, speed: dict[str, float] | None = None, **changes: Any) -> ReportParts:
    frozen = plan(points)
    measured = trials(frozen, blocks, speed)
    whole: dict[str, Any] = {
        "run_id": "0007",
        "family": "fixture",
        "created_unix_s": 1.79e9,
        "target": target(),
        "profile": profile(),
        "corpus": corpus(),
        "draft": draft(),
        "training": training_records(),
        "plan": frozen,
        "trials": measured,
        "decision": judged(frozen, measured),
        "facts": facts(measured),
        "timings": (
            PhaseTiming("profile", 4.2),
            PhaseTiming("corpus", 341.0),
            PhaseTiming("train", 912.0, "6 epochs"),
            PhaseTiming("compare", 1260.0, f"{blocks} blocks, {points} points"),
        ),
        "hardware": {"cpu": "FIXTURE: 2 vCPU x86, AVX-512"},
        "sol": sol(),
    }
    return ReportParts(**(whole | changes))
