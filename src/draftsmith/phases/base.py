"""What a phase is: it plans a job from what is known, and judges the job's result. It performs nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from draftsmith.contract.base import Frozen
from draftsmith.contract.config import Config
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.job import JobResult
from draftsmith.contract.jobs import PhaseResult

P = TypeVar("P", bound=Frozen)
R = TypeVar("R", bound=PhaseResult)


@dataclass(frozen=True)
class RunOptions:
    """What the command that carries a run out adds to its record.

    `sources_sha256` identifies the traffic. `allow_cluster`: changes in the cluster are allowed. `suffix`: whether the engine
    has suffix decoding; None = unknown here.
    """

    sources_sha256: str = ""
    allow_cluster: bool = False
    suffix: bool | None = None


@dataclass(frozen=True)
class PhaseContext:
    """Everything a phase may look at. `results` holds the results of the phases before it."""

    run_id: str
    folder: Path
    workspace: Path
    config: Config
    target: TargetFacts
    sources: tuple[str, ...]
    standing: dict[str, Any] | None
    layer_ids: tuple[int, ...]
    versions: dict[str, str]
    results: dict[str, JobResult] = field(default_factory=dict)
    options: RunOptions = RunOptions()

    def phase_dir(self, phase: str) -> Path:
        """Folder of a phase."""
        return self.folder / "phases" / phase

    def result(self, kind: type[R]) -> R:
        """The result of an earlier phase. Raises KeyError if it is not done."""
        return kind.of(self.results[kind.PHASE])


@dataclass(frozen=True)
class JobPlan(Generic[P]):
    """A job to run: `python -m module plan.json`. `inputs` identify it: the same inputs are not run twice.

    `here`: it is a client of servers elsewhere and runs beside the driver, wherever the other jobs run.
    """

    module: str
    plan: P
    inputs: dict[str, Any]
    gpus: int = 0
    here: bool = False


@dataclass(frozen=True)
class Gate:
    """Judgement of a phase: whether the loop may go on, and the number that matters in one line."""

    passed: bool
    headline: str
    details: tuple[str, ...] = ()


class Phase(Protocol[P, R]):
    """One phase of the loop: a plan of type P for its job, which answers with a result of type R."""

    name: str
    title: str
    module: str
    gpus: int
    result: type[R]

    def plan(self, context: PhaseContext) -> JobPlan[P]:
        """The job that carries the phase out."""
        ...

    def collect(self, context: PhaseContext, result: R) -> Gate:
        """Judge a result."""
        ...
