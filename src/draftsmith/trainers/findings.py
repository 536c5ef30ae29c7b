"""What a check gets and what it gives."""

from __future__ import annotations

from dataclasses import dataclass

from draftsmith.contract.draft import DraftManifest, Finding, TargetFacts
from draftsmith.trainers.draft_folder import Draft, EngineName
from draftsmith.trainers.weights import shown

SHOWN = 4  # names in a sentence
LONGEST = 600  # characters of a sentence: a foreign folder can hold a list of millions


@dataclass(frozen=True)
class Case:
    """A draft on its bench: the folder, the target it is for, its manifest and, after a warm start, its parent."""

    draft: Draft
    target: TargetFacts
    manifest: DraftManifest | None = None
    served_tokens: int | None = None
    parent: Draft | None = None
    engine: EngineName = "vllm"


def ok(check: str, sentence: str) -> Finding:
    """A check that found nothing wrong."""
    return Finding(check=check, level="ok", sentence=shown(sentence, LONGEST))


def warn(check: str, sentence: str, next_step: str) -> Finding:
    """Serves, but may not be what was meant."""
    return Finding(check=check, level="warn", sentence=shown(sentence, LONGEST), next_step=shown(next_step, LONGEST))


def error(check: str, sentence: str, next_step: str) -> Finding:
    """Does not serve, serves badly, or must not be served."""
    return Finding(check=check, level="error", sentence=shown(sentence, LONGEST), next_step=shown(next_step, LONGEST))


def some(names: list[str]) -> str:
    """The first names of a list, and how many more there are."""
    rest = len(names) - SHOWN
    return "; ".join(shown(name) for name in names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
