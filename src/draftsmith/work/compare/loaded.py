"""How the engine loaded a draft, from its log, compared with the arm's speculative config, the manifest and the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from draftsmith.contract.draft import DraftManifest
from draftsmith.contract.errors import EngineError, PrerequisiteError
from draftsmith.contract.measure import Arm, EngineFacts
from draftsmith.contract.speculation import read
from draftsmith.engines.base import Engine, Snapshot
from draftsmith.engines.differences import config_diff
from draftsmith.kit.files import read_json

MANIFEST = "draft-manifest.json"
OWN_REQUESTS = 1  # that a server asks itself when it starts
# Field of the manifest -> what the engine says if it found none in the draft, and if it found another than the target's.
WEIGHTS = {
    "has_own_embeddings": ("without its own embed_tokens", "distinct embed_tokens"),
    "has_own_lm_head": ("without its own lm_head", "distinct lm_head"),
}


def require_as_asked(arm: Arm, facts: EngineFacts) -> None:
    """Raise EngineError if the engine parsed other settings than were asked for, or took other weights than the draft has.

    What its log does not say is not held against it.
    """
    spec = arm.spec_config or {}
    path = Path((arm.speculation.draft if arm.speculation else None) or "", MANIFEST)
    manifest = DraftManifest.model_validate(read_json(path)) if path.is_file() else None
    wrong = disagreements(spec, facts, manifest)
    if wrong:
        raise EngineError(
            f"{arm.name}: the engine loaded the draft otherwise than asked: {'; '.join(wrong)}",
            "check the draft with `draftsmith lint`, and the engine's version",
        )


def disagreements(spec: Mapping[str, Any], facts: EngineFacts, manifest: DraftManifest | None) -> list[str]:
    """Each in words; empty if what the log says agrees."""
    differences_seen = []
    speculation = read(dict(spec))
    method, k = (speculation.method, speculation.k) if speculation else (None, None)
    if None not in (method, facts.spec_method) and method != facts.spec_method:
        differences_seen.append(f"method {facts.spec_method} instead of {method}")
    if None not in (k, facts.num_speculative_tokens) and k != facts.num_speculative_tokens:
        differences_seen.append(f"{facts.num_speculative_tokens} speculative tokens instead of {k}")
    sharing = " ".join(facts.sharing)
    for field, (none, other) in WEIGHTS.items():
        title = field.removeprefix("has_own_").replace("_", " ")
        if manifest is not None and getattr(manifest, field) and none in sharing:
            differences_seen.append(f"it uses the target's {title}, the manifest says that the draft has its own")
        elif manifest is not None and not getattr(manifest, field) and other in sharing:
            differences_seen.append(
                f"it uses other {title} than the target's, the manifest says that the draft has none"
            )
    return differences_seen


def uneven_caches(facts: Mapping[str, EngineFacts]) -> str | None:
    """A sentence if some arms keep the prefixes of prompts and others do not; None = all alike, as far as they say."""
    keep = [name for name, fact in facts.items() if fact.prefix_caching]
    cold = [name for name, fact in facts.items() if fact.prefix_caching is False]
    if not keep or not cold:
        return None
    return (
        f"{', '.join(keep)} keeps the prefixes of prompts and {', '.join(cold)} does not: the prefix cache is compared with the "
        "rest, and the tier is no more than draft. Switch it off everywhere (engine.prefix_caching = false; SGLang's "
        "--disable-radix-cache), or nowhere"
    )


def cautions(name: str, engine: Engine | None, facts: EngineFacts) -> list[str]:
    """What is to be known of a server that ran already before it is measured, a sentence each."""
    if engine is None:
        return [
            f"{name} publishes no counters of an engine that is known here: its acceptance is not read, and the tier is no more than "
            "draft. SGLang publishes them with --enable-metrics"
        ]
    if facts.version is None:
        return []
    try:
        known = engine.features(facts.version, "cpu" if facts.device == "cpu" else "cuda")
    except PrerequisiteError as error:
        return [f"{name}: {error.message}"]
    return [f"{name}: {known.note}"] if known.note else []


def warm_alone(served: Mapping[str, int]) -> str | None:
    """A sentence if servers that keep prefixes begin unequal. `served`: requests that each answered before; None = all alike."""
    if not served or max(served.values()) - min(served.values()) <= OWN_REQUESTS:
        return None
    counts = ", ".join(f"{name} {count}" for name, count in served.items())
    return (
        f"the prefix caches are not equally warm (requests answered before: {counts}): prompts that one server has seen are faster "
        "there. Start the servers anew, or empty the caches (SGLang: /flush_cache)"
    )


def served(engine: Engine, url: str) -> int:
    """Requests that a running server has answered since its start; 0 if it does not tell."""
    try:
        now = engine.reading(url)
        return engine.diff(Snapshot({}, now.start_id), now).requests
    except EngineError:
        return 0


def differences(baseline: EngineFacts, facts: EngineFacts) -> str | None:
    """What the engine's parsed configuration with this draft has otherwise than the baseline's, in words; None = nothing.

    The speculation itself and the smaller KV cache are left out: they are the point.
    """
    differing = config_diff(baseline, facts)
    return "; ".join(f"{name} is {_word(b)} instead of {_word(a)}" for name, (a, b) in differing.items()) or None


def _word(value: object) -> str:
    if isinstance(value, tuple):
        return " / ".join(map(str, value)) or "none"
    return "not said" if value is None else str(value)
