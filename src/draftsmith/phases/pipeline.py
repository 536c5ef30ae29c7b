"""The loop, in order. `promote` is the one phase that is no job: the driver performs it, with its intent on record."""

from __future__ import annotations

from typing import Any

from draftsmith.phases.base import Phase
from draftsmith.phases.capture import Capture
from draftsmith.phases.compare import Compare
from draftsmith.phases.corpus import Corpus
from draftsmith.phases.profile import Profile
from draftsmith.phases.publish import Publish
from draftsmith.phases.train import Train

PROMOTE = "promote"
_PHASES: tuple[Phase[Any, Any], ...] = (Profile(), Corpus(), Capture(), Train(), Compare(), Publish())
JOBS: dict[str, Phase[Any, Any]] = {phase.name: phase for phase in _PHASES}
PIPELINE: tuple[str, ...] = ("profile", "corpus", "capture", "train", "compare", PROMOTE, "publish")
