"""Whether the engine that will serve a draft can serve it as it was trained."""

from __future__ import annotations

from collections.abc import Iterator

from draftsmith.contract.draft import Finding
from draftsmith.trainers.convert import obstacles
from draftsmith.trainers.findings import Case, error, ok


def check_engine(case: Case) -> Iterator[Finding]:
    """For SGLang alone: the notation of its config, and what no notation can say. vLLM's are the other checks."""
    if case.engine != "sglang":
        return
    if case.draft.form == "speculators":
        yield error(
            "engine",
            "the config is nested, in vLLM's notation: SGLang does not load it",
            "draftsmith convert DRAFT OUT --to sglang",
        )
        return
    findings = [
        error("engine", f"SGLang cannot serve it: {why}", "serve it with vLLM") for why in obstacles(case.draft)
    ]
    yield from findings or [ok("engine", "in SGLang's notation")]
