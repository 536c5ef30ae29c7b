"""What commands say about a cluster, and what they show of it before anything is done there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from draftsmith.contract.errors import DraftsmithError

if TYPE_CHECKING:
    from draftsmith.backends.detect import Choice
    from draftsmith.loop.base import Loop
    from draftsmith.store.runs import Run

AFTER_COMPARE = (None, "compare", "promote", "publish")  # runs to be stopped after these compare
FLAG = "--i-understand-this-uses-the-cluster"


def place_text(choice: Choice) -> str:
    """Where jobs go and why, in a few lines."""
    through = f", scheduler {choice.scheduler}" if choice.scheduler not in ("auto", choice.kind) else ""
    lines = [f"jobs     {choice.kind}{through}: {choice.why}"]
    return "\n".join([*lines, *(f"         - {text}" for text in choice.seen)])


@dataclass(frozen=True)
class DryRun:
    """What would be submitted to a cluster, word for word by phase, and what the cluster would say against it."""

    run_id: str
    choice: Choice
    would_submit: dict[str, str]
    problem: DraftsmithError | None

    def value(self) -> dict[str, Any]:
        """As JSON."""
        problem = self.problem
        return {
            "run_id": self.run_id,
            "backend": self.choice.kind,
            "scheduler": self.choice.scheduler,
            "why": self.choice.why,
            "seen": list(self.choice.seen),
            "would_submit": self.would_submit,
            "problem": {"error": problem.message, "next_step": problem.next_step} if problem else None,
        }

    def text(self) -> str:
        """For a terminal."""
        parts = [f"----- {phase}\n{text}" for phase, text in self.would_submit.items()]
        return "\n".join(
            [*parts, f"dry run: nothing was submitted; add {FLAG} to submit these jobs one after the other"]
        )


def dry_run(loop: Loop, choice: Choice) -> DryRun:
    """Every text that would be submitted, and what the cluster would say against it. Submits nothing."""
    from draftsmith.loop.driver import check_ahead, plan_texts

    texts, problem = plan_texts(loop), None
    try:
        check_ahead(loop)
        check_serving(loop)
    except DraftsmithError as error:
        problem = error
    return DryRun(loop.run.record.run_id, choice, texts, problem)


def check_serving(loop: Loop) -> None:
    """Check before training whether the serving cluster would accept the canaries and the later promotion.

    Creates nothing. Raises RefusedError, InputError or PrerequisiteError for what stands against it.
    """
    from draftsmith import wiring
    from draftsmith.loop.driver import results
    from draftsmith.phases.compare import on_canaries
    from draftsmith.serving.canary.text import ArmPlan
    from draftsmith.serving.kubernetes.drafts import require_config_read

    context = loop.context
    done, promotes = results(loop.run), loop.stop_after in (None, "promote", "publish")
    trained = wiring.trained_config(context.config) if "train" not in done else {}
    if context.config.serving.kind == "kubernetes" and promotes and "promote" not in done:
        wiring.kubernetes_serving(context.config, context.workspace).check(trained)
    if not on_canaries(context.config) or loop.stop_after not in AFTER_COMPARE or "compare" in done:
        return
    draft = {"method": context.config.trainer.method, "model": str(context.phase_dir("train") / "draft")}
    arms = [ArmPlan("standing", context.standing), ArmPlan("draft", draft)]
    canaries = wiring.canaries(context.config, context.workspace)
    plan = canaries.plan(context.run_id, arms, check=False)
    require_config_read(plan.standing, trained, "a draft as it would be trained")
    canaries.check(plan)


def stop_cluster_jobs(run: Run, understood: bool) -> list[str]:
    """Cancel what a run has in a cluster. Raises RefusedError, naming the jobs, unless that is understood."""
    from draftsmith.api.places import run_backend
    from draftsmith.loop.jobs import stop_jobs

    if run.record.config.get("backend", {}).get("kind", "local") == "local":
        return []
    return stop_jobs(run, run_backend(run, allow_cluster=understood))
