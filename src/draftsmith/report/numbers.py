"""Numbers as text, and the context that goes with every one of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import PurePosixPath

from draftsmith.contract.config import ENGINE_KINDS
from draftsmith.contract.context import Context, Measured
from draftsmith.contract.counters import RIGOR, GpuCounters, rigor_level
from draftsmith.contract.measure import ComparisonPlan, EngineFacts, Trial
from draftsmith.report.parts import ReportParts
from draftsmith.report.reduce import lengths, tpots
from draftsmith.report.sol import SolShare, ceiling_for, measured_bandwidth, sol_share
from draftsmith.verdict.measures import MEASURE_WORDS

NOT_STATED = "not stated"
DASH = "–"


def base_context(parts: ReportParts) -> Context:
    """The context of the whole comparison, from the parts. A value that is missing is shown as "not stated"."""
    if parts.context is not None:
        return parts.context
    fact = parts.facts[0][1] if parts.facts else None
    return Context(
        model=model_name(parts),
        hardware=hardware_name(parts),
        engine=_engine(parts, fact),
        identity=f"{parts.target.architecture}, sha256 {parts.target.sha256[:12]}" if parts.target else None,
        dtype=(fact.dtype if fact else None) or (parts.target.dtype if parts.target else None),
        quantization=_quantization(parts, fact),
        parallelism=_parallelism(fact),
        serving=_serving(fact),
        backend=_backend(parts) if parts.trials else None,
        rigor=rigor(parts.trials, parts.counters) if parts.trials else None,
        regime=f"{parts.plan.cache_regime} cache" if parts.plan else None,
        baseline=parts.plan.baseline if parts.plan else None,
    )


def point_context(parts: ReportParts, point: str | None, *, arm: str | None = None, traffic: str = "own") -> Context:
    """The context of numbers at one operating point (None = over all of them), with the lengths as measured there."""
    base = base_context(parts)
    names = [point] if point is not None else [p.name for p in parts.points]
    trials = tuple(t for name in names for t in parts.at(name, traffic) if arm is None or t.arm == arm)
    operating_point = next((p for p in parts.points if p.name == point), None)
    blocks = len({trial.block for trial in trials})
    loads = sorted({p.concurrency for p in parts.points if p.name in names})
    many = f"concurrency {', '.join(map(str, loads))}" if operating_point is None and len(loads) > 1 else None
    tier = None
    if operating_point is not None:
        tier = (
            "open loop"
            if operating_point.open_loop
            else "latency tier"
            if operating_point.concurrency == 1
            else "throughput tier"
        )
    regime = " · ".join(word for word in (base.regime, tier, many) if word)
    return base.model_copy(
        update={
            "workload": _workload(parts, trials) or base.workload,
            "concurrency": operating_point.concurrency
            if operating_point
            else (loads[0] if len(loads) == 1 else base.concurrency),
            "regime": regime or None,
            "trials": blocks or base.trials,
            "spread": _spread(trials) if arm is not None else base.spread,
            "sol_share": base.sol_share or _sol_words(parts, point, arm),
        }
    )


def traffic_context(parts: ReportParts) -> Context:
    """Of numbers counted in the log: no machine has a part in them."""
    profile = parts.profile
    return Context(
        model=(profile.tokenizer if profile else None) or model_name(parts),
        hardware="counted from the log, no hardware involved",
        engine=f"draftsmith {profile.draftsmith_version}".strip() if profile else "draftsmith",
        workload=_log_words(parts),
    )


def training_context(parts: ReportParts) -> Context:
    """Of numbers seen in training: teacher-forced on validation rows, so no statement about serving."""
    draft, corpus = parts.draft, parts.corpus
    rows = corpus.splits.get("validation") if corpus else None
    tokens = draft.trained_tokens if draft else None
    return Context(
        model=model_name(parts),
        hardware=hardware_name(parts),
        engine=draft.trainer if draft else "trainer not stated",
        dtype=parts.target.dtype if parts.target else None,
        workload=(f"validation rows {rows.rows}" if rows else "validation rows")
        + (f", trained on {tokens:,} tokens" if tokens else ""),
        regime="teacher-forced",
    )


def measured_speedup(parts: ReportParts, arm: str, point: str | None) -> Measured | None:
    """The speed-up of an arm with its interval and context."""
    pair = parts.pair(arm, point)
    if pair is None or pair.speedup is None:
        return None
    context = point_context(parts, point).model_copy(
        update={
            "baseline": f"{pair.baseline}, {pair.speedup.confidence:.0%} interval",
            "sol_share": _sol_words(parts, point, arm),
        }
    )
    return Measured(
        value=pair.speedup.value,
        unit=f"x in {MEASURE_WORDS[pair.measure] if pair.measure else 'median TPOT'}",
        low=pair.speedup.low,
        high=pair.speedup.high,
        context=context,
    )


def asked_prompts(plan: ComparisonPlan) -> str:
    """How many prompts were asked, and of how many: the first edition asks all of them in every trial."""
    if plan.block_prompts is None or plan.block_prompts >= plan.n_prompts:
        return f"{count(plan.n_prompts)} prompts a trial"
    return f"{count(plan.block_prompts)} of {count(plan.n_prompts)} prompts a block"


def sol_shares(parts: ReportParts) -> tuple[SolShare, ...]:
    """Every arm at every point against the memory-traffic floor. Empty without the inputs or a ceiling."""
    inputs = parts.sol
    if inputs is None or parts.decision is None:
        return ()
    if inputs.bandwidth is None:
        from dataclasses import replace

        inputs = replace(inputs, bandwidth=measured_bandwidth(parts.trials) or ceiling_for(device_name(parts)))
    shares = []
    for point in parts.points:
        for arm in parts.arms:
            summary = parts.summary(arm.name, point.name)
            trials = tuple(t for t in parts.at(point.name) if t.arm == arm.name)
            share = sol_share(arm, point, summary, trials, inputs) if summary else None
            if share is not None:
                shares.append(share)
    return tuple(shares)


def model_name(parts: ReportParts) -> str:
    """The target's own name, without folders."""
    if parts.context is not None:
        return parts.context.model
    return PurePosixPath(parts.target.path).name if parts.target else f"target {NOT_STATED}"


