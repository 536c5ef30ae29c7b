"""A candidate that already serves is recognised before anything is measured: compared with itself it would cost an hour
and say nothing."""

from __future__ import annotations

from pathlib import Path

from draftsmith.contract.errors import DraftsmithError
from draftsmith.contract.job import JobResult
from draftsmith.contract.jobs import TrainResult
from draftsmith.phases.base import Gate, PhaseContext
from draftsmith.phases.way import configurations, trained, way
from draftsmith.trainers.lint_files import weights_sha256

ALREADY_SERVES = "ALREADY_SERVES"


def already_serves(context: PhaseContext) -> JobResult | None:
    """The comparison's result without a measurement if the trained draft is the standing one, by method and weights.

    None if it is another one, if that cannot be told, or if further drafts are to be compared.
    """
    standing = context.standing or {}
    if not trained(context):
        return _same_method(context)
    if not standing.get("model") or context.config.compare.drafts:
        return None
    if standing.get("method") != context.config.trainer.method:
        return None
    try:
        serving = weights_sha256(Path(str(standing["model"])))
    except (OSError, ValueError, DraftsmithError):
        return None
    if serving != context.result(TrainResult).draft_sha256:
        return None
    sentence = "the candidate is the draft that already serves (same method, same weights); nothing was measured"
    return JobResult(ok=True, outputs={"outcome": ALREADY_SERVES, "sentence": sentence})


def _same_method(context: PhaseContext) -> JobResult | None:
    """The same for a method without training: if the standing configuration is all that would be compared."""
    chosen = way(context)
    others = [config for _, config in configurations(context.config, chosen.method) if config != context.standing]
    if others or context.config.compare.drafts:
        return None
    sentence = f"{chosen.method} already serves, with the same settings; nothing was measured"
    return JobResult(ok=True, outputs={"outcome": ALREADY_SERVES, "sentence": sentence})


def known(result: JobResult) -> str | None:
    """The sentence of a comparison that needed no measurement; None if it was measured."""
    return str(result.outputs["sentence"]) if result.outputs.get("outcome") == ALREADY_SERVES else None


def gate(result: JobResult) -> Gate | None:
    """The gate of such a comparison. It passes: the loop keeps the standing configuration and publishes."""
    sentence = known(result)
    return Gate(True, f"{ALREADY_SERVES}: {sentence}") if sentence else None
