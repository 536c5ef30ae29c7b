"""The phases that run as jobs, in the order of the loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from draftsmith.contract.base import digest
from draftsmith.contract.config import Config
from draftsmith.contract.job import JobResult
from draftsmith.contract.measure import Arm, OperatingPoint
from draftsmith.kit.files import read_json, sha256_file
from draftsmith.phases.base import Gate, JobPlan, PhaseContext
from draftsmith.store.scrub import home

MANIFEST = "draft-manifest.json"
RECORDED = "recorded"
NGRAM_HOPELESS = 1.02  # tokens per step in the replay of the log, below which looking up costs more than it finds


def _common(context: PhaseContext) -> dict[str, Any]:
    return {
        "config": context.config.model_dump(mode="json"),
        "target": context.target.model_dump(mode="json"),
        "registry": str(context.folder / "processes"),
        "layer_ids": list(context.layer_ids),
        "versions": context.versions,
        "names": path_names(context),
    }


def path_names(context: PhaseContext) -> dict[str, str]:
    """Name -> path prefix: how paths of this machine are written in the evidence."""
    known = {"{run}": str(context.folder), "{workspace}": str(context.workspace), "{target}": context.target.path}
    known |= home()
    models = [str((context.standing or {}).get("model")), *context.config.compare.drafts]
    outside = {m for m in models if m.startswith("/") and not any(Path(m).is_relative_to(p) for p in known.values())}
    return known | {f"{{draft{number}}}": path for number, path in enumerate(sorted(outside), start=1)}


def _identity(context: PhaseContext, *parts: str) -> dict[str, Any]:
    """What makes a job the same job: the target, the versions and the named sections of the configuration.

    Settings that have their default are left out, so that a setting which is added later does not change what is known.
    """
    sections = {part: getattr(context.config, part).model_dump(mode="json", exclude_defaults=True) for part in parts}
    return {"target": context.target.sha256, "versions": context.versions, "config": sections}


def _parent_sha256(folder: str | None) -> str | None:
    """The draft of a warm start by its files: another one may lie under the same path later."""
    if folder is None:
        return None
    files = [path for path in Path(folder).iterdir() if path.suffix in (".safetensors", ".json")]
    return digest({path.name: sha256_file(path) for path in files})


class Profile:
    """Measure the traffic."""

    name = "profile"
    title = "profile the traffic"
    module = "draftsmith.work.profile"
    gpus = 0

    def plan(self, context: PhaseContext) -> JobPlan:
        """See Phase."""
        out = context.phase_dir(self.name)
        plan = _common(context) | {
            "sources": list(context.sources),
            "out": str(out / "workload-profile.json"),
            **context.options.get("profile", {}),
        }
        names = {"redact": context.config.corpus.redact}  # routes are renamed then
        return JobPlan(self.module, plan, _identity(context) | {"sources": context.options["sources_sha256"]} | names)

    def collect(self, context: PhaseContext, result: JobResult) -> Gate:
        """See Phase."""
        figures = result.figures
        skipped = sum(figures["skipped"].values())
        note = f", {skipped} lines skipped" if skipped else ""
        headline = (
            f"{figures['n_requests']} requests{note}; input p50 {figures['input_p50']}, output p50 {figures['output_p50']} tokens; "
            f"recommended: {figures['method']}"
        )
        details: tuple[str, ...] = (figures["rationale"],)
        timed = context.config.compare.arrivals == "closed" or figures.get("arrival_rate_per_s") is not None
        if not timed:
            details = (
                f"compare.arrivals = {context.config.compare.arrivals} needs start times, the log has none",
                *details,
            )
        return Gate(figures["n_requests"] > 0 and timed, headline, details)


class Corpus:
    """Choose and clean the training rows."""

    name = "corpus"
    title = "build the matched corpus"
    module = "draftsmith.work.corpus"
    gpus = 1

    def plan(self, context: PhaseContext) -> JobPlan:
        """See Phase."""
        out = context.phase_dir(self.name)
        plan = _common(context) | {
            "sources": list(context.sources),
            "profile": context.output("profile", "profile"),
            "out": str(out / "corpus"),
            "states": str(context.phase_dir("capture") / "states"),
            **context.options.get("profile", {}),
        }
        identity = _identity(context, "corpus", "engine") | {
            "profile": context.output("profile", "profile_sha256"),
            "sources": context.options["sources_sha256"],
            "layers": list(context.layer_ids),
            "draft_vocab": context.config.trainer.draft_vocab,
        }
        return JobPlan(self.module, plan, identity, self.gpus)

    def collect(self, context: PhaseContext, result: JobResult) -> Gate:
        """See Phase."""
        figures = result.figures
        rows, answers = figures["rows"], figures["answer_tokens"]
        coverage = (figures["vocabulary_coverage"] or {}).get("heldout", 0.0)
        headline = (
            f"{rows['train']} training, {rows['validation']} validation, {rows['heldout']} held-out rows; "
            f"{answers['train']:,} answer tokens; draft vocabulary {figures['draft_vocabulary']:,} covers {coverage:.1%} of held-out; "
            f"capture will take {figures['capture_bytes_estimate'] / 2**30:.2f} GiB"
        )
        dropped = ", ".join(f"{count} {reason}" for reason, count in figures["dropped"].items() if count)
        return Gate(rows["train"] > 0 and rows["heldout"] > 0, headline, (f"dropped: {dropped}",) if dropped else ())


class Capture:
    """Capture hidden states and probe them."""

    name = "capture"
    title = "capture the target's hidden states"
    module = "draftsmith.work.capture"
    gpus = 1

    def plan(self, context: PhaseContext) -> JobPlan:
        """See Phase."""
        plan = _common(context) | {
            "corpus": context.output("corpus", "corpus"),
            "states": context.output("corpus", "states"),
        }
        identity = _identity(context, "engine") | {
            "rows": context.output("corpus", "rows_sha256"),
            "layers": list(context.layer_ids),
        }
        return JobPlan(self.module, plan, identity, self.gpus)

    def collect(self, context: PhaseContext, result: JobResult) -> Gate:
        """See Phase."""
        figures = result.figures
        speed = figures["capture_tokens_per_s"]
        how = f"{figures['captured_tokens']:,} tokens at {speed:,.0f} tokens/s" if speed else "all captured before"
        headline = f"{figures['rows']} rows, {figures['bytes'] / 2**30:.2f} GiB, {how}; probe passed"
        return Gate(bool(figures["probe"].get("passed")), headline)


class Train:
    """Train, choose the checkpoint by acceptance, package and lint."""

    name = "train"
    title = "train the draft"
    module = "draftsmith.work.train"
    gpus = 1

    def plan(self, context: PhaseContext) -> JobPlan:
        """See Phase."""
        plan = _common(context) | {
            "corpus": context.output("corpus", "corpus"),
            "states": context.output("capture", "states"),
            "out": str(context.phase_dir(self.name) / "draft"),
        }
        identity = _identity(context, "trainer", "corpus", "engine") | {
            "rows": context.output("corpus", "rows_sha256"),
            "layers": list(context.layer_ids),
            "parent": _parent_sha256(context.config.trainer.warm_start),
        }
        return JobPlan(self.module, plan, identity, self.gpus)

    def collect(self, context: PhaseContext, result: JobResult) -> Gate:
        """See Phase."""
        figures = result.figures
        shown = " / ".join(f"{value:.3f}" for value in figures["validation_acceptance"])
        headline = (
            f"validation acceptance {shown} (expected AL {figures['expected_al']:.2f}), epoch {figures['chosen_epoch'] + 1}; "
            f"{figures['tokens_per_s']:,.0f} tokens/s"
        )
        first = figures["validation_acceptance"][0]
        passed = first >= context.config.trainer.min_position0
        return Gate(passed, headline, tuple(figures["lint_warnings"]))


class Compare:
    """Measure the candidate against the standing configuration in the real engine."""

    name = "compare"
    title = "compare in the engine"
    module = "draftsmith.work.compare"
    gpus = 1

    def plan(self, context: PhaseContext) -> JobPlan:
        """See Phase."""
        arms = comparison_arms(context)
        plan = _common(context) | {
            "target": context.target.path,
            "weight_bytes": context.target.weight_bytes,
            "arms": [arm.model_dump(mode="json") for arm in arms],
            "baseline": arms[0].name,
            "points": [point.model_dump(mode="json") for point in operating_points(context)],
            "corpus": context.output("corpus", "corpus"),
            **arrivals(context),
            **canaries(context),
        }
        there = on_canaries(context.config)
        identity = _identity(context, "engine", "compare", *(("serving",) if there else ())) | {
            "draft": context.output("train", "draft_sha256"),
            "rows": context.output("corpus", "rows_sha256"),
            "standing": context.standing,
        }
        return JobPlan(self.module, plan, identity, 0 if there else self.gpus, here=there)

    def collect(self, context: PhaseContext, result: JobResult) -> Gate:
        """See Phase. A loss is a good answer: the loop goes on to keep the standing configuration and publish."""
        figures = result.figures
        details = tuple(filter(None, (figures.get("forecast"), figures.get("schedule_sentence"))))
        return Gate(True, f"{figures['outcome']} (tier {figures['tier']}): {figures['reason']}", details)


class Publish:
    """Write the evidence bundle and the report."""

    name = "publish"
    title = "publish the evidence"
    module = "draftsmith.work.publish"
    gpus = 0

    def plan(self, context: PhaseContext) -> JobPlan:
        """See Phase."""
        done = {name: value.model_dump(mode="json") for name, value in context.results.items()}
        plan = _common(context) | {
            "results": done,
            "run_id": context.run_id,
            "folder": str(context.folder),
            "out": str(context.folder / "bundle"),
            "standing": context.standing,
        }
        identity = {
            "verdict": result_digest(done["compare"]) if "compare" in done else None,
            "promote": done.get("promote", {}).get("outputs"),
        }
        return JobPlan(self.module, plan, identity)

    def collect(self, context: PhaseContext, result: JobResult) -> Gate:
        """See Phase."""
        return Gate(bool(result.figures.get("verified")), f"report: {result.outputs['report']}")


def result_digest(result: dict[str, Any]) -> dict[str, Any]:
    """The part of a result that identifies it."""
    return {"outputs": result["outputs"], "outcome": result["figures"].get("outcome")}


def comparison_arms(context: PhaseContext) -> tuple[Arm, ...]:
    """The baseline first; no speculation is always there, as an arm of its own if the standing config speculates."""
    settings = context.config.compare
    standing = Arm(name="standing", role="standing", spec_config=context.standing)
    arms = [standing]
    if context.standing is not None:
        arms.append(Arm(name="no-spec", role="no_spec"))
    draft, method = context.output("train", "draft"), context.config.trainer.method
    for k in draft_lengths(context.config):
        config = {"method": method, "model": draft, "num_speculative_tokens": k}
        sha = context.output("train", "draft_sha256")
        arms.append(Arm(name=f"{method}-k{k}", role="candidate", spec_config=config, draft_sha256=sha))
    for folder in settings.drafts:
        config = {"model": folder, **other_draft(Path(folder), method, max(settings.k_values))}
        arms.append(Arm(name=_free_name(folder, arms), role="other", spec_config=config))
    hope = context.results["profile"].figures.get("ngram_tokens_per_step")
    if settings.ngram and (hope is None or hope > NGRAM_HOPELESS):
        ngram = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4, "prompt_lookup_min": 2}
        arms.append(Arm(name="ngram-k3", role="trainless", spec_config=ngram))
    if settings.suffix:
        arms.append(Arm(name="suffix", role="trainless", spec_config={"method": "suffix"}))
    return tuple(arms)


def _free_name(folder: str, arms: Sequence[Arm]) -> str:
    """Of a further draft: its folder's name, or the one above for a folder named `draft`; told apart from those there."""
    path = Path(folder)
    name = (path.parent.name if path.name == "draft" else path.name).replace("#", "-") or "draft"
    taken = {arm.name for arm in arms}
    return next(n for n in (name, *(f"{name}-{i}" for i in range(2, len(arms) + 3))) if n not in taken)