def device_name(parts: ReportParts) -> str:
    """Where the trials ran, by their own word; a report may be written on another machine."""
    named = sorted({str(name) for trial in parts.trials if (name := trial.hardware.get("device"))})
    return ", ".join(named) or hardware_name(parts)


def hardware_name(parts: ReportParts) -> str:
    """The hardware in one line."""
    if parts.context is not None:
        return parts.context.hardware
    if parts.hardware:
        return ", ".join(parts.hardware.values())
    devices = sorted({fact.device for _, fact in parts.facts if fact.device})
    return ", ".join(devices) if devices else f"hardware {NOT_STATED}"


def milliseconds(seconds: float | None) -> str:
    """Seconds as milliseconds to three significant digits, trailing zeros kept: columns of them line up."""
    if seconds is None:
        return DASH
    value = 1000 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def significant(value: float | None, digits: int = 3) -> str:
    """To significant digits, without an exponent, and never fewer digits than an integer has."""
    if value is None:
        return DASH
    if value == 0:
        return "0"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{max(0, digits - len(str(int(abs(value)))))}f}"
    return f"{value:.{digits}g}" if abs(value) >= 1e-4 else f"{value:.1e}"


def percent(share: float | None, digits: int = 3) -> str:
    """A share as per cent."""
    return DASH if share is None else f"{significant(100 * share, digits)} %"


def ratio(value: float | None) -> str:
    """A speed-up."""
    return DASH if value is None else f"{value:.3f}×"


