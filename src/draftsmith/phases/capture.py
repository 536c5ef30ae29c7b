"""Phase 3: capture the target's hidden states. Its gate: the probe, which checks that they are correct."""

from __future__ import annotations

from draftsmith.contract.jobs import CapturePlan, CaptureResult, CorpusResult
from draftsmith.phases.base import Gate, JobPlan, PhaseContext
from draftsmith.phases.identity import common, identity


class Capture:
    """Capture hidden states and probe them."""

    name = "capture"
    title = "capture the target's hidden states"
    module = "draftsmith.work.capture"
    gpus = 1
    result = CaptureResult

    def plan(self, context: PhaseContext) -> JobPlan[CapturePlan]:
        """See Phase."""
        corpus = context.result(CorpusResult)
        plan = CapturePlan(**common(context), corpus=corpus.corpus, states=corpus.states)
        inputs = identity(context, "engine") | {
            "rows": corpus.rows_sha256,
            "layers": list(context.layer_ids),
        }
        return JobPlan(self.module, plan, inputs, self.gpus)

    def collect(self, context: PhaseContext, result: CaptureResult) -> Gate:
        """See Phase."""
        speed = result.capture_tokens_per_s
        how = f"{result.captured_tokens:,} tokens at {speed:,.0f} tokens/s" if speed else "all captured before"
        layers_by = (result.probe.model_extra or {}).get("layers_by")
        proved = f"probe passed (layers by {layers_by})" if layers_by else "probe passed"
        headline = f"{result.rows} rows, {result.bytes / 2**30:.2f} GiB, {how}; {proved}"
        return Gate(result.probe.passed, headline)