def draft_lengths(config: Config) -> tuple[int, ...]:
    """How many tokens the candidate proposes at once, one arm each. A block draft is at home with its whole block only."""
    settings = config.compare.k_values
    if config.trainer.method == "dflash":
        block = config.trainer.block_size - 1
        return tuple(dict.fromkeys((min(max(settings), block), block)))
    return tuple(dict.fromkeys(min(k, config.trainer.ttt_steps + 2) for k in settings))


def other_draft(folder: Path, method: str, k: int) -> dict[str, Any]:
    """Method and length of a further draft: as its own files say, where they say it."""
    found: dict[str, Any] = {}
    for name in ("config.json", MANIFEST):
        if (folder / name).is_file():
            found |= read_json(folder / name)
    own = str(found.get("method") or found.get("speculators_model_type") or method)
    block = found.get("block_size")
    length = block - 1 if own == "dflash" and isinstance(block, int) else k
    if own == "peagle":
        return {"method": "eagle3", "parallel_drafting": True, "num_speculative_tokens": length}
    return {"method": own, "num_speculative_tokens": length}


def operating_points(context: PhaseContext) -> tuple[OperatingPoint, ...]:
    """One point a concurrency, and one at the log's arrivals if asked for; the first is primary. Lengths: the profile's."""
    figures, settings = context.results["profile"].figures, context.config.compare
    common: dict[str, Any] = {
        "isl_p50": figures.get("input_p50"),
        "osl_p50": figures.get("output_p50"),
        "max_tokens": settings.max_tokens,
        "sampling": settings.sampling,
    }
    loads = () if settings.arrivals == "recorded" else settings.concurrency
    points = [OperatingPoint(name=f"c{load}", concurrency=load, **common) for load in loads]
    if settings.arrivals != "closed":
        seen = max(1, round(figures.get("concurrency_mean") or 1))
        points.append(OperatingPoint(name=RECORDED, concurrency=seen, **common))
    return (points[0].model_copy(update={"primary": True}), *points[1:])


def arrivals(context: PhaseContext) -> dict[str, Any]:
    """Where the job finds the times of the point that replays them; empty without one."""
    settings = context.config.compare
    if settings.arrivals == "closed":
        return {}
    return {"arrivals": {"point": RECORDED, "speed": settings.arrival_speed, "sources": list(context.sources)}}


def on_canaries(config: Config) -> bool:
    """Whether the arms are canaries in the cluster that serves, rather than servers of the job."""
    return config.serving.kind == "kubernetes" and config.compare.canaries


def canaries(context: PhaseContext) -> dict[str, Any]:
    """What the job needs to start canaries; empty where it starts servers of its own."""
    if not on_canaries(context.config):
        return {}
    allowed = bool(context.options.get("allow_cluster"))
    asked = {"experiment": context.run_id, "workspace": str(context.workspace), "allow_cluster": allowed}
    return {"canaries": asked}
