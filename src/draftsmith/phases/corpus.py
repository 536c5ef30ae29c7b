"""Phase 2: choose and clean the training rows. Its gate: rows to train on, and held-out rows to compare on."""

from __future__ import annotations

from draftsmith.contract.jobs import CorpusPlan, CorpusResult, ProfileResult
from draftsmith.phases.base import Gate, JobPlan, PhaseContext
from draftsmith.phases.identity import common, identity


class Corpus:
    """Choose and clean the training rows."""

    name = "corpus"
    title = "build the matched corpus"
    module = "draftsmith.work.corpus"
    gpus = 1
    result = CorpusResult

    def plan(self, context: PhaseContext) -> JobPlan[CorpusPlan]:
        """See Phase."""
        out = context.phase_dir(self.name)
        profile = context.result(ProfileResult)
        plan = CorpusPlan(
            **common(context),
            sources=context.sources,
            profile=profile.profile,
            out=str(out / "corpus"),
            states=str(context.phase_dir("capture") / "states"),
        )
        inputs = identity(context, "corpus", "engine") | {
            "profile": profile.profile_sha256,
            "sources": context.options.sources_sha256,
            "layers": list(context.layer_ids),
            "draft_vocab": context.config.trainer.draft_vocab,
        }
        return JobPlan(self.module, plan, inputs, self.gpus)

    def collect(self, context: PhaseContext, result: CorpusResult) -> Gate:
        """See Phase."""
        rows, answers = result.rows, result.answer_tokens
        coverage = (result.vocabulary_coverage or {}).get("heldout", 0.0)
        headline = (
            f"{rows['train']} training, {rows['validation']} validation, {rows['heldout']} held-out rows; "
            f"{answers['train']:,} answer tokens; draft vocabulary {result.draft_vocabulary or 0:,} covers {coverage:.1%} of held-out; "
            f"capture will take {(result.capture_bytes_estimate or 0) / 2**30:.2f} GiB"
        )
        dropped = ", ".join(f"{count} {reason}" for reason, count in result.dropped.items() if count)
        return Gate(rows["train"] > 0 and rows["heldout"] > 0, headline, (f"dropped: {dropped}",) if dropped else ())