def count(value: float | None) -> str:
    """A count with thousands separated."""
    return DASH if value is None else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Wall time in the units a person would use."""
    if seconds < 120:
        return f"{significant(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _engine(parts: ReportParts, fact: EngineFacts | None) -> str:
    if fact is not None:
        return f"{fact.engine} {fact.version or f'version {NOT_STATED}'}"
    versions = parts.plan.versions if parts.plan else {}
    named = next((name for name in ENGINE_KINDS if name in versions), None)
    return f"{named} {versions[named]}" if named else f"engine {NOT_STATED}"


def _quantization(parts: ReportParts, fact: EngineFacts | None) -> str | None:
    """Of the weights, by the engine's word or the target's own; and the cache's type where it is not the model's."""
    settings = fact.settings if fact else {}
    weights = settings.get("quantization") or (parts.target.quantization if parts.target else None)
    words = [f"weights {weights}" if weights and weights != "None" else "weights not quantised"]
    words += [f"KV cache {kind}"] if (kind := settings.get("kv_cache_dtype")) else []
    return ", ".join(words) if fact or parts.target else None


PARALLEL = (("TP", "tensor"), ("PP", "pipeline"), ("DP", "data"))


def _parallelism(fact: EngineFacts | None) -> str | None:
    """As the engine printed it; what it does not print is not known."""
    if fact is None:
        return None
    sizes = [f"{short}{size}" for short, name in PARALLEL if (size := fact.settings.get(f"{name}_parallel_size"))]
    sizes += ["EP"] if fact.settings.get("enable_expert_parallel") == "True" else []
    return " ".join(sizes) or f"parallelism {NOT_STATED}"


def _backend(parts: ReportParts) -> str:
    version = parts.plan.versions.get("draftsmith", "") if parts.plan else ""
    return f"draftsmith {version}".strip()


def rigor(trials: Iterable[Trial], counters: GpuCounters | None = None) -> str:
    """What was really recorded beside the times. Kernel profiles (L4) are not Draftsmith's."""
    level = rigor_level(trials, counters)
    return f"{level} ({RIGOR[level]})"


def _spread(trials: tuple[Trial, ...]) -> str | None:
    """Mean and standard deviation over blocks of the median TPOT."""
    blocks: dict[int, list[float]] = {}
    for trial in trials:
        blocks.setdefault(trial.block, []).extend(tpots([trial]))
    medians = [statistics.median(values) for values in blocks.values() if values]
    if len(medians) < 2:
        return None
    mean, deviation = statistics.fmean(medians), statistics.stdev(medians)
    return f"median TPOT {milliseconds(mean)} ± {milliseconds(deviation)} ms over {len(medians)} blocks"


def _serving(fact: EngineFacts | None) -> str | None:
    if fact is None:
        return None
    caching = {True: "prefix caching on", False: "prefix caching off", None: None}[fact.prefix_caching]
    words = [
        f"max-num-seqs {fact.max_num_seqs}" if fact.max_num_seqs else None,
        f"max-num-batched-tokens {fact.max_batched_tokens}" if fact.max_batched_tokens else None,
        f"max-model-len {fact.max_model_len}" if fact.max_model_len else None,
        f"memory share {fact.memory_share:g}" if fact.memory_share else None,
        caching,
        "eager" if fact.enforce_eager else (f"graphs {fact.graph_mode}" if fact.graph_mode else None),
        {True: "async scheduling on", False: "async scheduling off", None: None}[fact.async_scheduling],
        f"runner {fact.runner}" if fact.runner else None,
    ]
    return ", ".join(word for word in words if word) or None


def _workload(parts: ReportParts, trials: tuple[object, ...]) -> str | None:
    isl, osl = lengths(trials)  # type: ignore[arg-type]
    if isl is None and osl is None:
        return None
    words = [f"held-out prompts of {_log_words(parts)}"] if parts.profile else []
    words += [asked_prompts(parts.plan)] if parts.plan else []
    words += [f"ISL p50 {significant(isl)}"] if isl is not None else []
    words += [f"OSL p50 {significant(osl)}"] if osl is not None else []
    return ", ".join(words)


def _log_words(parts: ReportParts) -> str:
    if parts.profile is None:
        return f"log {NOT_STATED}"
    names = ", ".join(source.name for source in parts.profile.provenance[:3]) or "log"
    return f"{names}: {parts.profile.n_requests:,} requests"


def _sol_words(parts: ReportParts, point: str | None, arm: str | None) -> str | None:
    """`61 % of the memory-traffic ceiling (key)` for one arm; for several, their range."""
    shares = [s for s in sol_shares(parts) if (point is None or s.point == point) and (arm is None or s.arm == arm)]
    if not shares:
        why = parts.sol.unknown if parts.sol else None
        return f"%SoL not computed ({why or 'no memory bandwidth known'})"
    low, high = min(s.share for s in shares), max(s.share for s in shares)
    span = percent(low, 2) if arm is not None or len(shares) == 1 else f"{100 * low:.0f} to {percent(high, 2)}"
    return f"{span} of the memory-traffic ceiling ({shares[0].ceiling.key})"
