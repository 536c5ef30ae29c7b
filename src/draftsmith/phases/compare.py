"""Phase 5: the candidate against the standing configuration in the real engine: which arms, at which operating points.

It has no gate: after a loss the standing configuration is kept and the evidence is published.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from draftsmith.contract.compare_config import CompareConfig
from draftsmith.contract.config import Config
from draftsmith.contract.jobs import (
    CanaryRequest,
    ComparePlan,
    CompareResult,
    CorpusResult,
    ProfileResult,
    RecordedArrivals,
    TrainResult,
)
from draftsmith.contract.measure import Arm, OperatingPoint
from draftsmith.contract.speculation import K, Speculation
from draftsmith.kit.files import read_json
from draftsmith.phases.base import Gate, JobPlan, PhaseContext
from draftsmith.phases.identity import identity, path_names, registry
from draftsmith.phases.way import configurations, trained, way

MANIFEST = "draft-manifest.json"
RECORDED = "recorded"
JOURNAL = "campaigns.jsonl"
NGRAM_HOPELESS = 1.02  # tokens per step in the replay of the log; below it prompt lookup costs more than it gains


class Compare:
    """Measure the candidate against the standing configuration in the real engine."""

    name = "compare"
    title = "compare in the engine"
    module = "draftsmith.work.compare"
    gpus = 1
    result = CompareResult

    def plan(self, context: PhaseContext) -> JobPlan[ComparePlan]:
        """See Phase."""
        arms = comparison_arms(context)
        corpus = context.result(CorpusResult)
        draft = context.result(TrainResult).draft_sha256 if trained(context) else way(context).method
        plan = ComparePlan(
            config=context.config,
            target=context.target.path,
            registry=registry(context),
            layer_ids=context.layer_ids,
            versions=context.versions,
            names=path_names(context),
            weight_bytes=context.target.weight_bytes,
            arms=arms,
            baseline=arms[0].name,
            points=operating_points(context),
            corpus=corpus.corpus,
            journal=str(context.workspace / JOURNAL),
            arrivals=arrivals(context),
            canaries=canaries(context),
        )
        in_cluster = on_canaries(context.config)
        inputs = identity(context, "engine", "compare", *(("serving",) if in_cluster else ())) | {
            "draft": draft,
            "rows": corpus.rows_sha256,
            "standing": context.standing,
        }
        return JobPlan(self.module, plan, inputs, 0 if in_cluster else self.gpus, here=in_cluster)

    def collect(self, context: PhaseContext, result: CompareResult) -> Gate:
        """See Phase. A loss is a result too: the loop keeps the standing configuration and publishes."""
        details = tuple(filter(None, (result.forecast, result.schedule_sentence)))
        return Gate(True, f"{result.outcome} (tier {result.tier}): {result.reason}", details)


def comparison_arms(context: PhaseContext) -> tuple[Arm, ...]:
    """The baseline first; no speculation is always there, as an arm of its own if the standing config speculates."""
    settings = context.config.compare
    standing = Arm(name="standing", role="standing", spec_config=context.standing)
    arms = [standing]
    if context.standing is not None:
        arms.append(Arm(name="no-spec", role="no_spec"))
    method, chosen = context.config.trainer.method, way(context)
    if trained(context):
        train = context.result(TrainResult)
        for k in draft_lengths(context.config):
            config = Speculation(method=method, draft=train.draft, k=k).config
            arms.append(
                Arm(name=f"{method}-k{k}", role="candidate", spec_config=config, draft_sha256=train.draft_sha256)
            )
    else:
        for name, config in configurations(context.config, chosen.method):
            if config != context.standing:
                arms.append(Arm(name=name, role="candidate", spec_config=config))
    arms += _ways_of_verifying(settings, arms[-1])
    for folder in settings.drafts:
        draft_config = other_draft(Path(folder), method, max(settings.k_values))
        config = draft_config.model_copy(update={"draft": folder}).config
        arms.append(Arm(name=free_name(folder, arms), role="other", spec_config=config))
        if settings.adaptive_verification and config["method"] == "dspark":
            adaptive = config | {"enable_adaptive_verification": True}
            arms.append(Arm(name=f"{arms[-1].name}-adaptive", role="other", spec_config=adaptive))
    hope = context.result(ProfileResult).ngram_tokens_per_step
    taken = frozenset() if chosen.trains else frozenset({chosen.method})
    if settings.ngram and (hope is None or hope > NGRAM_HOPELESS) and not taken & {"ngram", "predicted_outputs"}:
        ngram = Speculation(method="ngram", k=3, rest={"prompt_lookup_max": 4, "prompt_lookup_min": 2}).config
        arms.append(Arm(name="ngram-k3", role="trainless", spec_config=ngram))
    if settings.mtp and context.target.has_mtp and "deepseek_mtp" not in taken:
        heads = {"method": "mtp", "num_speculative_tokens": 1}
        if heads != context.standing:
            arms.append(Arm(name="mtp", role="trainless", spec_config=heads))
    if settings.suffix and "suffix" not in taken:
        arms.append(Arm(name="suffix", role="trainless", spec_config=Speculation(method="suffix").config))
    return tuple(arm.model_copy(update={"engine": context.config.engine.kind}) for arm in arms)


def _ways_of_verifying(settings: CompareConfig, candidate: Arm) -> list[Arm]:
    """Arms with the same draft and another way of verification, or lengths that move, if they are configured."""
    spec, arms = candidate.spec_config or {}, []
    base = candidate.name.rsplit("-k", 1)[0]
    if settings.adaptive_steps:
        # It begins with the most that it may become.
        adaptive = {key: value for key, value in spec.items() if key != K} | {"adaptive": True}
        arms.append(candidate.model_copy(update={"name": f"{base}-adaptive", "spec_config": adaptive}))
    if settings.block_verification:
        block = spec | {"rejection_sample_method": "block"}
        arms.append(candidate.model_copy(update={"name": f"{candidate.name}-block", "spec_config": block}))
    if settings.k_by_batch:
        longest = max(k for _, _, k in settings.k_by_batch)
        by_batch = spec | {
            "num_speculative_tokens": longest,
            "num_speculative_tokens_per_batch_size": [list(tier) for tier in settings.k_by_batch],
        }
        arms.append(candidate.model_copy(update={"name": f"{base}-by-batch", "spec_config": by_batch}))
    return arms


def free_name(folder: str, arms: Sequence[Arm]) -> str:
    """Arm name of an additional draft: the name of its folder (of the parent folder for `draft`), made unique among `arms`."""
    path = Path(folder)
    name = (path.parent.name if path.name == "draft" else path.name).replace("#", "-") or "draft"
    taken = {arm.name for arm in arms}
    return next(n for n in (name, *(f"{name}-{i}" for i in range(2, len(arms) + 3))) if n not in taken)


def draft_lengths(config: Config) -> tuple[int, ...]:
    """How many tokens the candidate proposes at once, one arm each. A block draft is trained on
    whole blocks, so block_size - 1 is always tried as well."""
    settings = config.compare.k_values
    if config.trainer.method == "dflash":
        block = config.trainer.block_size - 1
        return tuple(dict.fromkeys((min(max(settings), block), block)))
    return tuple(dict.fromkeys(min(k, config.trainer.ttt_steps + 2) for k in settings))


def other_draft(folder: Path, method: str, k: int) -> Speculation:
    """Method and length of a further draft: as its own files say, where they say it."""
    fields: dict[str, Any] = {}
    for name in ("config.json", MANIFEST):
        if (folder / name).is_file():
            fields |= read_json(folder / name)
    own = str(fields.get("method") or fields.get("speculators_model_type") or method)
    block = fields.get("block_size")
    length = block - 1 if own == "dflash" and isinstance(block, int) else k
    if own == "peagle":
        return Speculation(method="eagle3", k=length, rest={"parallel_drafting": True})
    return Speculation(method=own, k=length)


def operating_points(context: PhaseContext) -> tuple[OperatingPoint, ...]:
    """One operating point per concurrency, one per rate, and one with the arrivals of the log if configured. Lengths are the profile's.

    The first is primary; where goodput decides, the first of an open loop.
    """
    profile, settings = context.result(ProfileResult), context.config.compare
    common: dict[str, Any] = {
        "isl_p50": profile.input_p50,
        "osl_p50": profile.output_p50,
        "max_tokens": settings.max_tokens,
        "sampling": settings.sampling,
    }
    loads = () if settings.arrivals == "recorded" else settings.concurrency
    points = [OperatingPoint(name=f"c{load}", concurrency=load, **common) for load in loads]
    seen = max(1, round(profile.concurrency_mean or 1))
    open_loop = [
        OperatingPoint(name=f"r{rate:g}", concurrency=seen, rate_per_s=rate, **common) for rate in settings.rates
    ]
    if settings.arrivals != "closed":
        open_loop.append(OperatingPoint(name=RECORDED, concurrency=seen, **common))
    every = [*open_loop, *points] if settings.primary == "goodput" else [*points, *open_loop]
    return (every[0].model_copy(update={"primary": True}), *every[1:])


def arrivals(context: PhaseContext) -> RecordedArrivals | None:
    """Where the job finds the times of the point that replays them; None without one."""
    settings = context.config.compare
    if settings.arrivals == "closed":
        return None
    return RecordedArrivals(point=RECORDED, speed=settings.arrival_speed, sources=context.sources)


def on_canaries(config: Config) -> bool:
    """Whether the arms are canaries in the cluster that serves, rather than servers of the job."""
    return config.serving.kind == "kubernetes" and config.compare.canaries


def canaries(context: PhaseContext) -> CanaryRequest | None:
    """What the job needs to start canaries; None where it starts servers of its own."""
    if not on_canaries(context.config):
        return None
    return CanaryRequest(
        experiment=context.run_id, workspace=str(context.workspace), allow_cluster=context.options.allow_cluster
    )
