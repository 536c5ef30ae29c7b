"""The loop, in order. `promote` is the one phase that is no job: the driver performs it, with its intent on record."""

from __future__ import annotations

from draftsmith.phases.base import Phase
from draftsmith.phases.steps import Capture, Compare, Corpus, Profile, Publish, Train

PROMOTE = "promote"
JOBS: dict[str, Phase] = {
    phase.name: phase for phase in (Profile(), Corpus(), Capture(), Train(), Compare(), Publish())
}
PIPELINE: tuple[str, ...] = ("profile", "corpus", "capture", "train", "compare", PROMOTE, "publish")
