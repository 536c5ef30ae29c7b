"""Phase 4: train, choose the checkpoint by acceptance, package and lint. Its gate: acceptance at position 0 on validation rows."""

from __future__ import annotations

from pathlib import Path

from draftsmith.contract.base import digest
from draftsmith.contract.jobs import CaptureResult, CorpusResult, TrainPlan, TrainResult
from draftsmith.kit.files import sha256_file
from draftsmith.phases.base import Gate, JobPlan, PhaseContext
from draftsmith.phases.identity import common, identity


class Train:
    """Train, choose the checkpoint by acceptance, package and lint."""

    name = "train"
    title = "train the draft"
    module = "draftsmith.work.train"
    gpus = 1
    result = TrainResult

    def plan(self, context: PhaseContext) -> JobPlan[TrainPlan]:
        """See Phase."""
        corpus, capture = context.result(CorpusResult), context.result(CaptureResult)
        plan = TrainPlan(
            **common(context),
            corpus=corpus.corpus,
            states=capture.states,
            out=str(context.phase_dir(self.name) / "draft"),
        )
        inputs = identity(context, "trainer", "corpus", "engine") | {
            "rows": corpus.rows_sha256,
            "layers": list(context.layer_ids),
            "parent": _parent_sha256(context.config.trainer.warm_start),
        }
        return JobPlan(self.module, plan, inputs, self.gpus)

    def collect(self, context: PhaseContext, result: TrainResult) -> Gate:
        """See Phase."""
        shown = " / ".join(f"{value:.3f}" for value in result.validation_acceptance)
        headline = (
            f"validation acceptance {shown} (expected AL {result.expected_al:.2f}), epoch {result.chosen_epoch + 1}; "
            f"{result.tokens_per_s:,.0f} tokens/s"
        )
        first = result.validation_acceptance[0]
        passed = first >= context.config.trainer.min_position0
        return Gate(passed, headline, result.lint_warnings)


def _parent_sha256(folder: str | None) -> str | None:
    """The draft of a warm start by its files: another one may lie under the same path later."""
    if folder is None:
        return None
    files = [path for path in Path(folder).iterdir() if path.suffix in (".safetensors", ".json")]
    return digest({path.name: sha256_file(path) for path in files})
